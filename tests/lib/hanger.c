/*
 * hanger.c - a worker of no use: it begins as one does, gets the store, and then does nothing.
 *
 * To be installed in the place of vmimagefs.
 */
#include <string.h>
#include <unistd.h>

#include "fs/keeper.h"
#include "fs/note.h"

int
main(int argc, char **argv)
{
	struct note note;

	if (argc < 2 || strncmp(argv[1], WORKER_ARGUMENT, strlen(WORKER_ARGUMENT)) != 0)
		return 2;
	note_init(&note, NOTE_LOADED);
	strcpy(note.text, "that hangs");
	if (note_send(WORKER_FD_FIRST + WORKER_FD_NOTES, &note, -1, true) != 0)
		return 1;
	for (;;)
		pause();
}
