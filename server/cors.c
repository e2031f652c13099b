/*
 * cors.c - which pages' scripts may call.
 *
 * Only configured origins get headers; the default is none, so a browser lets
 * no other site's page read an answer. An origin is echoed only after it
 * equalled a configured one. Preflights carry no key, by the standard.
 */
#include "server/cors.h"

#include <string.h>

static const char *request_header(struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

/* What Access-Control-Allow-Origin says; NULL: nothing. */
static const char *allowed_origin(struct request *r)
{
    const struct strings *list = &r->srv->config->cors_origins;
    const char *origin = request_header(r, "Origin");

    for (size_t i = 0; origin && i < list->n; i++) {
        if (strcmp(list->items[i], "*") == 0)
            return "*";
        if (strcmp(list->items[i], origin) == 0)
            return origin;
    }
    return NULL;
}

void cors_add(struct request *r)
{
    const char *origin = allowed_origin(r);

    if (r->srv->config->cors_origins.n)
        MHD_add_response_header(r->response, "Vary", "Origin");
    if (!origin)
        return;
    MHD_add_response_header(r->response, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(r->response, "Access-Control-Expose-Headers",
                            "X-Request-Id, traceparent, Retry-After");
}

/* Header names, commas and spaces only: safe to send back. */
static bool is_name_list(const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ";

    return strspn(text, safe) == strlen(text) && strlen(text) < 1024;
}

void cors_preflight(struct request *r)
{
    const char *methods =
        routes[r->route].post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
    const char *wanted = request_header(r, "Access-Control-Request-Headers");

    r->status = 204;
    r->response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!r->response)
        return;
    MHD_add_response_header(r->response, "Allow", methods);
    if (!allowed_origin(r))
        return;
    MHD_add_response_header(r->response, "Access-Control-Allow-Methods",
                            methods);
    MHD_add_response_header(r->response, "Access-Control-Allow-Headers",
                            wanted && is_name_list(wanted)
                                ? wanted
                                : "Authorization, Content-Type, X-Request-Id, "
                                  "traceparent");
    MHD_add_response_header(r->response, "Access-Control-Max-Age", "600");
}
