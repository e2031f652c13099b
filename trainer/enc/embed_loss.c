/* embed_loss.c - see embed_loss.h. */
#include "trainer/enc/embed_loss.h"

#include "core/base/error.h"
#include "trainer/nn/layers.h"

#include <stdlib.h>
#include <string.h>

static const float masked = -1e9f; /* a logit whose probability is 0 */
static const float top_score = 5.0f;

int enc_embed_loss_create(struct enc_embed_loss *l, size_t max, size_t width,
                          const size_t *dims, size_t n_dims,
                          const struct train_gemm_ctx *gemm,
                          struct infer_error *err)
{
    *l = (struct enc_embed_loss){
        .width = width, .n_dims = n_dims, .dims = dims, .gemm = gemm};
    l->dv = malloc(max * width * sizeof(float));
    l->u = malloc(max * width * sizeof(float));
    l->du = malloc(max * width * sizeof(float));
    l->length = malloc(max * sizeof(float));
    l->s = malloc(max * max * sizeof(float));
    l->ds = malloc(max * max * sizeof(float));
    l->cosines = malloc(max * sizeof(float));
    l->work = malloc(max * sizeof(float));
    if (!l->dv || !l->u || !l->du || !l->length || !l->s || !l->ds ||
        !l->cosines || !l->work)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    return 0;
}

void enc_embed_loss_release(struct enc_embed_loss *l)
{
    free(l->dv);
    free(l->u);
    free(l->du);
    free(l->length);
    free(l->s);
    free(l->ds);
    free(l->cosines);
    free(l->work);
    *l = (struct enc_embed_loss){0};
}

/* u = unit vectors of the first d values of each row of v. */
static void cut(struct enc_embed_loss *l, const float *v, size_t n, size_t d)
{
    for (size_t i = 0; i < n; i++)
        nn_layers()->unit(l->u + i * d, l->length + i, v + i * l->width, 1, d);
}

/* dv += the gradient through cut() of du. */
static void cut_back(struct enc_embed_loss *l, size_t n, size_t d)
{
    for (size_t i = 0; i < n; i++)
        nn_layers()->unit_back(l->dv + i * l->width, l->du + i * d,
                               l->u + i * d, l->length + i, 1, d);
}

/* Row i of the similarities with one partner, k, the others of its group and
 * itself left out; its gradient is added to ds. */
static double one_partner(struct enc_embed_loss *l, const int32_t *group,
                          size_t n, size_t i, size_t k, float scale)
{
    const float *s = l->s + i * n;
    const int32_t target = (int32_t)k;
    float *row = l->work, loss, nll;

    for (size_t j = 0; j < n; j++)
        row[j] = j == i || (group[j] == group[i] && j != k) ? masked : s[j];
    nn_layers()->cross_entropy(row, &target, &loss, &nll, 1, n, 0.0f, true,
                               scale);
    nn_layers()->blend(l->ds + i * n, 1.0f, row, 1.0f, n);
    return (double)loss;
}

static size_t count_partners(const int32_t *group, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            count += k != i && group[i] >= 0 && group[k] == group[i];
    return count;
}

double enc_embed_contrast(struct enc_embed_loss *l, const float *v,
                          const int32_t *group, size_t n, float temperature)
{
    const size_t partners = count_partners(group, n);
    const float scale = 1.0f / (float)((partners ? partners : 1) * l->n_dims);
    double sum = 0.0;

    memset(l->dv, 0, n * l->width * sizeof(*l->dv));
    for (size_t m = 0; m < l->n_dims; m++) {
        const size_t d = l->dims[m];

        cut(l, v, n, d);
        train_gemm(l->gemm, false, true, n, n, d, 1.0f / temperature, l->u, d,
                   l->u, d, 0.0f, l->s, n);
        memset(l->ds, 0, n * n * sizeof(*l->ds));
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n && group[i] >= 0; k++)
                if (k != i && group[k] == group[i])
                    sum += one_partner(l, group, n, i, k, scale);
        /* s = u u^T / temperature: both factors get their share */
        train_gemm(l->gemm, false, false, n, d, n, 1.0f / temperature, l->ds, n,
                   l->u, d, 0.0f, l->du, d);
        train_gemm(l->gemm, true, false, n, d, n, 1.0f / temperature, l->ds, n,
                   l->u, d, 1.0f, l->du, d);
        cut_back(l, n, d);
    }
    return sum * (double)scale;
}

static double pair_loss(struct enc_embed_loss *l, const float *scores, size_t n,
                        float temperature, bool squares)
{
    const float scale = 1.0f / (float)(n * l->n_dims);
    const struct nn_layers *ops = nn_layers();

    if (!squares)
        return ops->pair_order(l->cosines, scores, n, temperature, true, scale,
                               l->work) *
               (double)scale;
    for (size_t i = 0; i < n; i++)
        l->work[i] = scores[i] / top_score;
    return ops->squares(l->cosines, l->work, n, true, scale) * (double)scale;
}

double enc_embed_order(struct enc_embed_loss *l, const float *v,
                       const float *scores, size_t n, float temperature,
                       bool squares)
{
    double sum = 0.0;

    memset(l->dv, 0, 2 * n * l->width * sizeof(*l->dv));
    for (size_t m = 0; m < l->n_dims; m++) {
        const size_t d = l->dims[m];

        cut(l, v, 2 * n, d);
        for (size_t i = 0; i < n; i++) {
            const float *a = l->u + 2 * i * d, *b = a + d;
            float dot = 0.0f;

            for (size_t k = 0; k < d; k++)
                dot += a[k] * b[k];
            l->cosines[i] = dot;
        }
        sum += pair_loss(l, scores, n, temperature, squares);
        for (size_t i = 0; i < n; i++) /* d(a b)/da = b */
            for (size_t k = 0; k < 2 * d; k++)
                l->du[2 * i * d + k] =
                    l->cosines[i] * l->u[2 * i * d + (k + d) % (2 * d)];
        cut_back(l, 2 * n, d);
    }
    return sum;
}
