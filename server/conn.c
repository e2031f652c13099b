/*
 * conn.c - one socket: how long it may take for what, and whether it is there.
 *
 * MHD's idle timeout restarts with every byte, so a client that sends one a
 * minute stays for ever. Here each phase of a request has a deadline of its
 * own; when it passes, the socket is shut down and MHD finds it closed. One
 * scan over all connections four times a second does it: ten thousand take
 * less than a millisecond.
 *
 * A suspended connection is not polled by MHD at all. Its hang-up is noticed
 * by an epoll set of ours, to which the socket itself is added, edge-triggered
 * and only for the hang-up. A duplicate descriptor (one libuv poll handle
 * each) would do the same at the price of a second descriptor per stream.
 */
#include "server/conn.h"
#include "server/http.h"
#include "server/log.h"
#include "server/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { LINGER_MS = 2000, DRAIN_UPLOAD_MS = 1000, WRITE_BYTES_PER_MS = 16 };

static void opened(struct server *s, struct MHD_Connection *mhd, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *c = calloc(1, sizeof(*c));

    *context = c; /* NULL: the handler refuses */
    if (!c)
        return;
    c->srv = s;
    c->mhd = mhd;
    c->fd = info->connect_fd;
    c->next = s->conns;
    if (s->conns)
        s->conns->prev = c;
    s->conns = c;
    s->n_conns++;
    s->metrics.connections++;
    conn_phase(c, PHASE_IDLE, 0);
    /* a fresh connection has to say something soon */
    c->deadline_ms = server_now_ms() + (uint64_t)s->config->header_timeout_ms;
}

static void closed(struct server *s, struct conn *c)
{
    conn_unwatch(c);
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    s->n_conns--;
    s->rerun = true; /* at the limit, MHD accepts again only when it runs */
    free(c);
}

void conn_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                 enum MHD_ConnectionNotificationCode code)
{
    struct server *s = cls;

    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        opened(s, mhd, socket_context);
    else if (*socket_context)
        closed(s, *socket_context);
}

void conn_phase(struct conn *c, enum phase phase, uint64_t n_bytes)
{
    const struct config *f = c->srv->config;
    uint64_t ms = 0;

    c->phase = phase;
    switch (phase) {
    case PHASE_IDLE:
        ms = (uint64_t)f->idle_timeout_ms;
        break;
    case PHASE_HEADERS:
        ms = (uint64_t)f->header_timeout_ms;
        break;
    case PHASE_BODY:
        ms = (uint64_t)f->body_timeout_ms;
        break;
    case PHASE_WRITE: /* long answers may take longer, but not for ever */
        ms = (uint64_t)f->write_timeout_ms + n_bytes / WRITE_BYTES_PER_MS;
        break;
    case PHASE_LINGER:
        ms = LINGER_MS;
        break;
    case PHASE_WORK:
        break;
    }
    c->deadline_ms = ms ? server_now_ms() + ms : UINT64_MAX;
}

void conn_watch(struct conn *c)
{
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = c};

    if (c->watched)
        return;
    if (epoll_ctl(c->srv->hangup_fd, EPOLL_CTL_ADD, c->fd, &e) == 0)
        c->watched = true;
    else
        log_line(LEVEL_WARN, "watch_failed", "fd=%d", c->fd);
}

void conn_unwatch(struct conn *c)
{
    if (c->watched)
        epoll_ctl(c->srv->hangup_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = false;
}

void conn_hangups(struct server *s)
{
    struct epoll_event events[64];
    int n;

    do {
        n = epoll_wait(s->hangup_fd, events, 64, 0);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (c->request)
                request_gone(c->request);
        }
    } while (n == 64);
}

/* The headers that every reply has. */
static void raw_ids(struct buf *out, const struct request *r)
{
    char trace[TRACEPARENT_LEN + 1];

    if (!r)
        return;
    buf_printf(out, "X-Request-Id: %s\r\n", r->id);
    if (!*r->trace.trace_id) /* the headers have not all come */
        return;
    trace_header(&r->trace, trace);
    buf_printf(out, "traceparent: %s\r\n", trace);
}

void conn_raw_error(struct conn *c, unsigned status, const char *message)
{
    struct buf body = {0}, all = {0};

    reply_error_body(&body, c->request, status, NULL, NULL, message);
    buf_printf(&all,
               "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\nConnection: close\r\n",
               status, reply_reason(status), body.len);
    raw_ids(&all, c->request);
    buf_str(&all, "\r\n");
    buf_add(&all, body.data, body.len);
    if (!all.failed && !body.failed)
        send(c->fd, all.data, all.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (c->request) {
        c->request->status = status;
        c->request->error = reply_code(status);
        c->request->n_sent = body.len;
    }
    buf_release(&all);
    buf_release(&body);
}

/* MHD does not look at a socket it has no room to read from (a chunk's size
 * line without an end), so it is also told to give up on the connection. */
void conn_shutdown(struct conn *c)
{
    if (!c->dead) {
        shutdown(c->fd, SHUT_RDWR);
        MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
    }
    c->dead = true;
    c->deadline_ms = UINT64_MAX;
}

static void expired(struct conn *c)
{
    struct server *s = c->srv;
    const enum phase phase = c->phase;

    if (phase == PHASE_HEADERS || phase == PHASE_BODY) {
        s->metrics.refused[REFUSED_TIMEOUT]++;
        conn_raw_error(c, 408,
                       phase == PHASE_BODY
                           ? "the body took too long to arrive"
                           : "the headers took too long to arrive");
    } else if (phase == PHASE_WRITE) {
        s->metrics.slow_readers++;
    }
    conn_shutdown(c);
}

/* A request still uploading was not accepted, and will not be: no reason to
 * let it hold up the end of a server that drains. */
static void hurry(struct conn *c, uint64_t now_ms)
{
    const uint64_t latest = now_ms + DRAIN_UPLOAD_MS;

    if ((c->phase == PHASE_HEADERS || c->phase == PHASE_BODY) && !c->dead &&
        c->deadline_ms > latest)
        c->deadline_ms = latest;
}

void conn_tick(struct server *s)
{
    const uint64_t now = server_now_ms();

    for (struct conn *c = s->conns; c; c = c->next) {
        if (s->state == STATE_DRAINING)
            hurry(c, now);
        if (now >= c->deadline_ms)
            expired(c);
        else if (c->phase == PHASE_WORK && c->request && !c->dead)
            request_tick(c->request, now);
    }
}
