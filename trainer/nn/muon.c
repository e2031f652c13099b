/*
 * muon.c - momentum, made orthogonal, for matrices.
 *
 * Newton-Schulz: with X scaled to length 1 and A = X X^T (or X^T X, whichever
 * is smaller), X becomes a X + (b A + c A^2) X; five times, and every singular
 * value is near 1. The coefficients are Jordan's, chosen to lift small values
 * fast; they leave the large ones between 0.7 and 1.2, which does no harm.
 */
#include "trainer/nn/muon.h"

#include "core/base/error.h"

#include <math.h>
#include <stdlib.h>

enum { N_STEPS = 5, MAX_THREADS = 256 };

static const float coef_a = 3.4445f, coef_b = -4.7750f, coef_c = 2.0315f;

struct muon_work {
    const struct nn_layers *ops;
    float *x, *y; /* [out][in], before and after a step */
    float *a, *b; /* [side][side], the smaller side */
    double squares[MAX_THREADS];
};

static size_t smaller_side(const struct net_param *p)
{
    return (size_t)(p->dims[0] < p->dims[1] ? p->dims[0] : p->dims[1]);
}

int muon_create(struct muon_work **out, const struct net_param *table, size_t n,
                struct infer_error *err)
{
    struct muon_work *w = calloc(1, sizeof(*w));
    size_t most = 1, side = 1;

    if (!w)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (table[i].kind != NET_MATRIX)
            continue;
        most = table[i].n > most ? table[i].n : most;
        side = smaller_side(&table[i]) > side ? smaller_side(&table[i]) : side;
    }
    w->ops = nn_layers();
    w->x = malloc(most * sizeof(*w->x));
    w->y = malloc(most * sizeof(*w->y));
    w->a = malloc(side * side * sizeof(*w->a));
    w->b = malloc(side * side * sizeof(*w->b));
    if (!w->x || !w->y || !w->a || !w->b) {
        muon_free(w);
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    *out = w;
    return INFER_OK;
}

void muon_free(struct muon_work *w)
{
    if (!w)
        return;
    free(w->x);
    free(w->y);
    free(w->a);
    free(w->b);
    free(w);
}

/* w->b = b A + c A^2, in shares: A A first, then the sum. */
static void polynomial(struct infer_member *me, struct muon_work *w,
                       const struct train_gemm_ctx *gemm, size_t side)
{
    size_t begin, end;

    infer_team_share(me, side * side, 16, &begin, &end);
    train_gemm_phase(me, gemm,
                     &(struct train_product){.m = side,
                                             .n = side,
                                             .k = side,
                                             .alpha = coef_c,
                                             .a = w->a,
                                             .lda = side,
                                             .b = w->a,
                                             .ldb = side,
                                             .c = w->b,
                                             .ldc = side});
    w->ops->blend(w->b + begin, 1, w->a + begin, coef_b, end - begin);
}

/* One step from x to y, [rows][cols]. */
static void improve(struct infer_member *me, struct muon_work *w,
                    const struct train_gemm_ctx *gemm, const float *x, float *y,
                    size_t rows, size_t cols)
{
    const bool tall = rows > cols;
    const size_t side = tall ? cols : rows;
    size_t begin, end;

    train_gemm_phase(me, gemm,
                     &(struct train_product){.ta = tall,
                                             .tb = !tall,
                                             .m = side,
                                             .n = side,
                                             .k = tall ? rows : cols,
                                             .alpha = 1.0f,
                                             .a = x,
                                             .lda = cols,
                                             .b = x,
                                             .ldb = cols,
                                             .c = w->a,
                                             .ldc = side});
    polynomial(me, w, gemm, side);
    train_gemm_phase(me, gemm,
                     &(struct train_product){.m = rows,
                                             .n = cols,
                                             .k = side,
                                             .alpha = 1.0f,
                                             .a = tall ? x : w->b,
                                             .lda = tall ? cols : side,
                                             .b = tall ? w->b : x,
                                             .ldb = tall ? side : cols,
                                             .c = y,
                                             .ldc = cols});
    infer_team_share(me, rows * cols, 16, &begin, &end);
    w->ops->blend(y + begin, 1, x + begin, coef_a, end - begin);
}

void muon_step(struct infer_member *me, struct muon_work *work,
               const struct train_gemm_ctx *gemm, const struct net_param *p,
               float *w, float *m, const float *g, const struct nn_update *u)
{
    const size_t cols = (size_t)p->dims[0], rows = (size_t)p->dims[1];
    const float ratio = (float)rows / (float)cols;
    const float lr = u->lr * (ratio > 1.0f ? sqrtf(ratio) : 1.0f);
    double sum = 0.0;
    float *x = work->x, *y = work->y;
    size_t begin, end;

    infer_team_share(me, rows * cols, 16, &begin, &end);
    const size_t n = end - begin;

    work->ops->nesterov(x + begin, m + begin, g + begin, n, u);
    work->squares[me->id] = work->ops->sum_squares(x + begin, n);
    infer_team_barrier(me);
    for (int i = 0; i < me->n; i++)
        sum += work->squares[i];
    work->ops->blend(x + begin, (float)(1.0 / (sqrt(sum) + 1e-12)), x + begin,
                     0, n);
    for (int i = 0; i < N_STEPS; i++) {
        float *next = x;

        improve(me, work, gemm, x, y, rows, cols);
        x = y;
        y = next;
    }
    work->ops->blend(w + begin, 1.0f - u->lr * u->decay, x + begin, -lr, n);
    infer_team_barrier(me); /* x and y are the next matrix's */
}
