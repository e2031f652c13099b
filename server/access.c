/*
 * access.c - the access log: a line of JSON per finished request.
 *
 * A member that says nothing is left out (no model on /healthz, no
 * prompt_tokens before a model has seen the prompt), so that 0 means 0.
 */
#include "server/access.h"
#include "server/jsonout.h"
#include "server/log.h"

#include <arpa/inet.h>
#include <string.h>

enum { PATH_BYTES = 256 };

/* The peer's address: of the proxy, if there is one in front. */
static void write_client(struct json *j, const struct request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    const struct sockaddr_in *v4 = (const void *)a;
    const struct sockaddr_in6 *v6 = (const void *)a;
    char text[INET6_ADDRSTRLEN];

    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    else
        return;
    json_key_str(j, "client", text);
}

static void write_ids(struct json *j, const struct request *r)
{
    const struct trace *t = &r->trace;

    json_key_str(j, "id", r->id);
    json_key_str(j, "trace_id", t->trace_id);
    json_key_str(j, "span_id", t->span_id);
    if (*t->parent_id)
        json_key_str(j, "parent_id", t->parent_id);
}

static void write_what(struct json *j, const struct request *r)
{
    const char *path = r->path ? r->path : "";
    const size_t n = strlen(path);

    if (r->key)
        json_key_str(j, "key", r->key->config->name);
    json_key_str(j, "method", r->method);
    json_key_str(j, "route", routes[r->route].path);
    json_key(j, "path");
    json_text(j, path, n < PATH_BYTES ? n : PATH_BYTES);
    json_key_uint(j, "status", r->status);
    if (r->error)
        json_key_str(j, "error", r->error);
    if (r->model)
        json_key_str(j, "model", r->model);
    if (r->stream.started) {
        json_key(j, "stream");
        json_bool(j, true);
    }
    if (r->finish)
        json_key_str(j, "finish", r->finish);
}

static void key_ms(struct json *j, const char *key, double ms)
{
    json_key(j, key);
    json_ms(j, ms);
}

static void write_work(struct json *j, const struct request *r)
{
    if (!r->worked)
        return;
    json_key_uint(j, "prompt_tokens", r->n_prompt);
    if (r->generation) {
        json_key_uint(j, "cached_tokens", r->n_cached);
        json_key_uint(j, "completion_tokens", r->n_generated);
    }
    key_ms(j, "queue_ms", r->queue_ms);
    if (r->ttft_ms > 0)
        key_ms(j, "ttft_ms", r->ttft_ms);
}

void access_write(struct sink *s, const struct request *r, double ms)
{
    struct buf *line = sink_line(s);
    char time[LOG_TIME_BYTES];
    struct json j;

    if (!line)
        return;
    j = json_into(line);
    json_open(&j, '{');
    json_key_str(&j, "time", log_time(time));
    write_ids(&j, r);
    write_client(&j, r);
    write_what(&j, r);
    write_work(&j, r);
    key_ms(&j, "total_ms", ms);
    json_key_uint(&j, "bytes_in", r->n_body);
    json_key_uint(&j, "bytes_out", r->n_sent);
    json_close(&j, '}');
    sink_line_end(s);
}
