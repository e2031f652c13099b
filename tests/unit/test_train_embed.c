/*
 * test_train_embed.c - the losses of embedders: values by hand, gradients
 * against differences of the loss along them, in f32.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/enc/embed_loss.h"

#include <math.h>
#include <string.h>

enum { N = 6, D = 8 };

struct work {
    struct train_gemm_ctx *gemm;
    struct enc_embed_loss loss;
    float v[N * D];
};

static const size_t dims[] = {D, 3};

static void begin(struct work *w, size_t n_dims)
{
    uint32_t seed = 7;

    assert_int_equal(train_gemm_create(&w->gemm, TRAIN_F32, NULL,
                                       (unsigned)INFER_CPU_ALL, NULL),
                     0);
    assert_int_equal(
        enc_embed_loss_create(&w->loss, N, D, dims, n_dims, w->gemm, NULL), 0);
    for (int i = 0; i < N * D; i++) {
        seed = seed * 1664525u + 1013904223u;
        w->v[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

static void end(struct work *w)
{
    enc_embed_loss_release(&w->loss);
    train_gemm_free(w->gemm);
}

static double evaluate(struct work *w, int kind, const float *v)
{
    static const int32_t group[N] = {0, 0, 1, 1, 1, -1};
    static const float scores[N / 2] = {4.0f, 1.0f, 3.0f};

    if (kind == 0)
        return enc_embed_contrast(&w->loss, v, group, N, 0.5f);
    return enc_embed_order(&w->loss, v, scores, N / 2, 0.5f, kind == 2);
}

static void test_gradients(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct work w;
        float g[N * D], v[N * D];
        double norm = 0.0, at[2];

        begin(&w, 2);
        evaluate(&w, kind, w.v);
        memcpy(g, w.loss.dv, sizeof(g));
        for (int i = 0; i < N * D; i++)
            norm += (double)g[i] * (double)g[i];
        norm = sqrt(norm);
        assert_true(norm > 1e-3);
        for (int side = 0; side < 2; side++) {
            const double h = (side ? -1e-2 : 1e-2) / norm;

            for (int i = 0; i < N * D; i++)
                v[i] = (float)((double)w.v[i] + h * (double)g[i]);
            at[side] = evaluate(&w, kind, v);
        }
        const double slope = (at[0] - at[1]) / (2e-2 / norm);

        if (!(fabs(slope / (norm * norm) - 1.0) < 5e-3))
            fail_msg("loss %d: slope %g, gradient %g", kind, slope / norm,
                     norm);
        end(&w);
    }
}

/* Two pairs of equal texts at right angles, temperature 1: each finds its
 * partner with e / (e + 2); a negative at right angles too makes it
 * e / (e + 3). */
static void test_values(void **state)
{
    static const int32_t group[5] = {0, 0, 1, 1, -1};
    float v[5 * D] = {0};
    struct work w;

    (void)state;
    begin(&w, 1);
    v[0] = 1.0f;
    v[D] = 2.0f; /* lengths do not matter */
    v[2 * D + 1] = v[3 * D + 1] = 1.0f;
    v[4 * D + 2] = 1.0f;
    const double e = exp(1.0);

    assert_true(fabs(enc_embed_contrast(&w.loss, v, group, 4, 1.0f) -
                     log((e + 2.0) / e)) < 1e-5);
    assert_true(fabs(enc_embed_contrast(&w.loss, v, group, 5, 1.0f) -
                     log((e + 3.0) / e)) < 1e-5);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_values)};

    return cmocka_run_group_tests_name("train embed", tests, NULL, NULL);
}
