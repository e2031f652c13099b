/* probe.h - inferd --healthcheck: ask a running server how it is. */
#ifndef SERVER_PROBE_H
#define SERVER_PROBE_H

#include "infer.h"

/*
 * GET path from the server that listens on `listen` ("HOST:PORT"), on this
 * host if HOST is a wildcard. Blocks for some seconds at most.
 * Errors  EIO (not there, too slow, or another status than 200)
 */
int probe_run(const char *listen, const char *path, struct infer_error *err);

#endif
