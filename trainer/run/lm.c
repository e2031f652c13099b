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
#include "trainer/run/export.h"
#include "trainer/run/folder.h"
#include "trainer/run/lm_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_LEN = 4096 };

static void path_in(const struct run *r, const char *name, char path[PATH_LEN])
{
    snprintf(path, PATH_LEN, "%s/%s", r->o->out, name);
}

static int validate(struct run *r, double *loss)
{
    char path[PATH_LEN];
    const int status = lm_evaluate(r, r->o->eval_tokens, loss);

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
 * ----------------------------------------------------------------
 */

static int save(struct run *r)
{
    char folder[PATH_LEN];

    r->p.seconds = lm_seconds(r);
    path_in(r, "checkpoints", folder);
    return train_checkpoint_save(folder, (unsigned)r->o->keep, r->net, r->optim,
                                 &r->p, r->err);
}

static int add_row(struct run *r, double val_loss)
{
    const struct train_row row = {
        .step = r->p.step,
        .tokens = r->p.n_tokens,
        .seconds = lm_seconds(r),
        .loss = r->p.sum_steps ? r->p.sum_loss / (double)r->p.sum_steps
                               : (double)NAN,
        .val_loss = val_loss,
        .lr = (double)lm_lr(r),
        .norm = r->norm,
        .speed = train_meter_speed(&r->meter, r->p.n_tokens)};
    int status;

    train_meter_row(&r->meter, &row, lm_done(r));
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

    while (status == 0 && !lm_finished(r) && !*stop) {
        status = lm_step(r);
        if (status != 0)
            break;
        train_meter_step(&r->meter, &r->p, lm_done(r));
        status = after_step(r, lm_finished(r));
    }
    if (status == 0 && *stop && !lm_finished(r)) {
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
 * -----------------------------------------------------------
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
    const struct net_shape shape = lm_shape(o, r->corpus.n_vocab);
    const struct optim_config config = lm_optim(o);
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
                                   .best = (double)INFINITY};
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
    card.seconds = lm_seconds(r);
    path_in(r, "checkpoints/best.ckpt", path);
    status = train_checkpoint_read(path, r->net, NULL, &best, r->err);
    if (status == 0)
        status = lm_evaluate(r, 0, &loss);
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
