/*
 * lm.c - see lm.h. The loop: batch, gradient, step; now and then an evaluation,
 * a line of metrics, a checkpoint.
 *
 * What makes a resumed run equal to one that never stopped: everything a step
 * depends on is a function of the seed and of struct train_progress, which
 * every checkpoint holds: the order of the windows, the dropout, the learning
 * rate. (A run limited by time follows the clock and cannot be repeated.)
 * Nothing is saved from a step whose loss or gradient is not finite.
 */
#include "trainer/run/lm.h"

#include "core/base/error.h"
#include "trainer/run/card.h"
#include "trainer/run/checkpoint.h"
#include "trainer/run/corpus.h"
#include "trainer/run/export.h"
#include "trainer/run/folder.h"
#include "trainer/run/progress.h"
#include "trainer/run/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096 };

struct run {
    const struct train_lm *o;
    struct train_corpus corpus;
    struct infer_team *team;
    struct net *net;
    struct optim *optim;
    struct train_record record;
    struct train_progress p;
    struct train_meter meter;
    struct schedule schedule;
    int32_t *tokens, *targets; /* [batch * context] */
    int32_t *window;           /* [context + 1] */
    uint64_t started_ns;       /* this process's training */
    double seconds_before;     /* of the run, before this process */
    double norm;
    uint64_t stale; /* evaluations since the best */
    struct infer_error *err;
};

/* ---- settings --------------------------------------------------------------
 */

static int check_shape(struct train_lm *o, struct infer_error *err)
{
    if (o->width % o->heads)
        return infer_fail(
            err, INFER_EINVAL, "--width %llu is not a multiple of --heads %llu",
            (unsigned long long)o->width, (unsigned long long)o->heads);
    if (!o->kv_heads)
        o->kv_heads = o->heads;
    if (!o->ffn) /* SwiGLU has three matrices for GELU's two */
        o->ffn = o->arch == NET_GPT2 ? 4 * o->width
                                     : (o->width * 8 / 3 + 31) / 32 * 32;
    if (!o->start_context)
        o->start_context = o->context;
    for (uint64_t c = o->start_context; c != o->context; c *= 2)
        if (c > o->context)
            return infer_fail(err, INFER_EINVAL,
                              "--start-context %llu does not double to "
                              "--context %llu",
                              (unsigned long long)o->start_context,
                              (unsigned long long)o->context);
    return 0;
}

int train_lm_check(struct train_lm *o, struct infer_error *err)
{
    if (!o->steps && o->time <= 0.0)
        return infer_fail(err, INFER_EINVAL,
                          "no end is given: pass --steps N or --time 10m");
    if (!o->val.n && o->text.val_share <= 0.0)
        return infer_fail(err, INFER_EINVAL,
                          "no validation text: pass --val FILE, or a "
                          "--val-share above 0");
    return check_shape(o, err);
}

static struct net_shape shape_of(const struct train_lm *o, uint32_t n_vocab)
{
    return (struct net_shape){.arch = (enum net_arch)o->arch,
                              .tied = !o->untied,
                              .n_vocab = n_vocab,
                              .n_ctx = (uint32_t)o->context,
                              .n_layers = (uint32_t)o->layers,
                              .n_heads = (uint32_t)o->heads,
                              .n_kv_heads = (uint32_t)o->kv_heads,
                              .d_model = (uint32_t)o->width,
                              .d_head = (uint32_t)(o->width / o->heads),
                              .d_ff = (uint32_t)o->ffn,
                              .rope_base = (float)o->rope_base,
                              .norm_eps = 1e-5f,
                              .dropout = (float)o->dropout,
                              .label_smoothing = (float)o->smoothing};
}

static struct optim_config optim_of(const struct train_lm *o)
{
    struct optim_config c = optim_default((enum optim_kind)o->optim);

    if (o->lr > 0.0)
        c.lr = (float)o->lr;
    if (o->other_lr > 0.0)
        c.other_lr = (float)o->other_lr;
    if (o->weight_decay >= 0.0)
        c.weight_decay = (float)o->weight_decay;
    if (o->clip >= 0.0)
        c.clip = (float)o->clip;
    return c;
}

/* ---- where the run is
 * --------------------------------------------------------
 */

static double seconds(const struct run *r)
{
    return r->seconds_before + (double)(infer_clock_ns() - r->started_ns) / 1e9;
}

/* Share of the run that is done, by the limit that counts: steps if given. */
static double done(const struct run *r)
{
    const double by_steps =
        r->o->steps ? (double)r->p.step / (double)r->o->steps : 0.0;
    const double by_time = r->o->time > 0.0 ? seconds(r) / r->o->time : 0.0;

    return r->o->steps ? by_steps : by_time;
}

static bool finished(const struct run *r)
{
    return (r->o->steps && r->p.step >= r->o->steps) ||
           (r->o->time > 0.0 && seconds(r) >= r->o->time) ||
           (r->o->patience && r->stale >= r->o->patience);
}

/* Windows grow from start_context to context over the first half. */
static uint64_t context_now(const struct run *r)
{
    const double share = done(r);
    uint64_t c = r->o->context;
    unsigned stages = 1;

    while (c > r->o->start_context) {
        c /= 2;
        stages++;
    }
    for (unsigned s = 1; s < stages; s++)
        if (share * 2.0 * (stages - 1) >= s)
            c *= 2;
    return c;
}

static float lr_now(const struct run *r)
{
    const double share = done(r);

    return (float)schedule_at(&r->schedule, share < 1.0 ? share : 1.0);
}

/* ---- a step
 * ------------------------------------------------------------------
 */

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

static int not_finite(struct run *r, const char *what)
{
    return infer_fail(r->err, INFER_EFORMAT,
                      "the %s is not finite at step %llu; nothing of it was "
                      "saved. Try a lower --lr or a longer --warmup",
                      what, (unsigned long long)r->p.step + 1);
}

static int one_step(struct run *r)
{
    const struct train_lm *o = r->o;
    const size_t n_tokens = context_now(r);
    const size_t n_seqs = o->batch * o->context / n_tokens;
    const double n = (double)(n_seqs * n_tokens * o->accumulate);
    const float lr = lr_now(r);
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
        return not_finite(r, "loss");
    r->norm = optim_step(r->optim, lr);
    if (!isfinite(r->norm))
        return not_finite(r, "gradient");
    r->p.step++;
    r->p.n_tokens += (uint64_t)n;
    r->p.sum_loss += nll / n;
    r->p.sum_steps++;
    return 0;
}

/* ---- evaluation
 * --------------------------------------------------------------
 */

/* Nats per token of the first `limit` validation tokens (0: all), in windows
 * of the full context, as the engine's evaluation cuts them. */
static int evaluate(struct run *r, uint64_t limit, double *loss)
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
    return isfinite(*loss) ? 0 : not_finite(r, "validation loss");
}

static void path_in(const struct run *r, const char *name, char path[PATH_LEN])
{
    snprintf(path, PATH_LEN, "%s/%s", r->o->out, name);
}

static int validate(struct run *r, double *loss)
{
    char path[PATH_LEN];
    const int status = evaluate(r, r->o->eval_tokens, loss);

    if (status != 0)
        return status;
    r->stale++;
    if (*loss >= r->p.best)
        return 0;
    r->stale = 0;
    r->p.best = *loss;
    r->p.best_step = r->p.step;
    path_in(r, "checkpoints/best.ckpt", path);
    return train_checkpoint_write(path, r->net, r->optim, &r->p, r->err);
}

/* ---- the loop
 * -----------------------------------------------------------------
 */

static int save(struct run *r)
{
    char folder[PATH_LEN];

    r->p.seconds = seconds(r);
    path_in(r, "checkpoints", folder);
    return train_checkpoint_save(folder, (unsigned)r->o->keep, r->net, r->optim,
                                 &r->p, r->err);
}

static int add_row(struct run *r, double val_loss)
{
    const struct train_row row = {
        .step = r->p.step,
        .tokens = r->p.n_tokens,
        .seconds = seconds(r),
        .loss = r->p.sum_steps ? r->p.sum_loss / (double)r->p.sum_steps
                               : (double)NAN,
        .val_loss = val_loss,
        .lr = (double)lr_now(r),
        .norm = r->norm,
        .speed = train_meter_speed(&r->meter, r->p.n_tokens)};
    int status;

    train_meter_row(&r->meter, &row, done(r));
    r->p.sum_loss = 0.0;
    r->p.sum_steps = 0;
    status = train_record_add(&r->record, &row, r->err);
    if (status == 0 && isfinite(val_loss))
        status = train_record_draw(&r->record, r->err);
    return status;
}

static int after_step(struct run *r, bool last)
{
    const struct train_lm *o = r->o;
    const bool eval = last || r->p.step % o->eval_every == 0;
    double val_loss = (double)NAN;
    int status = 0;

    if (eval)
        status = validate(r, &val_loss);
    if (status == 0 && (eval || r->p.step % o->log_every == 0))
        status = add_row(r, val_loss);
    if (status == 0 && (last || r->p.step % o->save_every == 0))
        status = save(r);
    return status;
}

static int loop(struct run *r, const volatile int *stop)
{
    int status = 0;

    while (status == 0 && !finished(r) && !*stop) {
        status = one_step(r);
        if (status != 0)
            break;
        train_meter_step(&r->meter, &r->p, done(r));
        status = after_step(r, finished(r));
    }
    if (status == 0 && *stop && !finished(r)) {
        status = save(r);
        if (status == 0)
            status = infer_fail(r->err, INFER_EBUSY,
                                "stopped at step %llu and saved; go on with "
                                "infer-train lm --resume '%.120s'",
                                (unsigned long long)r->p.step, r->o->out);
    }
    train_meter_end(&r->meter);
    return status;
}

/* ---- begin and end
 * -------------------------------------------------------------
 */

static int check_corpus(const struct run *r)
{
    const uint64_t least = r->o->context + 1;

    if (r->corpus.train.n <= least)
        return infer_fail(r->err, INFER_EINVAL,
                          "the training text has %llu tokens, a window takes "
                          "%llu: give more text or a smaller --context",
                          (unsigned long long)r->corpus.train.n,
                          (unsigned long long)least);
    if (r->corpus.val.n < 2)
        return infer_fail(r->err, INFER_EINVAL,
                          "the validation text has %llu tokens; give more "
                          "text, --val FILE or a larger --val-share",
                          (unsigned long long)r->corpus.val.n);
    return 0;
}

static int build(struct run *r)
{
    const struct train_lm *o = r->o;
    const struct net_shape shape = shape_of(o, r->corpus.n_vocab);
    const struct optim_config config = optim_of(o);
    const size_t rows = o->batch * o->context;
    int status = net_shape_check(&shape, r->err);

    if (status == 0)
        status = infer_team_create(&r->team, (int)o->threads, 0, r->err);
    if (status == 0)
        status = net_create(&r->net, &shape, o->batch, o->context, r->team,
                            (enum train_precision)o->precision, r->err);
    if (status == 0)
        status = optim_create(&r->optim, r->net, &config, r->err);
    if (status != 0)
        return status;
    r->tokens = malloc(rows * sizeof(*r->tokens));
    r->targets = malloc(rows * sizeof(*r->targets));
    r->window = malloc((o->context + 1) * sizeof(*r->window));
    if (!r->tokens || !r->targets || !r->window)
        return infer_fail(r->err, INFER_ENOMEM, "out of memory for a batch");
    r->schedule = (struct schedule){.kind = (enum schedule_kind)o->schedule,
                                    .warmup = o->warmup,
                                    .total = 1.0,
                                    .decay = o->decay,
                                    .final = o->final};
    return schedule_check(&r->schedule, r->err);
}

static int start(struct run *r, bool resume)
{
    const struct train_lm *o = r->o;
    char folder[PATH_LEN];
    unsigned n_damaged = 0;
    int status = 1;

    r->p = (struct train_progress){.data = {.seed = o->seed,
                                            .total = r->corpus.train.n,
                                            .n_tokens = o->context},
                                   .best = INFINITY};
    path_in(r, "checkpoints", folder);
    if (resume)
        status = train_checkpoint_latest(folder, r->net, r->optim, &r->p,
                                         &n_damaged, r->err);
    if (status < 0)
        return status;
    if (status == 1)
        net_init(r->net, o->seed);
    if (n_damaged)
        fprintf(stderr,
                "infer-train lm: passed over %u damaged checkpoint(s); going "
                "on from step %llu\n",
                n_damaged, (unsigned long long)r->p.step);
    r->seconds_before = r->p.seconds;
    r->started_ns = infer_clock_ns();
    return train_record_open(&r->record, o->out, r->p.step, r->err);
}

/* The best parameters become the model. */
static int finish(struct run *r, const char *const *argv)
{
    struct train_card card = {.o = r->o, .argv = argv, .net = r->net};
    struct train_progress best;
    char path[PATH_LEN], vocab[PATH_LEN];
    double loss = 0.0;
    int status;

    card.last = r->p;
    card.seconds = seconds(r);
    path_in(r, "checkpoints/best.ckpt", path);
    status = train_checkpoint_read(path, r->net, NULL, &best, r->err);
    if (status == 0)
        status = evaluate(r, 0, &loss);
    if (status != 0)
        return status;
    card.val_loss = loss;
    card.bits_per_byte = loss * (double)(r->corpus.val.n - 1) / log(2.0) /
                         (double)r->corpus.val.n_bytes;
    card.train_tokens = r->corpus.train.n;
    card.val_tokens = r->corpus.val.n;
    path_in(r, "tokenizer.gguf", vocab);
    path_in(r, "model.gguf", path);
    status =
        train_export(r->net, vocab, train_folder_name(r->o->out), path, r->err);
    if (status == 0)
        status = train_record_draw(&r->record, r->err);
    if (status == 0)
        status = train_card_write(&card, r->err);
    if (status == 0)
        printf("%s: %.4f nats per token, %.4f bits per byte on all validation "
               "text (best of step %llu)\n",
               path, loss, card.bits_per_byte,
               (unsigned long long)r->p.best_step);
    return status;
}

static void release(struct run *r)
{
    train_record_close(&r->record);
    optim_free(r->optim);
    net_free(r->net);
    infer_team_free(r->team);
    train_corpus_close(&r->corpus);
    free(r->tokens);
    free(r->targets);
    free(r->window);
}

int train_lm_run(const struct train_lm *o, const char *const *argv, bool resume,
                 const volatile int *stop, struct infer_error *err)
{
    struct run r = {.o = o, .err = err};
    int status = resume ? train_folder_clean(o->out, err)
                        : train_folder_make(o->out, err);

    if (status == 0 && !resume)
        status = train_corpus_make(o, err);
    if (status == 0)
        status = train_corpus_open(&r.corpus, o->out, err);
    if (status == 0)
        status = check_corpus(&r);
    if (status == 0)
        status = build(&r);
    if (status == 0 && !resume)
        status = train_config_write(o, argv, r.corpus.n_vocab, err);
    if (status == 0)
        status = start(&r, resume);
    if (status == 0) {
        train_meter_start(&r.meter, o, r.net, r.p.n_tokens);
        status = loop(&r, stop);
    }
    if (status == 0)
        status = finish(&r, argv);
    release(&r);
    return status;
}
