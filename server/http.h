/* http.h - one request: from MHD's callbacks to a route, and back. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "server/server.h"

/* MHD's callbacks. */
void *http_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result http_handler(void *cls, struct MHD_Connection *mhd,
                             const char *url, const char *method,
                             const char *version, const char *data,
                             size_t *size, void **context);
void http_completed(void *cls, struct MHD_Connection *mhd, void **context,
                    enum MHD_RequestTerminationCode how);

/* The route has handed job over; its chunks will come to the request. */
void request_wait(struct request *r, struct job *job);

/* An answer or more of a stream is there: MHD goes on. */
void request_resume(struct request *r);

/* The client hung up: cancel the work and let MHD close. */
void request_gone(struct request *r);

/* While a job works: pings, stalled readers, a worker that hangs. */
void request_tick(struct request *r, uint64_t now_ms);

/* A request header, or NULL. */
const char *request_header(struct request *r, const char *name);

#endif
