/* loop.h - the event loop: start, serve, drain, stop. */
#ifndef SERVER_LOOP_H
#define SERVER_LOOP_H

#include "server/config.h"

/*
 * Serve until a signal says stop. Prints the first line on stdout when all
 * models are loaded.
 *
 * Returns 0 after a clean stop; else negative, and err says why it could not
 * start.
 */
int loop_serve(const struct config *c, struct infer_error *err);

#endif
