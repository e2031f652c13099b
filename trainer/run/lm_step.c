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

static int fill_batch(struct run *r, size_t n_seqs, size_t n_tokens)
{
    for (size_t b = 0; b < n_seqs; b++) {
        const uint64_t at = train_shuffle_next(&r->p.data);

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

int lm_step(struct run *r)
{
    const struct train_lm *o = r->o;
    const size_t n_tokens = lm_context(r);
    const size_t n_seqs = o->batch * o->context / n_tokens;
    const double n = (double)(n_seqs * n_tokens * o->accumulate);
    const float lr = lm_lr(r);
    double nll = 0.0;

    train_shuffle_resize(&r->p.data, n_tokens);
    net_zero_grads(r->net);
    for (uint64_t i = 0; i < o->accumulate; i++) {
        const int status = fill_batch(r, n_seqs, n_tokens);

        if (status != 0)
            return status;
        nll += net_train(r->net, r->tokens, r->targets, n_seqs, n_tokens,
                         (float)(1.0 / n),
                         train_mix(o->seed ^ 0xd509, r->p.step * 4096 + i));
    }
    if (!isfinite(nll))
        return not_finite(r, "loss", r->p.step + 1);
    r->norm = optim_step(r->optim, lr);
    if (!isfinite(r->norm))
        return not_finite(r, "gradient", r->p.step + 1);
    if (r->ema)
        ema_update(r->ema);
    r->p.step++;
    r->p.n_tokens += (uint64_t)n;
    r->p.sum_loss += nll / n;
    r->p.sum_steps++;
    return 0;
}

int lm_evaluate(struct run *r, uint64_t limit, double *loss)
{
    const struct train_tokens *v = &r->corpus.val;
    const uint64_t total = limit && limit < v->n - 1 ? limit : v->n - 1;
    const size_t t = r->o->context;
    uint64_t counted = 0;
    double nll = 0.0;

    for (uint64_t at = 0; at < total;) {
        size_t b = 0, n = 0;

        for (; b < r->o->batch && at < total; b++, at += t) {
            const size_t take = total - at < t ? (size_t)(total - at) : t;
            int32_t *in = r->tokens + b * t, *out = r->targets + b * t;

            if (!train_tokens_read(v, at, take + 1, r->corpus.n_vocab,
                                   r->window))
                return damaged(r);
            memcpy(in, r->window, take * sizeof(*in));
            memcpy(out, r->window + 1, take * sizeof(*out));
            for (size_t i = take; i < t; i++) {
                in[i] = 0;
                out[i] = -1;
            }
        }
        nll += net_eval(r->net, r->tokens, r->targets, b, t, &n);
        counted += n;
    }
    *loss = nll / (double)counted;
    return isfinite(*loss) ? 0 : not_finite(r, "validation loss", r->p.step);
}
