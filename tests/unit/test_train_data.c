/*
 * test_train_data.c - the order of windows, sets of texts, checksums, and the
 * file of tokens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/data/seen.h"
#include "trainer/data/sha256.h"
#include "trainer/data/shuffle.h"
#include "trainer/data/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Every number once, whatever n; another order for another key. */
static void test_permutation(void **state)
{
    static const uint64_t sizes[] = {1, 2, 3, 5, 16, 17, 255, 1000, 4097};

    (void)state;
    for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        const uint64_t n = sizes[k];
        uint8_t *seen = calloc(n, 1);
        uint64_t moved = 0, differ = 0;

        assert_non_null(seen);
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t to = train_permute(i, n, 7);

            assert_true(to < n);
            assert_int_equal(seen[to]++, 0);
            moved += to != i;
            differ += to != train_permute(i, n, 8);
        }
        free(seen);
        if (n > 100) {
            assert_true(moved > n * 9 / 10);
            assert_true(differ > n * 9 / 10);
        }
    }
}

/* A pass takes every window once and nothing outside the corpus; the windows of
 * another pass begin elsewhere. */
static void test_passes(void **state)
{
    enum { TOTAL = 1003, T = 10 };
    struct train_shuffle s = {.seed = 3, .total = TOTAL, .n_tokens = T};
    uint64_t begins[5], same = 0;

    (void)state;
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
        uint8_t used[TOTAL] = {0};
        uint64_t first = train_shuffle_next(&s), at = first, n = 1;

        assert_int_equal(s.epoch, epoch);
        for (;;) {
            struct train_shuffle before;

            assert_true(at + T + 1 <= TOTAL);
            assert_int_equal(at % T, first % T);
            for (int i = 0; i < T; i++)
                assert_int_equal(used[at + (uint64_t)i]++, 0);
            before = s;
            at = train_shuffle_next(&s);
            if (s.epoch != epoch) {
                s = before;
                break;
            }
            n++;
        }
        assert_int_equal(n, (TOTAL - 1 - first % T) / T);
        begins[epoch] = first % T;
        same += begins[epoch] == begins[0];
    }
    assert_true(same < 5);
}

/* What a checkpoint holds is enough to go on. */
static void test_entered_anywhere(void **state)
{
    struct train_shuffle a = {.seed = 9, .total = 500, .n_tokens = 8};

    (void)state;
    for (int i = 0; i < 300; i++) {
        struct train_shuffle b = a;

        assert_int_equal(train_shuffle_next(&a), train_shuffle_next(&b));
        if (i == 150) {
            train_shuffle_resize(&a, 16);
            assert_int_equal(a.next, 0);
        }
        assert_true(a.next <= 500 / 8);
    }
}

static void test_seen(void **state)
{
    struct train_seen s = {0};
    char text[32];

    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5000; i++) {
            const int n = snprintf(text, sizeof(text), "text %d", i);

            assert_int_equal(train_seen_add(&s, text, (size_t)n, NULL), round);
        }
    assert_int_equal(s.n, 5000);
    assert_int_equal(train_seen_add(&s, "", 0, NULL), 0);
    assert_int_equal(train_seen_add(&s, "\0", 1, NULL), 0);
    train_seen_release(&s);
}

/* FIPS 180-2, appendix B; and a million letters, in uneven pieces. */
static void test_sha256(void **state)
{
    static const struct {
        const char *text, *sum;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb924"
             "27ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223"
                "b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char sum[TRAIN_SHA256_TEXT], letters[1000];
    struct train_sha256 s;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        train_sha256_init(&s);
        train_sha256_update(&s, cases[i].text, strlen(cases[i].text));
        train_sha256_finish(&s, sum);
        assert_string_equal(sum, cases[i].sum);
    }
    memset(letters, 'a', sizeof(letters));
    train_sha256_init(&s);
    for (size_t left = 1000000, n = 1; left > 0; left -= n) {
        n = n % 997 + 1 < left ? n % 997 + 1 : left;
        train_sha256_update(&s, letters, n);
    }
    train_sha256_finish(&s, sum);
    assert_string_equal(sum, "cdc76e5c9914fb9281a1c7e284d73e67"
                             "f1809a48a497200e046d39ccc7112cd0");
}

/* Narrow and wide ids come back; files that are cut or of another vocabulary
 * are refused, ids outside it are found. */
static void test_tokens(void **state)
{
    static const uint32_t vocabularies[] = {1000, 70000};
    char path[] = "/tmp/infer-tokens-XXXXXX";
    const int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    for (int k = 0; k < 2; k++) {
        const uint32_t v = vocabularies[k];
        struct train_token_writer w;
        struct train_tokens t = {{NULL, 0}, 0, 0, 0};
        int32_t ids[9000], back[9000];

        for (uint32_t i = 0; i < 9000; i++)
            ids[i] = (int32_t)(i * 7919u % v);
        ids[8999] = (int32_t)v; /* one too many, as damage would have it */
        assert_int_equal(train_tokens_begin(&w, path, v, NULL), 0);
        assert_int_equal(train_tokens_write(&w, ids, 5000, NULL), 0);
        assert_int_equal(train_tokens_write(&w, ids + 5000, 4000, NULL), 0);
        assert_int_equal(train_tokens_commit(&w, 123, NULL), 0);
        train_tokens_abort(&w);
        assert_int_equal(train_tokens_open(&t, path, v + 1, NULL),
                         INFER_EFORMAT);
        assert_int_equal(train_tokens_open(&t, path, v, NULL), 0);
        assert_int_equal(t.n, 9000);
        assert_int_equal(t.n_bytes, 123);
        assert_true(train_tokens_read(&t, 3, 8990, v, back));
        assert_memory_equal(back, ids + 3, 8990 * sizeof(*ids));
        assert_false(train_tokens_read(&t, 8990, 10, v, back));
        train_tokens_close(&t);
        assert_int_equal(truncate(path, 777), 0);
        assert_int_equal(train_tokens_open(&t, path, v, NULL), INFER_EFORMAT);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation),      cmocka_unit_test(test_passes),
        cmocka_unit_test(test_entered_anywhere), cmocka_unit_test(test_seen),
        cmocka_unit_test(test_sha256),           cmocka_unit_test(test_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
