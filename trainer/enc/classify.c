/*
 * classify.c - see classify.h. An epoch is a permutation of the examples; after
 * each the validation examples are scored, and the best parameters are kept in
 * memory. What a step draws is a function of (seed, step). When the best epoch
 * is known, and what calibrates the answers, the validation examples have done
 * their work: a second training takes them too, up to that epoch.
 */
#include "trainer/enc/classify.h"

#include "core/base/error.h"
#include "trainer/data/shuffle.h"
#include "trainer/enc/papers.h"
#include "trainer/enc/report.h"
#include "trainer/enc/vocab.h"
#include "trainer/nn/layers.h"
#include "trainer/run/folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int no_memory(struct enc_run *r)
{
    return infer_fail(r->err, INFER_ENOMEM, "out of memory");
}

int enc_classify_check(struct enc_classify *o, struct infer_error *err)
{
    if (!o->out)
        return infer_fail(err, INFER_EINVAL,
                          "--out is missing: name the folder of the run");
    if (!o->train.n)
        return infer_fail(err, INFER_EINVAL, "no training file is given");
    if (!o->val.n && o->val_share <= 0.0)
        return infer_fail(err, INFER_EINVAL,
                          "no validation examples: pass --val FILE, or a "
                          "--val-share above 0");
    if (o->columns.oos && o->columns.kind != ENC_SINGLE)
        return infer_fail(err, INFER_EINVAL,
                          "--oos-label is for --kind single only");
    return enc_recipe_check(&o->recipe, err);
}

/* ---- data -------------------------------------------------------------------
 */

static int read_rows(struct enc_run *r)
{
    const struct enc_classify *o = r->o;
    int status = enc_rows_read(&r->train_rows, &o->train, &o->columns, r->err);

    if (status == 0 && o->val.n)
        status = enc_rows_read(&r->val_rows, &o->val, &o->columns, r->err);
    if (status == 0 && o->test.n)
        status = enc_rows_read(&r->test_rows, &o->test, &o->columns, r->err);
    if (status == 0 && o->columns.kind != ENC_REGRESSION)
        status =
            enc_labels_collect(&r->labels, &r->train_rows, &o->columns, r->err);
    return status;
}

static bool is_val(const struct enc_run *r, const struct enc_row *row)
{
    return !r->o->val.n &&
           enc_row_held_out(row, r->o->val_share, r->o->recipe.seed);
}

static int make_vocab(struct enc_run *r)
{
    const struct enc_recipe *p = &r->o->recipe;
    const bool pairs = r->o->columns.pair != NULL;
    struct enc_text_ref *texts =
        malloc((2 * r->train_rows.n + 1) * sizeof(*texts));
    size_t n = 0;
    int status;

    if (!texts)
        return no_memory(r);
    for (size_t i = 0; i < r->train_rows.n; i++) {
        const struct enc_row *row = &r->train_rows.rows[i];

        if (is_val(r, row))
            continue;
        texts[n++] = (struct enc_text_ref){row->a, row->a_len};
        if (pairs)
            texts[n++] = (struct enc_text_ref){row->b, row->b_len};
    }
    status =
        enc_vocab_make(r->o->out, p->tokenizer ? p->tokenizer : p->init, texts,
                       n, p->vocab, infer_team_size(r->team), r->err);
    free(texts);
    return status;
}

static int build(struct enc_run *r)
{
    const struct enc_recipe *p = &r->o->recipe;
    const size_t c = r->o->columns.kind == ENC_REGRESSION ? 1 : r->labels.n;
    const size_t batch = p->batch > ENC_RUN_BATCH ? p->batch : ENC_RUN_BATCH;
    int status = enc_recipe_build(p, r->o->out, c, batch, r->team, &r->model,
                                  &r->optim, r->err);

    if (status != 0)
        return status;
    r->logits = malloc(batch * c * sizeof(*r->logits));
    r->dvectors = malloc(batch * p->width * sizeof(*r->dvectors));
    if (!r->logits || !r->dvectors)
        return no_memory(r);
    return enc_head_create(&r->head, r->model.net, batch, r->err);
}

static int add_set(struct enc_run *r, struct enc_set *s,
                   const struct enc_rows *rows, int which)
{
    int status = 0;

    for (size_t i = 0; i < rows->n && status == 0; i++)
        if (which < 0 || is_val(r, &rows->rows[i]) == (which == 1))
            status = enc_set_add(s, &r->model, &rows->rows[i], &r->labels,
                                 &r->o->columns, r->err);
    return status;
}

static int encode_sets(struct enc_run *r)
{
    int status = add_set(r, &r->train, &r->train_rows, 0);

    if (status == 0)
        status = r->o->val.n ? add_set(r, &r->val, &r->val_rows, -1)
                             : add_set(r, &r->val, &r->train_rows, 1);
    if (status == 0)
        status = add_set(r, &r->test, &r->test_rows, -1);
    if (status == 0 && (!r->train.n || !r->val.n))
        status = infer_fail(r->err, INFER_EINVAL,
                            "%zu examples to train on and %zu to validate: "
                            "give more, or another --val-share",
                            r->train.n, r->val.n);
    return status;
}

/* ---- classes and their balance ----------------------------------------------
 */

static int count_classes(struct enc_run *r)
{
    const size_t n = r->train.n, c = r->train.n_classes;
    size_t *at;

    r->order = malloc((n + 1) * sizeof(*r->order));
    r->members = malloc((n + 1) * sizeof(*r->members));
    r->class_at = calloc(c + 2, sizeof(*r->class_at));
    if (!r->order || !r->members || !r->class_at)
        return no_memory(r);
    at = r->class_at;
    for (size_t i = 0; i < n; i++)
        if (r->train.targets[i] >= 0)
            at[r->train.targets[i] + 2]++;
    for (size_t k = 2; k < c + 2; k++)
        at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++)
        if (r->train.targets[i] >= 0)
            r->members[at[r->train.targets[i] + 1]++] = (uint32_t)i;
    return 0; /* at[k] .. at[k + 1] are now the members of class k */
}

/* Rare classes weigh more, such that the mean example weighs 1; of labels: a
 * positive weighs what negatives outnumber it by, at most 100. */
static int weigh_classes(struct enc_run *r)
{
    const size_t n = r->train.n, c = r->train.n_classes;

    if (r->o->balance != ENC_BALANCE_WEIGHTS ||
        r->o->columns.kind == ENC_REGRESSION)
        return 0;
    r->class_weights = malloc(c * sizeof(*r->class_weights));
    if (!r->class_weights)
        return no_memory(r);
    for (size_t k = 0; k < c; k++) {
        double of = 0.0;

        for (size_t i = 0; i < n; i++)
            of += (double)r->train.values[i * c + k];
        r->class_weights[k] =
            (float)(r->o->columns.kind == ENC_MULTI
                        ? fmin(100.0, ((double)n - of) / fmax(of, 1.0))
                        : (double)n / ((double)c * fmax(of, 1.0)));
    }
    return 0;
}

static void scale_numbers(struct enc_run *r)
{
    double sum = 0.0, squares = 0.0;
    const double n = (double)r->train.n;

    r->mean = 0.0;
    r->deviation = 1.0;
    if (r->o->columns.kind != ENC_REGRESSION)
        return;
    for (size_t i = 0; i < r->train.n; i++)
        sum += (double)r->train.values[i];
    r->mean = sum / n;
    for (size_t i = 0; i < r->train.n; i++)
        squares += ((double)r->train.values[i] - r->mean) *
                   ((double)r->train.values[i] - r->mean);
    r->deviation = squares > 0.0 ? sqrt(squares / n) : 1.0;
}

static void draw_order(struct enc_run *r)
{
    const uint64_t key = train_mix(r->o->recipe.seed, r->epoch);
    const size_t n = r->train.n, c = r->train.n_classes;

    for (size_t i = 0; i < n; i++)
        r->order[i] = (uint32_t)train_permute(i, n, key);
    if (r->o->balance != ENC_BALANCE_SAMPLING ||
        r->o->columns.kind != ENC_SINGLE)
        return;
    for (size_t i = 0; i < n; i++) { /* classes in turn, any member of each */
        const size_t k = i % c, begin = r->class_at[k];
        const size_t of = r->class_at[k + 1] - begin;

        if (r->train.targets[r->order[i]] >= 0)
            r->order[i] = r->members[begin + train_mix(key, i) % of];
    }
}

/* ---- a step -----------------------------------------------------------------
 */

/* The summed loss of a batch; logits become its gradient times 1 / n. */
static double batch_loss(struct enc_run *r, const uint32_t *which, size_t n)
{
    const struct nn_layers *ops = nn_layers();
    const size_t c = r->train.n_classes;
    const float scale = 1.0f / (float)n;
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        float *z = r->logits + i * c, loss, nll, target;
        const uint32_t at = which[i];
        int32_t class = r->train.targets[at];
        float weight = 1.0f, smoothing = (float)r->o->smoothing;

        if (r->o->columns.kind == ENC_REGRESSION) {
            target =
                (float)(((double)r->train.values[at] - r->mean) / r->deviation);
            sum += ops->squares(z, &target, 1, true, scale);
            continue;
        }
        if (r->o->columns.kind == ENC_MULTI) {
            sum += ops->binary(z, r->train.values + at * c, r->class_weights, 1,
                               c, true, scale);
            continue;
        }
        if (class < 0) { /* out of scope: as likely to be any */
            smoothing = 1.0f;
            class = 0;
        } else if (r->class_weights) {
            weight = r->class_weights[class];
        }
        ops->cross_entropy(z, &class, &loss, &nll, 1, c, smoothing, true,
                           scale * weight);
        sum += (double)(loss * weight);
    }
    return sum;
}

static uint64_t total_steps(const struct enc_run *r)
{
    const uint64_t b = r->o->recipe.batch;

    return r->o->epochs * ((r->train.n + b - 1) / b);
}

static int one_step(struct enc_run *r, const uint32_t *which, size_t n,
                    double *loss)
{
    const struct enc_recipe *p = &r->o->recipe;
    const struct enc_dropout drop = enc_recipe_dropout(p);
    float *vectors;
    int status =
        enc_forward(&r->model, &r->train.texts, which, n, &drop,
                    train_mix(p->seed ^ 0xc1a5, r->step), &vectors, r->err);

    if (status != 0)
        return status;
    net_zero_grads(r->model.net);
    enc_head_forward(&r->head, vectors, n, r->logits);
    *loss += batch_loss(r, which, n);
    enc_head_back(&r->head, vectors, n, r->logits, r->dvectors);
    status = enc_recipe_step(p, &r->model, r->optim, r->dvectors, *loss,
                             r->step, total_steps(r), r->err);
    r->step += status == 0;
    return status;
}

/* ---- evaluation -------------------------------------------------------------
 */

int enc_run_logits(struct enc_run *r, const struct enc_set *s, float *logits)
{
    const size_t c = r->train.n_classes;
    uint32_t which[ENC_RUN_BATCH];
    int status = 0;

    for (size_t at = 0; at < s->n && status == 0; at += ENC_RUN_BATCH) {
        const size_t n = s->n - at < ENC_RUN_BATCH ? s->n - at : ENC_RUN_BATCH;
        float *vectors;

        for (size_t i = 0; i < n; i++)
            which[i] = (uint32_t)(at + i);
        status = enc_forward(&r->model, &s->texts, which, n, NULL, 0, &vectors,
                             r->err);
        if (status == 0)
            enc_head_forward(&r->head, vectors, n, logits + at * c);
    }
    return status;
}

/* One number to choose epochs by, the higher the better: accuracy in scope,
 * mean F1 of labels, or minus the squared error. The loss breaks ties. */
static int validate(struct enc_run *r, double *score, double *loss)
{
    const size_t n = r->val.n, c = r->val.n_classes;
    float *z = malloc((n * c + 1) * sizeof(*z));
    int status;

    if (!z)
        return no_memory(r);
    status = enc_run_logits(r, &r->val, z);
    if (status == 0)
        enc_report_quick(r, &r->val, z, score, loss);
    free(z);
    return status;
}

static int end_epoch(struct enc_run *r, double train_loss, uint64_t started)
{
    double score, loss;
    int status = validate(r, &score, &loss);

    if (status != 0)
        return status;
    r->seconds = (double)(infer_clock_ns() - started) / 1e9;
    printf("epoch %2llu  %6.1f s  loss %.4f  val loss %.4f  val %s %.4f\n",
           (unsigned long long)r->epoch + 1, r->seconds, train_loss, loss,
           enc_report_score_name(r), score);
    fflush(stdout);
    status = enc_report_epoch(r, train_loss, loss, score);
    if (status == 0 && !(score <= r->best)) {
        r->best = score;
        r->best_epoch = r->epoch + 1;
        status = enc_copy_take(&r->copy, &r->model, r->err);
    }
    return status;
}

static bool finished(const struct enc_run *r, const volatile int *stop)
{
    return *stop || r->epoch >= r->o->epochs ||
           (r->o->patience && r->epoch >= r->best_epoch + r->o->patience) ||
           (r->o->time > 0.0 && r->seconds >= r->o->time);
}

static int one_epoch(struct enc_run *r, double *loss, const volatile int *stop)
{
    const size_t b = r->o->recipe.batch;
    int status = 0;

    *loss = 0.0;
    draw_order(r);
    for (size_t at = 0; at < r->train.n && status == 0 && !*stop; at += b) {
        const size_t left = r->train.n - at;

        status = one_step(r, r->order + at, left < b ? left : b, loss);
    }
    *loss /= (double)r->train.n;
    return status;
}

/* Outputs in the unit of the numbers they stand for. */
static void end_training(struct enc_run *r, uint64_t started)
{
    if (r->o->columns.kind == ENC_REGRESSION)
        enc_head_scale(&r->head, r->deviation, r->mean);
    r->deviation = 1.0;
    r->mean = 0.0;
    r->seconds = (double)(infer_clock_ns() - started) / 1e9;
}

static int train(struct enc_run *r, uint64_t started, const volatile int *stop)
{
    int status = 0;

    r->best = -(double)INFINITY;
    for (; status == 0 && !finished(r, stop); r->epoch++) {
        double loss;

        status = one_epoch(r, &loss, stop);
        if (status == 0)
            status = end_epoch(r, loss, started);
    }
    if (status != 0)
        return status;
    status = enc_copy_restore(&r->copy, &r->model, r->err);
    if (status != 0)
        return status;
    end_training(r, started);
    r->val_logits =
        malloc((r->val.n * r->val.n_classes + 1) * sizeof(*r->val_logits));
    return r->val_logits ? enc_run_logits(r, &r->val, r->val_logits)
                         : no_memory(r);
}

/* ---- and again with the validation examples ---------------------------------
 */

static void release_model(struct enc_run *r)
{
    optim_free(r->optim);
    enc_head_release(&r->head);
    enc_model_release(&r->model);
    free(r->class_weights);
    free(r->order);
    free(r->members);
    free(r->class_at);
    free(r->logits);
    free(r->dvectors);
}

/* All that training starts from but the examples. */
static int prepare(struct enc_run *r)
{
    int status = count_classes(r);

    if (status == 0)
        status = weigh_classes(r);
    scale_numbers(r);
    r->step = 0;
    return status;
}

static int begin_again(struct enc_run *r)
{
    int status = r->o->val.n ? add_set(r, &r->train, &r->val_rows, -1)
                             : add_set(r, &r->train, &r->train_rows, 1);

    if (status != 0)
        return status;
    release_model(r);
    r->optim = NULL;
    r->class_weights = r->logits = r->dvectors = NULL;
    r->order = r->members = NULL;
    r->class_at = NULL;
    status = build(r);
    return status == 0 ? prepare(r) : status;
}

/* If it is stopped, what the first training found stays. */
static int train_again(struct enc_run *r, uint64_t started,
                       const volatile int *stop)
{
    const uint64_t epochs = r->epoch;
    const size_t n_first = r->train.n;
    double loss = 0.0;
    int status = enc_copy_take(&r->copy, &r->model, r->err); /* in its unit */

    if (status == 0)
        status = begin_again(r);
    for (r->epoch = 0; r->epoch < r->best_epoch && status == 0 && !*stop;
         r->epoch++)
        status = one_epoch(r, &loss, stop);
    r->epoch = epochs;
    if (status != 0)
        return status;
    r->refitted = !*stop;
    if (!r->refitted) {
        r->train.n = n_first;
        r->deviation = 1.0;
        r->mean = 0.0;
        return enc_copy_restore(&r->copy, &r->model, r->err);
    }
    end_training(r, started);
    printf("again %5.1f s  loss %.4f  %zu examples, with those of validation, "
           "%llu epochs\n",
           r->seconds, loss, r->train.n, (unsigned long long)r->best_epoch);
    return 0;
}

/* ---- the run ----------------------------------------------------------------
 */

static void release(struct enc_run *r)
{
    enc_set_release(&r->train);
    enc_set_release(&r->val);
    enc_set_release(&r->test);
    enc_rows_release(&r->train_rows);
    enc_rows_release(&r->val_rows);
    enc_rows_release(&r->test_rows);
    enc_labels_release(&r->labels);
    enc_copy_release(&r->copy);
    release_model(r);
    infer_team_free(r->team);
    train_folder_close(r->lock);
    free(r->val_logits);
    free(r->thresholds);
}

static int prepare_run(struct enc_run *r)
{
    int status = read_rows(r);

    if (status == 0)
        status = train_folder_open(r->o->out, false, &r->lock, r->err);
    if (status == 0)
        status = make_vocab(r);
    if (status == 0)
        status = build(r);
    if (status == 0)
        status = encode_sets(r);
    if (status == 0)
        status = enc_paper_config(r->o->out, r->argv, r->err);
    if (status == 0)
        status = prepare(r);
    if (status == 0)
        printf("%zu training, %zu validation, %zu test examples, %zu classes; "
               "%.2f M parameters and %u n-gram rows\n",
               r->train.n, r->val.n, r->test.n, r->train.n_classes,
               (double)net_n_params(r->model.net) / 1e6, r->model.spec.buckets);
    return status;
}

int enc_classify_run(const struct enc_classify *o, const char *const *argv,
                     const volatile int *stop, struct infer_error *err)
{
    struct enc_run r = {.o = o, .argv = argv, .lock = -1, .err = err};
    int status = infer_team_create(&r.team, (int)o->recipe.threads, 0, err);
    uint64_t started;

    if (status == 0)
        status = prepare_run(&r);
    started = infer_clock_ns();
    if (status == 0)
        status = train(&r, started, stop);
    if (status == 0 && !o->no_refit && !*stop)
        status = train_again(&r, started, stop);
    if (status == 0)
        status = enc_report_finish(&r);
    release(&r);
    return status;
}
