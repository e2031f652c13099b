/* access.h - the access log: a line of JSON per finished request. */
#ifndef SERVER_ACCESS_H
#define SERVER_ACCESS_H

#include "server/server.h"

/* r has ended after `ms`. Never its body, its answer, or a header that may be
 * a secret; of its path what comes before the query. */
void access_write(struct sink *s, const struct request *r, double ms);

#endif
