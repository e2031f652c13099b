/*
 * engine.c - continuous batching: one step after the other.
 *
 * A step reads the clock once, drops what was cancelled or is late, lets
 * sched.c choose rows, runs the model, samples the rows that want it on all
 * threads (each row on one), and hands the results to emit.c in the order of
 * the schedule. Callbacks happen on the caller's thread, never in parallel.
 *
 * All memory but that of the requests is allocated at creation, and
 * infer_engine_bytes() is computed by the same resolution of defaults.
 */
#include "core/engine/engine.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    DEFAULT_RUNNING = 32,
    DEFAULT_WAITING = 1024,
    DEFAULT_STEP = 512,
    DEFAULT_MAX_CTX = 4096,
    SPARE_LOGITS = 16,       /* rows of echoed prompts per step, at least */
    SAMPLE_ALONE = 64 * 1024 /* logits one thread does faster than many */
};
static const uint64_t DEFAULT_MAX_KV = (uint64_t)1 << 30; /* bytes */

/* ---- sizes -------------------------------------------------------------- */

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static int resolve_ctx(struct infer_engine_config *c,
                       const struct infer_model *m,
                       const struct infer_engine_params *p,
                       struct infer_error *err)
{
    c->n_ctx = or_default(p->n_ctx, smaller(m->hp.n_ctx, DEFAULT_MAX_CTX));
    if (p->n_ctx == 0 && p->kv_tokens > 0 && p->kv_tokens < c->n_ctx)
        c->n_ctx = (uint32_t)p->kv_tokens;
    if (c->n_ctx > m->hp.n_ctx)
        return infer_fail(err, INFER_EINVAL,
                          "a context of %u tokens: the model has %u", c->n_ctx,
                          m->hp.n_ctx);
    return INFER_OK;
}

static int resolve_kv(struct infer_engine_config *c,
                      const struct infer_model *m,
                      const struct infer_engine_params *p,
                      struct infer_error *err)
{
    const uint64_t least = (c->n_ctx + INFER_KV_BLOCK - 1) / INFER_KV_BLOCK;
    uint64_t n = p->kv_tokens / INFER_KV_BLOCK;

    if (p->kv_tokens == 0) {
        const uint64_t most =
            DEFAULT_MAX_KV / infer_kv_block_bytes(m, p->kv_type);

        n = least * c->max_running;
        n = n < most ? n : most;
        n = n > least ? n : least;
    } else if (p->kv_tokens < c->n_ctx) {
        return infer_fail(err, INFER_EINVAL,
                          "a KV cache of %llu tokens cannot hold one context "
                          "of %u",
                          (unsigned long long)p->kv_tokens, c->n_ctx);
    }
    n = n > least ? n : least; /* kv_tokens need not be whole blocks */
    if (n > INT32_MAX)
        return infer_fail(err, INFER_EINVAL, "a KV cache of %llu tokens",
                          (unsigned long long)p->kv_tokens);
    c->n_blocks = (uint32_t)n;
    return INFER_OK;
}

static int resolve(struct infer_engine_config *c, const struct infer_model *m,
                   const struct infer_engine_params *p, struct infer_error *err)
{
    int status;

    if (m->hp.arch->encoder)
        return infer_fail(err, INFER_EINVAL,
                          "the model is an encoder, it generates no text");
    c->max_running = or_default(p->max_running, DEFAULT_RUNNING);
    c->max_waiting = or_default(p->max_waiting, DEFAULT_WAITING);
    c->step_tokens = or_default(p->step_tokens, DEFAULT_STEP);
    c->kv_type = p->kv_type;
    c->prefix_cache = !p->no_prefix_cache;
    if (c->max_running > INFER_MAX_RUNNING)
        return infer_fail(err, INFER_EINVAL, "max_running is over %d",
                          (int)INFER_MAX_RUNNING);
    if (c->step_tokens > INFER_MAX_STEP_TOKENS)
        return infer_fail(err, INFER_EINVAL, "step_tokens is over %d",
                          (int)INFER_MAX_STEP_TOKENS);
    if (c->kv_type != INFER_KV_F16 && c->kv_type != INFER_KV_F32)
        return infer_fail(err, INFER_EINVAL, "unknown type of KV cache");
    /* every running choice has a row in each step */
    c->max_running = smaller(c->max_running, c->step_tokens);
    c->max_logits = smaller(c->max_running + SPARE_LOGITS, c->step_tokens);
    status = resolve_ctx(c, m, p, err);
    return status ? status : resolve_kv(c, m, p, err);
}

static uint64_t step_bytes(const struct infer_engine_config *c)
{
    return (uint64_t)c->step_tokens * sizeof(struct infer_batch_row) +
           (uint64_t)c->max_running *
               (sizeof(struct infer_share) + sizeof(uint32_t *)) +
           (uint64_t)c->max_logits * sizeof(struct infer_sample);
}

uint64_t infer_engine_bytes(const struct infer_model *m,
                            const struct infer_engine_params *params)
{
    const long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const int n_threads = n_cpus > 0 && n_cpus < 256 ? (int)n_cpus : 256;
    struct infer_engine_config c;

    if (resolve(&c, m, params, NULL) != INFER_OK)
        return 0;
    return sizeof(struct infer_engine) +
           c.n_blocks * (uint64_t)infer_kv_block_bytes(m, c.kv_type) +
           infer_blocks_bytes(c.n_blocks) +
           infer_forward_bytes(m, n_threads, c.step_tokens, c.max_logits,
                               c.n_ctx) +
           (uint64_t)n_threads * infer_sampler_bytes(m->hp.n_vocab) +
           step_bytes(&c);
}

/* ---- the end of a job ---------------------------------------------------- */

static void end_job(struct infer_engine *e, struct infer_job *job,
                    enum infer_finish why)
{
    uint32_t left = job->n - job->n_done;

    for (uint32_t i = 0; left > 0; i++)
        if (job->choices[i].state != CHOICE_DONE) {
            left--; /* the job is gone after its last choice */
            infer_choice_finish(e, &job->choices[i], why);
        }
}

/* ---- creation ----------------------------------------------------------- */

static uint32_t longest_token(const struct infer_tokenizer *t)
{
    const uint32_t n = infer_tokenizer_n_vocab(t);
    size_t longest = 0;

    for (uint32_t id = 0; id < n; id++) {
        size_t len;

        if (infer_tokenizer_bytes(t, (int32_t)id, true, &len) != NULL &&
            len > longest)
            longest = len;
    }
    return (uint32_t)longest;
}

static int create_samplers(struct infer_engine *e, struct infer_error *err)
{
    const int n = infer_team_size(e->team);
    int status = INFER_OK;

    e->samplers = calloc((size_t)n, sizeof(struct infer_sampler *));
    if (e->samplers == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for samplers");
    for (e->n_samplers = 0; e->n_samplers < n; e->n_samplers++) {
        status = infer_sampler_create(&e->samplers[e->n_samplers], &e->m->kern,
                                      e->m->hp.n_vocab, err);
        if (status != INFER_OK)
            break;
    }
    return status;
}

static int create_step(struct infer_engine *e, struct infer_error *err)
{
    const struct infer_engine_config *c = &e->cfg;

    e->rows = calloc(c->step_tokens, sizeof(*e->rows));
    e->shares = calloc(c->max_running, sizeof(*e->shares));
    e->tables = calloc(c->max_running, sizeof(uint32_t *));
    e->samples = calloc(c->max_logits, sizeof(*e->samples));
    if (e->rows == NULL || e->shares == NULL || e->tables == NULL ||
        e->samples == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for steps of %u tokens",
                          c->step_tokens);
    return INFER_OK;
}

int infer_engine_create(struct infer_engine **out, const struct infer_model *m,
                        struct infer_team *team,
                        const struct infer_engine_params *params,
                        struct infer_error *err)
{
    struct infer_engine *e = calloc(1, sizeof(*e));
    int status;

    if (e == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for an engine");
    e->m = m;
    e->team = team;
    status = resolve(&e->cfg, m, params, err);
    if (status != INFER_OK)
        goto out;
    e->max_token_bytes = longest_token(m->tokenizer);
    status = infer_kv_create(&e->kv, m, e->cfg.kv_type, e->cfg.n_blocks, err);
    if (status != INFER_OK)
        goto out;
    status = infer_blocks_create(&e->blocks, e->cfg.n_blocks, err);
    if (status != INFER_OK)
        goto out;
    status =
        infer_forward_create(&e->forward, m, team, &e->kv, e->cfg.step_tokens,
                             e->cfg.max_logits, e->cfg.n_ctx, err);
    if (status != INFER_OK)
        goto out;
    status = create_samplers(e, err);
    if (status != INFER_OK)
        goto out;
    status = create_step(e, err);
    if (status != INFER_OK)
        goto out;
    *out = e;
    e = NULL;
out:
    infer_engine_free(e);
    return status;
}

void infer_engine_free(struct infer_engine *e)
{
    if (e == NULL)
        return;
    e->now_ns = infer_clock_ns();
    while (e->first_job != NULL)
        end_job(e, e->first_job, INFER_FINISH_CANCELLED);
    for (int i = 0; i < e->n_samplers; i++)
        infer_sampler_free(e->samplers[i]);
    free(e->samplers);
    infer_matcher_free(e->matcher);
    infer_forward_free(e->forward);
    infer_blocks_free(e->blocks);
    infer_kv_release(&e->kv);
    free(e->rows);
    free(e->shares);
    free(e->tables);
    free(e->samples);
    free(e);
}

/* ---- requests ----------------------------------------------------------- */

/* The matcher is made when it is first asked for: few models need it. */
static int check_grammar(struct infer_engine *e,
                         const struct infer_request *req,
                         struct infer_error *err)
{
    int status = INFER_OK;

    if (req->grammar == NULL)
        return INFER_OK;
    if (!req->grammar->finished)
        return infer_fail(err, INFER_EINVAL, "the grammar is not finished");
    if (e->matcher == NULL)
        status = infer_matcher_create(&e->matcher, e->m->tokenizer,
                                      e->m->hp.n_vocab, e->cfg.max_logits, err);
    return status ? status : infer_matcher_check(e->matcher, err);
}

int infer_engine_submit(struct infer_engine *e, const struct infer_request *req,
                        struct infer_error *err)
{
    struct infer_job *job = NULL;
    int status;

    if (e->n_unstarted >= e->cfg.max_waiting)
        return infer_fail(err, INFER_EBUSY, "%u requests are waiting",
                          e->n_unstarted);
    status = check_grammar(e, req, err);
    if (status != INFER_OK)
        return status;
    status = infer_job_create(&job, e, req, err);
    if (status != INFER_OK)
        return status;
    job->submitted_ns = infer_clock_ns();
    infer_sched_add(e, job);
    return INFER_OK;
}

/* Why a job must end now, or NONE. */
static enum infer_finish must_end(const struct infer_engine *e,
                                  const struct infer_job *job)
{
    if (job->req.cancel != NULL &&
        __atomic_load_n(job->req.cancel, __ATOMIC_ACQUIRE) != 0)
        return INFER_FINISH_CANCELLED;
    if (job->req.deadline_ns != 0 && e->now_ns >= job->req.deadline_ns)
        return INFER_FINISH_DEADLINE;
    return INFER_FINISH_NONE;
}

static void end_cancelled(struct infer_engine *e)
{
    struct infer_job *next;

    for (struct infer_job *job = e->first_job; job != NULL; job = next) {
        const enum infer_finish why = must_end(e, job);

        next = job->next;
        if (why != INFER_FINISH_NONE)
            end_job(e, job, why);
    }
}

/* ---- the step ----------------------------------------------------------- */

/* Say for each wanted row of the step what to do with its logits. */
static void prepare_samples(struct infer_engine *e)
{
    struct infer_sample *s = e->samples;

    for (uint32_t i = 0; i < e->n_shares; i++) {
        struct infer_choice *c = e->shares[i].c;
        const uint32_t end = c->n_computed + e->shares[i].n_rows;

        for (uint32_t pos = c->n_computed; pos < end; pos++) {
            if (!infer_choice_wants(c, pos))
                continue;
            s->logits =
                infer_forward_logits(e->forward, (size_t)(s - e->samples));
            s->params = &c->job->req.sampling;
            s->tokens = c->tokens;
            s->n_prompt = c->job->n_prompt;
            s->n_tokens = c->n_tokens;
            s->choice = c->index;
            s->given = pos + 1 < c->n_tokens ? c->tokens[pos + 1] : -1;
            s->n_top = c->job->req.logprobs;
            s->mask = NULL;
            if (s->given < 0 && c->match.grammar != NULL)
                s->mask = infer_matcher_mask(e->matcher, &c->match,
                                             c->tokens + c->job->n_prompt,
                                             c->n_tokens - c->job->n_prompt);
            s++;
        }
    }
}

static void sample_share(struct infer_member *me, void *arg)
{
    struct infer_engine *e = arg;
    int64_t i;

    while ((i = infer_team_take(me, e->n_samples, 1)) >= 0)
        infer_sampler_run(e->samplers[me->id], &e->samples[i]);
}

static void sample(struct infer_engine *e)
{
    prepare_samples(e);
    if (e->n_samples > 1 &&
        (uint64_t)e->n_samples * e->m->hp.n_vocab > SAMPLE_ALONE) {
        infer_team_run(e->team, sample_share, e);
        return;
    }
    for (uint32_t i = 0; i < e->n_samples; i++)
        infer_sampler_run(e->samplers[0], &e->samples[i]);
}

static void run_batch(struct infer_engine *e)
{
    const struct infer_batch batch = {
        .rows = e->rows, .n_rows = e->n_rows, .blocks = e->tables};
    const struct infer_sample *s = e->samples;

    infer_forward_run(e->forward, &batch);
    sample(e);
    e->now_ns = infer_clock_ns();
    for (uint32_t i = 0; i < e->n_shares; i++) {
        const uint32_t n_logits = e->shares[i].n_logits;

        infer_choice_settle(e, &e->shares[i], s);
        s += n_logits;
    }
}

size_t infer_engine_step(struct infer_engine *e)
{
    const uint64_t begin = infer_clock_ns();

    if (e->n_jobs == 0)
        return 0;
    e->now_ns = begin;
    end_cancelled(e);
    infer_sched_plan(e);
    if (e->n_rows > 0)
        run_batch(e);
    e->stats.n_steps++;
    e->stats.step_rows = e->n_rows;
    e->stats.step_ns = infer_clock_ns() - begin;
    return e->n_jobs;
}

/* ---- figures ------------------------------------------------------------ */

/* Prompt tokens that a job has yet to compute; siblings share the first's. */
static uint64_t tokens_ahead(const struct infer_job *job)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < (job->shared ? job->n : 1); i++) {
        const struct infer_choice *c = &job->choices[i];

        if (c->state != CHOICE_DONE && c->n_computed < job->n_prompt)
            n += job->n_prompt - c->n_computed;
    }
    return n;
}

void infer_engine_stats(const struct infer_engine *e,
                        struct infer_engine_stats *stats)
{
    *stats = e->stats;
    stats->n_running = e->n_running;
    stats->kv_blocks_total = e->cfg.n_blocks;
    stats->kv_blocks_used = e->cfg.n_blocks - infer_blocks_available(e->blocks);
    stats->kv_block_tokens = INFER_KV_BLOCK;
    for (const struct infer_job *job = e->first_job; job; job = job->next) {
        stats->n_waiting += job->n_running == 0;
        stats->waiting_tokens += tokens_ahead(job);
    }
}

uint32_t infer_engine_n_ctx(const struct infer_engine *e)
{
    return e->cfg.n_ctx;
}
