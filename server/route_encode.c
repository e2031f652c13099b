/*
 * route_encode.c - POST /v1/embeddings, /v1/classify, /v1/rerank, and /embed,
 * /predict and /rerank as text-embeddings-inference has them.
 */
#include "server/reply.h"
#include "server/routes.h"

#include <stdio.h>
#include <time.h>

static const enum infer_task task_of[] = {
    [SHAPE_EMBEDDINGS] = INFER_TASK_EMBED,
    [SHAPE_CLASSIFY] = INFER_TASK_CLASSIFY,
    [SHAPE_RERANK] = INFER_TASK_RERANK,
    [SHAPE_TEI_EMBED] = INFER_TASK_EMBED,
    [SHAPE_TEI_PREDICT] = INFER_TASK_CLASSIFY,
    [SHAPE_TEI_RERANK] = INFER_TASK_RERANK,
};

static bool take(struct request *r, const cJSON *root, int shape,
                 struct job *job, struct problem *p)
{
    struct encode *e = &job->enc;
    char id[17];

    if (!params_encode(r->srv->config, root, (enum encode_shape)shape, job, p))
        return false;
    job->n_sequences = (uint32_t)e->n_inputs;
    job_limit(job, e->deadline_ms);
    server_new_id(r->srv, id);
    snprintf(e->id, sizeof(e->id), "%s-%s",
             shape == SHAPE_CLASSIFY ? "classify" : "rerank", id);
    e->created = (int64_t)time(NULL);
    return true;
}

static void run(struct request *r, enum encode_shape shape)
{
    route_run(r, JOB_ENCODE, TASK_BIT(task_of[shape]), (int)shape, take);
}

void route_embeddings(struct request *r)
{
    run(r, SHAPE_EMBEDDINGS);
}

void route_classify(struct request *r)
{
    run(r, SHAPE_CLASSIFY);
}

void route_rerank(struct request *r)
{
    run(r, SHAPE_RERANK);
}

void route_tei_embed(struct request *r)
{
    run(r, SHAPE_TEI_EMBED);
}

void route_tei_predict(struct request *r)
{
    run(r, SHAPE_TEI_PREDICT);
}

void route_tei_rerank(struct request *r)
{
    run(r, SHAPE_TEI_RERANK);
}
