/*
 * lm_ranks.c - see lm_parts.h: a batch over the ranks of a run.
 *
 * Every rank holds the whole net and optimizer and trains on its rows of the
 * batch; gradients are summed, so that all take the same step. What is not the
 * same by itself, the clock and what people ask by signal, is exchanged at each
 * step; rank 0 alone writes.
 */
#include "trainer/run/lm_parts.h"

#include "core/base/error.h"
#include "trainer/gemm/peak.h"

#include <stdlib.h>

int lm_ranks_init(struct run *r, const volatile int *stop)
{
    const uint64_t n = (uint64_t)train_ranks_n(r->ranks), batch = r->o->batch;

    r->first = train_ranks_id(r->ranks) == 0;
    r->stop = stop;
    r->n_seqs = batch / n;
    if (n > batch)
        return infer_fail(r->err, INFER_EINVAL,
                          "%llu ranks cannot share a --batch of %llu windows: "
                          "start at most %llu, or give a larger --batch",
                          (unsigned long long)n, (unsigned long long)batch,
                          (unsigned long long)batch);
    if (batch % n)
        return infer_fail(r->err, INFER_EINVAL,
                          "a --batch of %llu windows does not divide over %llu "
                          "ranks: make it a multiple",
                          (unsigned long long)batch, (unsigned long long)n);
    r->reports = calloc(n, sizeof(*r->reports));
    if (!r->reports)
        return infer_fail(r->err, INFER_ENOMEM, "out of memory");
    return 0;
}

int lm_ranks_precision(struct run *r)
{
    struct lm_report report = {0};
    int status;

    r->precision = (enum train_precision)r->o->precision;
    if (r->precision == TRAIN_AUTO && r->first)
        r->precision = train_precision_best(r->team);
    report.n_counted = (uint64_t)r->precision;
    status = train_ranks_gather(r->ranks, &report, r->reports, sizeof(report),
                                r->err);
    if (status == 0)
        r->precision = (enum train_precision)r->reports[0].n_counted;
    return status;
}

int lm_ranks_exchange(struct run *r, int status, struct lm_report *report)
{
    struct lm_report sum = {0};

    report->stop = *r->stop != 0;
    status = train_ranks_agree(r->ranks, status, r->err);
    if (status == 0)
        status = train_ranks_gather(r->ranks, report, r->reports,
                                    sizeof(*report), r->err);
    if (status != 0)
        return status;
    for (int i = 0; i < train_ranks_n(r->ranks); i++) {
        sum.nll += r->reports[i].nll;
        sum.n_counted += r->reports[i].n_counted;
        sum.stop |= r->reports[i].stop;
    }
    sum.seconds = r->reports[0].seconds;
    r->stopping |= sum.stop != 0;
    *report = sum;
    return 0;
}

int lm_ranks_compare(struct run *r)
{
    const int n = train_ranks_n(r->ranks);
    const struct train_state state = {r->net, r->optim, r->ema};
    struct lm_report report = {0};
    int status;

    if (n == 1)
        return 0;
    report.hash = train_checkpoint_hash(&state);
    status = train_ranks_gather(r->ranks, &report, r->reports, sizeof(report),
                                r->err);
    for (int i = 0; i < n && status == 0; i++)
        if (r->reports[i].hash != r->reports[0].hash)
            status = infer_fail(r->err, INFER_EFORMAT,
                                "rank %d has other parameters than rank 0 "
                                "after step %llu; nothing of it was saved. "
                                "All ranks need the same kind of processor "
                                "and as many threads",
                                i, (unsigned long long)r->p.step);
    return status;
}
