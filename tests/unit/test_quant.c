/*
 * test_quant.c - the block formats without a reference: sizes, error bounds
 * that follow from the number of bits, values at the edges, refusals.
 *
 * Bits against the reference: tests/golden/test_quants.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/half.h"
#include "core/format/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 1024, MAX_BYTES = 4 * N };

static const uint32_t all_types[] = {
    INFER_F32,  INFER_F16,  INFER_BF16, INFER_Q4_0,  INFER_Q4_1,
    INFER_Q5_0, INFER_Q5_1, INFER_Q8_0, INFER_Q2_K,  INFER_Q3_K,
    INFER_Q4_K, INFER_Q5_K, INFER_Q6_K, INFER_IQ4_NL};
static const uint32_t writable[] = {
    INFER_F32,  INFER_F16,  INFER_BF16, INFER_Q4_0, INFER_Q4_1, INFER_Q5_0,
    INFER_Q5_1, INFER_Q8_0, INFER_Q4_K, INFER_Q5_K, INFER_Q6_K};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Blocks, aligned as files align them. */
static _Alignas(32) uint8_t blocks[MAX_BYTES], again[MAX_BYTES];

static uint32_t seed;

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f;
}

/* Sum of uniforms: near enough to normal, with variance 1. */
static void fill_normal(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = -6.0f;
        for (int k = 0; k < 12; k++)
            x[i] += uniform();
    }
}

static void quantize(uint32_t type, const float *x, void *out, const float *w)
{
    struct infer_error err = {0};

    if (infer_quantize(type, x, out, N, w, &err))
        fail_msg("%s", err.text);
}

/* Root of the weighted mean square error of a round trip. */
static double loss(uint32_t type, const float *x, const float *weight,
                   const float *judge)
{
    double sum = 0.0, total = 0.0;
    float y[N];

    quantize(type, x, blocks, weight);
    infer_dequantize(type, blocks, y, N);
    for (size_t i = 0; i < N; i++) {
        const double e = (double)y[i] - (double)x[i];
        const double w = judge ? (double)judge[i] : 1.0;

        sum += w * e * e;
        total += w;
    }
    return sqrt(sum / total);
}

/* ---- the table ------------------------------------------------------------
 */

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(all_types); i++) {
        const struct infer_qtype_info *info = infer_qtype_info(all_types[i]);

        assert_non_null(info);
        assert_int_equal(infer_qtype_parse(info->name), (int)all_types[i]);
        assert_int_equal(infer_qtype_bytes(all_types[i], N),
                         N / info->block * info->block_bytes);
    }
    assert_int_equal(infer_qtype_parse("q4_k"), INFER_Q4_K);
    assert_int_equal(infer_qtype_parse("iq4_nl"), INFER_IQ4_NL);
    assert_int_equal(infer_qtype_parse("q4"), -1);
    assert_int_equal(infer_qtype_parse(""), -1);
    assert_null(infer_qtype_info(4));
    assert_null(infer_qtype_info(31));
    assert_null(infer_qtype_info(UINT32_MAX));
}

/* ---- errors of a round trip ------------------------------------------------
 */

/* A step is the spacing of values; rounding is off by half of it at most, and
 * the half-precision scale by 2^-11 of the value. */
static void test_worst_error(void **state)
{
    static const struct {
        uint32_t type;
        float step;   /* in parts of the largest magnitude, or of the range */
        bool range;   /* of the range */
        float excess; /* Q4_0 and Q5_0 lack +8 (+16): it becomes +7 (+15) */
    } cases[] = {
        {INFER_Q8_0, 1.0f / 127, false, 0.5f},
        {INFER_Q4_0, 1.0f / 8, false, 1.0f},
        {INFER_Q5_0, 1.0f / 16, false, 1.0f},
        {INFER_Q4_1, 1.0f / 15, true, 0.5f},
        {INFER_Q5_1, 1.0f / 31, true, 0.5f},
    };
    float x[N], y[N];

    (void)state;
    seed = 1;
    fill_normal(x, N);
    for (size_t c = 0; c < COUNT(cases); c++) {
        quantize(cases[c].type, x, blocks, NULL);
        infer_dequantize(cases[c].type, blocks, y, N);
        for (size_t b = 0; b < N; b += 32) {
            float lo = x[b], hi = x[b], max, span;

            for (size_t i = b; i < b + 32; i++) {
                lo = fminf(lo, x[i]);
                hi = fmaxf(hi, x[i]);
            }
            max = fmaxf(-lo, hi);
            span = cases[c].range ? hi - lo : max;
            for (size_t i = b; i < b + 32; i++)
                assert_true(fabsf(x[i] - y[i]) <=
                            cases[c].excess * cases[c].step * span +
                                2.0f * (span + max) / 2048.0f);
        }
    }
}

/* More bits lose less, on data like weights: relative errors near those that
 * the number of levels predicts for a normal distribution. */
static void test_mean_error(void **state)
{
    static const struct {
        uint32_t type;
        double most; /* of the standard deviation */
    } cases[] = {
        {INFER_F32, 0.0},    {INFER_F16, 3e-4},   {INFER_BF16, 2.5e-3},
        {INFER_Q8_0, 0.007}, {INFER_Q6_K, 0.021}, {INFER_Q5_K, 0.038},
        {INFER_Q5_1, 0.042}, {INFER_Q5_0, 0.048}, {INFER_Q4_K, 0.078},
        {INFER_Q4_1, 0.086}, {INFER_Q4_0, 0.098},
    };
    float x[N];

    (void)state;
    seed = 2;
    fill_normal(x, N);
    for (size_t c = 0; c < COUNT(cases); c++) {
        const double e = loss(cases[c].type, x, NULL, NULL);

        if (e > cases[c].most)
            fail_msg("%s: %.5f", infer_qtype_info(cases[c].type)->name, e);
    }
}

/* What has been quantized once stays what it is. */
static void test_second_round_trip_is_stable(void **state)
{
    static const uint32_t stable[] = {INFER_F16, INFER_BF16, INFER_Q8_0,
                                      INFER_Q4_0, INFER_Q5_0};
    float x[N], y[N], z[N];

    (void)state;
    for (seed = 3; seed < 1000000; seed = seed * 7 + 1) {
        const uint32_t start = seed;

        fill_normal(x, N);
        for (size_t i = 0; i < COUNT(stable); i++) {
            quantize(stable[i], x, blocks, NULL);
            infer_dequantize(stable[i], blocks, y, N);
            quantize(stable[i], y, again, NULL);
            infer_dequantize(stable[i], again, z, N);
            for (size_t k = 0; k < N; k++)
                assert_true(y[k] == z[k]);
        }
        seed = start;
    }
}

static void test_importance_counts(void **state)
{
    static const uint32_t types[] = {INFER_Q4_0, INFER_Q4_1, INFER_Q5_0,
                                     INFER_Q5_1, INFER_Q4_K, INFER_Q5_K,
                                     INFER_Q6_K};
    float x[N], w[N], zero[N] = {0};

    (void)state;
    seed = 4;
    fill_normal(x, N);
    for (size_t i = 0; i < N; i++)
        w[i] = uniform() < 0.1f ? 100.0f : 0.1f;
    for (size_t i = 0; i < COUNT(types); i++) {
        assert_true(loss(types[i], x, w, w) < loss(types[i], x, NULL, w));
        assert_true(loss(types[i], x, zero, NULL) < 1.0);
    }
}

/* ---- edges ------------------------------------------------------------------
 */

static void check_round_trip(const float *x, float tolerance)
{
    for (size_t t = 0; t < COUNT(writable); t++) {
        float y[N];

        quantize(writable[t], x, blocks, NULL);
        infer_dequantize(writable[t], blocks, y, N);
        for (size_t i = 0; i < N; i++)
            if (!(fabsf(x[i] - y[i]) <= tolerance))
                fail_msg("%s: %g became %g",
                         infer_qtype_info(writable[t])->name, (double)x[i],
                         (double)y[i]);
    }
}

static void test_edges(void **state)
{
    float x[N] = {0};

    (void)state;
    check_round_trip(x, 0.0f); /* zeros */
    for (size_t i = 0; i < N; i++)
        x[i] = i % 2 ? 1e-38f : -1e-42f; /* nothing a half can scale to */
    check_round_trip(x, 1e-37f);
    for (size_t i = 0; i < N; i++)
        x[i] = i % 3 ? 1e-6f : 0.0f; /* scales below the smallest normal */
    check_round_trip(x, 1e-6f);
    for (size_t i = 0; i < N; i++)
        x[i] = 2.0f; /* all the same */
    check_round_trip(x, 0.13f);
    for (size_t i = 0; i < N; i++)
        x[i] = -3.0f;
    check_round_trip(x, 0.2f);
    memset(x, 0, sizeof(x));
    x[5] = 1000.0f; /* one alone */
    x[600] = -1000.0f;
    check_round_trip(x, 67.0f);
    for (size_t i = 0; i < N; i++)
        x[i] = i % 2 ? 60000.0f : -60000.0f; /* near the largest half */
    check_round_trip(x, 8200.0f);
}

static void test_refusals(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct infer_error err = {0};
    float x[N] = {0};

    (void)state;
    for (size_t t = 0; t < COUNT(writable); t++)
        for (size_t i = 0; i < COUNT(bad); i++) {
            x[N - 1] = bad[i];
            assert_int_equal(
                infer_quantize(writable[t], x, blocks, N, NULL, &err),
                INFER_EINVAL);
            assert_non_null(strstr(err.text, "not finite"));
            assert_false(infer_quant_finite(INFER_F32, x, N));
        }
    for (size_t t = 0; t < COUNT(writable); t++) {
        for (size_t i = 0; i < N; i++)
            x[i] = i % 2 ? 3e38f : -3e38f; /* only floats hold this */
        if (writable[t] == INFER_F32 || writable[t] == INFER_BF16)
            continue;
        assert_int_equal(infer_quantize(writable[t], x, blocks, N, NULL, &err),
                         INFER_EINVAL);
        assert_non_null(strstr(err.text, "too large"));
    }
    assert_int_equal(infer_quantize(INFER_Q2_K, x, blocks, N, NULL, &err),
                     INFER_EUNSUPPORTED);
    assert_int_equal(infer_quantize(INFER_IQ4_NL, x, blocks, N, NULL, &err),
                     INFER_EUNSUPPORTED);
    assert_int_equal(infer_quantize(99, x, blocks, N, NULL, &err),
                     INFER_EUNSUPPORTED);
}

/* ---- scales -----------------------------------------------------------------
 */

static void expect_finite(uint32_t type, size_t at, uint16_t half, bool want)
{
    const size_t last =
        infer_qtype_bytes(type, N) - infer_qtype_info(type)->block_bytes + at;

    memset(blocks, 0xff, sizeof(blocks)); /* every integer at its limit */
    for (size_t b = 0; b < infer_qtype_bytes(type, N);
         b += infer_qtype_info(type)->block_bytes)
        switch (type) { /* all scales good */
        case INFER_Q2_K:
            memset(blocks + b + 80, 0, 4);
            break;
        case INFER_Q3_K:
            memset(blocks + b + 108, 0, 2);
            break;
        case INFER_Q6_K:
            memset(blocks + b + 208, 0, 2);
            break;
        default:
            memset(blocks + b, 0, 4);
        }
    memcpy(blocks + last, &half, sizeof(half));
    assert_int_equal(infer_quant_finite(type, blocks, N), want);
}

static void test_scales_must_be_finite(void **state)
{
    static const struct {
        uint32_t type;
        int at[2]; /* of the halves in a block, -1: none */
    } cases[] = {
        {INFER_Q4_0, {0, -1}},   {INFER_Q5_0, {0, -1}},
        {INFER_Q8_0, {0, -1}},   {INFER_IQ4_NL, {0, -1}},
        {INFER_Q4_1, {0, 2}},    {INFER_Q5_1, {0, 2}},
        {INFER_Q4_K, {0, 2}},    {INFER_Q5_K, {0, 2}},
        {INFER_Q2_K, {80, 82}},  {INFER_Q3_K, {108, -1}},
        {INFER_Q6_K, {208, -1}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int k = 0; k < 2 && cases[i].at[k] >= 0; k++) {
            const size_t at = (size_t)cases[i].at[k];

            expect_finite(cases[i].type, at, 0x7bff, true);
            expect_finite(cases[i].type, at, 0x7c00, false);
            expect_finite(cases[i].type, at, 0xfc00, false);
            expect_finite(cases[i].type, at, 0x7e01, false);
        }
}

/* Six bits of each, however they are spread over the twelve bytes. */
static void test_k_scales(void **state)
{
    (void)state;
    for (int bit = 0; bit < 96; bit++) {
        uint8_t packed[12] = {0}, scale, min;
        int found = 0;

        packed[bit / 8] = (uint8_t)(1 << (bit % 8));
        for (int j = 0; j < 8; j++) {
            infer_k_scale_min(packed, j, &scale, &min);
            found += __builtin_popcount((unsigned)scale) +
                     __builtin_popcount((unsigned)min);
            assert_true(scale < 64 && min < 64);
        }
        assert_int_equal(found, 1); /* each bit belongs to one number */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_worst_error),
        cmocka_unit_test(test_mean_error),
        cmocka_unit_test(test_second_round_trip_is_stable),
        cmocka_unit_test(test_importance_counts),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_scales_must_be_finite),
        cmocka_unit_test(test_k_scales),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
