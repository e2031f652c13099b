/*
 * test_train_ranks.c - what ranks tell each other, for any number of them: run
 * alone it is rank 0 of 1, under mpirun every rank runs all of it.
 */
#include "trainer/run/ranks.h"

#include "core/base/error.h"
#include "trainer/run/mpi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct train_ranks *ranks;

static int open_all(void **state)
{
    struct infer_error err = {0};

    (void)state;
    if (train_ranks_open(&ranks, &err) != 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    train_ranks_close(ranks);
    return 0;
}

static void test_place(void **state)
{
    const int n = train_ranks_n(ranks), launched = train_mpi_launched();

    (void)state;
    assert_in_range(train_ranks_id(ranks), 0, n - 1);
    assert_true(train_ranks_threads(ranks) >= 1);
    assert_int_equal(n, launched ? launched : 1);
}

static void test_gather(void **state)
{
    const int n = train_ranks_n(ranks);
    const uint64_t mine = 1000u + (uint64_t)train_ranks_id(ranks);
    uint64_t *all = calloc((size_t)n, sizeof(*all));

    (void)state;
    assert_non_null(all);
    assert_int_equal(train_ranks_gather(ranks, &mine, all, sizeof(mine), NULL),
                     0);
    for (int i = 0; i < n; i++)
        assert_int_equal(all[i], 1000 + i);
    free(all);
}

/* Rounds otherwise in another order. */
static float value(int rank, size_t i)
{
    const uint32_t h = ((uint32_t)i * 2654435761u + (uint32_t)rank) * 40503u;

    return (float)(h >> 8) * (rank % 2 ? 1e-6f : -1.0f);
}

static void check_sum(size_t n)
{
    float *x = malloc((n + 1) * sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = value(train_ranks_id(ranks), i);
    x[n] = 7.0f;
    assert_int_equal(train_ranks_sum(ranks, x, n, NULL), 0);
    assert_true(x[n] == 7.0f);
    for (size_t i = 0; i < n; i++) {
        float sum = value(0, i);

        for (int r = 1; r < train_ranks_n(ranks); r++)
            sum += value(r, i);
        assert_true(x[i] == sum);
    }
    free(x);
}

static void test_sum(void **state)
{
    static const size_t sizes[] = {
        0, 1, 2, 3, 1000, 1 << 20, (1 << 20) + 1, 2500003};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        check_sum(sizes[i]);
}

/* The failure of the first that failed becomes everyone's. */
static void test_agree(void **state)
{
    const int last = train_ranks_n(ranks) - 1;
    struct infer_error err = {0};
    int status = 0;

    (void)state;
    assert_int_equal(train_ranks_agree(ranks, 0, &err), 0);
    if (train_ranks_id(ranks) == last)
        status = infer_fail(&err, INFER_EFORMAT, "rank %d is ill", last);
    assert_int_equal(train_ranks_agree(ranks, status, &err), INFER_EFORMAT);
    assert_int_equal(err.status, INFER_EFORMAT);
    assert_non_null(strstr(err.text, "is ill"));
    assert_int_equal(train_ranks_agree(ranks, 0, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_agree),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
