/*
 * test_train_metrics.c - scores of classifiers and embedders against values
 * worked out by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/enc/metrics.h"

#include <math.h>

static void near(double got, double want)
{
    if (!(fabs(got - want) < 1e-6))
        fail_msg("%.9g, not %.9g", got, want);
}

static void test_f1(void **state)
{
    const struct enc_class_score s = {.right = 6, .wrong = 2, .missed = 3};
    const struct enc_class_score none = {0};

    (void)state;
    near(enc_precision(&s), 0.75);
    near(enc_recall(&s), 6.0 / 9.0);
    near(enc_f1(&s), 12.0 / 17.0);
    near(enc_precision(&none) + enc_recall(&none) + enc_f1(&none), 0.0);
}

static void test_ece(void **state)
{
    struct enc_bins b = {{0}, {0}, {0}};

    (void)state;
    near(enc_bins_ece(&b), 0.0);
    for (int i = 0; i < 4; i++)
        enc_bins_add(&b, 0.95, i < 3); /* says 0.95, is 0.75 */
    enc_bins_add(&b, 1.0, true);       /* the same bin */
    enc_bins_add(&b, 0.3, false);
    /* |4 * 0.95 + 1 - 4| + |0.3 - 0|, of 6 */
    near(enc_bins_ece(&b), (0.8 + 0.3) / 6.0);
}

/* Logits of +-2 that are right three times in four: the best temperature makes
 * sigmoid(4 / t), of the difference, 0.75. */
static void test_temperature(void **state)
{
    const float z[8] = {2, -2, 2, -2, -2, 2, 2, -2};
    const int32_t is[4] = {0, 0, 1, 1};
    const float labels[8] = {1, 0, 1, 0, 0, 1, 0, 1};
    double p[2];

    (void)state;
    near(4.0 / enc_fit_temperature(z, 4, 2, is, NULL), log(3.0));
    near(2.0 / enc_fit_temperature(z, 4, 2, NULL, labels), log(3.0));
    enc_softmax((const float[]){-100, 5}, 2, 1.0, p);
    near(p[1], 1.0);
    enc_softmax((const float[]){1, 1 + (float)log(3.0)}, 2, 1.0, p);
    near(p[1], 0.75);
}

static void test_threshold(void **state)
{
    const double p[6] = {0.9, 0.2, 0.6, 0.4, 0.7, 0.1};
    const bool is[6] = {true, false, true, true, false, false};
    const bool none[6] = {false};

    (void)state;
    /* down to 0.4: 3 right, 1 wrong; F1 6/7 */
    near(enc_fit_threshold(p, is, 6), 0.3);
    near(enc_fit_threshold(p, none, 6), 0.5);
    near(enc_fit_threshold(p, is, 0), 0.5);
}

static void test_correlation(void **state)
{
    const double a[5] = {1, 2, 3, 4, 5}, b[5] = {10, 20, 15, 40, 1000};
    const double ties[4] = {1, 2, 2, 3}, other[4] = {1, 2, 3, 4};
    const double flat[4] = {1, 1, 1, 1};

    (void)state;
    near(enc_spearman(a, b, 5), 0.9);
    near(enc_pearson(a, a, 5), 1.0);
    /* ranks 0 1.5 1.5 3 with 0 1 2 3: cov 4.5, variances 4.5 and 5 */
    near(enc_spearman(ties, other, 4), 4.5 / sqrt(4.5 * 5.0));
    assert_true(isnan(enc_spearman(flat, other, 4)));
}

static void test_ndcg(void **state)
{
    const double gains[3] = {0, 1, 2};
    double all[4] = {1, 2, 0, 0}, none[2] = {0, 0};
    const double ideal = 3.0 + 1.0 / log2(3.0);

    (void)state;
    near(enc_ndcg(gains, 3, all, 4, 10), (1.0 / log2(3.0) + 3.0 / 2.0) / ideal);
    near(enc_ndcg(gains, 3, all, 4, 2), 1.0 / log2(3.0) / ideal);
    near(enc_ndcg(gains, 3, none, 2, 10), 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f1),          cmocka_unit_test(test_ece),
        cmocka_unit_test(test_temperature), cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_correlation), cmocka_unit_test(test_ndcg)};

    return cmocka_run_group_tests_name("train metrics", tests, NULL, NULL);
}
