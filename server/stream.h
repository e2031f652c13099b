/* stream.h - server-sent events of one request, through a bounded queue. */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include "server/server.h"

/* Begin the 200 reply. false: out of memory. */
bool stream_start(struct request *r);

/* Where the next event is written: "data: ..." with stream_commit() after. */
struct buf *stream_buf(struct request *r);
/* Wake the connection. false: the reader is too far behind. */
bool stream_commit(struct request *r);

/* Nothing more comes. */
void stream_end(struct request *r);

bool stream_stalled(const struct request *r, uint64_t now_ms);

#endif
