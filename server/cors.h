/* cors.h - which pages' scripts may call. */
#ifndef SERVER_CORS_H
#define SERVER_CORS_H

#include "server/server.h"

void cors_add(struct request *r);       /* headers of r->response */
void cors_preflight(struct request *r); /* answer OPTIONS */

#endif
