/*
 * test_train_sets.c - the layers of each instruction set against the plain
 * ones: sums run in another order, so floats agree to a few parts in 1e6 of
 * what was summed, and padding or a tail at the wrong place does not. Values
 * behind each output must stay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer.h"
#include "core/base/half.h"
#include "trainer/gemm/bf16.h"
#include "trainer/nn/layers_sets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 16, MAX_OUT = 4 };

/* One call of a layer: outputs are filled alike before each. */
struct trial {
    const char *what;
    const struct nn_layers *l;
    const struct bf16_kernels *mul;
    size_t rows, d;
    float *in[4];
    float *out[MAX_OUT];
    size_t n_out[MAX_OUT];
};

typedef void trial_fn(struct trial *t);

static float *randoms(size_t n, uint32_t seed)
{
    float *x = malloc((n + GUARD) * sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n + GUARD; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

static void norms(struct trial *t)
{
    const struct nn_layers *l = t->l;
    float *const *o = t->out;

    l->rmsnorm(o[0], o[1], o[2], t->in[0], t->in[1], t->in[2], t->rows, t->d,
               1e-5f);
    l->rmsnorm_back(o[2], o[3], o[0], t->in[3], t->in[0], t->in[1], o[1],
                    t->rows, t->d);
}

static void layer_norms(struct trial *t)
{
    const struct nn_layers *l = t->l;
    float *const *o = t->out;

    l->layernorm(o[0], o[1], NULL, t->in[0], t->in[1], t->in[2], NULL, t->rows,
                 t->d, 1e-5f);
    l->layernorm_back(o[2], o[3], o[3] + t->d, o[0], t->in[3], t->in[0],
                      t->in[1], t->in[2], o[1], t->rows, t->d);
}

static void activations(struct trial *t)
{
    const struct nn_layers *l = t->l;
    float *const *o = t->out;

    l->swiglu(o[0], t->in[0], t->rows, t->d);
    l->gelu(o[1], t->in[1], t->rows, t->d);
    l->swiglu_back(o[2], o[0], t->rows, t->d);
    l->gelu_back(o[3], o[1], t->rows, t->d);
}

static void others(struct trial *t)
{
    const struct nn_dropout drop = {{3, 4}, 1u << 30, 4.0f / 3.0f};
    const struct nn_layers *l = t->l;
    float *const *o = t->out;

    l->residual(o[0], t->in[0], t->in[1], &drop, 5, t->rows, t->d);
    l->relu2(o[1], t->in[1], t->rows, t->d);
    l->relu2_back(o[2], o[1], t->rows, t->d);
    l->add_bias_back(o[3], t->in[0], t->rows, t->d, 0, t->d);
    l->add_bias(o[0], t->in[2], t->rows, t->d);
}

static void losses(struct trial *t)
{
    int32_t targets[8];

    for (size_t i = 0; i < t->rows; i++)
        targets[i] = (int32_t)(i * 5 % (t->d + 1)) - 1;
    t->l->cross_entropy(t->out[0], targets, t->out[1], t->out[2], t->rows, t->d,
                        0.1f, true, 0.3f);
}

static void updates(struct trial *t)
{
    const struct nn_update u = {.lr = 0.1f,
                                .decay = 0.2f,
                                .l2 = 0.1f,
                                .grad_scale = 0.7f,
                                .beta1 = 0.9f,
                                .beta2 = 0.95f,
                                .eps = 1e-3f,
                                .correct1 = 2.0f,
                                .correct2 = 3.0f};
    const size_t n = t->rows * t->d;
    float *const *o = t->out;

    for (size_t i = 0; i < n; i++)
        o[2][i] = fabsf(o[2][i]);
    t->l->adam(o[0], o[1], o[2], t->in[0], n, &u);
    t->l->nesterov(o[3], o[1], t->in[0], n, &u);
    t->l->blend(o[3], 0.3f, t->in[1], 0.6f, n);
    o[3][0] = (float)t->l->sum_squares(t->in[1], n);
}

static void attentions(struct trial *t)
{
    const size_t k = t->d, n = t->rows * 16;
    const size_t n_scratch = t->l->attention_scratch(n, k);
    float *scratch = aligned_alloc(64, (n_scratch + 15) / 16 * 64);
    const struct nn_attn a = {.mul = t->mul,
                              .qkv = t->out[0],
                              .out = t->out[1],
                              .lse = t->out[2],
                              .dout = t->in[0],
                              .cs = k % 2 ? NULL : t->in[1],
                              .n_tokens = n,
                              .n_heads = 2,
                              .n_kv_heads = 1,
                              .d_head = k};

    assert_non_null(scratch);
    memset(scratch, 0xff, n_scratch * sizeof(*scratch));
    t->l->attention(&a, 0, scratch);
    memcpy(t->out[3], t->out[1], n * 2 * k * sizeof(float));
    t->l->attention_back(&a, 0, scratch);
    free(scratch);
}

/* With products in bfloat16: see test_attention_in_bf16. */
static struct bf16_kernels bf16;

static void attentions_bf16(struct trial *t)
{
    t->mul = &bf16;
    attentions(t);
}

static void check_outputs(const struct trial *want, const struct trial *got)
{
    for (int i = 0; i < MAX_OUT; i++) {
        const float *a = want->out[i], *b = got->out[i];
        const size_t n = want->n_out[i];

        assert_memory_equal(a + n, b + n, GUARD * sizeof(*a));
        for (size_t j = 0; j < n; j++)
            if (!(fabsf(a[j] - b[j]) <= 2e-5f * (1.0f + fabsf(a[j]))))
                fail_msg("%s, %s, %zu rows of %zu, output %d, value %zu: "
                         "%.9g, not %.9g",
                         got->what, got->l->name, got->rows, got->d, i, j,
                         (double)b[j], (double)a[j]);
    }
}

static struct trial make_trial(const char *what, const struct nn_layers *l,
                               size_t rows, size_t d, size_t room)
{
    struct trial t = {.what = what, .l = l, .rows = rows, .d = d};

    for (uint32_t i = 0; i < 4; i++) {
        t.in[i] = randoms(room, 10 + i);
        t.out[i] = randoms(room, 20 + i);
        t.n_out[i] = room;
    }
    return t;
}

static void free_trial(struct trial *t)
{
    for (int i = 0; i < 4; i++) {
        free(t->in[i]);
        free(t->out[i]);
    }
}

static void compare(const char *what, trial_fn *f, size_t rows, size_t d,
                    size_t room)
{
    const unsigned cpu = infer_cpu_detect();
    struct trial plain = make_trial(what, nn_layers_plain(), rows, d, room);
    const struct nn_layers *const sets[] = {
        cpu & INFER_CPU_AVX2 ? nn_layers_avx2() : NULL,
        cpu & INFER_CPU_AVX512VNNI ? nn_layers_avx512() : NULL};

    f(&plain);
    for (int i = 0; i < 2; i++) {
        if (!sets[i])
            continue;
        struct trial t = make_trial(what, sets[i], rows, d, room);

        f(&t);
        check_outputs(&plain, &t);
        free_trial(&t);
    }
    free_trial(&plain);
}

static void test_rows(void **state)
{
    static const struct {
        const char *what;
        trial_fn *f;
    } kinds[] = {{"norms", norms},   {"layer norms", layer_norms},
                 {"others", others}, {"activations", activations},
                 {"losses", losses}, {"updates", updates}};

    (void)state;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        for (size_t d = 1; d < 70; d += d < 34 ? 1 : 7)
            for (size_t rows = 1; rows < 4; rows++)
                compare(kinds[k].what, kinds[k].f, rows, d, 2 * rows * d + 8);
}

static void test_attention(void **state)
{
    (void)state;
    for (size_t k = 1; k < 70; k += 11)
        for (size_t rows = 1; rows < 10; rows += 4)
            compare("attention", attentions, rows, k, rows * 16 * 4 * (k + 1));
}

/* bfloat16 there and back, and what is not a number. */
static void test_half(void **state)
{
    const unsigned cpu = infer_cpu_detect();
    const struct nn_layers *const sets[] = {
        nn_layers_plain(), cpu & INFER_CPU_AVX2 ? nn_layers_avx2() : NULL,
        cpu & INFER_CPU_AVX512VNNI ? nn_layers_avx512() : NULL};
    float x[37], y[37];
    uint16_t h[38];

    (void)state;
    for (uint32_t i = 0; i < 37; i++) /* every exponent, some ties */
        x[i] = infer_f32_from_bits(i * 0x06f2c8d5u ^ (i % 4 ? 0 : 0x8000u));
    x[5] = NAN;
    x[6] = INFINITY;
    x[7] = -0.0f;
    x[8] = infer_f32_from_bits(0x3f808000u); /* a tie: to even */
    x[9] = infer_f32_from_bits(0x3f818000u);
    for (int s = 0; s < 3; s++)
        for (size_t n = 0; n <= 37 && sets[s]; n++) {
            h[n] = 0x1234;
            sets[s]->narrow(h, x, n);
            assert_int_equal(h[n], 0x1234);
            sets[s]->widen(y, h, n);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(h[i], infer_f32_to_bf16(x[i]));
                assert_int_equal(infer_f32_bits(y[i]), (uint32_t)h[i] << 16);
            }
        }
}

/* e^x where it matters: tiny, huge, and not a number. */
static void test_extremes(void **state)
{
    float x[8] = {-1e30f, 1e30f, -100.0f, 100.0f, 0.0f, -0.0f, 1.0f, -1.0f};
    const int32_t targets[1] = {1};
    float y[8], loss, nll;

    (void)state;
    nn_layers()->swiglu(y, (float[]){-1e30f, 90.0f, 1.0f, 1.0f}, 1, 2);
    assert_true(fabsf(y[0]) < 1e-6f && y[1] == 90.0f);
    nn_layers()->cross_entropy(x, targets, &loss, &nll, 1, 8, 0.0f, true, 1);
    assert_true(nll == 0.0f && x[0] == 0.0f && x[1] == 0.0f);
    x[3] = NAN;
    nn_layers()->cross_entropy(x, targets, &loss, &nll, 1, 8, 0.0f, true, 1);
    assert_true(isnan(loss));
}

/* Root of the mean square of x, or of x - y. */
static double rms(const float *x, const float *y, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (y ? (double)y[i] : 0.0);

        sum += d * d;
    }
    return sqrt(sum / (double)n);
}

/* Rounding an operand moves it by 2^-10 of itself on average, and at most three
 * products follow each other: far below 2^-6 of what comes out. A tile in the
 * wrong place, or a mask that lets one key through, is far above. */
static void check_bf16(size_t rows, size_t d)
{
    const size_t room = rows * 16 * 4 * d;
    struct trial want =
        make_trial("attention", nn_layers_avx512(), rows, d, room);
    struct trial got =
        make_trial("attention bf16", nn_layers_avx512(), rows, d, room);
    const size_t n = rows * 16,
                 used[MAX_OUT] = {n * 4 * d, n * 2 * d, n * 2, n * 2 * d};

    attentions(&want);
    attentions_bf16(&got);
    for (int i = 0; i < MAX_OUT; i++) {
        const double off = rms(got.out[i], want.out[i], used[i]);
        const double size = rms(want.out[i], NULL, used[i]);

        if (!(off <= 0x1p-6 * size))
            fail_msg("%s, %zu rows of %zu, output %d: off by %g of %g",
                     bf16.name, rows, d, i, off, size);
        assert_memory_equal(want.out[i] + room, got.out[i] + room,
                            GUARD * sizeof(float));
    }
    free_trial(&want);
    free_trial(&got);
}

static void test_attention_in_bf16(void **state)
{
    static const size_t shapes[][2] = {{1, 8},  {3, 64},  {4, 32}, {5, 5},
                                       {9, 40}, {16, 64}, {17, 33}};
    static const unsigned masks[] = {(unsigned)INFER_CPU_ALL,
                                     ~(unsigned)INFER_CPU_AMXBF16};

    (void)state;
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
            if (train_bf16_kernels(&bf16, infer_cpu_detect() & masks[m]))
                check_bf16(shapes[i][0], shapes[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_in_bf16), cmocka_unit_test(test_half),
        cmocka_unit_test(test_extremes)};

    return cmocka_run_group_tests_name("train sets", tests, NULL, NULL);
}
