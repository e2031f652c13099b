/* metrics.c - see metrics.h. */
#include "trainer/enc/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double enc_precision(const struct enc_class_score *s)
{
    const uint64_t said = s->right + s->wrong;

    return said ? (double)s->right / (double)said : 0.0;
}

double enc_recall(const struct enc_class_score *s)
{
    const uint64_t all = s->right + s->missed;

    return all ? (double)s->right / (double)all : 0.0;
}

double enc_f1(const struct enc_class_score *s)
{
    const uint64_t all = 2 * s->right + s->wrong + s->missed;

    return all ? 2.0 * (double)s->right / (double)all : 0.0;
}

/* ---- calibration ------------------------------------------------------------
 */

void enc_bins_add(struct enc_bins *b, double probability, bool right)
{
    int bin = (int)(probability * ENC_BINS);

    bin = bin < 0 ? 0 : bin >= ENC_BINS ? ENC_BINS - 1 : bin;
    b->n[bin]++;
    b->sure[bin] += probability;
    b->right[bin] += right;
}

double enc_bins_ece(const struct enc_bins *b)
{
    double sum = 0.0, n = 0.0;

    for (int i = 0; i < ENC_BINS; i++) {
        sum += fabs(b->sure[i] - b->right[i]);
        n += (double)b->n[i];
    }
    return n > 0.0 ? sum / n : 0.0;
}

void enc_softmax(const float *logits, size_t c, double temperature, double *p)
{
    double high = -(double)INFINITY, sum = 0.0;

    for (size_t i = 0; i < c; i++)
        high = fmax(high, (double)logits[i]);
    for (size_t i = 0; i < c; i++)
        sum += p[i] = exp(((double)logits[i] - high) / temperature);
    for (size_t i = 0; i < c; i++)
        p[i] /= sum;
}

/* -log p of one row */
static double row_nll(const float *z, size_t c, int32_t target, double t)
{
    double high = -(double)INFINITY, sum = 0.0;

    for (size_t i = 0; i < c; i++)
        high = fmax(high, (double)z[i]);
    for (size_t i = 0; i < c; i++)
        sum += exp(((double)z[i] - high) / t);
    return log(sum) - ((double)z[target] - high) / t;
}

static double nll_at(const float *logits, size_t n, size_t c,
                     const int32_t *targets, const float *labels, double t)
{
    double sum = 0.0;

    for (size_t r = 0; r < n; r++, logits += c) {
        if (!labels) {
            sum += targets[r] < 0 ? 0.0 : row_nll(logits, c, targets[r], t);
            continue;
        }
        for (size_t i = 0; i < c; i++) {
            const double z = (double)logits[i] / t;
            const double is = (double)labels[r * c + i];

            sum += log1p(exp(-fabs(z))) + fmax(z, 0.0) - is * z;
        }
    }
    return sum;
}

/* Golden section (Kiefer 1953) over log t, which has one minimum. */
double enc_fit_temperature(const float *logits, size_t n, size_t c,
                           const int32_t *targets, const float *labels)
{
    const double ratio = 0.6180339887498949;
    double low = log(0.05), high = log(20.0);
    double a = high - ratio * (high - low), b = low + ratio * (high - low);
    double fa = nll_at(logits, n, c, targets, labels, exp(a));
    double fb = nll_at(logits, n, c, targets, labels, exp(b));

    for (int i = 0; i < 40; i++) {
        if (fa < fb) {
            high = b;
            b = a;
            fb = fa;
            a = high - ratio * (high - low);
            fa = nll_at(logits, n, c, targets, labels, exp(a));
        } else {
            low = a;
            a = b;
            fa = fb;
            b = low + ratio * (high - low);
            fb = nll_at(logits, n, c, targets, labels, exp(b));
        }
    }
    return exp((low + high) / 2.0);
}

struct ranked {
    double value, other;
};

static int falling(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return (x->value < y->value) - (x->value > y->value);
}

double enc_fit_threshold(const double *p, const bool *is, size_t n)
{
    struct ranked *r = malloc((n + 1) * sizeof(*r));
    double best = -1.0, at = 0.5;
    struct enc_class_score s = {0};

    if (!r)
        return at;
    for (size_t i = 0; i < n; i++) {
        r[i] = (struct ranked){p[i], is[i]};
        s.missed += is[i];
    }
    qsort(r, n, sizeof(*r), falling);
    for (size_t i = 0; i < n && s.right + s.missed > 0; i++) {
        s.right += r[i].other > 0.0;
        s.missed -= r[i].other > 0.0;
        s.wrong += !(r[i].other > 0.0);
        if (i + 1 < n && r[i + 1].value == r[i].value)
            continue;
        if (enc_f1(&s) > best) {
            best = enc_f1(&s);
            at = i + 1 < n ? (r[i].value + r[i + 1].value) / 2.0
                           : r[i].value / 2.0;
        }
    }
    free(r);
    return at;
}

/* ---- correlation ------------------------------------------------------------
 */

double enc_pearson(const double *a, const double *b, size_t n)
{
    double ma = 0.0, mb = 0.0, ab = 0.0, aa = 0.0, bb = 0.0;

    for (size_t i = 0; i < n; i++) {
        ma += a[i] / (double)n;
        mb += b[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        ab += (a[i] - ma) * (b[i] - mb);
        aa += (a[i] - ma) * (a[i] - ma);
        bb += (b[i] - mb) * (b[i] - mb);
    }
    return aa > 0.0 && bb > 0.0 ? ab / sqrt(aa * bb) : (double)NAN;
}

struct place {
    double value;
    size_t i;
};

static int rising(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return (x->value > y->value) - (x->value < y->value);
}

/* ranks [n] of values; false: no memory */
static bool rank_all(const double *v, size_t n, double *ranks)
{
    struct place *p = malloc((n + 1) * sizeof(*p));

    for (size_t i = 0; p && i < n; i++)
        p[i] = (struct place){v[i], i};
    if (p)
        qsort(p, n, sizeof(*p), rising);
    for (size_t i = 0, end; p && i < n; i = end) {
        for (end = i + 1; end < n && p[end].value == p[i].value;)
            end++;
        for (size_t k = i; k < end; k++)
            ranks[p[k].i] = (double)(i + end - 1) / 2.0;
    }
    free(p);
    return p != NULL;
}

double enc_spearman(const double *a, const double *b, size_t n)
{
    double *ranks = malloc((2 * n + 1) * sizeof(*ranks)), out = (double)NAN;

    if (ranks && rank_all(a, n, ranks) && rank_all(b, n, ranks + n))
        out = enc_pearson(ranks, ranks + n, n);
    free(ranks);
    return out;
}

/* ---- ranking ----------------------------------------------------------------
 */

static int falling_double(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

static double dcg(const double *gains, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (exp2(gains[i]) - 1.0) / log2((double)i + 2.0);
    return sum;
}

double enc_ndcg(const double *gains, size_t n, double *all, size_t n_all,
                size_t k)
{
    double ideal;

    qsort(all, n_all, sizeof(*all), falling_double);
    ideal = dcg(all, n_all < k ? n_all : k);
    return ideal > 0.0 ? dcg(gains, n < k ? n : k) / ideal : 0.0;
}
