/*
 * test_ngrams.c - which texts share n-grams, and hashes against values worked
 * out by another program (Python, from docs/model-format.md alone).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/tokenizer/ngrams.h"

#include <stdlib.h>
#include <string.h>

static const struct infer_ngrams_spec words = {
    .buckets = 1u << 20, .min = 1, .max = 1};
static const struct infer_ngrams_spec all = {
    .buckets = 1000003, .min = 1, .max = 3, .char_min = 2, .char_max = 4};

static struct infer_ngrams take(const struct infer_ngrams_spec *spec,
                                unsigned side, const char *text)
{
    struct infer_ngrams g = {0};

    assert_int_equal(infer_ngrams_add(&g, spec, side, text, strlen(text), NULL),
                     0);
    return g;
}

static bool same(const struct infer_ngrams_spec *spec, const char *a,
                 const char *b)
{
    struct infer_ngrams x = take(spec, 0, a), y = take(spec, 0, b);
    const bool equal =
        x.n_word == y.n_word && x.n_chars == y.n_chars &&
        memcmp(x.word, y.word, x.n_word * sizeof(*x.word)) == 0 &&
        (x.n_chars == 0 ||
         memcmp(x.chars, y.chars, x.n_chars * sizeof(*x.chars)) == 0);

    infer_ngrams_release(&x);
    infer_ngrams_release(&y);
    return equal;
}

static size_t n_words(const char *text)
{
    struct infer_ngrams g = take(&words, 0, text);
    const size_t n = g.n_word;

    infer_ngrams_release(&g);
    return n;
}

static void test_words(void **state)
{
    (void)state;
    assert_int_equal(n_words(""), 0);
    assert_int_equal(n_words(" \t\n"), 0);
    assert_int_equal(n_words("Hello, world!"), 4);
    assert_int_equal(n_words("don't"), 1);
    assert_int_equal(n_words("'"), 0);
    assert_int_equal(n_words("\xe6\xb2\xb3\xe5\x8c\x97 2010"), 3);
    assert_int_equal(n_words("\xe3\x82\xab\xe3\x83\x8a"), 2);
    assert_int_equal(n_words("na\xc3\xafve caf\xc3\xa9"), 2);
    assert_int_equal(n_words("a\xff\x62"), 2); /* an invalid byte separates */
    assert_int_equal(n_words("\xf0\x9f\x98\x80\xf0\x9f\x98\x80"), 2);
}

static void test_folding(void **state)
{
    (void)state;
    assert_true(same(&all, "HELLO World", "hello  world "));
    assert_true(same(&all, "don't", "dont"));
    assert_true(same(&all, "don\xe2\x80\x99t", "dont"));
    assert_true(same(&all, "\xef\xac\x81n", "fin"));           /* ligature */
    assert_true(same(&all, "caf\xc3\xa9", "cafe\xcc\x81"));    /* composed */
    assert_true(same(&all, "\xef\xbc\xa1\xef\xbc\x92", "a2")); /* full width */
    assert_true(same(&all, "\xc3\x89t\xc3\x89", "\xc3\xa9t\xc3\xa9"));
    assert_false(same(&all, "hello world", "world hello"));
    assert_false(same(&all, "hello", "hallo"));
}

static void test_counts(void **state)
{
    /* words 2; bigrams of ^ ab c $ 3; trigrams 2. <ab>: 3 + 2 + none of 4,
     * which is the whole; <c>: 2 + none of 3 */
    struct infer_ngrams g = take(&all, 0, "ab c");

    (void)state;
    assert_int_equal(g.n_word, 7);
    assert_int_equal(g.n_chars, 3 + 2 + 2);
    assert_int_equal(infer_ngrams_add(&g, &all, 0, "x", 1, NULL), 0);
    assert_int_equal(g.n_word, 7 + 1 + 2 + 1);
    infer_ngrams_clear(&g);
    assert_int_equal(g.n_word + g.n_chars, 0);
    infer_ngrams_release(&g);
}

static void test_sides(void **state)
{
    struct infer_ngrams a = take(&words, 0, "river"),
                        b = take(&words, 1, "river");

    (void)state;
    assert_int_not_equal(a.word[0], b.word[0]);
    infer_ngrams_release(&a);
    infer_ngrams_release(&b);
}

static void test_known(void **state)
{
    static const uint32_t want_words[] = {275556, 295738, 107068, 108355,
                                          259362, 822425, 372901};
    static const uint32_t want_chars[] = {266990, 96362, 911746, 790720,
                                          825687};
    struct infer_ngrams g = take(&all, 0, "Ab \xe6\xb2\xb3");

    (void)state;
    assert_int_equal(g.n_word, sizeof(want_words) / sizeof(*want_words));
    assert_int_equal(g.n_chars, sizeof(want_chars) / sizeof(*want_chars));
    assert_memory_equal(g.word, want_words, sizeof(want_words));
    assert_memory_equal(g.chars, want_chars, sizeof(want_chars));
    infer_ngrams_release(&g);
}

/* Words and characters past the limits are left out, ids stay in range. */
static void test_long(void **state)
{
    enum { N = 300000 };
    char *text = malloc(N + 1);
    struct infer_ngrams g;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', N);
    text[N] = '\0';
    g = take(&all, 0, text);
    assert_int_equal(g.n_word, 1 + 2 + 1);
    assert_int_equal(g.n_chars, 65 + 64 + 63);
    infer_ngrams_release(&g);
    for (int i = 0; i < N; i += 2)
        text[i] = ' ';
    g = take(&all, 0, text);
    assert_int_equal(g.n_word, 4096 + 4097 + 4096);
    for (size_t i = 0; i < g.n_word; i++)
        assert_true(g.word[i] < all.buckets);
    infer_ngrams_release(&g);
    free(text);
}

static void test_check(void **state)
{
    static const struct infer_ngrams_spec bad[] = {
        {.buckets = 0, .min = 1, .max = 1},
        {.buckets = 8, .min = 0, .max = 1},
        {.buckets = 8, .min = 2, .max = 1},
        {.buckets = 8, .min = 1, .max = 9},
        {.buckets = 8, .min = 1, .max = 1, .char_min = 0, .char_max = 2},
        {.buckets = 8, .min = 1, .max = 1, .char_min = 3, .char_max = 2},
        {.buckets = 8, .min = 1, .max = 1, .char_min = 3, .char_max = 9},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(infer_ngrams_check(&bad[i], NULL), INFER_EINVAL);
    assert_int_equal(infer_ngrams_check(&words, NULL), 0);
    assert_int_equal(infer_ngrams_check(&all, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),  cmocka_unit_test(test_folding),
        cmocka_unit_test(test_counts), cmocka_unit_test(test_sides),
        cmocka_unit_test(test_known),  cmocka_unit_test(test_long),
        cmocka_unit_test(test_check),
    };

    return cmocka_run_group_tests_name("n-grams", tests, NULL, NULL);
}
