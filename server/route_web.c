/*
 * route_web.c - the playground at /, the reference at /docs, and the files that
 * they are made of.
 *
 * The pages bring all they need, and the policy holds them to it: nothing from
 * elsewhere, no script or style inside the HTML, no frame around it. They are
 * revalidated on every load, which costs a 304.
 */
#include "server/reply.h"
#include "server/routes.h"
#include "server/web.h"

#include <string.h>

static const struct {
    const char *name, *value;
} headers[] = {
    {"ETag", web_etag},
    {"Cache-Control", "no-cache"},
    {"Content-Security-Policy",
     "default-src 'self'; object-src 'none'; base-uri 'none'; "
     "form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
};

/* Does the client hold this version? The quotes delimit, so a list of tags and
 * weak ones need no parser. */
static bool unchanged(struct request *r)
{
    const char *held =
        MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, "If-None-Match");

    return held && (strcmp(held, "*") == 0 || strstr(held, web_etag));
}

static void serve(struct request *r, const char *name)
{
    const struct web_file *f = web_find(name);

    if (!f) {
        reply_error(r, 404, NULL, NULL, "no such route");
        return;
    }
    if (unchanged(r)) {
        reply_static(r, f->type, f->text, 0);
        r->status = 304;
    } else {
        reply_static(r, f->type, f->text, (size_t)(f->end - f->text));
    }
    for (size_t i = 0; r->response && i < sizeof(headers) / sizeof(*headers);
         i++)
        MHD_add_response_header(r->response, headers[i].name, headers[i].value);
}

void route_index(struct request *r)
{
    serve(r, "index.html");
}

void route_docs(struct request *r)
{
    serve(r, "docs.html");
}

void route_web(struct request *r)
{
    serve(r, r->path + strlen(routes[ROUTE_WEB].path));
}
