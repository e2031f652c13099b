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

static bool take(struct request *r, const cJSON *root, int shape,
                 struct job *job, struct problem *p)
{
    job->gen.shape = (enum api_shape)shape;
    if (!params_generate(r->srv->config, root, job, p))
        return false;
    job->cache_scope = cache_scope(r);
    job->n_sequences = (uint32_t)job->gen.n_prompts * job->gen.n;
    job_limit(job, job->gen.deadline_ms);
    r->generation = generation_create(r, job);
    return r->generation || problem(p, 503, NULL, "out of memory");
}

static void run(struct request *r, enum api_shape shape)
{
    route_run(r, JOB_GENERATE, TASK_BIT(INFER_TASK_GENERATE), (int)shape, take);
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
