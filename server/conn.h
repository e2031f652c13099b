/* conn.h - one socket: how long it may take for what, and whether it is there.
 */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include "server/server.h"

/* MHD's callback for connections that open and close. */
void conn_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                 enum MHD_ConnectionNotificationCode code);

/* A new phase begins, with its own deadline. PHASE_WRITE: for n_bytes. */
void conn_phase(struct conn *c, enum phase phase, uint64_t n_bytes);

/* Learn of a hang-up while MHD holds the connection suspended. */
void conn_watch(struct conn *c);
void conn_unwatch(struct conn *c);

/* Write an error past MHD, which cannot answer during an upload. */
void conn_raw_error(struct conn *c, unsigned status, const char *message);

/* End both directions; MHD then closes the socket. */
void conn_shutdown(struct conn *c);

/* Called several times a second: deadlines, pings, stalled readers. */
void conn_tick(struct server *s);

/* The hang-up descriptor is readable. */
void conn_hangups(struct server *s);

#endif
