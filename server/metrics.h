/* metrics.h - the state of everything, in Prometheus' text format. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "server/server.h"

void metrics_print(struct buf *out, const struct server *s);

#endif
