/* routes.c - the table of routes, and what those with a body have in common. */
#include "server/routes.h"
#include "server/admit.h"
#include "server/http.h"
#include "server/reply.h"

const struct route routes[N_ROUTES] = {
    [ROUTE_GENERATE] = {"/v1/generate", true, false, route_generate},
    [ROUTE_COMPLETIONS] = {"/v1/completions", true, false, route_completions},
    [ROUTE_CHAT] = {"/v1/chat/completions", true, false, route_chat},
    [ROUTE_MODELS] = {"/v1/models", false, false, route_models},
    [ROUTE_MODEL] = {"/v1/models/", false, false, route_model},
    [ROUTE_TOKENIZE] = {"/v1/tokenize", true, false, route_tokenize},
    [ROUTE_DETOKENIZE] = {"/v1/detokenize", true, false, route_detokenize},
    [ROUTE_EMBEDDINGS] = {"/v1/embeddings", true, false, route_embeddings},
    [ROUTE_CLASSIFY] = {"/v1/classify", true, false, route_classify},
    [ROUTE_RERANK] = {"/v1/rerank", true, false, route_rerank},
    [ROUTE_TEI_EMBED] = {"/embed", true, false, route_tei_embed},
    [ROUTE_TEI_PREDICT] = {"/predict", true, false, route_tei_predict},
    [ROUTE_TEI_RERANK] = {"/rerank", true, false, route_tei_rerank},
    [ROUTE_TEI_TOKENIZE] = {"/tokenize", true, false, route_tei_tokenize},
    [ROUTE_TEI_DECODE] = {"/decode", true, false, route_tei_decode},
    [ROUTE_TEI_INFO] = {"/info", false, false, route_tei_info},
    [ROUTE_HEALTHZ] = {"/healthz", false, true, route_healthz},
    [ROUTE_READYZ] = {"/readyz", false, true, route_readyz},
    [ROUTE_METRICS] = {"/metrics", false, true, route_metrics},
    [ROUTE_OPENAPI] = {"/openapi.yaml", false, true, route_openapi},
    [ROUTE_INDEX] = {"/", false, true, route_index},
    [ROUTE_DOCS] = {"/docs", false, true, route_docs},
    [ROUTE_WEB] = {"/web/", false, true, route_web},
    [ROUTE_NONE] = {"other", false, true, NULL},
};

static void refuse(struct request *r, const struct problem *p)
{
    const char *param = *p->param ? p->param : NULL;

    if (p->status == 503)
        reply_retry(r, p->status, p->code, 1, "%s", p->message);
    else
        reply_error(r, p->status, param, p->code, "%s", p->message);
}

static const char *const task_verbs[] = {
    [INFER_TASK_GENERATE] = "generates text",
    [INFER_TASK_EMBED] = "embeds texts",
    [INFER_TASK_CLASSIFY] = "classifies texts",
    [INFER_TASK_RERANK] = "ranks documents",
};

bool route_ready(struct request *r, const struct worker *w, unsigned tasks)
{
    if (!admit_ready(r, w))
        return false;
    if (tasks & TASK_BIT(w->info->task))
        return true;
    reply_error(r, 400, "model", "wrong_task",
                "the model '%s' %s, which is not what %s does", w->config->name,
                task_verbs[w->info->task], routes[r->route].path);
    return false;
}

/* false: answered. The caller deletes *root in any case. */
static bool begin(struct request *r, enum job_kind kind, unsigned tasks,
                  cJSON **root, struct job **job)
{
    struct problem p = {0};
    struct worker *w = NULL;
    bool ready;

    *job = NULL;
    *root = params_parse(&r->body, &p);
    if (*root)
        w = params_model(r->srv, *root, tasks, &p);
    if (!w) {
        refuse(r, &p);
        return false;
    }
    r->model = w->config->name;
    if (!key_allows_model(r->key, r->model)) {
        r->srv->metrics.refused[REFUSED_KEY]++;
        reply_error(r, 403, "model", NULL,
                    "this key may not use the model '%s'", r->model);
        return false;
    }
    ready = route_ready(r, w, tasks);
    if (ready)
        *job = job_create(kind, w);
    if (ready && !*job)
        reply_retry(r, 503, NULL, 1, "out of memory");
    if (*job) {
        (*job)->arrived_ns = r->start_ns;
        (*job)->deadline_ns =
            r->start_ns +
            (uint64_t)r->srv->config->request_timeout_ms * 1000000;
    }
    return *job != NULL;
}

void route_run(struct request *r, enum job_kind kind, unsigned tasks, int what,
               route_fields_fn *take)
{
    struct problem p = {0};
    cJSON *root = NULL;
    struct job *job = NULL;

    if (begin(r, kind, tasks, &root, &job)) {
        if (!take(r, root, what, job, &p)) {
            refuse(r, &p);
        } else if (admit_job(r, job)) {
            request_wait(r, job);
            job = NULL; /* the worker's */
        }
    }
    job_free(job);
    cJSON_Delete(root);
}
