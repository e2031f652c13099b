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
#include "core/tokenizer/tokenizer.h"
#include "trainer/run/card.h"
#include "trainer/run/export.h"
#include "trainer/run/folder.h"
#include "trainer/run/init.h"
#include "trainer/run/lm_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_LEN = 4096 };

static void path_in(const struct run *r, const char *name, char path[PATH_LEN])
{
    snprintf(path, PATH_LEN, "%s/%s", r->o->out, name);
}

static struct train_state state_of(const struct run *r)
{
    return (struct train_state){r->net, r->optim, r->ema};
}

/* Is it better than all before? Then it is what the model is made from. */
static int validate(struct run *r, double *loss)
{
    const struct train_state params = {.net = r->net};
    char path[PATH_LEN];
    int status;

    if (r->ema)
        ema_swap(r->ema);
    status = lm_evaluate(r, r->o->eval_tokens, loss);
    r->p.stale++;
    if (status == 0 && *loss < r->p.best) {
        r->p.stale = 0;
        r->p.best = *loss;
        r->p.best_step = r->p.step;
        path_in(r, "checkpoints/best.ckpt", path);
        if (r->first)
            status = train_checkpoint_write(path, &params, &r->p, r->err);
        status = train_ranks_agree(r->ranks, status, r->err);
    }
    if (r->ema)
        ema_swap(r->ema);
    return status;
}

/* ---- the loop --------------------------------------------------------------
 */

static int save(struct run *r)
{
    const struct train_state state = state_of(r);
    char folder[PATH_LEN];
    int status = lm_ranks_compare(r);

    if (status != 0)
        return status;
    r->p.seconds = lm_seconds(r);
    path_in(r, "checkpoints", folder);
    if (r->first)
        status = train_checkpoint_save(folder, (unsigned)r->o->keep, &state,
                                       &r->p, r->err);
    return train_ranks_agree(r->ranks, status, r->err);
}

static int write_row(struct run *r, const struct train_row *row)
{
    int status;

    train_meter_row(&r->meter, row, lm_done(r));
    status = train_record_add(&r->record, row, r->err);
    if (status == 0 && isfinite(row->val_loss))
        status = train_record_draw(&r->record, r->err);
    return status;
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

    r->p.sum_loss = 0.0;
    r->p.sum_steps = 0;
    return train_ranks_agree(r->ranks, r->first ? write_row(r, &row) : 0,
                             r->err);
}

static int after_step(struct run *r, bool *last)
{
    const struct train_lm *o = r->o;
    const bool eval = *last || r->p.step % o->eval_every == 0;
    double val_loss = (double)NAN;
    int status = 0;

    if (eval)
        status = validate(r, &val_loss);
    *last = *last || (o->patience && r->p.stale >= o->patience);
    if (status == 0 && (eval || r->p.step % o->log_every == 0))
        status = add_row(r, val_loss);
    if (status == 0 && o->sample_tokens &&
        (*last || r->p.step % o->sample_every == 0))
        status =
            train_ranks_agree(r->ranks, r->first ? lm_sample(r) : 0, r->err);
    if (status == 0 && (*last || r->p.step % o->save_every == 0))
        status = save(r);
    return status;
}

/* What the ranks cost. */
static void print_ranks(const struct run *r)
{
    const double passed = lm_seconds(r) - r->seconds_before;

    if (train_ranks_n(r->ranks) > 1 && passed > 0.0)
        printf("%d ranks; summing their gradients took %.1f %% of the time\n",
               train_ranks_n(r->ranks),
               100.0 * train_ranks_sum_seconds(r->ranks) / passed);
}

/* What the model that the run goes on from makes of the validation text. */
static int first_row(struct run *r)
{
    double val_loss = 0.0;
    const int status = validate(r, &val_loss);

    return status == 0 ? add_row(r, val_loss) : status;
}

static int loop(struct run *r)
{
    bool last = lm_finished(r);
    int status = r->o->init && r->p.step == 0 ? first_row(r) : 0;

    while (status == 0 && !last && !r->stopping) {
        status = lm_step(r);
        if (status != 0)
            break;
        train_meter_step(&r->meter, &r->p, lm_done(r));
        last = lm_finished(r); /* once: the clock goes on meanwhile */
        status = after_step(r, &last);
    }
    train_meter_end(&r->meter);
    print_ranks(r);
    if (status != 0 || last)
        return status;
    status = save(r);
    return status ? status
                  : infer_fail(r->err, INFER_EBUSY,
                               "stopped at step %llu and saved; go on with "
                               "infer-train lm --resume '%.120s'",
                               (unsigned long long)r->p.step, r->o->out);
}

/* ---- begin and end ---------------------------------------------------------
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
    const size_t rows = r->n_seqs * o->context;
    int status = net_shape_check(&shape, r->err);

    if (status == 0)
        status = lm_check_memory(r, &shape, infer_team_size(r->team));
    if (status == 0)
        status = net_create(&r->net, &shape, r->n_seqs, o->context, r->team,
                            r->precision, r->err);
    if (status == 0)
        status = optim_create(&r->optim, r->net, &config, r->err);
    if (status != 0)
        return status;
    if (o->ema > 0.0)
        status = ema_create(&r->ema, r->net, (float)o->ema, r->err);
    if (status != 0)
        return status;
    r->tokens = malloc(rows * sizeof(*r->tokens));
    r->targets = malloc(rows * sizeof(*r->targets));
    r->window = malloc((o->context + 1) * sizeof(*r->window));
    if (!r->tokens || !r->targets || !r->window)
        return infer_fail(r->err, INFER_ENOMEM, "out of memory for a batch");
    r->schedule = lm_schedule(o);
    return 0;
}

static int start(struct run *r, bool resume)
{
    const struct train_lm *o = r->o;
    const struct train_state state = state_of(r);
    char folder[PATH_LEN];
    unsigned n_damaged = 0;
    int status = 1;

    r->p = (struct train_progress){.data = {.seed = o->seed,
                                            .total = r->corpus.train.n,
                                            .n_tokens = o->context},
                                   .best = (double)INFINITY};
    path_in(r, "checkpoints", folder);
    if (resume)
        status =
            train_checkpoint_latest(folder, &state, &r->p, &n_damaged, r->err);
    if (status < 0)
        return status;
    if (status == 1 && o->init) {
        status = train_init_load(r->net, o->out, r->err);
        if (status != 0)
            return status;
        status = 1;
    } else if (status == 1) {
        net_init(r->net, o->seed);
    }
    if (status == 1 && o->ema > 0.0) /* the average begins with them */
        ema_restart(r->ema);
    if (n_damaged && r->first)
        fprintf(stderr,
                "infer-train lm: passed over %u damaged checkpoint(s); going "
                "on from step %llu\n",
                n_damaged, (unsigned long long)r->p.step);
    r->seconds_before = r->clock = r->p.seconds;
    r->started_ns = infer_clock_ns();
    if (!r->first)
        return 0;
    status = train_record_open(&r->record, o->out, r->p.step, r->err);
    return status ? status : lm_sample_begin(r);
}

/* Put the best parameters into the net; the last where they cannot be read. */
static int take_best(struct run *r, uint64_t *step)
{
    const struct train_state params = {.net = r->net};
    struct train_progress best = r->p;
    const uint64_t n_ranks = (uint64_t)train_ranks_n(r->ranks);
    struct lm_report report = {0};
    struct infer_error why = {0};
    char path[PATH_LEN];
    int status;

    path_in(r, "checkpoints/best.ckpt", path);
    report.n_counted = train_checkpoint_read(path, &params, &best, &why) == 0;
    status = lm_ranks_exchange(r, 0, &report);
    if (status != 0)
        return status;
    *step = report.n_counted ? best.best_step : r->p.step;
    if (report.n_counted == n_ranks)
        return 0;
    if (report.n_counted)
        return infer_fail(r->err, INFER_EIO,
                          "only %llu of %llu ranks can read '%.150s'",
                          (unsigned long long)report.n_counted,
                          (unsigned long long)n_ranks, path);
    if (r->first)
        fprintf(stderr,
                "infer-train lm: %s; the last parameters become the model\n",
                why.text);
    if (r->ema)
        ema_swap(r->ema);
    return 0;
}

/* Bits per byte as the engine's evaluation counts them: the first token is
 * given, not predicted. */
static double bits_per_byte(const struct run *r, double loss)
{
    const struct train_tokens *v = &r->corpus.val;
    int32_t first = 0;
    size_t n = 0;

    train_tokens_read(v, 0, 1, r->corpus.n_vocab, &first);
    infer_tokenizer_bytes(r->corpus.tokenizer, first, false, &n);
    if (v->n_bytes <= n)
        return 0.0;
    return loss * (double)(v->n - 1) / log(2.0) / (double)(v->n_bytes - n);
}

/* The best parameters become the model. */
static int finish(struct run *r, const char *const *argv)
{
    struct train_card card = {.o = r->o,
                              .argv = argv,
                              .net = r->net,
                              .n_ranks = train_ranks_n(r->ranks)};
    char path[PATH_LEN], vocab[PATH_LEN];
    double loss = 0.0;
    int status;

    card.last = r->p;
    card.seconds = lm_seconds(r);
    status = take_best(r, &card.last.best_step);
    if (status == 0)
        status = lm_evaluate(r, 0, &loss);
    if (status != 0 || !r->first)
        return status;
    card.val_loss = loss;
    card.bits_per_byte = bits_per_byte(r, loss);
    card.train_tokens = r->corpus.train.n;
    card.val_tokens = r->corpus.val.n;
    path_in(r, "tokenizer.gguf", vocab);
    path_in(r, "model.gguf", path);
    status = train_export(r->net, vocab, train_folder_name(r->o->out), path,
                          NULL, NULL, r->err);
    if (status == 0)
        status = train_record_draw(&r->record, r->err);
    if (status == 0)
        status = train_card_write(&card, r->err);
    if (status == 0)
        printf("%s: %.4f nats per token, %.4f bits per byte on all validation "
               "text (parameters of step %llu)\n",
               path, loss, card.bits_per_byte,
               (unsigned long long)card.last.best_step);
    return status;
}

static void release(struct run *r)
{
    train_record_close(&r->record);
    ema_free(r->ema);
    optim_free(r->optim);
    net_free(r->net);
    infer_team_free(r->team);
    train_corpus_close(&r->corpus);
    train_folder_close(r->lock);
    free(r->tokens);
    free(r->targets);
    free(r->window);
    free(r->reports);
}

static int prepare(struct run *r, bool resume)
{
    int status = train_folder_open(r->o->out, resume, &r->lock, r->err);

    if (status == 0 && !resume && r->o->init)
        status = train_init_copy(r->o, r->err);
    if (status == 0 && !resume)
        status = train_corpus_make(r->o, r->stop, r->err);
    return status;
}

static int open_run(struct run *r)
{
    const int n_threads =
        r->o->threads ? (int)r->o->threads : train_ranks_threads(r->ranks);
    int status = train_corpus_open(&r->corpus, r->o->out, r->err);

    if (status == 0)
        status = check_corpus(r);
    if (status == 0)
        status = infer_team_create(&r->team, n_threads, 0, r->err);
    return status;
}

static int write_config(const struct run *r, const char *const *argv)
{
    return r->first ? train_config_write(r->o, argv, r->precision,
                                         r->corpus.n_vocab, r->err)
                    : 0;
}

static int begin(struct run *r, const char *const *argv, bool resume)
{
    int status = resume ? 0 : write_config(r, argv);

    if (status == 0)
        status = start(r, resume);
    if (status == 0 && resume) /* the options given now are good */
        status = write_config(r, argv);
    return status;
}

/* What a full or failing disk leaves is a run to go on with. */
static int advise(const struct run *r, int status)
{
    char why[160];

    if (status != INFER_EIO || !train_folder_has_run(r->o->out) || !r->err)
        return status;
    snprintf(why, sizeof(why), "%.150s", r->err->text);
    return infer_fail(r->err, status,
                      "%s; mend that and go on with infer-train lm --resume "
                      "'%.40s'",
                      why, r->o->out);
}

int train_lm_run(const struct train_lm *o, const char *const *argv, bool resume,
                 struct train_ranks *ranks, const volatile int *stop,
                 struct infer_error *err)
{
    struct run r = {.o = o, .ranks = ranks, .lock = -1, .err = err};
    int status = lm_ranks_init(&r, stop);

    if (status == 0 && r.first)
        status = prepare(&r, resume);
    status = train_ranks_agree(ranks, status, err);
    if (status == 0)
        status = train_ranks_agree(ranks, open_run(&r), err);
    if (status == 0)
        status = lm_ranks_precision(&r);
    if (status == 0)
        status = train_ranks_agree(ranks, build(&r), err);
    if (status == 0)
        status = train_ranks_agree(ranks, begin(&r, argv, resume), err);
    if (status == 0)
        status = lm_ranks_compare(&r);
    if (status == 0) {
        train_meter_start(&r.meter, o, r.net, r.p.n_tokens);
        status = loop(&r);
    }
    if (status == 0)
        status = train_ranks_agree(ranks, finish(&r, argv), err);
    if (!train_ranks_lost(ranks))
        status = advise(&r, status);
    release(&r);
    return status;
}
