/*
 * job.h - work for a model, and what comes back from it.
 *
 * A job has one owner at a time. The loop makes it, hands it to a worker and
 * gets it back with its last chunk; in between it may only raise `cancel` and
 * use the fields marked as its own. Chunks belong to whoever holds them:
 * worker → outbox → loop.
 */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include "infer.h"
#include "server/buf.h"
#include "server/chat.h"
#include "server/encode.h"

#include <stdatomic.h>

struct request;
struct worker;
struct key;
struct job;

/* Whose fields a request has, and whose its reply gets. */
enum api_shape { SHAPE_NATIVE, SHAPE_COMPLETION, SHAPE_CHAT };

enum job_kind {
    JOB_GENERATE,
    JOB_TOKENIZE,
    JOB_DETOKENIZE,
    JOB_TEI_TOKENIZE,
    JOB_TEI_DECODE,
    JOB_ENCODE
};

/* One prompt of a request: a text until the worker tokenizes it. */
struct prompt {
    struct job *job;
    char *text; /* [len], owned; NULL: ids or messages were given */
    size_t len;
    struct chat_prompt chat; /* of rendered messages */
    bool is_chat;
    bool chat_bos;              /* the template writes BOS */
    struct infer_tokens tokens; /* owned */
    /* written by the worker, read by the loop after a chunk says so */
    uint32_t index;
    uint32_t n_prompt, n_cached;
    bool counted;     /* no longer part of worker->waiting_tokens */
    uint64_t waiting; /* tokens it is counted with there */
};

/* What a client asks of the engine, validated. */
struct generate {
    enum api_shape shape;
    struct prompt *prompts; /* [n_prompts] */
    size_t n_prompts;
    struct infer_sampling sampling; /* its bias is owned */
    uint32_t max_tokens, n;
    int32_t logprobs; /* -1: none */
    bool echo, ignore_eos, stream, include_usage, return_token_ids;
    char **stop; /* [n_stop], owned */
    size_t n_stop;
    int32_t *stop_ids; /* [n_stop_ids], owned */
    size_t n_stop_ids;
    int32_t priority;
    uint64_t deadline_ms;          /* 0: none asked for */
    struct infer_grammar *grammar; /* of response_format, owned; or NULL */
};

/* A token of a chunk; its alternatives are top[first_top .. + n_top). */
struct chunk_token {
    int32_t id;
    uint32_t text_offset; /* bytes of the choice's text before it */
    float logprob;        /* NAN: none */
    uint32_t n_top, first_top;
    bool given; /* part of the prompt, there because of echo */
};

/* A status beside infer.h's: the deadline passed before there was a result. */
enum { WORKER_LATE = -100 };

enum chunk_kind {
    CHUNK_LOADED, /* the worker's model is ready */
    CHUNK_FAILED, /* it is not, and never will be */
    CHUNK_DELTA,  /* of one choice */
    CHUNK_DONE    /* the job comes back */
};

struct chunk {
    struct chunk *next;
    enum chunk_kind kind;
    struct worker *worker;
    struct job *job; /* NULL for the worker's own */

    /* CHUNK_DELTA */
    uint32_t choice; /* prompt * n + choice of the engine */
    struct buf text;
    struct buf tokens; /* struct chunk_token[] */
    struct buf tops;   /* struct infer_logprob[] */
    enum infer_finish finish;
    uint32_t n_generated;                        /* by this choice so far */
    uint32_t n_prompt, n_cached;                 /* of its prompt */
    uint64_t started_ns, first_token_ns, now_ns; /* 0: not yet */

    /* CHUNK_DONE, CHUNK_FAILED */
    struct infer_error error; /* status 0: none; or WORKER_LATE */
    const char *param;        /* the field at fault, or NULL; static */
    struct buf body;          /* reply of a tokenize or detokenize job */
};

struct job {
    struct job *next; /* in whichever list holds it */
    enum job_kind kind;
    struct worker *worker;
    int32_t cancel; /* atomic (__atomic builtins, as the engine reads it) */
    uint64_t arrived_ns;
    uint64_t deadline_ns;
    uint64_t cache_scope;
    uint32_t n_sequences; /* admitted with */

    struct generate gen; /* JOB_GENERATE */
    struct prompt input; /* JOB_TOKENIZE, JOB_DETOKENIZE */
    bool add_special;    /* JOB_TOKENIZE */
    struct encode enc;   /* JOB_ENCODE; inputs: of the JOB_TEI_* */

    /* the loop's own */
    struct request *request; /* NULL: nobody waits any more */
    struct key *key;         /* to be charged, or NULL */

    /* the worker's own */
    struct chunk **pending; /* [n_sequences] chunk being filled, or NULL */
    uint64_t *last_ns;      /* [n_sequences] time of the last token */
    uint32_t *n_seen;       /* [n_sequences] generated tokens counted */
    uint32_t *n_given;      /* [n_sequences] prompt tokens echoed */
    size_t n_submitted, n_finished; /* prompts */
    struct infer_error error;
    const char *param;
};

struct job *job_create(enum job_kind kind, struct worker *w);
void job_free(struct job *job);
/* The client's own deadline, if it is the earlier; 0: none. */
void job_limit(struct job *job, uint64_t deadline_ms);
void job_cancel(struct job *job);
bool job_cancelled(const struct job *job);

struct chunk *chunk_create(enum chunk_kind kind, struct worker *w,
                           struct job *job);
void chunk_free(struct chunk *c);

/* Lists that any thread may push to and one thread takes whole. */
struct inbox {
    _Atomic(void *) head; /* newest first, linked by `next` at offset 0 */
};

/* The item's first member must be its `next` pointer. */
void inbox_push(struct inbox *box, void *item);
void *inbox_take(struct inbox *box); /* all of it, oldest first; or NULL */

#endif
