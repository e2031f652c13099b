/* listen.h - the listening socket. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include "infer.h"

/* Is this "HOST:PORT" with a port up to 65535? */
bool listen_valid(const char *address);

/* "HOST:PORT" into its parts; "[::1]:80" loses its brackets. host is [size],
 * *port points into address. false: it is none. */
bool listen_split(const char *address, char *host, size_t size,
                  const char **port);

/*
 * Bind and listen on "HOST:PORT" or "[V6]:PORT"; port 0 picks a free one.
 * A socket that systemd passed (LISTEN_PID, LISTEN_FDS) is taken instead.
 *
 *   fd   out  non-blocking
 *   url  out  [size] "http://HOST:PORT" with the real port
 * Errors  EINVAL (not an address, not one listening socket), EIO (in use, not
 * allowed)
 */
int listen_open(const char *address, int *fd, char *url, size_t size,
                struct infer_error *err);

#endif
