/*
 * batcher.c - which waiting sequences go through the encoder together.
 *
 * Whatever waits when a step begins is packed up to the token budget; nobody
 * waits for company, since batches form by themselves while a step computes.
 * Short sequences go first, which makes the mean wait least, but one that has
 * waited for max_delay goes before all younger ones and nothing overtakes it:
 * the wait is bounded.
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
    N_CLASSES = 33, /* bit lengths of a 32-bit count */
    DEFAULT_WAITING = 8192,
    DEFAULT_DELAY_MS = 50
};

struct queue {
    struct infer_encode_request *first, *last;
};

struct infer_batcher {
    struct infer_encoder *encoder;
    uint32_t n_out, max_tokens, max_seqs, max_waiting;
    uint64_t max_delay_ns;
    struct queue queues[N_CLASSES];
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

    return &b->queues[n ? 32 - __builtin_clz(n) : 0];
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
static void sweep(struct infer_batcher *b, uint64_t now)
{
    for (int i = 0; i < N_CLASSES; i++)
        for (struct infer_encode_request *r = b->queues[i].first, *next; r;
             r = next) {
            const bool cancelled =
                r->cancel && __atomic_load_n(r->cancel, __ATOMIC_RELAXED);

            next = r->next;
            if (!cancelled && (!r->deadline_ns || now < r->deadline_ns))
                continue;
            take_out(b, r);
            finish(r,
                   cancelled ? INFER_FINISH_CANCELLED : INFER_FINISH_DEADLINE,
                   NULL);
        }
}

/* Who is next: the oldest that waited too long, else the shortest. */
static struct infer_encode_request *best(struct infer_batcher *b, uint64_t now)
{
    struct infer_encode_request *oldest = NULL, *shortest = NULL;

    for (int i = 0; i < N_CLASSES; i++) {
        struct infer_encode_request *r = b->queues[i].first;

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

static uint32_t pick(struct infer_batcher *b, uint64_t now)
{
    uint32_t n = 0, tokens = 0;
    struct infer_encode_request *r;

    while (n < b->max_seqs && (r = best(b, now)) != NULL &&
           r->seq.n <= b->max_tokens - tokens) {
        take_out(b, r);
        tokens += r->seq.n;
        b->seqs[n] = r->seq;
        b->picked[n++] = r;
    }
    b->stats.step_seqs = n;
    b->stats.step_tokens = tokens;
    return n;
}

size_t infer_batcher_step(struct infer_batcher *b)
{
    const uint64_t start = infer_clock_ns();
    struct infer_error err;
    uint32_t n;
    int status;

    sweep(b, start);
    n = pick(b, start);
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
    for (int i = 0; i < N_CLASSES; i++)
        while (b->queues[i].first) {
            struct infer_encode_request *r = b->queues[i].first;

            take_out(b, r);
            finish(r, INFER_FINISH_CANCELLED, NULL);
        }
    infer_encoder_free(b->encoder);
    free(b->picked);
    free(b->seqs);
    free(b->results);
    free(b);
}
