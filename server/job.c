/*
 * job.c - work for a model, and the lists on which it travels.
 *
 * The lists are lock-free stacks, taken whole and turned around. A mutex would
 * do, but for one thing: workers run at a lower priority, and one that is
 * descheduled inside the lock would stop the event loop with it.
 */
#include "server/job.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

struct link {
    struct link *next;
};

void inbox_push(struct inbox *box, void *item)
{
    struct link *l = item;
    void *head = atomic_load_explicit(&box->head, memory_order_relaxed);

    do
        l->next = head;
    while (!atomic_compare_exchange_weak_explicit(
        &box->head, &head, item, memory_order_release, memory_order_relaxed));
}

void *inbox_take(struct inbox *box)
{
    struct link *l =
        atomic_exchange_explicit(&box->head, NULL, memory_order_acquire);
    struct link *oldest = NULL;

    while (l) {
        struct link *next = l->next;

        l->next = oldest;
        oldest = l;
        l = next;
    }
    return oldest;
}

struct job *job_create(enum job_kind kind, struct worker *w)
{
    struct job *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    job->kind = kind;
    job->worker = w;
    job->arrived_ns = infer_clock_ns();
    job->gen.logprobs = -1;
    infer_sampling_default(&job->gen.sampling);
    return job;
}

static void prompt_release(struct prompt *p)
{
    free(p->text);
    chat_prompt_release(&p->chat);
    infer_tokens_release(&p->tokens);
}

static void generate_release(struct generate *g)
{
    for (size_t i = 0; g->prompts && i < g->n_prompts; i++)
        prompt_release(&g->prompts[i]);
    for (size_t i = 0; g->stop && i < g->n_stop; i++)
        free(g->stop[i]);
    free(g->prompts);
    free(g->stop);
    free(g->stop_ids);
    infer_grammar_free(g->grammar);
    free((void *)(uintptr_t)g->sampling.bias);
}

void job_free(struct job *job)
{
    if (!job)
        return;
    for (size_t i = 0; job->pending && i < job->n_sequences; i++)
        chunk_free(job->pending[i]);
    free(job->pending);
    free(job->last_ns);
    free(job->n_seen);
    free(job->n_given);
    generate_release(&job->gen);
    prompt_release(&job->input);
    encode_release(&job->enc, job->worker->n_members);
    free(job);
}

void job_limit(struct job *job, uint64_t deadline_ms)
{
    const uint64_t asked_ns = job->arrived_ns + deadline_ms * 1000000;

    if (deadline_ms && asked_ns < job->deadline_ns)
        job->deadline_ns = asked_ns;
}

void job_cancel(struct job *job)
{
    __atomic_store_n(&job->cancel, 1, __ATOMIC_RELAXED);
}

bool job_cancelled(const struct job *job)
{
    return __atomic_load_n(&job->cancel, __ATOMIC_RELAXED) != 0;
}

struct chunk *chunk_create(enum chunk_kind kind, struct worker *w,
                           struct job *job)
{
    struct chunk *c = calloc(1, sizeof(*c));

    if (c) {
        c->kind = kind;
        c->worker = w;
        c->job = job;
    }
    return c;
}

void chunk_free(struct chunk *c)
{
    if (!c)
        return;
    buf_release(&c->text);
    buf_release(&c->tokens);
    buf_release(&c->tops);
    buf_release(&c->body);
    free(c);
}
