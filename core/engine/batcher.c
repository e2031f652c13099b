/*
 * batcher.c - which waiting sequences go through the encoder together.
 *
 * Whatever waits when a step begins is packed up to the token budget; nobody
 * waits for company, since batches form by themselves while a step computes.
 * Short sequences go first, which makes the mean wait least, but one that has
 * waited for max_delay goes before all younger ones and nothing overtakes it:
 * the wait is bounded.
 *
 * One request may be thousands of sequences (an explained text). These are of
 * the background class: they go when the others leave room, and only so far
 * that a step stays short for whoever comes next; so their number does not
 * show in the others' waits. A share of all tokens is theirs even then (owed),
 * or what was accepted would never end.
 *
 * Sequences stand in queues by length (powers of two), each by arrival, so
 * choosing costs the number of queues. A step begins with a look at each
 * waiting sequence for a raised flag or a passed deadline.
 *
 * Requests are the caller's memory and are linked here; nothing is copied.
 */
#include "core/base/error.h"
#include "core/model/model.h"

#include <stdlib.h>

enum {
    N_LENGTHS = 33, /* bit lengths of a 32-bit count */
    DEFAULT_WAITING = 8192,
    DEFAULT_DELAY_MS = 50,
    BACKGROUND_SHARE = 8, /* of the others' tokens, one in so many */
    BACKGROUND_STEP = 4   /* part of a step that background work may fill */
};

enum { FOREGROUND, BACKGROUND, N_KINDS };

struct queue {
    struct infer_encode_request *first, *last;
};

struct infer_batcher {
    struct infer_encoder *encoder;
    uint32_t n_out, max_tokens, max_seqs, max_waiting;
    uint64_t max_delay_ns;
    struct queue queues[N_KINDS][N_LENGTHS];
    uint32_t owed; /* tokens of background work that go before all others */
    struct infer_encode_request **picked; /* [max_seqs] */
    struct infer_sequence *seqs;          /* [max_seqs] */
    float *results;                       /* [max_seqs][n_out] */
    struct infer_batcher_stats stats;
};

int infer_batcher_create(struct infer_batcher **out,
                         const struct infer_model *m, struct infer_team *team,
                         const struct infer_batcher_params *p,
                         struct infer_error *err)
{
    const enum infer_pooling pooling = m->result.pooling == INFER_POOLING_NONE
                                           ? INFER_POOLING_MEAN
                                           : INFER_POOLING_FILE;
    const struct infer_encoder_params ep = {.max_tokens = p->max_tokens,
                                            .max_seqs = p->max_seqs,
                                            .pooling = pooling};
    struct infer_batcher *b = calloc(1, sizeof(*b));
    int status;

    if (!b)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = infer_encoder_create(&b->encoder, m, team, &ep, err);
    if (status) {
        infer_batcher_free(b);
        return status;
    }
    b->n_out = m->info.n_out;
    b->max_tokens = infer_encoder_max_tokens(b->encoder);
    b->max_seqs = infer_encoder_max_seqs(b->encoder);
    b->max_waiting = p->max_waiting ? p->max_waiting : DEFAULT_WAITING;
    b->max_delay_ns =
        (p->max_delay_ms ? p->max_delay_ms : DEFAULT_DELAY_MS) * 1000000ull;
    b->picked = calloc(b->max_seqs, sizeof(struct infer_encode_request *));
    b->seqs = calloc(b->max_seqs, sizeof(*b->seqs));
    b->results = calloc((size_t)b->max_seqs * b->n_out, sizeof(float));
    if (!b->picked || !b->seqs || !b->results) {
        infer_batcher_free(b);
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for batches of %u texts", p->max_seqs);
    }
    *out = b;
    return INFER_OK;
}

/* ---- queues ----------------------------------------------------------------
 */

static struct queue *queue_of(struct infer_batcher *b,
                              const struct infer_encode_request *r)
{
    const uint32_t n = r->seq.n;

    return &b->queues[r->background][n ? 32 - __builtin_clz(n) : 0];
}

static void take_out(struct infer_batcher *b, struct infer_encode_request *r)
{
    struct queue *q = queue_of(b, r);

    *(r->prev ? &r->prev->next : &q->first) = r->next;
    *(r->next ? &r->next->prev : &q->last) = r->prev;
    b->stats.n_waiting--;
    b->stats.waiting_tokens -= r->seq.n;
}

int infer_batcher_check(const struct infer_batcher *b,
                        const struct infer_sequence *seq,
                        struct infer_error *err)
{
    return infer_encoder_check(b->encoder, seq, err);
}

int infer_batcher_submit(struct infer_batcher *b,
                         struct infer_encode_request *r,
                         struct infer_error *err)
{
    struct queue *q = queue_of(b, r);
    int status = infer_encoder_check(b->encoder, &r->seq, err);

    if (status)
        return status;
    if (b->stats.n_waiting >= b->max_waiting)
        return infer_fail(err, INFER_EBUSY, "%u texts wait already",
                          b->stats.n_waiting);
    r->arrived_ns = infer_clock_ns();
    r->next = NULL;
    r->prev = q->last;
    *(q->last ? &q->last->next : &q->first) = r;
    q->last = r;
    b->stats.n_waiting++;
    b->stats.waiting_tokens += r->seq.n;
    return INFER_OK;
}

static void finish(struct infer_encode_request *r, enum infer_finish why,
                   const float *result)
{
    r->on_result(r->user, why, result);
}

/* End what its client no longer wants, or wanted earlier. */
static void sweep_queue(struct infer_batcher *b, const struct queue *q,
                        uint64_t now)
{
    for (struct infer_encode_request *r = q->first, *next; r; r = next) {
        const bool cancelled =
            r->cancel && __atomic_load_n(r->cancel, __ATOMIC_RELAXED);

        next = r->next;
        if (!cancelled && (!r->deadline_ns || now < r->deadline_ns))
            continue;
        take_out(b, r);
        finish(r, cancelled ? INFER_FINISH_CANCELLED : INFER_FINISH_DEADLINE,
               NULL);
    }
}

static void sweep(struct infer_batcher *b, uint64_t now)
{
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int i = 0; i < N_LENGTHS; i++)
            sweep_queue(b, &b->queues[kind][i], now);
}

/* Who is next: the oldest that waited too long, else the shortest. */
static struct infer_encode_request *best(const struct infer_batcher *b,
                                         int kind, uint64_t now)
{
    struct infer_encode_request *oldest = NULL, *shortest = NULL;

    for (int i = 0; i < N_LENGTHS; i++) {
        struct infer_encode_request *r = b->queues[kind][i].first;

        if (!r)
            continue;
        if (!shortest)
            shortest = r;
        if (!oldest || r->arrived_ns < oldest->arrived_ns)
            oldest = r;
    }
    return oldest && now - oldest->arrived_ns >= b->max_delay_ns ? oldest
                                                                 : shortest;
}

/* ---- a step
 * ------------------------------------------------------------------
 */

/* Add sequences of a kind to the step while they fit into `room` tokens of
 * all; returns their tokens. */
static uint32_t fill(struct infer_batcher *b, int kind, uint32_t room,
                     uint64_t now)
{
    struct infer_batcher_stats *s = &b->stats;
    const uint32_t before = s->step_tokens;
    struct infer_encode_request *r;

    while (s->step_seqs < b->max_seqs && (r = best(b, kind, now)) != NULL &&
           s->step_tokens <= room && r->seq.n <= room - s->step_tokens) {
        take_out(b, r);
        s->step_tokens += r->seq.n;
        b->seqs[s->step_seqs] = r->seq;
        b->picked[s->step_seqs++] = r;
    }
    return s->step_tokens - before;
}

static void pick(struct infer_batcher *b, uint64_t now)
{
    struct infer_batcher_stats *s = &b->stats;
    const struct infer_encode_request *next = best(b, BACKGROUND, now);
    uint32_t theirs = 0;

    s->step_seqs = s->step_tokens = 0;
    if (next == NULL)
        b->owed = 0;
    else if (next->seq.n <= b->owed)
        theirs = fill(b, BACKGROUND,
                      b->owed < b->max_tokens ? b->owed : b->max_tokens, now);
    b->owed += fill(b, FOREGROUND, b->max_tokens, now) / BACKGROUND_SHARE;
    if (best(b, FOREGROUND, now) == NULL)
        theirs += fill(b, BACKGROUND, b->max_tokens / BACKGROUND_STEP, now);
    if (s->step_seqs == 0 && next != NULL) /* longer than its part, alone */
        theirs = fill(b, BACKGROUND, next->seq.n, now);
    b->owed -= theirs < b->owed ? theirs : b->owed;
}

size_t infer_batcher_step(struct infer_batcher *b)
{
    const uint64_t start = infer_clock_ns();
    struct infer_error err;
    uint32_t n;
    int status;

    sweep(b, start);
    pick(b, start);
    n = b->stats.step_seqs;
    if (n == 0)
        return 0;
    b->stats.n_running = n;
    status = infer_encoder_run(b->encoder, b->seqs, n, b->results, &err);
    b->stats.n_running = 0;
    b->stats.n_steps++;
    b->stats.n_tokens += b->stats.step_tokens;
    b->stats.n_texts += n;
    b->stats.step_ns = infer_clock_ns() - start;
    for (uint32_t i = 0; i < n; i++)
        finish(b->picked[i], status ? INFER_FINISH_ERROR : INFER_FINISH_STOP,
               status ? NULL : b->results + (size_t)i * b->n_out);
    return b->stats.n_waiting + n;
}

void infer_batcher_stats(const struct infer_batcher *b,
                         struct infer_batcher_stats *stats)
{
    *stats = b->stats;
}

void infer_batcher_free(struct infer_batcher *b)
{
    if (!b)
        return;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int i = 0; i < N_LENGTHS; i++)
            while (b->queues[kind][i].first) {
                struct infer_encode_request *r = b->queues[kind][i].first;

                take_out(b, r);
                finish(r, INFER_FINISH_CANCELLED, NULL);
            }
    infer_encoder_free(b->encoder);
    free(b->picked);
    free(b->seqs);
    free(b->results);
    free(b);
}
