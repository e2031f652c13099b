/*
 * http.c - one request: from MHD's callbacks to a route, and back.
 *
 *   http_uri        the request line is there: a struct request is born
 *   http_handler    1. headers complete: refuse what is dangerous, find the
 *                      route, check the key
 *                   2. per piece of body
 *                   3. all read: run the route; it answers, or a job does
 *                      later, and the connection is suspended until then
 *   http_completed  answered or lost: log, count, free
 *
 * libmicrohttpd 0.9.75 accepts a request with both Content-Length and
 * Transfer-Encoding, or with two Content-Lengths, even in strict mode, and
 * hangs on an unknown Transfer-Encoding. A proxy in front may read such a
 * request differently (request smuggling), so they are refused here.
 */
#include "server/http.h"
#include "server/access.h"
#include "server/conn.h"
#include "server/cors.h"
#include "server/generation.h"
#include "server/log.h"
#include "server/reply.h"
#include "server/stream.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { LINGER_BYTES = 4 << 20 };

const char *request_header(struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

/* ---- birth --------------------------------------------------------------- */

void *http_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct conn *c = info ? info->socket_context : NULL;
    struct request *r = c ? calloc(1, sizeof(*r)) : NULL;
    const char *nul;
    char id[17];

    if (!r)
        return NULL;
    r->uri_end = uri + strlen(uri);
    nul = strstr(uri, "%00");
    r->escaped_nul = nul && (size_t)(nul - uri) < strcspn(uri, "?");
    r->srv = cls;
    r->conn = c;
    r->mhd = mhd;
    r->route = ROUTE_NONE;
    r->start_ns = infer_clock_ns();
    server_new_id(r->srv, id);
    snprintf(r->id, sizeof(r->id), "req-%s", id);
    c->request = r;
    conn_phase(c, PHASE_HEADERS, 0);
    return r;
}

/* ---- headers ------------------------------------------------------------- */

/* What decides where the body ends. */
struct framing {
    unsigned n_lengths, n_encodings;
    bool unknown_encoding;
};

static enum MHD_Result framing_header(void *cls, enum MHD_ValueKind kind,
                                      const char *name, const char *value)
{
    struct framing *f = cls;

    (void)kind;
    if (strcasecmp(name, "Content-Length") == 0)
        f->n_lengths++;
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->n_encodings++;
        if (!value || strcasecmp(value, "chunked") != 0)
            f->unknown_encoding = true;
    }
    return MHD_YES;
}

/* A NUL in the request line cuts the path that we see, but not the one a proxy
 * saw. MHD keeps the line in one piece, with the version after the path. */
static bool nul_in_uri(const struct request *r, const char *version)
{
    return r->escaped_nul || version != r->uri_end + 1;
}

static const char *framing_fault(struct request *r, const char *version)
{
    struct framing f = {0};

    if (nul_in_uri(r, version))
        return "the path must not contain NUL";
    MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, framing_header, &f);
    if (f.unknown_encoding || f.n_encodings > 1)
        return "the only Transfer-Encoding supported is chunked";
    if (f.n_lengths > 1)
        return "Content-Length is there twice";
    if (f.n_lengths && f.n_encodings)
        return "Content-Length and Transfer-Encoding exclude each other";
    return NULL;
}

/* The client's id, if it is sane: it comes back in headers and in the log. */
static void take_id(struct request *r)
{
    const char *id = request_header(r, "X-Request-Id");
    size_t n = 0;

    while (id && id[n] >= ' ' && id[n] < 0x7f && n <= REQUEST_ID_MAX)
        n++;
    if (id && n >= 1 && n <= REQUEST_ID_MAX && !id[n])
        memcpy(r->id, id, n + 1);
}

struct trace_found {
    const char *value;
    unsigned n;
};

static enum MHD_Result trace_header_found(void *cls, enum MHD_ValueKind kind,
                                          const char *name, const char *value)
{
    struct trace_found *f = cls;

    (void)kind;
    if (strcasecmp(name, "traceparent") == 0) {
        f->value = value;
        f->n++;
    }
    return MHD_YES;
}

/* Go on in the client's trace. One that is not valid, or there twice, is as
 * none: a new trace begins, as the standard has it. */
static void take_trace(struct request *r)
{
    struct trace_found f = {0};
    char id[2][17];

    server_new_id(r->srv, r->trace.span_id);
    MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, trace_header_found, &f);
    if (f.n == 1 && f.value && trace_parse(&r->trace, f.value))
        return;
    server_new_id(r->srv, id[0]);
    server_new_id(r->srv, id[1]);
    snprintf(r->trace.trace_id, sizeof(r->trace.trace_id), "%s%s", id[0],
             id[1]);
}

static enum route_id find_route(const char *path)
{
    for (int i = 0; i < ROUTE_NONE; i++) {
        const size_t n = strlen(routes[i].path);
        const bool named = i == ROUTE_MODEL || i == ROUTE_WEB;

        if (named ? strncmp(path, routes[i].path, n) == 0 && path[n]
                  : strcmp(path, routes[i].path) == 0)
            return (enum route_id)i;
    }
    return ROUTE_NONE;
}

static bool is_json(const char *type)
{
    static const char json[] = "application/json";

    if (!type || strncasecmp(type, json, sizeof(json) - 1) != 0)
        return false;
    type += sizeof(json) - 1;
    return *type == '\0' || *type == ';' || isspace((unsigned char)*type);
}

/* 401, 403, 429, or take the request into the key's account. */
static void check_key(struct request *r)
{
    struct server *s = r->srv;
    const char *what = "";
    unsigned wait;

    if (s->keys.n == 0 || routes[r->route].open)
        return;
    r->key = keys_find(&s->keys, request_header(r, "Authorization"));
    if (!r->key) {
        s->metrics.refused[REFUSED_KEY]++;
        reply_error(r, 401, NULL, NULL, "missing or wrong API key");
        return;
    }
    if (!key_allows_route(r->key, routes[r->route].path)) {
        s->metrics.refused[REFUSED_KEY]++;
        reply_error(r, 403, NULL, NULL, "this key may not use %s",
                    routes[r->route].path);
        return;
    }
    wait = key_take(r->key, infer_clock_ns(), &what);
    if (wait) {
        s->metrics.refused[REFUSED_RATE]++;
        reply_retry(r, 429, NULL, wait, "the %s of this key is used up", what);
        return;
    }
    r->key->active++;
    r->key_held = true;
}

/* Everything that can be refused without the body. */
static void check_headers(struct request *r)
{
    const bool get =
        strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    const struct route *route = &routes[r->route];

    if (r->route == ROUTE_NONE)
        reply_error(r, 404, NULL, NULL, "no such route");
    else if (strcmp(r->method, "OPTIONS") == 0)
        cors_preflight(r);
    else if (route->post ? strcmp(r->method, "POST") != 0 : !get)
        reply_error(r, 405, NULL, NULL, "%s %s is not possible", r->method,
                    route->path);
    else
        check_key(r);
    if (!r->response && route->post &&
        !is_json(request_header(r, "Content-Type")))
        reply_error(r, 415, NULL, NULL,
                    "Content-Type must be application/json");
}

/* 413 in the middle of an upload, or before it. MHD has no way to answer and
 * keep reading, and closing at once would destroy the answer. */
static void refuse_upload(struct request *r)
{
    char text[96];

    r->srv->metrics.refused[REFUSED_BODY]++;
    snprintf(text, sizeof(text), "the body is larger than %lld bytes",
             (long long)r->srv->config->max_body_bytes);
    conn_raw_error(r->conn, 413, text);
    shutdown(r->conn->fd, SHUT_WR);
    conn_phase(r->conn, PHASE_LINGER, 0);
    r->discard = true;
}

static enum MHD_Result send_now(struct request *r)
{
    const uint64_t n = r->n_sent;

    conn_phase(r->conn,
               r->stream.started && !r->stream.ended ? PHASE_WORK : PHASE_WRITE,
               n);
    return reply_send(r) ? MHD_YES : MHD_NO;
}

static enum MHD_Result headers_done(struct request *r, const char *url,
                                    const char *method, const char *version)
{
    const char *length, *fault;

    r->headers_done = true;
    r->srv->n_requests++;
    take_id(r);
    take_trace(r);
    r->path = strdup(url);
    snprintf(r->method, sizeof(r->method), "%s", method);
    if (!r->path)
        return MHD_NO;
    r->route = find_route(r->path);
    fault = framing_fault(r, version);
    if (fault) { /* where the next request begins is unknown: close */
        reply_error(r, 400, NULL, NULL, "%s", fault);
        return send_now(r);
    }
    conn_phase(r->conn, PHASE_BODY, 0);
    check_headers(r);
    length = request_header(r, "Content-Length");
    if (length &&
        strtoull(length, NULL, 10) > (uint64_t)r->srv->config->max_body_bytes)
        refuse_upload(r);
    else if (r->response && request_header(r, "Expect"))
        return send_now(r); /* it waits for permission to send the body */
    return MHD_YES;
}

/* ---- body ---------------------------------------------------------------- */

static void drop_body(struct request *r)
{
    r->srv->body_bytes -= r->body.len;
    buf_release(&r->body);
}

static enum MHD_Result take_body(struct request *r, const char *data, size_t n)
{
    struct server *s = r->srv;
    const uint64_t limit = (uint64_t)s->config->max_body_bytes;

    r->n_body += n;
    if (r->discard)
        return r->n_body > limit + LINGER_BYTES ? MHD_NO : MHD_YES;
    if (r->n_body > limit) {
        drop_body(r);
        refuse_upload(r);
        return MHD_YES;
    }
    if (r->response)
        return MHD_YES;
    if (s->body_bytes + n > (uint64_t)s->config->max_pending_bytes ||
        !buf_reserve(&r->body, n)) {
        drop_body(r);
        s->metrics.refused[REFUSED_MEMORY]++;
        reply_retry(r, 503, NULL, 1, "too many large requests at once");
        return MHD_YES;
    }
    buf_add(&r->body, data, n);
    s->body_bytes += n;
    return MHD_YES;
}

/* ---- the handler --------------------------------------------------------- */

static enum MHD_Result body_done(struct request *r)
{
    r->body_done = true;
    if (r->discard)
        return MHD_NO;
    if (!r->response)
        routes[r->route].run(r);
    drop_body(r);
    if (r->response)
        return send_now(r);
    if (!r->waiting)
        return MHD_NO;
    conn_phase(r->conn, PHASE_WORK, 0);
    conn_watch(r->conn);
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
    return MHD_YES;
}

enum MHD_Result http_handler(void *cls, struct MHD_Connection *mhd,
                             const char *url, const char *method,
                             const char *version, const char *data,
                             size_t *size, void **context)
{
    struct request *r = *context;
    const size_t n = *size;

    (void)cls;
    (void)mhd;
    if (!r)
        return MHD_NO; /* no memory when it began */
    if (!r->headers_done)
        return headers_done(r, url, method, version);
    if (n) {
        *size = 0;
        return take_body(r, data, n);
    }
    if (!r->body_done)
        return body_done(r);
    if (r->gone)
        return MHD_NO;
    if (r->response)
        return send_now(r);
    r->suspended = true; /* resumed for nothing */
    MHD_suspend_connection(r->mhd);
    return MHD_YES;
}

/* ---- while a job works --------------------------------------------------- */

void request_wait(struct request *r, struct job *job)
{
    struct worker *w = job->worker;

    r->waiting = true;
    r->job = job;
    job->request = r;
    job->key = r->key;
    r->srv->n_jobs++;
    w->n_jobs++;
    w->n_sequences += job->n_sequences;
    worker_submit(w, job);
}

void request_resume(struct request *r)
{
    if (!r->suspended)
        return;
    r->suspended = false;
    r->srv->rerun = true;
    MHD_resume_connection(r->mhd);
}

/* The job goes on without us until its worker notices. */
static void detach(struct request *r)
{
    if (!r->job)
        return;
    job_cancel(r->job);
    r->job->request = NULL;
    r->job = NULL;
}

void request_gone(struct request *r)
{
    if (r->gone)
        return;
    r->gone = true;
    if (r->job)
        r->srv->metrics.cancelled++;
    detach(r);
    request_resume(r);
}

/* A worker that hangs sends nothing, not even "deadline". */
static void give_up(struct request *r)
{
    detach(r);
    generation_abort(r, 504, "the model does not answer");
    request_resume(r);
}

void request_tick(struct request *r, uint64_t now_ms)
{
    enum { GRACE_NS = 2000000000 };
    const struct config *f = r->srv->config;

    if (r->stream.started && stream_stalled(r, now_ms)) {
        r->srv->metrics.slow_readers++;
        request_gone(r);
        conn_shutdown(r->conn);
        return;
    }
    if (!r->job)
        return;
    if (infer_clock_ns() >
        r->job->deadline_ns + GRACE_NS + (uint64_t)f->worker_hang_ms * 1000000)
        give_up(r);
    else if (r->generation)
        generation_ping(r, now_ms);
}

/* ---- end ----------------------------------------------------------------- */

static void request_free(struct request *r)
{
    drop_body(r);
    if (r->response)
        MHD_destroy_response(r->response);
    if (r->key_held)
        r->key->active--;
    generation_free(r->generation);
    buf_release(&r->stream.queue);
    free(r->path);
    free(r);
}

void http_completed(void *cls, struct MHD_Connection *mhd, void **context,
                    enum MHD_RequestTerminationCode how)
{
    struct server *s = cls;
    struct request *r = *context;
    double seconds;

    (void)mhd;
    *context = NULL;
    if (!r)
        return;
    if (r->job) {
        s->metrics.cancelled++;
        detach(r);
    }
    seconds = (double)(infer_clock_ns() - r->start_ns) * 1e-9;
    if (!r->status || (how != MHD_REQUEST_TERMINATED_COMPLETED_OK &&
                       !r->discard && r->status != 408))
        r->status = 499;
    if (r->headers_done) {
        s->n_requests--;
        s->metrics.requests[r->route][reply_status_row(r->status)]++;
        histogram_add(&s->metrics.seconds[r->route], seconds);
        access_write(&s->access, r, seconds * 1e3);
    }
    conn_unwatch(r->conn);
    r->conn->request = NULL;
    if (!r->conn->dead)
        conn_phase(r->conn, PHASE_IDLE, 0);
    request_free(r);
}
