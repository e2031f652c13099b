/*
 * admit.c - is there room for this job?
 *
 * Two bounds per model: sequences (running and waiting) and prompt tokens not
 * yet computed. Beyond them the answer is 503 at once, with a Retry-After that
 * is the length of the queue over the speed at which sequences ended lately.
 * A prompt's tokens are a guess (a quarter of its bytes) until the worker has
 * tokenized it; the bound is one of memory and patience, not of correctness.
 */
#include "server/admit.h"
#include "server/reply.h"

#include <math.h>

enum { MAX_RETRY_S = 300, WINDOW_NS = 2000000000 };

static unsigned retry_after(const struct worker *w, double extra_sequences)
{
    const uint32_t running =
        atomic_load_explicit(&w->stats.running, memory_order_relaxed);
    const double waiting =
        (w->n_sequences > running ? w->n_sequences - running : 0) +
        extra_sequences;
    double s;

    if (w->finished_per_s <= 0)
        return 1;
    s = ceil(waiting / w->finished_per_s);
    return s < 1 ? 1 : s > MAX_RETRY_S ? MAX_RETRY_S : (unsigned)s;
}

void admit_finished(struct worker *w, uint32_t n_sequences)
{
    const uint64_t now = infer_clock_ns();
    double rate;

    w->window_count += n_sequences;
    if (w->window_ns == 0)
        w->window_ns = now;
    if (now - w->window_ns < WINDOW_NS)
        return;
    rate = w->window_count * 1e9 / (double)(now - w->window_ns);
    w->finished_per_s =
        w->finished_per_s > 0 ? (w->finished_per_s + rate) / 2 : rate;
    w->window_ns = now;
    w->window_count = 0;
}

bool admit_ready(struct request *r, const struct worker *w)
{
    struct server *s = r->srv;

    if (s->state >= STATE_DRAINING) {
        s->metrics.refused[REFUSED_DRAINING]++;
        reply_retry(r, 503, "draining", 1, "the server is stopping");
    } else if (!w->ready) {
        s->metrics.refused[REFUSED_LOADING]++;
        reply_retry(r, 503, "loading", 1, "the model '%s' is loading",
                    w->config->name);
    } else {
        return true;
    }
    return false;
}

static int64_t tokens_of(const struct job *job)
{
    int64_t n = 0;

    for (size_t i = 0; i < job->gen.n_prompts; i++)
        n += (int64_t)job->gen.prompts[i].waiting;
    for (size_t i = 0; i < job->enc.n_inputs; i++)
        n += (int64_t)job->enc.inputs[i].waiting;
    return n;
}

bool admit_job(struct request *r, struct job *job)
{
    struct server *s = r->srv;
    struct worker *w = job->worker;
    const struct engine_config *e = &w->config->engine;
    const bool encoder = w->info->task != INFER_TASK_GENERATE;
    const int64_t room =
        encoder ? e->max_waiting_inputs : e->max_running + e->max_waiting;
    const int64_t waiting =
        atomic_load_explicit(&w->waiting_tokens, memory_order_relaxed);
    const int64_t tokens = tokens_of(job);

    if (job->n_sequences > room) {
        reply_error(r, 413, encoder ? NULL : "n", NULL,
                    encoder ? "%u texts are more than %lld"
                            : "prompts times n make %u sequences, more than "
                              "%lld",
                    job->n_sequences, (long long)room);
    } else if (w->n_sequences + job->n_sequences > room) {
        s->metrics.refused[REFUSED_QUEUE]++;
        reply_retry(r, 503, "queue_full", retry_after(w, job->n_sequences),
                    "the queue is full: %u sequences", w->n_sequences);
    } else if (waiting > 0 && waiting + tokens > e->max_waiting_tokens) {
        s->metrics.refused[REFUSED_TOKENS]++;
        reply_retry(r, 503, "queue_full", retry_after(w, 0),
                    "the queue is full: %lld prompt tokens wait",
                    (long long)waiting);
    } else {
        atomic_fetch_add_explicit(&w->waiting_tokens, tokens,
                                  memory_order_relaxed);
        return true;
    }
    return false;
}
