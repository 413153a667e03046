/*
 * hex.h - two hexadecimal digits are a byte.
 */
#ifndef VMI_HEX_H
#define VMI_HEX_H

/*
 * 0 to 255; -1: they are no such digits, of either case.  After one that is none nothing is read.
 */
int hex_byte(const char *digits);

#endif
