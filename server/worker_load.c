/*
 * worker_load.c - what a worker needs before its first job: its model, or the
 * classifiers of an ensemble, and an engine or batchers for them.
 */
#include "server/worker.h"

#include <string.h>

/* Classifiers that are averaged must mean the same by each score. */
static int check_member(const struct worker *w, size_t i,
                        struct infer_error *err)
{
    const struct infer_model_info *a = infer_model_info(w->model);
    const struct infer_model_info *b = infer_model_info(w->members[i].model);
    bool same = a->task == INFER_TASK_CLASSIFY && b->task == a->task &&
                a->n_classes == b->n_classes && a->classifier == b->classifier;

    for (uint32_t c = 0; same && c < a->n_classes; c++)
        same = strcmp(a->labels[c], b->labels[c]) == 0;
    return same ? 0
                : config_fail(err, INFER_EINVAL,
                              "'%s' and '%s' are not classifiers of the same "
                              "classes",
                              a->path, b->path);
}

static int load_encoders(struct worker *w, struct infer_error *err)
{
    const struct engine_config *c = &w->config->engine;
    const struct infer_model_params mp = {.cpu = w->cpu};
    int rc = 0;

    for (size_t i = 0; i < w->n_members && rc == 0; i++) {
        struct member *m = &w->members[i];
        struct infer_batcher_params bp = {
            .max_tokens = (uint32_t)c->step_tokens, .max_waiting = UINT32_MAX};

        if (i > 0) {
            rc = infer_model_load(&m->model, w->config->more.items[i - 1], &mp,
                                  err);
            if (rc == 0)
                rc = check_member(w, i, err);
        }
        if (rc == 0 && bp.max_tokens < infer_model_info(m->model)->n_ctx_train)
            bp.max_tokens = infer_model_info(m->model)->n_ctx_train;
        if (rc == 0)
            rc = infer_batcher_create(&m->batcher, m->model, w->team, &bp, err);
    }
    return rc;
}

int worker_load(struct worker *w, struct infer_error *err)
{
    const struct engine_config *c = &w->config->engine;
    const struct infer_model_params mp = {.cpu = w->cpu};
    const struct infer_engine_params ep = {
        .n_ctx = (uint32_t)c->ctx,
        .max_running = (uint32_t)c->max_running,
        /* admission counts before; the engine must never be the one to say
         * no to half a batch */
        .max_waiting = (uint32_t)(c->max_waiting + c->max_running),
        .step_tokens = (uint32_t)c->step_tokens,
        .kv_tokens = (uint64_t)c->kv_tokens,
        .kv_type = c->kv_type ? INFER_KV_F32 : INFER_KV_F16,
        .no_prefix_cache = !c->prefix_cache,
    };
    int rc = infer_model_load(&w->model, w->config->path, &mp, err);

    w->members[0].model = w->model;
    if (rc == 0 && infer_model_info(w->model)->task != INFER_TASK_GENERATE)
        return load_encoders(w, err);
    if (rc == 0 && w->n_members > 1)
        rc = config_fail(err, INFER_EINVAL,
                         "'%s' generates text: only classifiers can be an "
                         "ensemble",
                         w->config->path);
    if (rc == 0)
        rc = infer_engine_create(&w->engine, w->model, w->team, &ep, err);
    if (rc == 0)
        w->engine_bytes = infer_engine_bytes(w->model, &ep);
    return rc;
}
