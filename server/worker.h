/*
 * worker.h - a thread per model: owns the engine, its KV cache and its batch.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "server/config.h"
#include "server/histogram.h"
#include "server/job.h"

#include <pthread.h>
#include <semaphore.h>
#include <uv.h>

/* Copies of the engine's figures, for whoever scrapes. */
struct worker_stats {
    _Atomic uint32_t running, waiting, kv_used, kv_total;
    _Atomic uint64_t prompt_tokens, cached_tokens, generated_tokens, preempted;
    struct histogram step_seconds, step_rows;
    struct histogram ttft, inter_token, queue; /* seconds */
};

/* One of the encoders behind a name; generators have one member, no batcher. */
struct member {
    struct infer_model *model;
    struct infer_batcher *batcher; /* the thread's own */
};

struct job_list {
    struct job *first, *last; /* linked by `next` */
};

struct worker {
    /* set before the thread starts */
    const struct model_config *config;
    struct infer_team *team;
    unsigned cpu;
    uv_async_t *wake; /* tells the loop that the outbox has something */
    struct inbox *outbox;
    pthread_mutex_t *loading; /* one model loads at a time */

    pthread_t thread;
    bool started;
    struct inbox mailbox;
    sem_t work; /* posted after each push, and to stop */
    _Atomic bool stopping;
    _Atomic bool finished;          /* the thread is about to end */
    _Atomic uint64_t beat_ns;       /* last sign of life */
    _Atomic int64_t waiting_tokens; /* prompt tokens before their first step */
    struct worker_stats stats;

    struct member members[ENSEMBLE_MAX]; /* read-only from then on */
    size_t n_members;                    /* fixed before the thread starts */

    /* the loop's own */
    bool ready;
    const struct infer_model_info *info; /* from CHUNK_LOADED on */
    struct infer_model *model;           /* of the first member */
    struct chat_template chat;
    uint32_t n_ctx;
    uint64_t engine_bytes;
    int64_t created;      /* Unix seconds */
    uint32_t n_sequences; /* admitted, not finished */
    uint32_t n_jobs;
    double finished_per_s; /* measured, 0: not yet */
    uint64_t window_ns;
    uint32_t window_count;

    /* the thread's own */
    struct infer_engine *engine;
    struct job_list intake;       /* taken from the mailbox, in order */
    struct job *explained;        /* the one whose variants are in memory */
    struct job_list later;        /* to be explained after it */
    struct chunk *out, *out_last; /* made in this step */
};

/* ---- the thread's own functions ------------------------------------------ */

/* Queue a chunk for the loop; it goes with the others of this step. */
void worker_emit(struct worker *w, struct chunk *c);
/* The job goes home; body (may be NULL) is taken over. */
void worker_done(struct worker *w, struct job *job, struct buf *body);
/* Remember the first error of a job, and stop what runs of it. param: static */
void worker_fail(struct job *job, int status, const char *text,
                 const char *param);
/* All results of an encoding job are there. */
void worker_encoded(struct worker *w, struct job *job);

/* worker_load.c. On failure what was made stays, for worker_release(). */
int worker_load(struct worker *w, struct infer_error *err);

/* generatejob.c: tokenize and hand over. */
void generate_start(struct worker *w, struct job *job);
/* Its tokens no longer wait. */
void generate_started(struct worker *w, struct prompt *p);

/* ---- the loop's ---------------------------------------------------------- */

int worker_start(struct worker *w, struct infer_error *err);
/* Loop: hand over a job. */
void worker_submit(struct worker *w, struct job *job);
/* Loop: let the thread end; unfinished jobs come back cancelled. */
void worker_stop(struct worker *w);
/* After the thread has ended (waits for it). */
void worker_release(struct worker *w);

#endif
