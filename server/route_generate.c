/*
 * route_generate.c - POST /v1/generate, and POST /v1/completions and
 * /v1/chat/completions, which are the same work in OpenAI's shapes.
 */
#include "server/generation.h"
#include "server/reply.h"
#include "server/routes.h"

/* Prompts are shared within one key only: whether a prefix was cached shows
 * in the timing and in cached_tokens. */
static uint64_t cache_scope(const struct request *r)
{
    return r->key ? (uint64_t)r->key->index + 1 : 0;
}

static void finish_job(const struct request *r, struct job *job)
{
    const uint64_t asked_ns = job->arrived_ns + job->gen.deadline_ms * 1000000;

    job->cache_scope = cache_scope(r);
    job->n_sequences = (uint32_t)job->gen.n_prompts * job->gen.n;
    if (job->gen.deadline_ms && asked_ns < job->deadline_ns)
        job->deadline_ns = asked_ns;
}

static void run(struct request *r, enum api_shape shape)
{
    struct problem p = {0};
    cJSON *root = NULL;
    struct job *job = NULL;

    if (!route_begin(r, JOB_GENERATE, TASK_BIT(INFER_TASK_GENERATE), &root,
                     &job))
        goto out;
    job->gen.shape = shape;
    if (!params_generate(r->srv->config, root, job, &p)) {
        route_refuse(r, &p);
        goto out;
    }
    finish_job(r, job);
    r->generation = generation_create(r, job);
    if (!r->generation) {
        reply_retry(r, 503, NULL, 1, "out of memory");
        goto out;
    }
    route_submit(r, job);
    job = NULL;
out:
    job_free(job);
    cJSON_Delete(root);
}

void route_generate(struct request *r)
{
    run(r, SHAPE_NATIVE);
}

void route_completions(struct request *r)
{
    run(r, SHAPE_COMPLETION);
}

void route_chat(struct request *r)
{
    run(r, SHAPE_CHAT);
}
