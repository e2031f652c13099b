/* lm_step.c - see lm_parts.h: batches through the net. */
#include "trainer/run/lm_parts.h"

#include "core/base/error.h"

#include <math.h>
#include <string.h>

static int damaged(struct run *r)
{
    return infer_fail(r->err, INFER_EFORMAT,
                      "the run's token files are damaged; start again in a new "
                      "folder");
}

/* This rank's rows of the next batch; everyone counts all of them. */
static int fill_batch(struct run *r, size_t n_seqs, size_t n_tokens)
{
    const size_t id = (size_t)train_ranks_id(r->ranks);
    const size_t n_all = n_seqs * (size_t)train_ranks_n(r->ranks);

    for (size_t i = 0; i < n_all; i++) {
        const uint64_t at = train_shuffle_next(&r->p.data);
        const size_t b = i - id * n_seqs;

        if (i < id * n_seqs || b >= n_seqs)
            continue;
        if (!train_tokens_read(&r->corpus.train, at, n_tokens + 1,
                               r->corpus.n_vocab, r->window))
            return damaged(r);
        memcpy(r->tokens + b * n_tokens, r->window, n_tokens * sizeof(int32_t));
        memcpy(r->targets + b * n_tokens, r->window + 1,
               n_tokens * sizeof(int32_t));
    }
    return 0;
}

static int not_finite(struct run *r, const char *what, uint64_t step)
{
    return infer_fail(r->err, INFER_EFORMAT,
                      "the %s is not finite at step %llu; nothing of it was "
                      "saved. Try a lower --lr or a longer --warmup",
                      what, (unsigned long long)step);
}

/* The gradient of this rank's rows of a step that has n targets in all. */
static int add_gradients(struct run *r, size_t n_tokens, double n, double *nll)
{
    const struct train_lm *o = r->o;
    const size_t n_seqs = r->n_seqs * o->context / n_tokens;
    int status = 0;

    net_zero_grads(r->net);
    net_set_first_row(r->net,
                      (size_t)train_ranks_id(r->ranks) * n_seqs * n_tokens);
    for (uint64_t i = 0; i < o->accumulate && status == 0; i++) {
        status = fill_batch(r, n_seqs, n_tokens);
        if (status == 0)
            *nll +=
                net_train(r->net, r->tokens, r->targets, n_seqs, n_tokens,
                          (float)(1.0 / n),
                          train_mix(o->seed ^ 0xd509, r->p.step * 4096 + i));
    }
    return status;
}

int lm_step(struct run *r)
{
    const struct train_lm *o = r->o;
    const size_t n_tokens = lm_context(r);
    const double n = (double)(o->batch * o->context * o->accumulate);
    const float lr = lm_lr(r);
    struct lm_report report = {0};
    int status;

    train_shuffle_resize(&r->p.data, n_tokens);
    status = add_gradients(r, n_tokens, n, &report.nll);
    report.seconds = lm_seconds(r);
    status = lm_ranks_exchange(r, status, &report);
    if (status != 0)
        return status;
    if (!isfinite(report.nll))
        return not_finite(r, "loss", r->p.step + 1);
    status = train_ranks_sum(r->ranks, net_grads(r->net), net_n_values(r->net),
                             r->err);
    if (status != 0)
        return status;
    r->clock = report.seconds;
    r->norm = optim_step(r->optim, lr);
    if (!isfinite(r->norm))
        return not_finite(r, "gradient", r->p.step + 1);
    if (r->ema)
        ema_update(r->ema);
    r->p.step++;
    r->p.n_tokens += (uint64_t)n;
    r->p.sum_loss += report.nll / n;
    r->p.sum_steps++;
    return 0;
}

/* Up to n_seqs windows of the validation text from `at`, up to `end`; returns
 * how many, 0: damaged. */
static size_t fill_windows(struct run *r, uint64_t at, uint64_t end)
{
    const size_t t = r->o->context;
    size_t b = 0;

    for (; b < r->n_seqs && at < end; b++, at += t) {
        const size_t take = end - at < t ? (size_t)(end - at) : t;
        int32_t *in = r->tokens + b * t, *out = r->targets + b * t;

        if (!train_tokens_read(&r->corpus.val, at, take + 1, r->corpus.n_vocab,
                               r->window))
            return 0;
        memcpy(in, r->window, take * sizeof(*in));
        memcpy(out, r->window + 1, take * sizeof(*out));
        for (size_t i = take; i < t; i++) {
            in[i] = 0;
            out[i] = -1;
        }
    }
    return b;
}

int lm_evaluate(struct run *r, uint64_t limit, double *loss)
{
    const uint64_t most = r->corpus.val.n - 1;
    const uint64_t end = limit && limit < most ? limit : most;
    const uint64_t n_ranks = (uint64_t)train_ranks_n(r->ranks);
    const uint64_t part = r->n_seqs * r->o->context;
    struct lm_report report = {0};
    int status = 0;

    /* parts go round the ranks */
    for (uint64_t at = (uint64_t)train_ranks_id(r->ranks) * part;
         at < end && status == 0; at += n_ranks * part) {
        const size_t b = fill_windows(r, at, end);
        size_t n = 0;

        if (!b) {
            status = damaged(r);
            break;
        }
        report.nll +=
            net_eval(r->net, r->tokens, r->targets, b, r->o->context, &n);
        report.n_counted += n;
    }
    status = lm_ranks_exchange(r, status, &report);
    if (status != 0)
        return status;
    *loss = report.nll / (double)report.n_counted;
    return isfinite(*loss) ? 0 : not_finite(r, "validation loss", r->p.step);
}
