/*
 * muon.c - momentum, made orthogonal, for matrices.
 *
 * Newton-Schulz: with X scaled to length 1 and A = X X^T (or X^T X, whichever
 * is smaller), X becomes a X + (b A + c A^2) X; five times, and every singular
 * value is near 1. The coefficients are Jordan's, chosen to lift small values
 * fast; they leave the large ones between 0.7 and 1.2, which does no harm.
 *
 * A matrix belongs to one member of the team: products this small would spend
 * more time at barriers than in the arithmetic, and there are many of them.
 */
#include "trainer/nn/muon.h"

#include "core/base/error.h"

#include <math.h>
#include <stdlib.h>

enum { N_STEPS = 5 };

static const float coef_a = 3.4445f, coef_b = -4.7750f, coef_c = 2.0315f;

/* Room of one member. */
struct room {
    float *x, *y; /* [out][in], before and after a step */
    float *a, *b; /* [side][side], the smaller side */
};

struct muon_work {
    const struct nn_layers *ops;
    int n_members;
    struct room *rooms; /* [n_members] */
};

static size_t smaller_side(const struct net_param *p)
{
    return (size_t)(p->dims[0] < p->dims[1] ? p->dims[0] : p->dims[1]);
}

static bool room_create(struct room *r, size_t most, size_t side)
{
    r->x = malloc(most * sizeof(*r->x));
    r->y = malloc(most * sizeof(*r->y));
    r->a = malloc(side * side * sizeof(*r->a));
    r->b = malloc(side * side * sizeof(*r->b));
    return r->x && r->y && r->a && r->b;
}

int muon_create(struct muon_work **out, const struct net_param *table, size_t n,
                int n_members, struct infer_error *err)
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
    w->n_members = n_members;
    w->rooms = calloc((size_t)n_members, sizeof(*w->rooms));
    for (int i = 0; i < n_members; i++)
        if (!w->rooms || !room_create(&w->rooms[i], most, side)) {
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
    for (int i = 0; w->rooms && i < w->n_members; i++) {
        free(w->rooms[i].x);
        free(w->rooms[i].y);
        free(w->rooms[i].a);
        free(w->rooms[i].b);
    }
    free(w->rooms);
    free(w);
}

struct factor {
    const float *x;
    size_t ld;
    bool turned;
};

/* C [m][n] = alpha op(A) op(B), of k inputs, by this member alone. */
static void multiply(const struct infer_member *me,
                     const struct train_gemm_ctx *gemm, float *c, size_t m,
                     size_t n, size_t k, float alpha, struct factor a,
                     struct factor b)
{
    train_gemm_alone(me, gemm,
                     &(struct train_product){.ta = a.turned,
                                             .tb = b.turned,
                                             .m = m,
                                             .n = n,
                                             .k = k,
                                             .alpha = alpha,
                                             .a = a.x,
                                             .lda = a.ld,
                                             .b = b.x,
                                             .ldb = b.ld,
                                             .c = c,
                                             .ldc = n});
}

/* One step from x to y, [rows][cols]. */
static void improve(const struct infer_member *me, const struct muon_work *w,
                    const struct train_gemm_ctx *gemm, const struct room *r,
                    const float *x, float *y, size_t rows, size_t cols)
{
    const bool tall = rows > cols;
    const size_t side = tall ? cols : rows;
    const struct factor fx = {x, cols, false}, left = {x, cols, tall};
    const struct factor right = {x, cols, !tall};
    const struct factor fa = {r->a, side, false}, fb = {r->b, side, false};

    multiply(me, gemm, r->a, side, side, tall ? rows : cols, 1.0f, left, right);
    multiply(me, gemm, r->b, side, side, side, coef_c, fa, fa);
    w->ops->blend(r->b, 1, r->a, coef_b, side * side);
    multiply(me, gemm, y, rows, cols, side, 1.0f, tall ? fx : fb,
             tall ? fb : fx);
    w->ops->blend(y, 1, x, coef_a, rows * cols);
}

void muon_step(const struct infer_member *me, const struct muon_work *work,
               const struct train_gemm_ctx *gemm, const struct net_param *p,
               float *w, float *m, const float *g, const struct nn_update *u)
{
    const size_t cols = (size_t)p->dims[0], rows = (size_t)p->dims[1];
    const float ratio = (float)rows / (float)cols;
    const float lr = u->lr * (ratio > 1.0f ? sqrtf(ratio) : 1.0f);
    const struct room *r = &work->rooms[me->id];
    const size_t n = rows * cols;
    float *x = r->x, *y = r->y;

    work->ops->nesterov(x, m, g, n, u);
    work->ops->blend(
        x, (float)(1.0 / (sqrt(work->ops->sum_squares(x, n)) + 1e-12)), x, 0,
        n);
    for (int i = 0; i < N_STEPS; i++) {
        float *next = x;

        improve(me, work, gemm, r, x, y, rows, cols);
        x = y;
        y = next;
    }
    work->ops->blend(w, 1.0f - u->lr * u->decay, x, -lr, n);
}
