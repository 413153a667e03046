#include "config.h"
#include "argsecret.h"

#include <string.h>

#include "core/buf.h"

bool
argsecret_hide(int argc, char **argv)
{
	bool found = false;

	for (int i = 1; i < argc; i++) {
		char *start = strstr(argv[i], "://"), *at, *end;

		if (start == NULL)
			continue;
		start += 3;
		end = start + strcspn(start, "/?#");
		at = memrchr(start, '@', (size_t)(end - start));
		if (at == NULL)
			continue;
		argv[i] = xstrdup(argv[i]);
		explicit_bzero(start, (size_t)(at - start));
		memset(start, 'x', (size_t)(at - start));
		found = true;
	}
	return found;
}
