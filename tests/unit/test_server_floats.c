/* test_server_floats.c - floats as text read back exactly; base64 too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/floats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_known(void **state)
{
    static const struct {
        float v;
        const char *text;
    } cases[] = {
        {0.0f, "0"},
        {-0.0f, "0"},
        {1.0f, "1"},
        {-1.5f, "-1.5"},
        {10.0f, "10"},
        {0.1f, "0.100000001"},
        {2e-5f, "0.0000199999995"},
        {123456.0f, "123456"},
        {1e9f, "1e9"},
        {1e-6f, "9.99999997e-7"},
        {3.4e38f, "3.39999995e38"},
        {100000000.0f, "100000000"},
    };
    char text[FLOAT_CHARS + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        text[float_text(text, cases[i].v)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
    text[float_text(text, NAN)] = '\0';
    assert_string_equal(text, "null");
}

/* Bit patterns all over the floats, denormals too. */
static void test_round_trip(void **state)
{
    uint32_t bits = 1;
    char text[64];

    (void)state;
    for (int i = 0; i < 400000; i++, bits = bits * 1664525u + 1013904223u) {
        float v, back;
        size_t n;

        memcpy(&v, &bits, 4);
        if (!isfinite(v))
            continue;
        n = float_text(text, v);
        assert_true(n <= FLOAT_CHARS);
        text[n] = '\0';
        back = strtof(text, NULL);
        if (back != v)
            fail_msg("%a becomes %s", (double)v, text);
    }
}

static void test_lists(void **state)
{
    const float v[] = {1.0f, -2.0f, 0.5f};
    struct buf b = {0};

    (void)state;
    floats_json(&b, v, 3);
    floats_json(&b, v, 0);
    floats_base64(&b, v, 1);
    floats_base64(&b, v, 2);
    floats_base64(&b, v, 3);
    buf_char(&b, '\0');
    assert_string_equal(b.data, "[1,-2,0.5][]AACAPw==AACAPwAAAMA="
                                "AACAPwAAAMAAAAA/");
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
