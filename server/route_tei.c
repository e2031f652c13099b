/*
 * route_tei.c - POST /tokenize and /decode, GET /info, as
 * text-embeddings-inference has them. They serve the first encoder, since such
 * requests name no model (ours may: `model`).
 */
#include "server/jsonout.h"
#include "server/reply.h"
#include "server/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENCODERS = TASK_BIT(INFER_TASK_EMBED) | TASK_BIT(INFER_TASK_CLASSIFY) |
               TASK_BIT(INFER_TASK_RERANK)
};

static bool make_inputs(const struct config *c, struct job *job, size_t n,
                        const char *field, struct problem *p)
{
    if (n == 0)
        return problem(p, 400, field, "%s must not be empty", field);
    if (n > (size_t)c->max_inputs)
        return problem(p, 413, field, "%s must have at most %lld entries",
                       field, (long long)c->max_inputs);
    job->enc.inputs = calloc(n, sizeof(*job->enc.inputs));
    if (!job->enc.inputs)
        return problem(p, 503, NULL, "out of memory");
    job->enc.n_inputs = n;
    for (size_t i = 0; i < n; i++) {
        job->enc.inputs[i].job = job;
        job->enc.inputs[i].counted = true; /* no tokens for the encoder */
    }
    return true;
}

static bool take_text(struct input *in, const cJSON *v, struct problem *p)
{
    if (!cJSON_IsString(v))
        return problem(p, 400, "inputs",
                       "inputs must be a string or a list of strings");
    in->len = strlen(v->valuestring);
    in->text = strdup(v->valuestring);
    return in->text || problem(p, 503, NULL, "out of memory");
}

static bool take_texts(const struct config *c, const cJSON *root,
                       struct job *job, struct problem *p)
{
    const cJSON *v = params_field(root, "inputs"), *item;
    const bool list = cJSON_IsArray(v);
    size_t i = 0;

    job->add_special = true;
    if (!v)
        return problem(p, 400, "inputs", "inputs is required");
    if (!make_inputs(c, job, list ? (size_t)cJSON_GetArraySize(v) : 1, "inputs",
                     p))
        return false;
    if (!list)
        return take_text(&job->enc.inputs[0], v, p) &&
               params_bool(root, "add_special_tokens", &job->add_special, p);
    cJSON_ArrayForEach (item, v) {
        if (!take_text(&job->enc.inputs[i++], item, p))
            return false;
    }
    return params_bool(root, "add_special_tokens", &job->add_special, p);
}

static bool take_id_list(struct input *in, const cJSON *v, struct job *job,
                         struct problem *p)
{
    if (!cJSON_IsArray(v))
        return problem(p, 400, "ids",
                       "ids must be a list of token ids or of such lists");
    return params_ids(v, "ids", SIZE_MAX, job->worker->info->n_vocab,
                      &in->given.ids, &in->given.n, p);
}

static bool take_ids(const struct config *c, const cJSON *root, struct job *job,
                     struct problem *p)
{
    const cJSON *v = params_field(root, "ids"), *item;
    const bool many = cJSON_IsArray(v) && cJSON_IsArray(v->child);
    bool skip = true;
    size_t i = 0;

    if (!v)
        return problem(p, 400, "ids", "ids is required");
    if (!params_bool(root, "skip_special_tokens", &skip, p) ||
        !make_inputs(c, job, many ? (size_t)cJSON_GetArraySize(v) : 1, "ids",
                     p))
        return false;
    job->add_special = !skip;
    if (!many)
        return take_id_list(&job->enc.inputs[0], v, job, p);
    cJSON_ArrayForEach (item, v) {
        if (!take_id_list(&job->enc.inputs[i++], item, job, p))
            return false;
    }
    return true;
}

static bool take(struct request *r, const cJSON *root, int kind,
                 struct job *job, struct problem *p)
{
    const struct config *c = r->srv->config;

    job->n_sequences = 1;
    return kind == JOB_TEI_TOKENIZE ? take_texts(c, root, job, p)
                                    : take_ids(c, root, job, p);
}

void route_tei_tokenize(struct request *r)
{
    route_run(r, JOB_TEI_TOKENIZE, ENCODERS, JOB_TEI_TOKENIZE, take);
}

void route_tei_decode(struct request *r)
{
    route_run(r, JOB_TEI_DECODE, ENCODERS, JOB_TEI_DECODE, take);
}

/* ---- /info ------------------------------------------------------------------
 */

static const char *pooling_name(enum infer_pooling p)
{
    return p == INFER_POOLING_CLS    ? "cls"
           : p == INFER_POOLING_LAST ? "last_token"
                                     : "mean";
}

static void write_labels(struct json *j, const struct infer_model_info *m)
{
    char number[16];

    json_key(j, "id2label");
    json_open(j, '{');
    for (uint32_t i = 0; i < m->n_classes; i++) {
        snprintf(number, sizeof(number), "%u", i);
        json_key_str(j, number, m->labels[i]);
    }
    json_close(j, '}');
    json_key(j, "label2id");
    json_open(j, '{');
    for (uint32_t i = 0; i < m->n_classes; i++) {
        json_key_text(j, m->labels[i]);
        json_uint(j, i);
    }
    json_close(j, '}');
}

static void write_type(struct json *j, const struct infer_model_info *m)
{
    json_key(j, "model_type");
    json_open(j, '{');
    json_key(j, m->task == INFER_TASK_EMBED      ? "embedding"
                : m->task == INFER_TASK_CLASSIFY ? "classifier"
                                                 : "reranker");
    json_open(j, '{');
    if (m->task == INFER_TASK_EMBED)
        json_key_str(j, "pooling", pooling_name(m->pooling));
    else
        write_labels(j, m);
    json_close(j, '}');
    json_close(j, '}');
}

static void write_limits(struct json *j, const struct config *c,
                         const struct worker *w)
{
    json_key_uint(j, "max_concurrent_requests",
                  (uint64_t)w->config->engine.max_waiting_inputs);
    json_key_uint(j, "max_input_length", w->n_ctx);
    json_key_uint(j, "max_batch_tokens",
                  (uint64_t)w->config->engine.step_tokens > w->n_ctx
                      ? (uint64_t)w->config->engine.step_tokens
                      : w->n_ctx);
    json_key(j, "max_batch_requests");
    json_null(j);
    json_key_uint(j, "max_client_batch_size", (uint64_t)c->max_inputs);
    json_key(j, "auto_truncate");
    json_bool(j, false);
    json_key_uint(j, "tokenization_workers", 1);
}

void route_tei_info(struct request *r)
{
    const struct worker *w = params_default_model(r->srv, ENCODERS);
    struct buf body = {0};
    struct json j = json_into(&body);

    if (!key_allows_model(r->key, w->config->name)) {
        reply_error(r, 403, NULL, NULL, "this key may not use the model '%s'",
                    w->config->name);
        return;
    }
    if (!route_ready(r, w, ENCODERS))
        return;
    json_open(&j, '{');
    json_key_str(&j, "model_id", w->config->name);
    json_key(&j, "model_sha");
    json_null(&j);
    json_key_str(&j, "model_dtype", w->info->type);
    write_type(&j, w->info);
    write_limits(&j, r->srv->config, w);
    json_key_str(&j, "version", infer_version());
    json_key(&j, "sha");
    json_null(&j);
    json_key(&j, "docker_label");
    json_null(&j);
    json_close(&j, '}');
    reply_json(r, &body);
}
