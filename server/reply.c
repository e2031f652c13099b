/*
 * reply.c - answers: JSON, text, and the one table of errors.
 *
 * A handler builds the answer when it knows it; MHD gets it only once the
 * whole request has been read, because a response queued earlier makes MHD
 * close the connection.
 */
#include "server/reply.h"
#include "server/cors.h"
#include "server/jsonout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    unsigned status;
    const char *reason, *type, *code;
} table[] = {
    {200, "OK", NULL, NULL},
    {204, "No Content", NULL, NULL},
    {304, "Not Modified", NULL, NULL},
    {400, "Bad Request", "invalid_request_error", "invalid_value"},
    {401, "Unauthorized", "authentication_error", "invalid_api_key"},
    {403, "Forbidden", "permission_error", "not_allowed"},
    {404, "Not Found", "invalid_request_error", "not_found"},
    {405, "Method Not Allowed", "invalid_request_error", "method_not_allowed"},
    {408, "Request Timeout", "timeout_error", "request_timeout"},
    {413, "Payload Too Large", "invalid_request_error", "too_large"},
    {415, "Unsupported Media Type", "invalid_request_error", "not_json"},
    {422, "Unprocessable Entity", "invalid_request_error",
     "context_length_exceeded"},
    {429, "Too Many Requests", "rate_limit_error", "rate_limit_exceeded"},
    {499, "Client Closed Request", NULL, NULL}, /* only in log and metrics */
    {500, "Internal Server Error", "server_error", "internal_error"},
    {503, "Service Unavailable", "overloaded_error", "overloaded"},
    {504, "Gateway Timeout", "timeout_error", "deadline_exceeded"},
};

enum { N_TABLE = sizeof(table) / sizeof(table[0]) };
_Static_assert((int)N_TABLE < (int)N_STATUSES, "no row is left for the others");

size_t reply_status_row(unsigned status)
{
    size_t i = 0;

    while (i < N_TABLE && table[i].status != status)
        i++;
    return i;
}

unsigned reply_row_status(size_t row)
{
    return row < N_TABLE ? table[row].status : 0;
}

const char *reply_reason(unsigned status)
{
    const size_t row = reply_status_row(status);

    return row < N_TABLE ? table[row].reason : "Error";
}

const char *reply_type(unsigned status)
{
    const size_t row = reply_status_row(status);

    return row < N_TABLE ? table[row].type : "server_error";
}

const char *reply_code(unsigned status)
{
    const size_t row = reply_status_row(status);

    return row < N_TABLE ? table[row].code : "error";
}

/* ---- building ------------------------------------------------------------ */

static void header(struct request *r, const char *name, const char *value)
{
    if (r->response)
        MHD_add_response_header(r->response, name, value);
}

void reply_static(struct request *r, const char *type, const char *text,
                  size_t len)
{
    r->status = 200;
    r->n_sent = len;
    r->response = MHD_create_response_from_buffer(len, (void *)(uintptr_t)text,
                                                  MHD_RESPMEM_PERSISTENT);
    header(r, "Content-Type", type);
}

void reply_buf(struct request *r, unsigned status, const char *type,
               struct buf *body)
{
    if (body->failed) {
        buf_release(body);
        reply_error(r, 503, NULL, NULL, "out of memory");
        return;
    }
    r->status = status;
    r->n_sent = body->len;
    r->response = MHD_create_response_from_buffer(body->len, body->data,
                                                  MHD_RESPMEM_MUST_FREE);
    if (r->response)
        memset(body, 0, sizeof(*body));
    else
        buf_release(body);
    header(r, "Content-Type", type);
}

void reply_json(struct request *r, struct buf *body)
{
    reply_buf(r, 200, "application/json", body);
}

/* text-embeddings-inference's names for what goes wrong. */
static const char *tei_type(unsigned status)
{
    switch (status) {
    case 408:
    case 413:
    case 422:
        return "Validation";
    case 429:
    case 503:
        return "Overloaded";
    case 400:
    case 404:
    case 405:
    case 415:
        return "Validation";
    case 401:
    case 403:
        return "Unauthorized";
    default:
        return "Backend";
    }
}

static void tei_error_body(struct buf *out, unsigned status,
                           const char *message)
{
    struct json j = json_into(out);

    json_open(&j, '{');
    json_key_str(&j, "error", message);
    json_key_str(&j, "error_type", tei_type(status));
    json_close(&j, '}');
}

static void openai_error_body(struct buf *out, unsigned status,
                              const char *param, const char *code,
                              const char *message)
{
    struct json j = json_into(out);

    json_open(&j, '{');
    json_key(&j, "error");
    json_open(&j, '{');
    json_key_str(&j, "message", message);
    json_key_str(&j, "type", reply_type(status));
    json_key(&j, "param");
    if (param)
        json_str(&j, param);
    else
        json_null(&j);
    json_key_str(&j, "code", code ? code : reply_code(status));
    json_close(&j, '}');
    json_close(&j, '}');
}

void reply_error_body(struct buf *out, const struct request *r, unsigned status,
                      const char *param, const char *code, const char *message)
{
    if (r && r->headers_done && route_is_tei(r->route))
        tei_error_body(out, status, message);
    else
        openai_error_body(out, status, param, code, message);
}

static void error_reply(struct request *r, unsigned status, const char *param,
                        const char *code, const char *fmt, va_list ap)
    __attribute__((format(printf, 5, 0)));

static void error_reply(struct request *r, unsigned status, const char *param,
                        const char *code, const char *fmt, va_list ap)
{
    static const char lost[] =
        "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
        "\"param\":null,\"code\":\"out_of_memory\"}}";
    struct buf body = {0};
    char message[512];

    r->error = code ? code : reply_code(status);
    vsnprintf(message, sizeof(message), fmt, ap);
    reply_error_body(&body, r, status, param, code, message);
    if (body.failed) {
        buf_release(&body);
        reply_static(r, "application/json", lost, sizeof(lost) - 1);
        r->status = status;
    } else {
        reply_buf(r, status, "application/json", &body);
    }
    if (status == 401)
        header(r, "WWW-Authenticate", "Bearer");
    if (status == 405)
        header(r, "Allow",
               routes[r->route].post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS");
}

void reply_error(struct request *r, unsigned status, const char *param,
                 const char *code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_reply(r, status, param, code, fmt, ap);
    va_end(ap);
}

void reply_retry(struct request *r, unsigned status, const char *code,
                 unsigned seconds, const char *fmt, ...)
{
    char text[16];
    va_list ap;

    va_start(ap, fmt);
    error_reply(r, status, NULL, code, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof(text), "%u", seconds);
    header(r, "Retry-After", text);
}

unsigned reply_status(int infer_status)
{
    switch (infer_status) {
    case INFER_OK:
        return 200;
    case INFER_EINVAL:
    case INFER_EUNSUPPORTED:
        return 400;
    case INFER_ETOOLONG:
        return 422;
    case WORKER_LATE:
        return 504;
    case INFER_EBUSY:
    case INFER_ENOMEM:
        return 503;
    default:
        return 500;
    }
}

void reply_engine_error(struct request *r, const struct infer_error *err,
                        const char *param)
{
    const unsigned status = reply_status(err->status);

    if (status == 503)
        reply_retry(r, status, NULL, 1, "%s", err->text);
    else
        reply_error(r, status, param, NULL, "%s", err->text);
}

/* ---- sending ------------------------------------------------------------- */

bool reply_send(struct request *r)
{
    char trace[TRACEPARENT_LEN + 1];
    enum MHD_Result ok;

    if (!r->response)
        return false;
    header(r, "X-Request-Id", r->id);
    trace_header(&r->trace, trace);
    header(r, "traceparent", trace);
    cors_add(r);
    ok = MHD_queue_response(r->mhd, r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    r->queued = ok == MHD_YES;
    return r->queued;
}
