/*
 * uuid.h - random identifiers (RFC 9562, version 4).
 */
#ifndef VMI_UUID_H
#define VMI_UUID_H

enum { UUID_TEXT = 37 };	/* 36 characters and a NUL */

void uuid_random(char out[UUID_TEXT]);

#endif
