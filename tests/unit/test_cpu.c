/*
 * test_cpu.c - names of instruction sets, and what the machine says it has
 * against what the system's list of its flags says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "infer.h"

static void test_words(void **state)
{
    static const struct {
        const char *text;
        unsigned mask;
    } cases[] = {
        {"scalar", 0},
        {"all", (unsigned)INFER_CPU_ALL},
        {"avx2,avx512vnni", INFER_CPU_AVX2 | INFER_CPU_AVX512VNNI},
        {"amx", INFER_CPU_AMXINT8 | INFER_CPU_AMXBF16},
        {"amx,scalar,avx512bf16",
         INFER_CPU_AMXINT8 | INFER_CPU_AMXBF16 | INFER_CPU_AVX512BF16},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned mask = 77;

        assert_int_equal(infer_cpu_parse(cases[i].text, &mask, NULL), INFER_OK);
        assert_int_equal(mask, cases[i].mask);
    }
}

static void test_unknown_words(void **state)
{
    static const char *const bad[] = {"",      "avx",   "amxx",
                                      "avx2,", ",avx2", "avx2,neon"};
    struct infer_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        unsigned mask = 77;

        assert_int_equal(infer_cpu_parse(bad[i], &mask, &err), INFER_EINVAL);
        assert_int_equal(mask, 77);
    }
    assert_non_null(strstr(err.text, "'neon'"));
}

/* Whether /proc/cpuinfo lists the flag; false too where there is no such file.
 */
static bool listed(const char *flag)
{
    static char line[1 << 14];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool found = false;

    while (f && !found && fgets(line, sizeof(line), f)) {
        const char *at = strncmp(line, "flags", 5) == 0 ? line : NULL;

        for (; at && !found; at = strpbrk(at, " \n")) {
            at += strspn(at, " \n");
            found = strncmp(at, flag, strlen(flag)) == 0 &&
                    strchr(" \n", at[strlen(flag)]);
            if (!*at)
                break;
        }
    }
    if (f)
        fclose(f);
    return found;
}

/* Nothing is used that the system does not list; and what is asked for twice is
 * had twice. */
static void test_detect(void **state)
{
    static const struct {
        unsigned set;
        const char *flags[3];
    } needs[] = {
        {INFER_CPU_AVX2, {"avx2", "fma", "f16c"}},
        {INFER_CPU_AVX512VNNI, {"avx512_vnni", "avx512vl", "avx512bw"}},
        {INFER_CPU_AVX512BF16, {"avx512_bf16", "avx512_vnni", "avx2"}},
        {INFER_CPU_AMXINT8, {"amx_int8", "amx_tile", "avx512_vnni"}},
        {INFER_CPU_AMXBF16, {"amx_bf16", "amx_tile", "avx512_bf16"}},
    };
    const unsigned cpu = infer_cpu_detect();

    (void)state;
    assert_int_equal(infer_cpu_detect(), cpu);
    if (!listed("fpu"))
        skip();
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        bool all = true;

        for (size_t j = 0; j < 3; j++)
            all = all && listed(needs[i].flags[j]);
        if (cpu & needs[i].set)
            assert_true(all);
        else if (!(needs[i].set & (INFER_CPU_AMXINT8 | INFER_CPU_AMXBF16)))
            assert_false(all); /* tiles alone may be refused */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_unknown_words),
        cmocka_unit_test(test_detect),
    };

    return cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
}
