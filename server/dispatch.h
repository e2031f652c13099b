/* dispatch.h - what a worker sent, to the request that waits for it. */
#ifndef SERVER_DISPATCH_H
#define SERVER_DISPATCH_H

#include "server/server.h"

/* Take over a chunk of a job. */
void dispatch_chunk(struct server *s, struct chunk *c);

#endif
