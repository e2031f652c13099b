/*
 * sched.c - who computes what in the next step.
 *
 * Both lists are kept in one order, best first: priority, then arrival, then
 * choice. A step takes one row of every generating choice, then prompt chunks
 * up to the token budget, then admits from the head of the waiting list.
 *
 * Blocks: admission takes all that the known tokens need, so a prompt never
 * stalls halfway; only generation grows, a block every 16 tokens. When none is
 * left, the worst running choice goes back to the queue and will compute its
 * tokens again (mostly from the prefix cache). Its text and its random numbers
 * stay as they are, so nobody can tell. The best choice is never the victim
 * unless it is alone, and alone it fits (n_ctx <= the cache): there is always
 * progress.
 *
 * Nobody overtakes the head of the queue when it does not fit, else a large
 * request would starve; only choices that wait for their first sibling's
 * prompt are passed over.
 */
#include "core/engine/engine.h"

#include <assert.h>

/* ---- lists -------------------------------------------------------------- */

static bool before(const struct infer_choice *a, const struct infer_choice *b)
{
    if (a->job->req.priority != b->job->req.priority)
        return a->job->req.priority > b->job->req.priority;
    if (a->job->arrival != b->job->arrival)
        return a->job->arrival < b->job->arrival;
    return a->index < b->index;
}

static void list_insert(struct infer_list *l, struct infer_choice *c)
{
    struct infer_choice *at = l->last; /* new ones mostly belong at the end */

    while (at != NULL && before(c, at))
        at = at->prev;
    c->prev = at;
    c->next = at != NULL ? at->next : l->first;
    if (c->next != NULL)
        c->next->prev = c;
    else
        l->last = c;
    if (at != NULL)
        at->next = c;
    else
        l->first = c;
}

static void list_remove(struct infer_list *l, struct infer_choice *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        l->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        l->last = c->prev;
}

void infer_sched_add(struct infer_engine *e, struct infer_job *job)
{
    job->arrival = ++e->last_arrival;
    /* without a cache there is nothing to wait for */
    job->shared = job->n == 1 || !e->cfg.prefix_cache || job->prompt_logprobs;
    job->prev = e->last_job;
    if (e->last_job != NULL)
        e->last_job->next = job;
    else
        e->first_job = job;
    e->last_job = job;
    e->n_jobs++;
    e->n_unstarted++;
    for (uint32_t i = 0; i < job->n; i++)
        list_insert(&e->waiting, &job->choices[i]);
}

static void release_blocks(struct infer_engine *e, struct infer_choice *c)
{
    while (c->n_blocks > 0)
        infer_blocks_release(e->blocks, c->blocks[--c->n_blocks]);
    c->n_computed = 0;
    c->n_registered = 0;
    c->chain = INFER_CHAIN_ROOT;
}

static void stop_running(struct infer_engine *e, struct infer_choice *c)
{
    list_remove(&e->running, c);
    e->n_running--;
    c->job->n_running--;
    release_blocks(e, c);
}

void infer_sched_remove(struct infer_engine *e, struct infer_choice *c)
{
    if (c->state == CHOICE_RUNNING)
        stop_running(e, c);
    else
        list_remove(&e->waiting, c);
    if (!c->job->started && c->job->n_done == 0) {
        c->job->started = true; /* ended in the queue */
        e->n_unstarted--;
    }
    c->state = CHOICE_DONE;
    c->job->shared = true;
}

static void preempt(struct infer_engine *e, struct infer_choice *c)
{
    stop_running(e, c);
    c->state = CHOICE_WAITING;
    list_insert(&e->waiting, c);
    e->stats.n_preempted++;
}

/* ---- rows --------------------------------------------------------------- */

bool infer_choice_wants(const struct infer_choice *c, uint32_t pos)
{
    const struct infer_job *job = c->job;

    if (pos + 1 == c->n_tokens)
        return job->req.max_tokens > 0; /* to draw the next token */
    return job->prompt_logprobs && pos + 1 >= c->n_echoed &&
           pos + 1 < job->n_prompt;
}

/* Append the next rows of a choice, as many as the budgets allow. */
static void add_rows(struct infer_engine *e, struct infer_choice *c)
{
    struct infer_share share = {.c = c};

    for (uint32_t pos = c->n_computed; pos < c->n_tokens; pos++) {
        const bool logits = infer_choice_wants(c, pos);

        if (e->n_rows == e->cfg.step_tokens ||
            (logits && e->n_samples == e->cfg.max_logits))
            break;
        e->rows[e->n_rows++] = (struct infer_batch_row){.token = c->tokens[pos],
                                                        .pos = pos,
                                                        .seq = e->n_shares,
                                                        .logits = logits};
        share.n_rows++;
        share.n_logits += logits;
        e->n_samples += logits;
    }
    if (share.n_rows == 0)
        return;
    e->tables[e->n_shares] = c->blocks;
    e->shares[e->n_shares++] = share;
}

static uint32_t blocks_for(uint32_t n_tokens)
{
    return (n_tokens + INFER_KV_BLOCK - 1) / INFER_KV_BLOCK;
}

/* Room for the newest token of a generating choice. False: c itself had to go
 * back to the queue. */
static bool grow(struct infer_engine *e, struct infer_choice *c)
{
    while (c->n_blocks < blocks_for(c->n_tokens)) {
        const int64_t block = infer_blocks_take(e->blocks);

        if (block != INFER_NO_BLOCK) {
            c->blocks[c->n_blocks++] = (uint32_t)block;
            continue;
        }
        assert(e->running.first != e->running.last); /* alone it fits */
        if (e->running.last == c) {
            preempt(e, c);
            return false;
        }
        preempt(e, e->running.last); /* worse than c, so not planned yet */
    }
    return true;
}

/* ---- admission ---------------------------------------------------------- */

/* Most blocks that may come from the cache: the first row whose logits are
 * wanted, and the last one, have to be computed. */
static uint32_t cacheable(const struct infer_engine *e,
                          const struct infer_choice *c)
{
    uint32_t n = c->n_tokens - 1;

    if (!e->cfg.prefix_cache)
        return 0;
    if (c->job->prompt_logprobs && c->n_echoed < c->job->n_prompt)
        n = c->n_echoed > 0 ? c->n_echoed - 1 : 0;
    return n / INFER_KV_BLOCK;
}

/* Find or take blocks for all known tokens, leaving one spare block to each
 * running choice, so that admission does not cause the next preemption. */
static bool allocate(struct infer_engine *e, struct infer_choice *c)
{
    const uint32_t want = blocks_for(c->n_tokens);
    uint32_t n =
        infer_blocks_lookup(e->blocks, c->job->req.cache_scope, c->tokens,
                            cacheable(e, c), c->blocks, &c->chain);

    c->n_blocks = n;
    if (infer_blocks_available(e->blocks) <
        (uint64_t)(want - n) + e->n_running) {
        release_blocks(e, c);
        return false;
    }
    c->n_registered = n;
    c->n_computed = n * INFER_KV_BLOCK;
    while (c->n_blocks < want)
        c->blocks[c->n_blocks++] = (uint32_t)infer_blocks_take(e->blocks);
    return true;
}

static void admit(struct infer_engine *e, struct infer_choice *c)
{
    struct infer_job *job = c->job;

    list_remove(&e->waiting, c);
    c->state = CHOICE_RUNNING;
    list_insert(&e->running, c);
    e->n_running++;
    job->n_running++;
    e->stats.cached_tokens += c->n_computed;
    if (c->started_ns == 0)
        c->started_ns = e->now_ns;
    if (!job->started) {
        job->started = true;
        job->n_cached = c->n_computed;
        e->n_unstarted--;
    }
}

static void admit_all(struct infer_engine *e)
{
    struct infer_choice *next;

    for (struct infer_choice *c = e->waiting.first; c != NULL; c = next) {
        next = c->next;
        if (e->n_running == e->cfg.max_running ||
            e->n_rows == e->cfg.step_tokens)
            return;
        if (c->index > 0 && !c->job->shared)
            continue;
        if (!allocate(e, c))
            return;
        admit(e, c);
        add_rows(e, c);
    }
}

void infer_sched_plan(struct infer_engine *e)
{
    struct infer_choice *next;

    e->n_rows = e->n_shares = e->n_samples = 0;
    for (struct infer_choice *c = e->running.first; c != NULL; c = next) {
        const bool generates = c->n_computed + 1 == c->n_tokens;

        if (generates && !grow(e, c))
            break;      /* c was the last */
        next = c->next; /* after grow(), which removes from the end */
        if (generates)
            add_rows(e, c);
    }
    for (struct infer_choice *c = e->running.first; c != NULL; c = c->next)
        if (c->n_computed + 1 < c->n_tokens)
            add_rows(e, c);
    admit_all(e);
}
