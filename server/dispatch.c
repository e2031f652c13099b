/*
 * dispatch.c - what a worker sent, to the request that waits for it.
 *
 * The request may be gone: then deltas are dropped, and the last chunk only
 * settles the accounts and frees the job.
 */
#include "server/dispatch.h"
#include "server/admit.h"
#include "server/generation.h"
#include "server/http.h"
#include "server/reply.h"

/* What the access log and the key's account want to know. */
static void note_encode(struct request *r, const struct job *job)
{
    const struct encode *e = &job->enc;

    r->worked = e->started_ns != 0;
    r->n_prompt = e->n_tokens < UINT32_MAX ? (uint32_t)e->n_tokens : UINT32_MAX;
    if (e->started_ns > job->arrived_ns)
        r->queue_ms = (double)(e->started_ns - job->arrived_ns) * 1e-6;
}

static void answer(struct request *r, struct chunk *c)
{
    if (c->error.status)
        reply_engine_error(r, &c->error, c->param);
    else if (c->body.len)
        reply_json(r, &c->body);
    else
        reply_retry(r, 503, NULL, 1, "the server is stopping");
}

static uint64_t tokens_used(const struct job *job)
{
    uint64_t n = job->enc.n_tokens;

    for (size_t i = 0; i < job->gen.n_prompts; i++)
        n += job->gen.prompts[i].n_prompt;
    for (size_t i = 0; job->n_seen && i < job->n_sequences; i++)
        n += job->n_seen[i];
    return n;
}

static void settle(struct server *s, struct job *job)
{
    struct worker *w = job->worker;

    s->n_jobs--;
    w->n_jobs--;
    w->n_sequences -= job->n_sequences;
    admit_finished(w, job->n_sequences);
    key_charge(job->key, tokens_used(job));
}

void dispatch_chunk(struct server *s, struct chunk *c)
{
    struct job *job = c->job;
    struct request *r = job->request;

    if (c->kind == CHUNK_DELTA) {
        if (r)
            generation_delta(r, job, c);
        else
            chunk_free(c);
        return;
    }
    settle(s, job);
    if (r) {
        r->job = NULL;
        if (job->kind == JOB_ENCODE)
            note_encode(r, job);
        if (job->kind == JOB_GENERATE)
            generation_done(r, job, c);
        else if (!r->answered)
            answer(r, c);
        request_resume(r);
    }
    job_free(job);
    chunk_free(c);
}
