/*
 * report.c - see report.h. Everything is computed from two arrays, the logits
 * of the validation and of the test examples.
 */
#include "trainer/enc/report.h"

#include "core/base/error.h"
#include "trainer/enc/draw.h"
#include "trainer/enc/export.h"
#include "trainer/enc/metrics.h"
#include "trainer/enc/papers.h"
#include "trainer/run/folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct enc_run *r)
{
    return infer_fail(r->err, INFER_ENOMEM, "out of memory");
}

/* ---- while it goes ----------------------------------------------------------
 */

static size_t largest(const float *z, size_t c)
{
    size_t best = 0;

    for (size_t i = 1; i < c; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

static void quick_single(const struct enc_set *s, const float *z, double *score,
                         double *loss)
{
    const size_t c = s->n_classes;
    double right = 0.0, n = 0.0, sum = 0.0, *p = malloc(c * sizeof(*p));

    for (size_t i = 0; i < s->n && p; i++) {
        const int32_t target = s->targets[i];

        if (target < 0)
            continue;
        enc_softmax(z + i * c, c, 1.0, p);
        right += largest(z + i * c, c) == (size_t)target;
        sum -= log(fmax(p[target], 1e-30));
        n++;
    }
    free(p);
    *score = n > 0.0 ? right / n : 0.0;
    *loss = n > 0.0 ? sum / n : 0.0;
}

static void quick_multi(const struct enc_set *s, const float *z, double *score,
                        double *loss)
{
    const size_t c = s->n_classes;
    struct enc_class_score all = {0};
    double sum = 0.0;

    for (size_t i = 0; i < s->n * c; i++) {
        const bool is = s->values[i] > 0.5f, said = z[i] > 0.0f;

        all.right += is && said;
        all.wrong += !is && said;
        all.missed += is && !said;
        sum += log1p(exp(-fabs((double)z[i]))) + fmax((double)z[i], 0.0) -
               (is ? (double)z[i] : 0.0);
    }
    *score = enc_f1(&all);
    *loss = sum / (double)s->n;
}

void enc_report_quick(const struct enc_run *r, const struct enc_set *s,
                      const float *z, double *score, double *loss)
{
    double sum = 0.0;

    if (r->o->columns.kind == ENC_SINGLE) {
        quick_single(s, z, score, loss);
        return;
    }
    if (r->o->columns.kind == ENC_MULTI) {
        quick_multi(s, z, score, loss);
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        const double off =
            (double)z[i] * r->deviation + r->mean - (double)s->values[i];

        sum += off * off;
    }
    *loss = sum / (double)s->n;
    *score = -*loss;
}

const char *enc_report_score_name(const struct enc_run *r)
{
    return r->o->columns.kind == ENC_SINGLE  ? "accuracy"
           : r->o->columns.kind == ENC_MULTI ? "micro F1"
                                             : "-MSE";
}

int enc_report_epoch(struct enc_run *r, double train_loss, double val_loss,
                     double score)
{
    FILE *f = enc_paper_open(r->o->out, "metrics.csv", r->epoch ? "a" : "w");

    if (f && r->epoch == 0)
        fprintf(f, "epoch,step,seconds,loss,val_loss,val_%s\n",
                r->o->columns.kind == ENC_SINGLE ? "accuracy" : "score");
    if (f)
        fprintf(f, "%llu,%llu,%.1f,%.6f,%.6f,%.6f\n",
                (unsigned long long)r->epoch + 1, (unsigned long long)r->step,
                r->seconds, train_loss, val_loss, score);
    return enc_paper_close(f, r->o->out, "metrics.csv", r->err);
}

/* ---- calibration ------------------------------------------------------------
 */

/* Probabilities [n][C] of logits. */
static void probabilities(const struct enc_run *r, const float *z, size_t n,
                          double temperature, double *p)
{
    const size_t c = r->train.n_classes;

    for (size_t i = 0; i < n; i++) {
        if (r->o->columns.kind == ENC_SINGLE) {
            enc_softmax(z + i * c, c, temperature, p + i * c);
            continue;
        }
        for (size_t k = 0; k < c; k++)
            p[i * c + k] =
                1.0 / (1.0 + exp(-(double)z[i * c + k] / temperature));
    }
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The threshold that refuses the wanted share of what is out of scope; below 0:
 * the validation examples have none. */
static double find_oos_threshold(const struct enc_run *r, const double *p)
{
    const size_t c = r->val.n_classes;
    double *sure = malloc((r->val.n + 1) * sizeof(*sure)), at = -1.0;
    size_t n = 0;

    for (size_t i = 0; i < r->val.n && sure; i++) {
        double high = 0.0;

        if (r->val.targets[i] >= 0)
            continue;
        for (size_t k = 0; k < c; k++)
            high = fmax(high, p[i * c + k]);
        sure[n++] = high;
    }
    if (n > 0 && r->o->oos_recall > 0.0) {
        const size_t want = (size_t)ceil(r->o->oos_recall * (double)n);

        qsort(sure, n, sizeof(*sure), rising);
        at = want >= n ? sure[n - 1] * 1.0001
                       : (sure[want - 1] + sure[want]) / 2.0;
        at = at > 1.0 ? 1.0 : at;
    }
    free(sure);
    return at;
}

static int find_thresholds(struct enc_run *r, const double *p)
{
    const size_t n = r->val.n, c = r->val.n_classes;
    double *column = malloc((n + 1) * sizeof(*column));
    bool *is = malloc(n + 1);
    int status = 0;

    r->thresholds = malloc((c + 1) * sizeof(*r->thresholds));
    if (!column || !is || !r->thresholds)
        status = no_memory(r);
    for (size_t k = 0; k < c && status == 0; k++) {
        for (size_t i = 0; i < n; i++) {
            column[i] = p[i * c + k];
            is[i] = r->val.values[i * c + k] > 0.5f;
        }
        r->thresholds[k] = (float)enc_fit_threshold(column, is, n);
    }
    free(column);
    free(is);
    return status;
}

static int calibrate(struct enc_run *r, const float *z, double *p)
{
    const bool multi = r->o->columns.kind == ENC_MULTI;

    r->temperature = 1.0;
    r->oos_threshold = -1.0;
    if (r->o->columns.kind == ENC_REGRESSION)
        return 0;
    r->temperature =
        enc_fit_temperature(z, r->val.n, r->val.n_classes, r->val.targets,
                            multi ? r->val.values : NULL);
    probabilities(r, z, r->val.n, r->temperature, p);
    if (multi)
        return find_thresholds(r, p);
    r->oos_threshold = find_oos_threshold(r, p);
    return 0;
}

/* ---- scores -----------------------------------------------------------------
 */

/* What is said of example i: a class, or -1: out of scope. */
static int32_t answer(const struct enc_run *r, const double *p)
{
    size_t best = 0;

    for (size_t k = 1; k < r->train.n_classes; k++)
        if (p[k] > p[best])
            best = k;
    return r->oos_threshold >= 0.0 && p[best] < r->oos_threshold
               ? -1
               : (int32_t)best;
}

static void score_single(const struct enc_run *r, const struct enc_set *s,
                         const float *z, const double *p, struct enc_scores *o)
{
    const size_t c = s->n_classes;

    for (size_t i = 0; i < s->n; i++) {
        const int32_t target = s->targets[i], said = answer(r, p + i * c);
        const size_t top = largest(z + i * c, c);

        o->said[i] = said;
        o->sure[i] = p[i * c + top];
        if (target < 0) {
            o->oos++;
            o->oos_right += said < 0;
            continue;
        }
        o->n++;
        o->right += top == (size_t)target;
        o->right_in += said == target;
        enc_bins_add(&o->bins, o->sure[i], top == (size_t)target);
        o->confusion[(size_t)target * c + top]++;
        if (top == (size_t)target) {
            o->classes[top].right++;
        } else {
            o->classes[top].wrong++;
            o->classes[target].missed++;
        }
    }
}

static void score_multi(const struct enc_run *r, const struct enc_set *s,
                        const double *p, struct enc_scores *o)
{
    const size_t c = s->n_classes;

    for (size_t i = 0; i < s->n; i++) {
        bool exact = true;

        for (size_t k = 0; k < c; k++) {
            const bool is = s->values[i * c + k] > 0.5f;
            const bool said = p[i * c + k] >= (double)r->thresholds[k];

            o->classes[k].right += is && said;
            o->classes[k].wrong += !is && said;
            o->classes[k].missed += is && !said;
            enc_bins_add(&o->bins, p[i * c + k], is);
            exact = exact && is == said;
        }
        o->said[i] = -1;
        o->sure[i] = 0.0;
        o->n++;
        o->right += exact;
    }
    o->right_in = o->right;
}

static void score_numbers(const struct enc_set *s, const float *z,
                          struct enc_scores *o)
{
    double *x = malloc((2 * s->n + 1) * sizeof(*x));

    for (size_t i = 0; i < s->n && x; i++) {
        const double off = (double)(z[i] - s->values[i]);

        o->squares += off * off / (double)s->n;
        o->absolute += fabs(off) / (double)s->n;
        x[i] = (double)z[i];
        x[s->n + i] = (double)s->values[i];
        o->said[i] = -1;
        o->sure[i] = -fabs(off);
    }
    o->n = s->n;
    if (x) {
        o->pearson = enc_pearson(x, x + s->n, s->n);
        o->spearman = enc_spearman(x, x + s->n, s->n);
    }
    free(x);
}

/* Errors  ENOMEM */
static int score(struct enc_run *r, const struct enc_set *s, const float *z,
                 struct enc_scores *o)
{
    const size_t c = s->n_classes;
    struct enc_bins raw = {{0}, {0}, {0}};
    double *p = malloc((s->n * c + 1) * sizeof(*p));

    o->classes = calloc(c + 1, sizeof(*o->classes));
    o->confusion = calloc(c * c + 1, sizeof(*o->confusion));
    o->said = malloc((s->n + 1) * sizeof(*o->said));
    o->sure = malloc((s->n + 1) * sizeof(*o->sure));
    if (!p || !o->classes || !o->confusion || !o->said || !o->sure) {
        free(p);
        return no_memory(r);
    }
    if (r->o->columns.kind == ENC_REGRESSION) {
        score_numbers(s, z, o);
        free(p);
        return 0;
    }
    probabilities(r, z, s->n, 1.0, p);
    for (size_t i = 0; i < s->n * c; i++) {
        const size_t row = i / c;

        if (r->o->columns.kind == ENC_MULTI)
            enc_bins_add(&raw, p[i], s->values[i] > 0.5f);
        else if (s->targets[row] >= 0 && i % c == largest(z + row * c, c))
            enc_bins_add(&raw, p[i], (int32_t)(i % c) == s->targets[row]);
    }
    o->ece_raw = enc_bins_ece(&raw);
    probabilities(r, z, s->n, r->temperature, p);
    if (r->o->columns.kind == ENC_SINGLE)
        score_single(r, s, z, p, o);
    else
        score_multi(r, s, p, o);
    o->ece = enc_bins_ece(&o->bins);
    for (size_t k = 0; k < c; k++) {
        o->macro_f1 += enc_f1(&o->classes[k]) / (double)c;
        o->all.right += o->classes[k].right;
        o->all.wrong += o->classes[k].wrong;
        o->all.missed += o->classes[k].missed;
    }
    free(p);
    return 0;
}

static void release_scores(struct enc_scores *o)
{
    free(o->classes);
    free(o->confusion);
    free(o->said);
    free(o->sure);
}

/* ---- the end ----------------------------------------------------------------
 */

static void set_keys(void *user, struct infer_gguf_writer *w)
{
    static const char *const kinds[] = {"single", "multi", "regression"};
    const struct enc_run *r = user;
    const int kind = r->o->columns.kind;
    const size_t c = r->labels.n;
    struct infer_gguf_str *names = calloc(c + 1, sizeof(*names));
    char key[96];

    for (size_t i = 0; i < c && names; i++)
        names[i] = (struct infer_gguf_str){r->labels.names[i],
                                           strlen(r->labels.names[i])};
    if (kind == ENC_REGRESSION && names)
        names[0] = (struct infer_gguf_str){"score", 5};
    snprintf(key, sizeof(key), "%s.classifier.output_labels",
             train_arch_name(net_shape(r->model.net)));
    if (names)
        infer_gguf_set_strs(w, key, names, kind == ENC_REGRESSION ? 1 : c);
    free(names);
    infer_gguf_set_str(w, "inferd.classifier.kind", kinds[kind]);
    infer_gguf_set_f32(w, "inferd.classifier.temperature",
                       (float)r->temperature);
    infer_gguf_set_bool(w, "inferd.classifier.pair",
                        r->o->columns.pair != NULL);
    if (kind == ENC_MULTI)
        infer_gguf_set_array(w, "inferd.classifier.thresholds", INFER_GGUF_F32,
                             r->thresholds, c);
    if (r->oos_threshold >= 0.0)
        infer_gguf_set_f32(w, "inferd.classifier.oos_threshold",
                           (float)r->oos_threshold);
    if (r->o->columns.oos)
        infer_gguf_set_str(w, "inferd.classifier.oos_label", r->o->columns.oos);
}

static void print_scores(const struct enc_run *r, const char *what,
                         const struct enc_scores *o)
{
    const double n = (double)o->n;

    if (r->o->columns.kind == ENC_REGRESSION) {
        printf("%s: MSE %.4f, mean error %.4f, Pearson %.4f, Spearman %.4f\n",
               what, o->squares, o->absolute, o->pearson, o->spearman);
        return;
    }
    printf("%s: accuracy %.2f %%, macro F1 %.2f, ECE %.2f %% (before %.2f %%)",
           what, 100.0 * (double)o->right / n, 100.0 * o->macro_f1,
           100.0 * o->ece, 100.0 * o->ece_raw);
    if (o->oos)
        printf("; with the threshold %.3f: accuracy in scope %.2f %%, "
               "out-of-scope recall %.2f %%",
               r->oos_threshold, 100.0 * (double)o->right_in / n,
               100.0 * (double)o->oos_right / (double)o->oos);
    printf("\n");
}

int enc_report_finish(struct enc_run *r)
{
    const size_t c = r->train.n_classes;
    float *test = malloc((r->test.n * c + 1) * sizeof(*test));
    double *p = malloc((r->val.n * c + 1) * sizeof(*p));
    struct enc_scores vs = {0}, ts = {0};
    int status = test && p ? 0 : no_memory(r);

    if (status == 0)
        status = enc_run_logits(r, &r->test, test);
    if (status == 0)
        status = calibrate(r, r->val_logits, p);
    if (status == 0)
        status = score(r, &r->val, r->val_logits, &vs);
    if (status == 0 && r->test.n)
        status = score(r, &r->test, test, &ts);
    if (status == 0)
        status =
            enc_export(&r->model, r->o->out, "model.gguf", set_keys, r, r->err);
    if (status == 0)
        status = enc_papers_write(r, &vs, r->test.n ? &ts : NULL);
    if (status == 0) {
        print_scores(r, "validation", &vs);
        if (r->test.n)
            print_scores(r, "test", &ts);
    }
    release_scores(&vs);
    release_scores(&ts);
    free(test);
    free(p);
    return status;
}
