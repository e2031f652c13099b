/*
 * test_train_rows.c - the table of n-gram rows: sums, and steps against the
 * same written plainly, with one thread and with two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/nn/rows.h"

#include <math.h>
#include <string.h>

enum { N = 11, D = 5, TEXTS = 3, USES = 8 };

static const struct nn_row_use uses[USES] = {
    {4, 0, 0.5f},  {7, 0, 0.5f}, {4, 1, 1.0f},   {4, 2, 0.25f},
    {4, 2, 0.25f}, {9, 2, 0.5f}, {10, 2, -1.0f}, {0, 2, 0.0f}};

static void plain_step(float *p, float *squares, const float *dy, float lr,
                       float decay)
{
    for (uint32_t row = 0; row < N; row++) {
        double g[D] = {0}, mean = 0;
        bool touched = false;

        for (int i = 0; i < USES; i++)
            for (uint32_t k = 0; k < D && uses[i].row == row; k++) {
                touched = true;
                g[k] += (double)(uses[i].weight * dy[uses[i].text * D + k]);
            }
        for (int k = 0; k < D; k++)
            mean += g[k] * g[k] / D;
        squares[row] += (float)mean;
        for (uint32_t k = 0; k < D && touched; k++)
            p[row * D + k] =
                (float)((double)(p[row * D + k] * (1 - lr * decay)) -
                        (double)lr * g[k] /
                            (sqrt((double)squares[row]) + 1e-12));
    }
}

static void check(int n_threads)
{
    float dy[TEXTS * D], want[N * D] = {0}, squares[N] = {0}, y[TEXTS * D];
    struct infer_team *team = NULL;
    struct nn_rows *rows = NULL;
    float *p;

    assert_int_equal(infer_team_create(&team, n_threads, 0, NULL), 0);
    assert_int_equal(nn_rows_create(&rows, N, D, team, NULL), 0);
    p = nn_rows_data(rows);
    for (int i = 0; i < N * D; i++)
        assert_true(p[i] == 0.0f);
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < TEXTS * D; i++)
            dy[i] = (float)((i * 37 + step * 11) % 17) / 8.0f - 1.0f;
        plain_step(want, squares, dy, 0.1f, 0.01f);
        assert_int_equal(nn_rows_step(rows, uses, USES, dy, 0.1f, 0.01f, NULL),
                         0);
        for (int i = 0; i < N * D; i++)
            if (!(fabsf(p[i] - want[i]) < 1e-5f))
                fail_msg("step %d, value %d: %g, not %g", step, i, (double)p[i],
                         (double)want[i]);
    }
    memset(y, 0, sizeof(y));
    nn_rows_add(rows, uses, USES, y, TEXTS);
    for (int t = 0; t < TEXTS; t++)
        for (int k = 0; k < D; k++) {
            double sum = 0;

            for (int i = 0; i < USES; i++)
                if (uses[i].text == (uint32_t)t)
                    sum += (double)(uses[i].weight *
                                    p[uses[i].row * D + (uint32_t)k]);
            assert_true(fabs((double)y[t * D + k] - sum) < 1e-5);
        }
    nn_rows_free(rows);
    infer_team_free(team);
}

static void test_steps(void **state)
{
    (void)state;
    check(1);
    check(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};

    return cmocka_run_group_tests_name("train rows", tests, NULL, NULL);
}
