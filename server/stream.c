/*
 * stream.c - server-sent events of one request, through a bounded queue.
 *
 * MHD asks for bytes when the socket takes some; an empty queue suspends the
 * connection until the next event. TCP pushes back on a slow reader, and then
 * the queue grows instead: past its limit the reader is given up and the
 * model stops working for it. No producer waits for a reader.
 */
#include "server/stream.h"
#include "server/conn.h"
#include "server/http.h"

#include <string.h>

/* One piece of a reply at most; MHD's buffer per connection is not larger. */
enum { BLOCK_BYTES = 8192 };

static ssize_t next_bytes(void *cls, uint64_t pos, char *out, size_t max)
{
    struct request *r = cls;
    struct stream *s = &r->stream;
    size_t n = s->queue.len - s->sent;

    (void)pos;
    if (r->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0 && s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        r->suspended = true;
        MHD_suspend_connection(r->mhd);
        return 0;
    }
    if (n > max)
        n = max;
    memcpy(out, s->queue.data + s->sent, n);
    s->sent += n;
    s->progress_ms = server_now_ms();
    r->n_sent += n;
    if (s->sent == s->queue.len)
        s->sent = s->queue.len = 0;
    return (ssize_t)n;
}

bool stream_start(struct request *r)
{
    struct stream *s = &r->stream;

    r->response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, BLOCK_BYTES, next_bytes, r, NULL);
    if (!r->response)
        return false;
    MHD_add_response_header(r->response, "Content-Type", "text/event-stream");
    MHD_add_response_header(r->response, "Cache-Control", "no-cache");
    MHD_add_response_header(r->response, "X-Accel-Buffering", "no");
    r->status = 200;
    s->started = true;
    s->progress_ms = s->last_data_ms = server_now_ms();
    return true;
}

struct buf *stream_buf(struct request *r)
{
    struct stream *s = &r->stream;

    if (s->queue.len == s->sent)
        s->progress_ms = server_now_ms();
    /* reclaim what was sent before the buffer has to grow */
    if (s->sent > s->queue.cap / 2) {
        memmove(s->queue.data, s->queue.data + s->sent, s->queue.len - s->sent);
        s->queue.len -= s->sent;
        s->sent = 0;
    }
    return &s->queue;
}

bool stream_commit(struct request *r)
{
    struct stream *s = &r->stream;
    const size_t limit = (size_t)r->srv->config->max_stream_bytes;

    s->last_data_ms = server_now_ms();
    if (s->queue.failed || s->queue.len - s->sent > limit)
        return false;
    request_resume(r);
    return true;
}

void stream_end(struct request *r)
{
    struct stream *s = &r->stream;

    s->ended = true;
    conn_phase(r->conn, PHASE_WRITE, s->queue.len - s->sent);
    request_resume(r);
}

bool stream_stalled(const struct request *r, uint64_t now_ms)
{
    const struct stream *s = &r->stream;

    return s->queue.len > s->sent &&
           now_ms > s->progress_ms + (uint64_t)r->srv->config->write_timeout_ms;
}
