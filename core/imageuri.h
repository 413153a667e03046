/*
 * imageuri.h - which addresses a signed list may give for an image.
 *
 * http, https, and file below a directory that the admin names.  No credentials, no link-local
 * host, no byte that RFC 3986 does not allow in a URI, and no quote.  Private and loopback hosts
 * are allowed: images are often served from the next machine.  Pure: no name is looked up.
 */
#ifndef VMI_IMAGEURI_H
#define VMI_IMAGEURI_H

#include <stdbool.h>
#include <sys/socket.h>
#include "err.h"

/*
 * 0, or a refusal (34) whose sentence names the list's key, says what is wrong and shows no
 * credentials.  file_prefix NULL refuses all of file://; otherwise the path must lie below it, as
 * it is written.
 */
int imageuri_check(const char *key, const char *uri, const char *file_prefix, struct err *err);

/*
 * 169.254/16 and fe80::/10, also inside IPv4-mapped and NAT64 addresses: where cloud metadata
 * services live.  To be asked again of what a host name resolves to.
 */
bool imageuri_address_is_link_local(const struct sockaddr *address);

/* Removes the userinfo of the authority, if there is one, in place. */
void imageuri_strip_userinfo(char *uri);

#endif
