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

static void finish_job(struct request *r, struct job *job)
{
    struct encode *e = &job->enc;
    const uint64_t asked_ns = job->arrived_ns + e->deadline_ms * 1000000;
    char id[17];

    job->n_sequences = (uint32_t)e->n_inputs;
    if (e->deadline_ms && asked_ns < job->deadline_ns)
        job->deadline_ns = asked_ns;
    server_new_id(r->srv, id);
    snprintf(e->id, sizeof(e->id), "%s-%s",
             e->shape == SHAPE_CLASSIFY ? "classify" : "rerank", id);
    e->created = (int64_t)time(NULL);
}

static void run(struct request *r, enum encode_shape shape)
{
    struct problem p = {0};
    cJSON *root = NULL;
    struct job *job = NULL;

    if (!route_begin(r, JOB_ENCODE, TASK_BIT(task_of[shape]), &root, &job))
        goto out;
    if (!params_encode(r->srv->config, root, shape, job, &p)) {
        route_refuse(r, &p);
        goto out;
    }
    finish_job(r, job);
    route_submit(r, job);
    job = NULL;
out:
    job_free(job);
    cJSON_Delete(root);
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
