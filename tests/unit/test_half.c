/*
 * test_half.c - 16-bit floats against their definition: every half, and every
 * place where rounding to one changes its mind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/half.h"

#include <math.h>

enum { F16_INF = 0x7c00, BF16_INF = 0x7f80 };

/* sign, 5 bits of exponent (bias 15), 10 of mantissa, as IEEE 754 has it */
static double f16_value(unsigned h)
{
    const int exp = (h >> 10) & 31;
    const double man = h & 0x3ff;
    double v = exp == 0 ? ldexp(man, -24) : ldexp(1024 + man, exp - 25);

    if (exp == 31)
        v = man > 0 ? (double)NAN : (double)INFINITY;
    return h & 0x8000 ? -v : v;
}

static void test_every_half(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        const double want = f16_value(h);
        const float got = infer_f16_to_f32((uint16_t)h);

        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(infer_f16_to_f32(infer_f32_to_f16(got))));
            continue;
        }
        assert_true((double)got == want);
        assert_int_equal(!!signbit(got), h >> 15);
        assert_int_equal(infer_f32_to_f16(got), h);
    }
}

static void check_f16(float f, unsigned want)
{
    assert_int_equal(infer_f32_to_f16(f), want);
    assert_int_equal(infer_f32_to_f16(-f), want | 0x8000);
}

/* Between two neighbours: the middle goes to the even one, a hair to either
 * side of it to the nearer one. */
static void test_f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < F16_INF; h++) {
        const double lo = f16_value(h);
        const double hi = h + 1 == F16_INF ? 65536.0 : f16_value(h + 1);
        const float middle = (float)((lo + hi) / 2); /* exact */

        check_f16(middle, h + (h & 1));
        check_f16(nextafterf(middle, 0.0f), h);
        check_f16(nextafterf(middle, INFINITY), h + 1);
    }
    check_f16(1e30f, F16_INF);
    check_f16(INFINITY, F16_INF);
    check_f16(1e-40f, 0);
}

static void test_every_bf16(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        const float f = infer_bf16_to_f32((uint16_t)h);

        assert_int_equal(infer_f32_bits(f), h << 16);
        if (isnan(f))
            assert_true(isnan(infer_bf16_to_f32(infer_f32_to_bf16(f))));
        else
            assert_int_equal(infer_f32_to_bf16(f), h);
    }
}

static void test_bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        if ((h & BF16_INF) == BF16_INF)
            continue;
        const uint32_t middle = h << 16 | 0x8000;

        assert_int_equal(infer_f32_to_bf16(infer_f32_from_bits(middle)),
                         h + (h & 1));
        assert_int_equal(infer_f32_to_bf16(infer_f32_from_bits(middle - 1)), h);
        assert_int_equal(infer_f32_to_bf16(infer_f32_from_bits(middle + 1)),
                         h + 1);
    }
    /* a NaN whose upper half looks like infinity */
    assert_true(isnan(
        infer_bf16_to_f32(infer_f32_to_bf16(infer_f32_from_bits(0x7f800001)))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_f16_rounds_to_nearest_even),
        cmocka_unit_test(test_every_bf16),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
