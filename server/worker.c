/*
 * worker.c - a thread per model: owns the engine, its KV cache and its batch.
 *
 * It loads its model, then turns around: take jobs, tokenize, step, pass on
 * what came out. All sequences advance together, so between two steps it
 * tokenizes for a few milliseconds at most; the rest of a burst waits its turn.
 * Chunks of one step travel together and wake the loop once. What a job is to
 * the engine or to the batchers is in generatejob.c and encodejob.c.
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

void worker_emit(struct worker *w, struct chunk *c)
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

/* The job goes home. Out of memory here leaves no way to say so: wait. */
void worker_done(struct worker *w, struct job *job, struct buf *body)
{
    struct chunk *c;

    if (w->explained == job)
        w->explained = NULL;
    for (size_t i = 0; i < job->gen.n_prompts; i++)
        generate_started(w, &job->gen.prompts[i]);
    for (size_t i = 0; i < job->enc.n_inputs; i++)
        encode_started(w, &job->enc.inputs[i]);
    while (!(c = chunk_create(CHUNK_DONE, w, job)))
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    c->error = job->error;
    c->param = job->param;
    if (body)
        c->body = *body;
    worker_emit(w, c);
}

void worker_fail(struct job *job, int status, const char *text,
                 const char *param)
{
    if (job->error.status == 0) {
        job->error.status = status;
        snprintf(job->error.text, sizeof(job->error.text), "%s", text);
        job->param = param;
    }
    job_cancel(job);
}

/* ---- what comes in ------------------------------------------------------- */

void worker_encoded(struct worker *w, struct job *job)
{
    struct buf body = {0};

    if (job->error.status == 0 && job->enc.late)
        worker_fail(job, WORKER_LATE,
                    "the deadline passed before the last result",
                    "deadline_ms");
    if (job->error.status == 0 && !job_cancelled(job))
        encode_reply(w, job, &body);
    if (job->enc.started_ns > job->arrived_ns)
        histogram_add(&w->stats.queue,
                      (double)(job->enc.started_ns - job->arrived_ns) * 1e-9);
    worker_done(w, job, &body);
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
        worker_done(w, job, NULL);
        return;
    }
    if (job->kind == JOB_GENERATE) {
        generate_start(w, job);
        return;
    }
    if (job->kind == JOB_ENCODE) {
        start_encode(w, job);
        return;
    }
    rc = token_job(w, job, &body);
    if (rc)
        buf_release(&body);
    worker_done(w, job, rc ? NULL : &body);
}

static void append(struct job_list *l, struct job *first, struct job *last)
{
    if (!first)
        return;
    if (l->last)
        l->last->next = first;
    else
        l->first = first;
    l->last = last;
}

static struct job *take_first(struct job_list *l)
{
    struct job *job = l->first;

    if (job) {
        l->first = job->next;
        if (!l->first)
            l->last = NULL;
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
    append(&w->intake, first, last);
}

/* An explanation holds a megabyte or more for each text, so there is one at a
 * time. false: this one waits. */
static bool may_explain(struct worker *w, struct job *job)
{
    if (w->explained && w->explained != job) {
        append(&w->later, job, job);
        return false;
    }
    w->explained = job;
    return true;
}

/* Of those that wait to be explained, end the ones that nobody waits for any
 * more or whose time is up; one may begin if none is in progress. */
static void look_after(struct worker *w)
{
    const uint64_t now = infer_clock_ns();
    struct job_list all = w->later;
    struct job *job;

    w->later = (struct job_list){0};
    while ((job = take_first(&all)) != NULL) {
        job->enc.late = job->deadline_ns <= now;
        if (job->enc.late || job_cancelled(job))
            worker_encoded(w, job);
        else if (!w->explained && may_explain(w, job))
            append(&w->intake, job, job);
        else
            append(&w->later, job, job);
    }
}

/* Start waiting jobs, at least one, for INTAKE_NS at most. */
static void start_jobs(struct worker *w)
{
    const uint64_t until = infer_clock_ns() + INTAKE_NS;
    struct job *job;

    take_mail(w);
    look_after(w);
    while ((job = take_first(&w->intake)) != NULL) {
        if (job->kind == JOB_ENCODE && job->enc.explain && !may_explain(w, job))
            continue;
        /* a thousand texts are tokenized in parts, between steps, and whoever
         * came meanwhile has a turn before the next part */
        if (job->kind == JOB_ENCODE && !encode_prepare(w, job, until)) {
            append(&w->intake, job, job);
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

static bool announce(struct worker *w)
{
    struct infer_error err = {0};
    struct chunk *c;
    int rc;

    /* SentencePiece and protobuf set up globals; and two models that load at
     * once only compete for the disk */
    pthread_mutex_lock(w->loading);
    rc = worker_load(w, &err);
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
    append(&w->intake, w->later.first, w->later.last);
    w->later = (struct job_list){0};
    while ((job = take_first(&w->intake)) != NULL) {
        job_cancel(job);
        worker_done(w, job, NULL);
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
        if (n == 0 && !w->intake.first && !w->later.first)
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
