/*
 * worker.c - a thread per model: owns the engine, its KV cache and its batch.
 *
 * It loads its model, then turns around: take jobs, tokenize, step, pass on
 * what came out. All sequences advance together, so between two steps it
 * tokenizes for a few milliseconds at most; the rest of a burst waits its turn.
 * Chunks of one step travel together and wake the loop once.
 *
 * A client that wants no stream gets one chunk per choice, filled step by step
 * and sent when the choice ends: nothing crosses threads before it is needed.
 */
#include "server/worker.h"
#include "server/tokenjob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { INTAKE_NS = 5000000, BEAT_SECONDS = 1 };

static void beat(struct worker *w)
{
    atomic_store_explicit(&w->beat_ns, infer_clock_ns(), memory_order_relaxed);
}

/* ---- what goes out ------------------------------------------------------- */

static void emit(struct worker *w, struct chunk *c)
{
    c->next = NULL;
    if (w->out_last)
        w->out_last->next = c;
    else
        w->out = c;
    w->out_last = c;
}

/* Hand the chunks of this step to the loop. */
static void flush(struct worker *w)
{
    struct chunk *c = w->out;

    if (!c)
        return;
    w->out = w->out_last = NULL;
    while (c) {
        struct chunk *next = c->next;

        if (c->kind == CHUNK_DELTA && c->job->gen.stream)
            c->job->pending[c->choice] = NULL;
        inbox_push(w->outbox, c);
        c = next;
    }
    uv_async_send(w->wake);
}

static void prompt_started(struct worker *w, struct prompt *p)
{
    if (p->counted)
        return;
    p->counted = true;
    atomic_fetch_sub_explicit(&w->waiting_tokens, (int64_t)p->waiting,
                              memory_order_relaxed);
}

/* The job goes home. Out of memory here leaves no way to say so: wait. */
static void job_done(struct worker *w, struct job *job, struct buf *body)
{
    struct chunk *c;

    for (size_t i = 0; i < job->gen.n_prompts; i++)
        prompt_started(w, &job->gen.prompts[i]);
    for (size_t i = 0; i < job->enc.n_inputs; i++)
        encode_started(w, &job->enc.inputs[i]);
    while (!(c = chunk_create(CHUNK_DONE, w, job)))
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    c->error = job->error;
    c->param = job->param;
    if (body)
        c->body = *body;
    emit(w, c);
}

static void job_fail(struct job *job, int status, const char *text,
                     const char *param)
{
    if (job->error.status == 0) {
        job->error.status = status;
        snprintf(job->error.text, sizeof(job->error.text), "%s", text);
        job->param = param;
    }
    job_cancel(job);
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
        prompt_started(w, p);
    measure(w, job, i, e);
    if (!c) {
        c = chunk_create(CHUNK_DELTA, w, job);
        job->pending[i] = c;
        if (!c)
            job_fail(job, INFER_ENOMEM, "out of memory", NULL);
        else if (job->gen.stream)
            emit(w, c);
    }
    if (c) {
        c->choice = i;
        add_event(c, e);
        if (e->finish && !job->gen.stream) {
            job->pending[i] = NULL;
            emit(w, c);
        }
    }
    if (e->finish == INFER_FINISH_ERROR)
        job_fail(job, INFER_EFORMAT, "the model computed no number (NaN)",
                 NULL);
    if (e->request_done && ++job->n_finished == job->n_submitted)
        job_done(w, job, NULL);
}

/* ---- what comes in ------------------------------------------------------- */

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

static bool generate_prepare(struct job *job)
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

/*
 * All prompts are tokenized before the first is submitted, so a bad one stops
 * the request before it has begun. Should a later submit fail all the same,
 * the earlier prompts are cancelled and the last of them ends the job.
 */
static void start_generate(struct worker *w, struct job *job)
{
    struct generate *g = &job->gen;
    struct infer_error err = {0};
    int rc = 0;

    if (!generate_prepare(job)) {
        job_fail(job, INFER_ENOMEM, "out of memory", NULL);
        job_done(w, job, NULL);
        return;
    }
    for (size_t i = 0; rc == 0 && i < g->n_prompts; i++)
        rc = tokenize_prompt(w, &g->prompts[i], &err);
    for (size_t i = 0; rc == 0 && i < g->n_prompts; i++) {
        rc = submit_prompt(w, &g->prompts[i], &err);
        job->n_submitted += rc == 0;
    }
    if (rc)
        job_fail(job, rc, err.text,
                 rc == INFER_EUNSUPPORTED ? "response_format"
                 : rc == INFER_EINVAL || rc == INFER_ETOOLONG ? prompt_name(g)
                                                              : NULL);
    if (job->n_submitted == 0)
        job_done(w, job, NULL);
}

void worker_encoded(struct worker *w, struct job *job)
{
    struct buf body = {0};

    if (job->error.status == 0 && job->enc.late)
        job_fail(job, WORKER_LATE, "the deadline passed before the last result",
                 "deadline_ms");
    if (job->error.status == 0 && !job_cancelled(job))
        encode_reply(w, job, &body);
    if (job->enc.started_ns > job->arrived_ns)
        histogram_add(&w->stats.queue,
                      (double)(job->enc.started_ns - job->arrived_ns) * 1e-9);
    job_done(w, job, &body);
}

static void start_encode(struct worker *w, struct job *job)
{
    if (job->error.status || job_cancelled(job) || !encode_submit(w, job))
        worker_encoded(w, job);
}

static int token_job(struct worker *w, struct job *job, struct buf *body)
{
    switch (job->kind) {
    case JOB_TOKENIZE:
        return tokenize_job(w->model, job, body, &job->error);
    case JOB_TEI_TOKENIZE:
        return tei_tokenize_job(w->model, job, body, &job->error);
    case JOB_TEI_DECODE:
        return tei_decode_job(w->model, job, body, &job->error);
    default:
        return detokenize_job(w->model, job, body, &job->error);
    }
}

static void start_job(struct worker *w, struct job *job)
{
    struct buf body = {0};
    int rc;

    if (job_cancelled(job)) {
        job_done(w, job, NULL);
        return;
    }
    if (job->kind == JOB_GENERATE) {
        start_generate(w, job);
        return;
    }
    if (job->kind == JOB_ENCODE) {
        start_encode(w, job);
        return;
    }
    rc = token_job(w, job, &body);
    if (rc)
        buf_release(&body);
    job_done(w, job, rc ? NULL : &body);
}

static void queue(struct worker *w, struct job *first, struct job *last)
{
    if (w->intake_last)
        w->intake_last->next = first;
    else
        w->intake = first;
    w->intake_last = last;
}

static struct job *dequeue(struct worker *w)
{
    struct job *job = w->intake;

    if (job) {
        w->intake = job->next;
        if (!w->intake)
            w->intake_last = NULL;
        job->next = NULL;
    }
    return job;
}

static void take_mail(struct worker *w)
{
    struct job *first = inbox_take(&w->mailbox), *last = first;

    if (!first)
        return;
    while (last->next)
        last = last->next;
    queue(w, first, last);
}

/* Start waiting jobs, at least one, for INTAKE_NS at most. */
static void start_jobs(struct worker *w)
{
    const uint64_t until = infer_clock_ns() + INTAKE_NS;
    struct job *job;

    take_mail(w);
    while ((job = dequeue(w)) != NULL) {
        /* a thousand texts are tokenized in parts, between steps, and whoever
         * came meanwhile has a turn before the next part */
        if (job->kind == JOB_ENCODE && !encode_prepare(w, job, until)) {
            queue(w, job, job);
            break;
        }
        start_job(w, job);
        beat(w);
        if (infer_clock_ns() > until)
            break;
    }
}

/* ---- the thread ---------------------------------------------------------- */

static void publish(struct worker *w)
{
    struct infer_engine_stats s;
    struct worker_stats *t = &w->stats;

    infer_engine_stats(w->engine, &s);
#define PUBLISH(to, from)                                                      \
    atomic_store_explicit(&t->to, s.from, memory_order_relaxed)
    PUBLISH(running, n_running);
    PUBLISH(waiting, n_waiting);
    PUBLISH(kv_used, kv_blocks_used);
    PUBLISH(kv_total, kv_blocks_total);
    PUBLISH(prompt_tokens, prompt_tokens);
    PUBLISH(cached_tokens, cached_tokens);
    PUBLISH(generated_tokens, generated_tokens);
    PUBLISH(preempted, n_preempted);
#undef PUBLISH
}

/* Figures of all members together. */
static void publish_encoders(struct worker *w)
{
    struct worker_stats *t = &w->stats;
    uint64_t waiting = 0, tokens = 0;

    for (size_t i = 0; i < w->n_members; i++) {
        struct infer_batcher_stats s;

        infer_batcher_stats(w->members[i].batcher, &s);
        waiting += s.n_waiting;
        tokens += s.n_tokens;
    }
    atomic_store_explicit(&t->waiting, (uint32_t)waiting, memory_order_relaxed);
    atomic_store_explicit(&t->prompt_tokens, tokens, memory_order_relaxed);
}

static size_t step_encoders(struct worker *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_members; i++) {
        struct infer_batcher_stats before, after;

        infer_batcher_stats(w->members[i].batcher, &before);
        n += infer_batcher_step(w->members[i].batcher);
        infer_batcher_stats(w->members[i].batcher, &after);
        if (after.n_steps != before.n_steps) {
            histogram_add(&w->stats.step_seconds, (double)after.step_ns * 1e-9);
            histogram_add(&w->stats.step_rows, after.step_tokens);
        }
    }
    publish_encoders(w);
    return n;
}

static size_t step(struct worker *w)
{
    struct infer_engine_stats before, after;
    size_t n;

    if (!w->engine)
        return step_encoders(w);
    infer_engine_stats(w->engine, &before);
    n = infer_engine_step(w->engine);
    infer_engine_stats(w->engine, &after);
    if (after.n_steps != before.n_steps) {
        histogram_add(&w->stats.step_seconds, (double)after.step_ns * 1e-9);
        histogram_add(&w->stats.step_rows, after.step_rows);
    }
    publish(w);
    return n;
}

/* Sleep until mail comes, a second at most, so that the heart beats on. */
static void idle(struct worker *w)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += BEAT_SECONDS;
    while (sem_clockwait(&w->work, CLOCK_MONOTONIC, &until) && errno == EINTR)
        continue;
    while (sem_trywait(&w->work) == 0)
        continue;
}

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

static int load(struct worker *w, struct infer_error *err)
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

static bool announce(struct worker *w)
{
    struct infer_error err = {0};
    struct chunk *c;
    int rc;

    /* SentencePiece and protobuf set up globals; and two models that load at
     * once only compete for the disk */
    pthread_mutex_lock(w->loading);
    rc = load(w, &err);
    pthread_mutex_unlock(w->loading);
    c = chunk_create(rc ? CHUNK_FAILED : CHUNK_LOADED, w, NULL);
    if (rc == 0) {
        w->info = infer_model_info(w->model);
        w->n_ctx =
            w->engine ? infer_engine_n_ctx(w->engine) : w->info->n_ctx_train;
        chat_recognise(&w->chat,
                       (enum chat_family)w->config->engine.chat_template,
                       w->info->chat_template);
        if (w->engine)
            publish(w);
    }
    if (c) {
        c->error = err;
        inbox_push(w->outbox, c);
        uv_async_send(w->wake);
    }
    return rc == 0 && c;
}

/* Stopping: what was not started comes back, what runs is cancelled. */
static void give_back(struct worker *w)
{
    struct job *job;

    take_mail(w);
    while ((job = dequeue(w)) != NULL) {
        job_cancel(job);
        job_done(w, job, NULL);
    }
    infer_engine_free(w->engine);
    w->engine = NULL;
    for (size_t i = 0; i < w->n_members; i++) {
        infer_batcher_free(w->members[i].batcher);
        w->members[i].batcher = NULL;
    }
    flush(w);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    bool ok;

    infer_team_enter(w->team);
    ok = announce(w);
    while (ok && !atomic_load(&w->stopping)) {
        size_t n;

        beat(w);
        start_jobs(w);
        n = step(w);
        flush(w);
        if (n == 0 && !w->intake)
            idle(w);
    }
    give_back(w);
    atomic_store(&w->finished, true);
    uv_async_send(w->wake);
    return NULL;
}

int worker_start(struct worker *w, struct infer_error *err)
{
    histogram_init_seconds(&w->stats.step_seconds);
    histogram_init_rows(&w->stats.step_rows);
    histogram_init_seconds(&w->stats.ttft);
    histogram_init_seconds(&w->stats.inter_token);
    histogram_init_seconds(&w->stats.queue);
    sem_init(&w->work, 0, 0);
    beat(w);
    if (pthread_create(&w->thread, NULL, run, w)) {
        sem_destroy(&w->work);
        return config_fail(err, INFER_ENOMEM, "cannot start a thread");
    }
    w->started = true;
    return 0;
}

void worker_submit(struct worker *w, struct job *job)
{
    inbox_push(&w->mailbox, job);
    sem_post(&w->work);
}

void worker_stop(struct worker *w)
{
    atomic_store(&w->stopping, true);
    if (w->started)
        sem_post(&w->work);
}

void worker_release(struct worker *w)
{
    if (!w->started)
        return;
    pthread_join(w->thread, NULL);
    sem_destroy(&w->work);
    for (size_t i = 0; i < w->n_members; i++)
        infer_model_free(w->members[i].model);
    w->started = false;
}
