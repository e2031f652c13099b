/*
 * engine.h - what the parts of the engine share.
 *
 *   request.c  checks and copies a request; one allocation each
 *   sched.c    who computes what in a step: queues, admission, preemption
 *   emit.c     from sampled tokens to events, and the end of a choice
 *   engine.c   the step itself, creation, statistics
 *
 * One thread uses all of it; only the forward pass and the sampling of a step
 * are spread over the team.
 *
 * The output of a choice is a function of (model, prompt, parameters, seed,
 * choice index). The forward pass guarantees that a row's result does not
 * depend on the other rows of its batch; this code keeps it so by never letting
 * a decision on a choice's tokens or text look at anything but that choice.
 */
#ifndef INFER_ENGINE_H
#define INFER_ENGINE_H

#include "core/engine/blocks.h"
#include "core/engine/matcher.h"
#include "core/engine/sampler.h"
#include "core/engine/stop.h"
#include "core/model/forward.h"

enum {
    INFER_MAX_CHOICES = 128,
    INFER_MAX_STOP_IDS = 1024,
    INFER_MAX_RUNNING = 4096,
    INFER_MAX_STEP_TOKENS = 65536
};

struct infer_list {
    struct infer_choice *first, *last;
};

enum infer_choice_state { CHOICE_WAITING, CHOICE_RUNNING, CHOICE_DONE };

/* A token whose text is not all shown yet. */
struct infer_pending {
    uint64_t raw_begin, raw_end; /* its bytes, see struct infer_text */
    bool placed;                 /* info.text_offset is final */
};

/* One sequence: a prompt and what it is continued with. */
struct infer_choice {
    struct infer_job *job;
    uint32_t index;
    enum infer_choice_state state;
    struct infer_choice *prev, *next; /* in the waiting or running list */

    int32_t *tokens; /* [n_max] prompt, then output */
    uint32_t n_tokens, n_max;
    uint32_t n_computed; /* tokens whose K and V are in blocks */
    uint32_t *blocks;    /* [n_max / 16, rounded up] */
    uint32_t n_blocks;
    uint32_t n_registered; /* blocks that were offered for sharing */
    uint64_t chain;        /* of these */

    struct infer_match match; /* unused without a grammar */
    struct infer_text text;
    struct infer_decoder decoder;
    struct infer_pending *pending;  /* [max_pending] */
    struct infer_token_info *infos; /* [max_pending] */
    struct infer_logprob *tops;     /* [max_pending][n_top] */
    uint32_t n_pending, max_pending;
    uint32_t n_echoed; /* prompt tokens that went to text */
    uint64_t started_ns, first_token_ns;
};

/* A request and its choices, in one allocation. */
struct infer_job {
    struct infer_job *prev, *next; /* all unfinished ones, by arrival */
    struct infer_request req;      /* its pointers point into this block */
    struct infer_stops stops;
    struct infer_choice *choices; /* [n] */
    uint32_t n, n_done, n_running;
    uint32_t n_prompt;
    uint32_t n_top;       /* alternatives per token that are kept */
    bool prompt_logprobs; /* echo with logprobs: every row is wanted */
    bool shared;          /* choices but the first may be admitted */
    bool started;         /* some choice was admitted once */
    uint32_t n_cached;    /* prompt tokens the first one found */
    uint64_t arrival;     /* ascending */
    uint64_t submitted_ns;
};

/* Rows of one choice in the step. */
struct infer_share {
    struct infer_choice *c;
    uint32_t n_rows;
    uint32_t n_logits; /* its rows that want logits are the next so many */
};

/* Sizes, all defaults resolved. */
struct infer_engine_config {
    uint32_t n_ctx, max_running, max_waiting, step_tokens, max_logits;
    uint32_t n_blocks;
    enum infer_kv_type kv_type;
    bool prefix_cache;
};

struct infer_engine {
    const struct infer_model *m;
    struct infer_team *team;
    struct infer_engine_config cfg;
    uint32_t max_token_bytes;

    struct infer_kv kv;
    struct infer_blocks *blocks;
    struct infer_forward *forward;
    struct infer_sampler **samplers; /* [n_samplers], one per member */
    int n_samplers;
    struct infer_matcher *matcher; /* NULL until a grammar comes */

    struct infer_job *first_job, *last_job;
    struct infer_list waiting, running; /* best first */
    uint32_t n_jobs, n_unstarted, n_running;
    uint64_t last_arrival;

    /* the step in the making */
    struct infer_batch_row *rows; /* [step_tokens] */
    uint32_t n_rows;
    struct infer_share *shares; /* [max_running] */
    const uint32_t **tables;    /* [max_running] */
    uint32_t n_shares;
    struct infer_sample *samples; /* [max_logits] */
    uint32_t n_samples;
    uint64_t now_ns;

    struct infer_engine_stats stats; /* counters only */
};

/* ---- request.c ---- */

int infer_job_create(struct infer_job **job, const struct infer_engine *e,
                     const struct infer_request *req, struct infer_error *err);
void infer_job_free(struct infer_job *job);

/* ---- sched.c ---- */

void infer_sched_add(struct infer_engine *e, struct infer_job *job);

/* Choose the rows of a step: one for each choice that generates, then chunks of
 * prompts, then of newly admitted ones, while the budget lasts. */
void infer_sched_plan(struct infer_engine *e);

/* Take a finished choice out of its list and give its blocks back. */
void infer_sched_remove(struct infer_engine *e, struct infer_choice *c);

/* Whether logits of a position are wanted (see infer_choice_settle()). */
bool infer_choice_wants(const struct infer_choice *c, uint32_t pos);

/* ---- emit.c ---- */

/* The state of a fresh choice's text. memory: infer_text_bytes(). */
void infer_emit_init(const struct infer_engine *e, struct infer_choice *c,
                     char *memory);

/* Use what a step computed for a choice; samples [share->n_logits]. May finish
 * the choice and free its job. */
void infer_choice_settle(struct infer_engine *e, const struct infer_share *s,
                         const struct infer_sample *samples);

/* The last event of a choice. Frees the job when it was the last choice. */
void infer_choice_finish(struct infer_engine *e, struct infer_choice *c,
                         enum infer_finish why);

#endif
