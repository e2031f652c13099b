/*
 * generatejob.c - the worker's side of a request for text: from prompts to the
 * engine, and from its events to chunks.
 *
 * All prompts are tokenized before the first is submitted, so a bad one stops
 * the request before it has begun. A client that wants no stream gets one
 * chunk per choice, filled step by step and sent when the choice ends: nothing
 * crosses threads before it is needed.
 */
#include "server/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void generate_started(struct worker *w, struct prompt *p)
{
    if (p->counted)
        return;
    p->counted = true;
    atomic_fetch_sub_explicit(&w->waiting_tokens, (int64_t)p->waiting,
                              memory_order_relaxed);
}

/* ---- events of the engine ------------------------------------------------ */

static void measure(struct worker *w, struct job *job, uint32_t i,
                    const struct infer_event *e)
{
    const uint32_t n = e->n_generated - job->n_seen[i];

    if (n == 0)
        return;
    if (job->n_seen[i] == 0) {
        histogram_add(&w->stats.ttft,
                      (double)(e->now_ns - job->arrived_ns) * 1e-9);
        if (e->choice == 0 && e->started_ns > job->arrived_ns)
            histogram_add(&w->stats.queue,
                          (double)(e->started_ns - job->arrived_ns) * 1e-9);
    } else {
        histogram_add(&w->stats.inter_token,
                      (double)(e->now_ns - job->last_ns[i]) * 1e-9 / n);
    }
    job->n_seen[i] = e->n_generated;
    job->last_ns[i] = e->now_ns;
}

static void add_tokens(struct chunk *c, uint32_t choice,
                       const struct infer_event *e)
{
    struct job *job = c->job;

    for (size_t i = 0; i < e->n_tokens; i++) {
        const struct infer_token_info *t = &e->tokens[i];
        const bool given = job->gen.echo && job->n_given[choice] < e->n_prompt;
        const struct chunk_token mine = {
            .id = t->id,
            .text_offset = t->text_offset,
            .logprob = t->logprob,
            .n_top = t->n_top,
            .first_top = (uint32_t)(c->tops.len / sizeof(struct infer_logprob)),
            .given = given,
        };

        job->n_given[choice] += given;
        buf_add(&c->tokens, &mine, sizeof(mine));
        buf_add(&c->tops, t->top, t->n_top * sizeof(*t->top));
    }
}

static void add_event(struct chunk *c, const struct infer_event *e)
{
    buf_add(&c->text, e->text, e->text_len);
    if (c->job->gen.logprobs >= 0 || c->job->gen.return_token_ids)
        add_tokens(c, c->choice, e);
    c->finish = e->finish;
    c->n_generated = e->n_generated;
    c->n_prompt = e->n_prompt;
    c->n_cached = e->n_cached;
    c->started_ns = e->started_ns;
    c->first_token_ns = e->first_token_ns;
    c->now_ns = e->now_ns;
}

static void on_event(void *user, const struct infer_event *e)
{
    struct prompt *p = user;
    struct job *job = p->job;
    struct worker *w = job->worker;
    const uint32_t i = p->index * job->gen.n + e->choice;
    struct chunk *c = job->pending[i];

    p->n_prompt = e->n_prompt;
    p->n_cached = e->n_cached;
    if (e->n_generated || e->finish)
        generate_started(w, p);
    measure(w, job, i, e);
    if (!c) {
        c = chunk_create(CHUNK_DELTA, w, job);
        job->pending[i] = c;
        if (!c)
            worker_fail(job, INFER_ENOMEM, "out of memory", NULL);
        else if (job->gen.stream)
            worker_emit(w, c);
    }
    if (c) {
        c->choice = i;
        add_event(c, e);
        if (e->finish && !job->gen.stream) {
            job->pending[i] = NULL;
            worker_emit(w, c);
        }
    }
    if (e->finish == INFER_FINISH_ERROR)
        worker_fail(job, INFER_EFORMAT, "the model computed no number (NaN)",
                    NULL);
    if (e->request_done && ++job->n_finished == job->n_submitted)
        worker_done(w, job, NULL);
}

/* ---- prompts ------------------------------------------------------------- */

static int tokenize_chat(struct worker *w, struct prompt *p,
                         struct infer_error *err)
{
    size_t n;
    const struct infer_part *parts = chat_parts(&p->chat, &n);
    const int rc =
        infer_tokenize_parts(w->model, parts, n, p->chat_bos, &p->tokens, err);

    chat_prompt_release(&p->chat);
    return rc;
}

static int tokenize_prompt(struct worker *w, struct prompt *p,
                           struct infer_error *err)
{
    int64_t more;
    int rc;

    if (p->is_chat)
        rc = tokenize_chat(w, p, err);
    else if (p->text)
        rc = infer_tokenize(w->model, p->text, p->len, true, true, &p->tokens,
                            err);
    else
        return 0;
    if (rc)
        return rc;
    free(p->text);
    p->text = NULL;
    if (p->tokens.n == 0) {
        err->status = INFER_EINVAL;
        strcpy(err->text, "the prompt has no tokens");
        return INFER_EINVAL;
    }
    more = (int64_t)p->tokens.n - (int64_t)p->waiting;
    p->waiting = p->tokens.n;
    atomic_fetch_add_explicit(&w->waiting_tokens, more, memory_order_relaxed);
    return 0;
}

static int submit_prompt(struct worker *w, struct prompt *p,
                         struct infer_error *err)
{
    const struct job *job = p->job;
    const struct generate *g = &job->gen;
    const struct infer_request req = {
        .prompt = p->tokens.ids,
        .n_prompt = p->tokens.n,
        .max_tokens = g->max_tokens,
        .n = g->n,
        .sampling = g->sampling,
        .logprobs = g->logprobs,
        .echo = g->echo,
        .text_start = g->shape == SHAPE_CHAT,
        .ignore_eos = g->ignore_eos,
        .stop = (const char *const *)g->stop,
        .n_stop = g->n_stop,
        .stop_ids = g->stop_ids,
        .n_stop_ids = g->n_stop_ids,
        .grammar = g->grammar,
        .cache_scope = job->cache_scope,
        .priority = g->priority,
        .deadline_ns = job->deadline_ns,
        .cancel = &job->cancel,
        .on_event = on_event,
        .user = p,
    };

    return infer_engine_submit(w->engine, &req, err);
}

static bool prepare(struct job *job)
{
    const size_t n = job->n_sequences;

    job->pending = calloc(n, sizeof(struct chunk *));
    job->last_ns = calloc(n, sizeof(*job->last_ns));
    job->n_seen = calloc(n, sizeof(*job->n_seen));
    job->n_given = calloc(n, sizeof(*job->n_given));
    return job->pending && job->last_ns && job->n_seen && job->n_given;
}

static const char *prompt_name(const struct generate *g)
{
    return g->shape == SHAPE_CHAT ? "messages" : "prompt";
}

/* Should a submit fail after others, these are cancelled and the last of them
 * ends the job. */
void generate_start(struct worker *w, struct job *job)
{
    struct generate *g = &job->gen;
    struct infer_error err = {0};
    int rc = 0;

    if (!prepare(job)) {
        worker_fail(job, INFER_ENOMEM, "out of memory", NULL);
        worker_done(w, job, NULL);
        return;
    }
    for (size_t i = 0; rc == 0 && i < g->n_prompts; i++)
        rc = tokenize_prompt(w, &g->prompts[i], &err);
    for (size_t i = 0; rc == 0 && i < g->n_prompts; i++) {
        rc = submit_prompt(w, &g->prompts[i], &err);
        job->n_submitted += rc == 0;
    }
    if (rc)
        worker_fail(job, rc, err.text,
                    rc == INFER_EUNSUPPORTED ? "response_format"
                    : rc == INFER_EINVAL || rc == INFER_ETOOLONG
                        ? prompt_name(g)
                        : NULL);
    if (job->n_submitted == 0)
        worker_done(w, job, NULL);
}
