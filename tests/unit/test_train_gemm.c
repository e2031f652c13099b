/*
 * test_train_gemm.c - products against plain sums in double precision.
 *
 * In BF16 the reference rounds its inputs as the definition says, so both
 * precisions are held to the same bound: k + 8 additions and products in f32,
 * each off by at most 2^-24 of sum |a||b| (twice that, for the pairs of
 * vdpbf16ps, whose order is not specified). A kernel that drops one term of a
 * thousand fails it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/half.h"
#include "trainer/gemm/gemm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 7, N_TEAMS = 4 };

static const float guard = -12345.0f;
static uint64_t seed = 1;

static float rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

/* A product, its operands and the C it starts from. */
struct problem {
    struct train_product p;
    float *a, *b, *c, *start;
    size_t c_size;
};

static float *fill(size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = rnd();
    return x;
}

/* Rows are `pad` longer than they need be, operands end where they end. */
static void problem_init(struct problem *q, size_t m, size_t n, size_t k,
                         bool ta, bool tb, size_t pad)
{
    const size_t a_rows = ta ? k : m, a_cols = ta ? m : k;
    const size_t b_rows = tb ? n : k, b_cols = tb ? k : n;

    *q = (struct problem){.p = {.ta = ta, .tb = tb, .m = m, .n = n, .k = k}};
    q->p.lda = a_cols + pad + (a_cols + pad == 0);
    q->p.ldb = b_cols + pad + (b_cols + pad == 0);
    q->p.ldc = n + pad + (n + pad == 0);
    /* the last row has no padding: reading past it is an error of ASan's */
    q->a = fill(a_rows ? (a_rows - 1) * q->p.lda + a_cols : 0);
    q->b = fill(b_rows ? (b_rows - 1) * q->p.ldb + b_cols : 0);
    q->c_size = (m + 2) * q->p.ldc + GUARD;
    q->c = fill(q->c_size);
    q->start = fill(q->c_size);
    q->p.a = q->a;
    q->p.b = q->b;
    q->p.c = q->c + q->p.ldc;
    q->p.alpha = 1.0f;
}

static void problem_release(struct problem *q)
{
    free(q->a);
    free(q->b);
    free(q->c);
    free(q->start);
}

/* C as it starts: guards around the rows and between them. */
static void reset(struct problem *q)
{
    const struct train_product *p = &q->p;

    for (size_t i = 0; i < q->c_size; i++) {
        const size_t row = i / p->ldc, col = i % p->ldc;

        q->c[i] = guard;
        if (row >= 1 && row <= p->m && col < p->n)
            q->c[i] = p->beta == 0.0f ? (float)NAN : q->start[i];
    }
}

static double rounded(float x, bool bf16)
{
    return (double)(bf16 ? infer_bf16_to_f32(infer_f32_to_bf16(x)) : x);
}

static void check_element(const struct problem *q, bool bf16, size_t i,
                          size_t j)
{
    const struct train_product *p = &q->p;
    const size_t at = (i + 1) * p->ldc + j;
    const double old =
        p->beta == 0.0f ? 0.0 : (double)p->beta * (double)q->start[at];
    double sum = 0.0, size = 0.0;

    for (size_t x = 0; x < p->k; x++) {
        const double a =
            rounded(p->ta ? p->a[x * p->lda + i] : p->a[i * p->lda + x], bf16);
        const double b =
            rounded(p->tb ? p->b[j * p->ldb + x] : p->b[x * p->ldb + j], bf16);

        sum += a * b;
        size += fabs(a * b);
    }
    const double want = (double)p->alpha * sum + old;
    const double scale = fabs((double)p->alpha) * size + fabs(old);
    const double bound = (double)(p->k + 8) * 0x1p-23 * scale;

    if (!(fabs((double)q->c[at] - want) <= bound))
        fail_msg("%s m %zu n %zu k %zu ta %d tb %d: [%zu][%zu] is %g, not %g",
                 bf16 ? "bf16" : "f32", p->m, p->n, p->k, p->ta, p->tb, i, j,
                 (double)q->c[at], want);
}

/* Everything of small products; of large ones the edges and a few within. */
static void check(const struct problem *q, enum train_precision precision)
{
    const struct train_product *p = &q->p;
    const size_t step_i = p->m * p->n * p->k > 200000 ? p->m / 5 + 1 : 1;
    const size_t step_j = step_i > 1 ? p->n / 7 + 1 : 1;

    for (size_t i = 0; i < q->c_size; i++) {
        const size_t row = i / p->ldc, col = i % p->ldc;

        if (row < 1 || row > p->m || col >= p->n)
            assert_true(q->c[i] == guard);
        else
            assert_true(q->c[i] == q->c[i]); /* not NaN: written */
    }
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++)
            if ((i % step_i == 0 || i + 1 == p->m) &&
                (j % step_j == 0 || j + 1 == p->n))
                check_element(q, precision == TRAIN_BF16, i, j);
}

struct in_team {
    const struct train_gemm_ctx *ctx;
    const struct train_product *p;
    bool alone;
};

static void run_in_team(struct infer_member *me, void *arg)
{
    const struct in_team *t = arg;

    if (!t->alone)
        train_gemm_phase(me, t->ctx, t->p);
    else if (me->id == me->n - 1)
        train_gemm_alone(me, t->ctx, t->p);
}

/* Contexts of every kind of kernels and some team sizes. */
enum { F32, BF16, BF16_AVX512, N_KINDS };

static const struct {
    enum train_precision precision;
    unsigned cpu;
} kinds[N_KINDS] = {
    [F32] = {TRAIN_F32, (unsigned)INFER_CPU_ALL},
    [BF16] = {TRAIN_BF16, (unsigned)INFER_CPU_ALL},
    [BF16_AVX512] = {TRAIN_BF16, ~(unsigned)INFER_CPU_AMXBF16},
};
static struct infer_team *teams[N_TEAMS]; /* the first is none */
static struct train_gemm_ctx *ctxs[N_KINDS][N_TEAMS];

static int setup(void **state)
{
    (void)state;
    for (int t = 0; t < N_TEAMS; t++) {
        if (t)
            assert_int_equal(infer_team_create(&teams[t], t, 0, NULL), 0);
        for (int p = 0; p < N_KINDS; p++)
            assert_int_equal(train_gemm_create(&ctxs[p][t], kinds[p].precision,
                                               teams[t], kinds[p].cpu, NULL),
                             0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int t = 0; t < N_TEAMS; t++) {
        for (int p = 0; p < N_KINDS; p++)
            train_gemm_free(ctxs[p][t]);
        infer_team_free(teams[t]);
    }
    return 0;
}

/* Each way to ask for the product. */
static void check_ways(struct problem *q, struct train_gemm_ctx *ctx,
                       struct infer_team *team)
{
    const enum train_precision precision = train_gemm_precision(ctx);
    struct train_product p = q->p;
    struct train_packed *packed = NULL;

    reset(q);
    train_gemm(ctx, p.ta, p.tb, p.m, p.n, p.k, p.alpha, p.a, p.lda, p.b, p.ldb,
               p.beta, p.c, p.ldc);
    check(q, precision);
    assert_int_equal(train_packed_create(&packed, ctx, p.k, p.n, NULL), 0);
    train_packed_fill(ctx, packed, p.tb, p.b, p.ldb);
    p.packed = packed;
    reset(q);
    train_gemm_run(ctx, &p);
    check(q, precision);
    for (int alone = 0; alone < 2 && team; alone++) {
        for (int use = 0; use < 2; use++) {
            struct in_team t = {ctx, &p, alone};

            p.packed = use ? packed : NULL;
            reset(q);
            infer_team_run(team, run_in_team, &t);
            check(q, precision);
        }
    }
    train_packed_free(packed);
}

static void check_shape(size_t m, size_t n, size_t k, float alpha, float beta)
{
    for (int trans = 0; trans < 4; trans++) {
        struct problem q;

        problem_init(&q, m, n, k, trans & 1, trans & 2,
                     (size_t)trans + (m + n) % 3);
        q.p.alpha = alpha;
        q.p.beta = beta;
        for (int p = 0; p < N_KINDS; p++)
            for (int t = 0; t < N_TEAMS; t++)
                check_ways(&q, ctxs[p][t], teams[t]);
        problem_release(&q);
    }
}

static void test_small_sizes(void **state)
{
    static const size_t ms[] = {0, 1, 2, 5, 6, 13, 14, 15, 29};
    static const size_t ns[] = {0, 1, 15, 16, 17, 31, 32, 33, 65};
    static const size_t ks[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 63};
    int turn = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++)
        for (size_t j = 0; j < sizeof(ns) / sizeof(ns[0]); j++)
            for (size_t x = 0; x < sizeof(ks) / sizeof(ks[0]); x++, turn++)
                check_shape(ms[i], ns[j], ks[x], turn % 2 ? 1.0f : -0.75f,
                            turn % 3 ? (float)(turn % 3 - 1) : 0.5f);
}

/* Sizes past each block of the caches, and one short of it. */
static void test_blocks(void **state)
{
    (void)state;
    check_shape(96, 64, 512, 1.0f, 0.0f);
    check_shape(97, 129, 513, 1.0f, 1.0f);
    check_shape(225, 70, 130, 0.5f, 0.0f);
    check_shape(450, 33, 1027, 1.0f, 0.25f);
    check_shape(30, 600, 520, 1.0f, 1.0f);
    check_shape(7, 2100, 2051, 1.0f, 0.0f);
    check_shape(9, 4500, 1000, -1.0f, 1.0f);
    check_shape(150, 700, 1100, 1.0f, 1.0f); /* wide: shared by columns */
}

/* No bit depends on the threads or on the way B was packed. */
static void test_bf16_is_deterministic(void **state)
{
    struct train_gemm_ctx *const *ctx = ctxs[TRAIN_BF16];
    struct problem q;
    float *want;

    (void)state;
    problem_init(&q, 301, 77, 1030, false, true, 0);
    want = calloc(q.c_size, sizeof(*want));
    assert_non_null(want);
    for (int t = 0; t < N_TEAMS; t++) {
        struct train_packed *packed = NULL;

        if (train_gemm_precision(ctx[t]) != TRAIN_BF16)
            break;
        reset(&q);
        train_gemm_run(ctx[t], &q.p);
        if (t == 0)
            memcpy(want, q.c, q.c_size * sizeof(*want));
        assert_memory_equal(want, q.c, q.c_size * sizeof(*want));
        assert_int_equal(
            train_packed_create(&packed, ctx[t], q.p.k, q.p.n, NULL), 0);
        train_packed_fill(ctx[t], packed, true, q.p.b, q.p.ldb);
        q.p.packed = packed;
        reset(&q);
        train_gemm_run(ctx[t], &q.p);
        assert_memory_equal(want, q.c, q.c_size * sizeof(*want));
        train_packed_free(packed);
        q.p.packed = NULL;
    }
    free(want);
    problem_release(&q);
}

/* ---- work beside ----------------------------------------------------------
 */

/* A product whose rows come from make and go to finish. */
struct beside_case {
    const struct train_product *p;
    const float *a; /* [m][k] */
    float *c;       /* [m][n] what finish saw, */
    int *seen;      /* [m][n] and how often */
    int *made;      /* [m] */
};

static void make_rows(const void *arg, float *to, size_t row, size_t rows)
{
    const struct beside_case *b = arg;
    const size_t k = b->p->k;

    for (size_t r = 0; r < rows; r++) {
        b->made[row + r]++;
        memcpy(to + r * b->p->lda, b->a + (row + r) * k, k * sizeof(*to));
    }
}

static void finish_rows(const void *arg, float *c, size_t ldc, size_t row,
                        size_t rows, size_t c0, size_t c1)
{
    const struct beside_case *b = arg;
    const size_t n = b->p->n;

    assert_int_equal(row % TRAIN_ROW_BLOCK, 0);
    if (b->p->beside->whole)
        assert_true(c0 == 0 && c1 == n);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = c0; i < c1; i++) {
            b->seen[(row + r) * n + i]++;
            b->c[(row + r) * n + i] = c[r * ldc + i - c0];
        }
}

/* As plain, but by make and finish, in place (own false) or in members' room:
 * the same bits, each row once. */
static void check_beside(const struct train_gemm_ctx *ctx,
                         const struct train_product *plain, float *room,
                         bool own, bool whole)
{
    const size_t m = plain->m, n = plain->n;
    struct train_product p = *plain;
    struct beside_case b = {.p = &p, .a = plain->a};
    struct train_beside beside = {.make = make_rows,
                                  .finish = finish_rows,
                                  .whole = whole,
                                  .made = own ? NULL : room,
                                  .make_arg = &b,
                                  .finish_arg = &b};

    b.c = calloc(m * n, sizeof(*b.c));
    b.seen = calloc(m * n, sizeof(*b.seen));
    b.made = calloc(m, sizeof(*b.made));
    assert_true(b.c && b.seen && b.made);
    p.a = own ? NULL : room;
    p.c = own ? NULL : room + m * p.k;
    p.beside = &beside;
    train_gemm_run(ctx, &p);
    for (size_t i = 0; i < m; i++)
        assert_int_equal(b.made[i], 1);
    for (size_t i = 0; i < m * n; i++)
        assert_int_equal(b.seen[i], 1);
    assert_memory_equal(b.c, plain->c, m * n * sizeof(*b.c));
    free(b.c);
    free(b.seen);
    free(b.made);
}

static void check_beside_shape(size_t m, size_t n, size_t k)
{
    float *a = fill(m * k), *b = fill(n * k), *bias = fill(n);
    float *c = fill(m * n), *room = fill(m * (n + k));
    const struct train_product p = {.tb = true,
                                    .m = m,
                                    .n = n,
                                    .k = k,
                                    .alpha = 1.0f,
                                    .a = a,
                                    .lda = k,
                                    .b = b,
                                    .ldb = k,
                                    .c = c,
                                    .ldc = n,
                                    .bias = bias};

    for (int kind = 0; kind < N_KINDS; kind++)
        for (int t = 0; t < N_TEAMS; t++) {
            const struct train_gemm_ctx *ctx = ctxs[kind][t];

            train_gemm_run(ctx, &p);
            for (int whole = 0; whole < 2; whole++) {
                check_beside(ctx, &p, room, false, whole);
                if (train_gemm_fits(ctx, n, k, whole))
                    check_beside(ctx, &p, room, true, whole);
            }
        }
    free(a);
    free(b);
    free(bias);
    free(c);
    free(room);
}

static void test_beside(void **state)
{
    (void)state;
    check_beside_shape(0, 40, 40); /* a batch of empty texts */
    check_beside_shape(1, 1, 1);
    check_beside_shape(63, 33, 40);
    check_beside_shape(700, 70, 130);
    check_beside_shape(130, 1100, 600); /* several groups, several parts */
    check_beside_shape(300, 48, 3000);
    if (train_gemm_precision(ctxs[BF16][0]) == TRAIN_BF16) {
        assert_true(train_gemm_fits(ctxs[BF16][0], 768, 3072, true));
        assert_false(train_gemm_fits(ctxs[BF16][0], 5000, 64, true));
        assert_true(train_gemm_fits(ctxs[BF16][0], 5000, 64, false));
        assert_false(train_gemm_fits(ctxs[BF16][0], 4096, 4096, false));
    }
    assert_false(train_gemm_fits(ctxs[F32][0], 64, 64, false));
}

/* bias and a_sums against what they are defined as. */
static void test_vectors(void **state)
{
    const size_t m = 150, n = 45, k = 333;
    float *a = fill(k * m), *b = fill(n * k), *bias = fill(n), *c = fill(m * n);
    float *plain = fill(m * n), *sums = fill(m);
    struct train_product p = {.ta = true,
                              .m = m,
                              .n = n,
                              .k = k,
                              .alpha = -1.5f,
                              .a = a,
                              .lda = m,
                              .b = b,
                              .ldb = n,
                              .ldc = n};

    (void)state;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int t = 0; t < N_TEAMS; t++) {
            p.c = plain;
            p.bias = p.a_sums = NULL;
            train_gemm_run(ctxs[kind][t], &p);
            p.c = c;
            p.bias = bias;
            p.a_sums = sums;
            for (size_t i = 0; i < m; i++)
                sums[i] = (float)i;
            train_gemm_run(ctxs[kind][t], &p);
            for (size_t i = 0; i < m * n; i++)
                assert_true(fabsf(c[i] - plain[i] - bias[i % n]) < 1e-4f);
            for (size_t i = 0; i < m; i++) {
                double want = (double)i;

                for (size_t x = 0; x < k; x++)
                    want += (double)a[x * m + i];
                assert_true(fabs((double)sums[i] - want) < 1e-3);
            }
        }
    free(a);
    free(b);
    free(bias);
    free(c);
    free(plain);
    free(sums);
}

static uint16_t *to_half(float *x, size_t n)
{
    uint16_t *h = malloc(n * sizeof(*h));

    assert_non_null(h);
    for (size_t i = 0; i < n; i++) {
        h[i] = infer_f32_to_bf16(x[i]);
        x[i] = infer_bf16_to_f32(h[i]);
    }
    return h;
}

/* B [k][n] as finish would hand it over: blocks of rows, groups of columns, in
 * room for more rows. */
static struct train_packed *pack_by_rows(const struct train_gemm_ctx *ctx,
                                         const float *b, size_t n, size_t k)
{
    struct train_packed *packed = NULL;

    assert_int_equal(train_packed_create(&packed, ctx, k + 100, n, NULL), 0);
    for (size_t row = 0; row < k; row += TRAIN_ROW_BLOCK)
        for (size_t c = 0; c < n; c += 32) {
            const size_t left = k - row;

            train_packed_rows(packed, b + row * n + c, n, row,
                              left < TRAIN_ROW_BLOCK ? left : TRAIN_ROW_BLOCK,
                              c, c + 32 < n ? c + 32 : n);
        }
    return packed;
}

/* A rounded before, B packed by rows, sums of A: the bits of the product that
 * does it all itself. */
static void test_prepared_operands(void **state)
{
    const size_t m = 77, n = 50, k = 157;
    float *a = fill(m * k), *b = fill(n * k);
    float *c = fill(m * n), *want = fill(m * n), *sums = fill(m);
    float *want_sums = fill(m);
    uint16_t *a16 = to_half(a, m * k);

    (void)state;
    for (int kind = BF16; kind < N_KINDS; kind++)
        for (int ta = 0; ta < 2; ta++) {
            struct train_product p = {.ta = ta,
                                      .m = m,
                                      .n = n,
                                      .k = k,
                                      .alpha = 1.0f,
                                      .a = a,
                                      .lda = ta ? m : k,
                                      .b = b,
                                      .ldb = n,
                                      .c = want,
                                      .ldc = n};
            struct train_packed *packed;

            if (train_gemm_precision(ctxs[kind][2]) != TRAIN_BF16)
                break;
            memset(sums, 0, m * sizeof(*sums));
            memset(want_sums, 0, m * sizeof(*sums));
            p.a_sums = ta ? want_sums : NULL;
            train_gemm_run(ctxs[kind][2], &p);
            packed = pack_by_rows(ctxs[kind][2], b, n, k);
            p.a_sums = ta ? sums : NULL;
            p.a = p.b = NULL;
            p.a16 = a16;
            p.packed = packed;
            p.c = c;
            train_gemm_run(ctxs[kind][2], &p);
            assert_memory_equal(c, want, m * n * sizeof(*c));
            assert_memory_equal(sums, want_sums, m * sizeof(*sums));
            train_packed_free(packed);
        }
    free(a);
    free(b);
    free(c);
    free(want);
    free(sums);
    free(want_sums);
    free(a16);
}

static void test_no_bf16_means_f32(void **state)
{
    struct train_gemm_ctx *ctx;

    (void)state;
    assert_int_equal(train_gemm_create(&ctx, TRAIN_BF16, NULL,
                                       INFER_CPU_AVX2 | INFER_CPU_AVX512VNNI,
                                       NULL),
                     0);
    assert_int_equal(train_gemm_precision(ctx), TRAIN_F32);
    train_gemm_free(ctx);
}

static void test_blas_is_named(void **state)
{
    (void)state;
    assert_non_null(train_blas_core());
    printf("OpenBLAS core %s: %s\n", train_blas_core(),
           train_blas_warning() ? train_blas_warning() : "good");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_sizes),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_bf16_is_deterministic),
        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_prepared_operands),
        cmocka_unit_test(test_no_bf16_means_f32),
        cmocka_unit_test(test_blas_is_named),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
