/*
 * route_ops.c - probes, metrics and the contract.
 *
 * Live and ready are different questions: a server that loads or drains is
 * alive, and restarting it would help nobody; a worker that makes no step for
 * worker_hang_ms is not, whatever the loop may answer meanwhile.
 */
#include "server/jsonout.h"
#include "server/metrics.h"
#include "server/openapi.h"
#include "server/reply.h"
#include "server/routes.h"

static void status(struct request *r, const char *word)
{
    struct buf body = {0};
    struct json j = json_into(&body);

    json_open(&j, '{');
    json_key_str(&j, "status", word);
    json_close(&j, '}');
    reply_json(r, &body);
}

void route_healthz(struct request *r)
{
    const struct server *s = r->srv;
    const uint64_t limit = (uint64_t)s->config->worker_hang_ms * 1000000;
    const uint64_t now = infer_clock_ns();

    for (size_t i = 0; i < s->n_workers; i++) {
        const struct worker *w = &s->workers[i];
        const uint64_t beat =
            atomic_load_explicit(&w->beat_ns, memory_order_relaxed);

        if (w->ready && now > beat + limit) {
            reply_retry(r, 503, "worker_hangs", 1,
                        "the worker of '%s' makes no progress",
                        w->config->name);
            return;
        }
    }
    status(r, "ok");
}

void route_readyz(struct request *r)
{
    const struct server *s = r->srv;

    if (s->state == STATE_READY)
        status(r, "ready");
    else if (s->state == STATE_LOADING)
        reply_retry(r, 503, "loading", 1, "%zu of %zu models are loaded",
                    s->n_ready, s->n_workers);
    else
        reply_retry(r, 503, "draining", 1, "the server is stopping");
}

void route_metrics(struct request *r)
{
    struct buf body = {0};

    metrics_print(&body, r->srv);
    reply_buf(r, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

void route_openapi(struct request *r)
{
    reply_static(r, "application/yaml", openapi_text,
                 (size_t)(openapi_end - openapi_text));
}
