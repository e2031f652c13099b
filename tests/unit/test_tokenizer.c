/*
 * test_tokenizer.c - tokenizers on small vocabularies made here.
 *
 * Equality with the reference is tests/golden/test_tokenizers.c's; this one
 * has what no file of the oracle has: vocabularies with pieces missing, very
 * long words, the stream decoder on arbitrary ids, and threads.
 */
#include "tests/vocab_image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a SentencePiece vocabulary
 * ---------------------------------------------- */

static void check_n(const struct infer_tokenizer *t, const char *text,
                    size_t len, bool special, const int32_t *want, size_t n)
{
    struct infer_tokens got = {0};
    struct infer_error err = {0};

    if (infer_tokenizer_encode(t, text, len, special, special, &got, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < got.n && i < n; i++)
        if (got.ids[i] != want[i])
            fail_msg("'%s': id %zu is %d, not %d", text, i, got.ids[i],
                     want[i]);
    assert_int_equal(got.n, n);
    infer_tokens_release(&got);
    infer_tokens_release(&got); /* twice is fine */
}

#define CHECK(t, text, special, ...)                                           \
    check_n(t, text, sizeof(text) - 1, special,                                \
            (const int32_t[]){-1, __VA_ARGS__} + 1,                            \
            sizeof((const int32_t[]){-1, __VA_ARGS__}) / 4 - 1)

static void test_spm(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_spm(&im, true);
    t = vocab_must_create(&im);
    CHECK(t, "ab", false, SP_AB);
    CHECK(t, "ab", true, BOS, SP_AB);
    CHECK(t, "ab ab", false, SP_AB, SP_AB);
    CHECK(t, "aaaaaba", false, SP, AAAA, AB, A);
    CHECK(t, "bc", false, SP, B, BYTE0 + 'c');
    CHECK(t, "\xc3\xa9\xc3", false, SP, E_ACUTE, BYTE0 + 0xc3);
    CHECK(t, "z", false, SP, UNUSED);
    /* control texts only where they are parsed, user-defined ones always,
     * the longest first, and a space after each */
    CHECK(t, "</s>ab", true, BOS, EOS, SP_AB);
    CHECK(t, "<s", true, BOS, SP, BYTE0 + '<', BYTE0 + 's');
    CHECK(t, "a<user>!a<user>", false, SP, A, USER_BANG, SP, A, USER);
    assert_true(infer_tokenizer_is_eog(t, EOS));
    assert_true(infer_tokenizer_is_eog(t, IM_END));
    assert_false(infer_tokenizer_is_eog(t, BOS));
    assert_false(infer_tokenizer_is_eog(t, -1));
    assert_false(infer_tokenizer_is_eog(t, N_SPM + 256));
    assert_int_equal(infer_tokenizer_n_vocab(t), N_SPM + 256);
    infer_tokenizer_free(t);
}

static void test_spm_empty(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_spm(&im, true);
    t = vocab_must_create(&im);
    check_n(t, "", 0, false, NULL, 0);
    check_n(t, NULL, 0, false, NULL, 0);
    CHECK(t, "", true, BOS);
    infer_tokenizer_free(t);
}

/* What the keys switch. */
static void test_spm_keys(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_spm(&im, true);
    vocab_bool(&im, KEY "add_bos_token", false);
    vocab_bool(&im, KEY "add_eos_token", true);
    vocab_bool(&im, KEY "add_space_prefix", false);
    vocab_u32(&im, KEY "eos_token_id", IM_END);
    vocab_u32(&im, KEY "eot_token_id", USER);
    t = vocab_must_create(&im);
    CHECK(t, "ab ab", true, AB, SP_AB, IM_END);
    assert_true(infer_tokenizer_is_eog(t, USER));
    assert_false(infer_tokenizer_is_eog(t, EOS));
    assert_int_equal(infer_tokenizer_eos(t), IM_END);
    infer_tokenizer_free(t);
}

/* Without byte pieces what no piece covers is unknown, byte by byte. */
static void test_spm_without_bytes(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_spm(&im, false);
    t = vocab_must_create(&im);
    CHECK(t, "ab cab", false, SP_AB, SP, UNK, AB);
    CHECK(t, "b\xe2\x82\xac\xff", false, SP, B, UNK, UNK, UNK, UNK);
    infer_tokenizer_free(t);
}

static void test_spm_without_scores(void **state)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", UL, "a", ""};
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_begin(&im);
    vocab_str(&im, KEY "model", "llama");
    vocab_strs(&im, KEY "tokens", tokens, 6);
    t = vocab_must_create(&im);
    CHECK(t, "aa", true, BOS, SP, A, A);
    infer_tokenizer_free(t);
}

/* The definition: of all neighbours that make a piece the best first, of equals
 * the leftmost. text has U+2581 for spaces; returns how many ids. */
static size_t merge_slowly(const char *text, int32_t *ids)
{
    size_t start[4096], n = 0;

    for (const char *p = text; *p; p++)
        if (((unsigned char)*p & 0xc0) != 0x80)
            start[n++] = (size_t)(p - text);
    start[n] = strlen(text);
    for (;;) {
        size_t best = n;
        float score = -INFINITY;

        for (size_t i = 0; i + 1 < n; i++)
            for (int k = SP; k <= AAAA; k++) {
                const size_t len = start[i + 2] - start[i];

                if (strlen(vocab_spm_pieces[k].text) == len &&
                    memcmp(text + start[i], vocab_spm_pieces[k].text, len) ==
                        0 &&
                    vocab_spm_pieces[k].score > score) {
                    best = i;
                    score = vocab_spm_pieces[k].score;
                }
            }
        if (best == n)
            break;
        memmove(&start[best + 1], &start[best + 2],
                (n - best - 1) * sizeof(*start));
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t len = start[i + 1] - start[i];

        ids[i] = BYTE0 + (unsigned char)text[start[i]];
        for (int k = SP; k <= AAAA; k++)
            if (strlen(vocab_spm_pieces[k].text) == len &&
                memcmp(text + start[i], vocab_spm_pieces[k].text, len) == 0)
                ids[i] = k;
    }
    return n;
}

/* Cutting, looking up and SentencePiece together keep to the definition. */
static void test_spm_definition(void **state)
{
    static const char letters[] = "aaaaaab b c";
    struct infer_tokenizer *t;
    struct vocab_image im;
    unsigned seed = 1;

    (void)state;
    vocab_spm(&im, true);
    t = vocab_must_create(&im);
    for (int round = 0; round < 40; round++) {
        char text[1600], escaped[4096] = UL;
        const size_t len = round < 30 ? 1u + (unsigned)round : 1500;
        size_t n = 3;
        int32_t want[4096];

        for (size_t i = 0; i < len; i++) {
            seed = seed * 1103515245 + 12345;
            text[i] = letters[(seed >> 16) % 11];
            if (text[i] == ' ')
                n += (size_t)sprintf(escaped + n, UL);
            else
                escaped[n++] = text[i];
        }
        text[len] = escaped[n] = '\0';
        check_n(t, text, len, false, want, merge_slowly(escaped, want));
    }
    infer_tokenizer_free(t);
}

/* A megabyte without a place to cut is encoded, too much of it refused. */
static void test_long_words(void **state)
{
    const size_t n = 1 << 20, too_long = 9 << 20;
    struct infer_tokens got = {0};
    struct infer_error err = {0};
    struct infer_tokenizer *t;
    struct vocab_image im;
    char *text = malloc(too_long);

    (void)state;
    assert_non_null(text);
    memset(text, 'a', too_long);
    vocab_spm(&im, true);
    t = vocab_must_create(&im);
    assert_int_equal(
        infer_tokenizer_encode(t, text, n, false, false, &got, &err), 0);
    assert_int_equal(got.n, 1 + n / 4);
    assert_int_equal(got.ids[0], SP);
    assert_int_equal(got.ids[n / 4], AAAA);
    infer_tokens_release(&got);
    assert_int_equal(
        infer_tokenizer_encode(t, text, too_long, false, false, &got, &err),
        INFER_ETOOLONG);
    assert_int_equal(
        infer_tokenizer_encode(t, text, 65u << 20, false, false, &got, &err),
        INFER_ETOOLONG);
    assert_null(got.ids);
    infer_tokenizer_free(t);
    free(text);
}

/* ---- a byte-level BPE vocabulary
 * ---------------------------------------------- */

static void test_bpe(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_bpe(&im, "gpt-2");
    vocab_strs(&im, KEY "merges", vocab_bpe_merges, 6);
    t = vocab_must_create(&im);
    CHECK(t, "ab ab", true, BAB, BGAB);
    CHECK(t, "aab", false, BA, BAB);
    CHECK(t, "\xc3\xa9", false, BC3, BA9);
    /* "aaaa" is a merge but no token: nothing is left of it, as in the
     * reference, but for bytes that are tokens on their own */
    CHECK(t, "aaaa", false, BA, BA, BA, BA);
    CHECK(t, "q", false, ); /* neither byte nor piece */
    CHECK(t, "a<|endoftext|>b", true, BA, BEND, BB);
    assert_true(infer_tokenizer_is_eog(t, BEND));
    infer_tokenizer_free(t);
}

static void test_bpe_pre(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;

    (void)state;
    vocab_bpe(&im, NULL); /* "default" */
    vocab_strs(&im, KEY "merges", vocab_bpe_merges, 6);
    t = vocab_must_create(&im);
    CHECK(t, "ab ab", true, BAB, BGAB);
    infer_tokenizer_free(t);
    vocab_bpe(&im, "llama-bpe"); /* adds BOS, takes whole pieces */
    vocab_strs(&im, KEY "merges", vocab_bpe_merges, 1);
    t = vocab_must_create(&im);
    CHECK(t, "ab ab", true, BEND, BAB, BGAB);
    infer_tokenizer_free(t);
}

/* The heap keeps a megabyte of one letter from taking hours. */
static void test_bpe_long_word(void **state)
{
    const size_t n = 1 << 20;
    struct infer_tokens got = {0};
    struct infer_tokenizer *t;
    struct vocab_image im;
    char *text = malloc(n);

    (void)state;
    assert_non_null(text);
    memset(text, 'a', n);
    vocab_bpe(&im, "qwen2");
    vocab_strs(&im, KEY "merges", vocab_bpe_merges, 3);
    t = vocab_must_create(&im);
    assert_int_equal(
        infer_tokenizer_encode(t, text, n, false, false, &got, NULL), 0);
    assert_int_equal(got.n, n / 2);
    infer_tokens_release(&got);
    memset(text, '\n', n);
    assert_int_equal(
        infer_tokenizer_encode(t, text, n, false, false, &got, NULL), 0);
    infer_tokens_release(&got);
    infer_tokenizer_free(t);
    free(text);
}

/* ---- decoding
 * ------------------------------------------------------------------- */

static void decode(const struct infer_tokenizer *t, const int32_t *ids,
                   size_t n, bool show, const char *want)
{
    char *text = NULL;
    size_t len = 0;

    assert_int_equal(infer_tokenizer_decode(t, ids, n, show, &text, &len, NULL),
                     0);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    free(text);
}

static void test_decode(void **state)
{
    struct infer_model m = {0};
    struct vocab_image im;
    struct infer_tokenizer *t;
    struct infer_error err = {0};
    char *text = NULL;
    size_t len = 99;

    (void)state;
    vocab_spm(&im, true);
    t = vocab_must_create(&im);
    decode(t, (int32_t[]){SP_AB, SP_AB}, 2, false, "ab ab");
    decode(t, (int32_t[]){BOS, SP_AB, EOS}, 3, false, "ab");
    decode(t, (int32_t[]){BOS, SP_AB, EOS}, 3, true, "<s> ab</s>");
    decode(t, (int32_t[]){SP, SP_AB, UNUSED}, 3, false, " ab");
    decode(t, (int32_t[]){USER, BYTE0 + 'c', E_ACUTE}, 3, false,
           "<user>c\xc3\xa9");
    decode(t, NULL, 0, false, "");
    m.tokenizer = t;
    assert_int_equal(infer_detokenize(&m, (int32_t[]){N_SPM + 256}, 1, false,
                                      &text, &len, &err),
                     INFER_EINVAL);
    assert_null(text);
    assert_null(infer_token_bytes(&m, -1, false, &len));
    assert_memory_equal(infer_token_bytes(&m, SP_AB, false, &len), " ab", 3);
    assert_int_equal(len, 3);
    assert_non_null(infer_token_bytes(&m, BOS, false, &len));
    assert_int_equal(len, 0);
    assert_true(infer_token_is_eog(&m, EOS));
    infer_tokenizer_free(t);
}

/* Whatever the ids, the stream is the whole. */
static void test_stream(void **state)
{
    struct vocab_image im;
    struct infer_tokenizer *t;
    unsigned seed = 1;

    (void)state;
    vocab_spm(&im, true);
    t = vocab_must_create(&im);
    for (int round = 0; round < 500; round++) {
        int32_t ids[20];
        char *whole, parts[512];
        size_t n = 0, len, whole_len;
        struct infer_decoder d;

        infer_decoder_init(&d, t);
        for (int i = 0; i < 20; i++) {
            const char *s;

            seed = seed * 1103515245 + 12345;
            ids[i] = (int32_t)((seed >> 8) % (round % 2 ? N_SPM : N_SPM + 256));
            s = infer_decoder_feed(&d, ids[i], &len);
            memcpy(parts + n, s, len);
            n += len;
        }
        assert_int_equal(
            infer_tokenizer_decode(t, ids, 20, false, &whole, &whole_len, NULL),
            0);
        assert_int_equal(whole_len, n);
        assert_memory_equal(whole, parts, n);
        free(whole);
    }
    infer_tokenizer_free(t);
}

/* ---- .model files
 * ------------------------------------------------------------------ */

static size_t put_piece(char *out, const char *text, float score, int type)
{
    const size_t len = strlen(text);
    size_t n = 0;

    out[n++] = 1 << 3 | 2;
    out[n++] = (char)(len + 9);
    out[n++] = 1 << 3 | 2;
    out[n++] = (char)len;
    memcpy(out + n, text, len);
    n += len;
    out[n++] = 2 << 3 | 5;
    memcpy(out + n, &score, 4);
    n += 4;
    out[n++] = 3 << 3;
    out[n++] = (char)type;
    return n;
}

static void write_file(const char *path, const char *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void test_model_file(void **state)
{
    /* trainer: model_type BPE; normaliser: no extra spaces removed */
    static const char specs[] = {2 << 3 | 2, 2, 3 << 3, 2,
                                 3 << 3 | 2, 2, 4 << 3, 0};
    char path[] = "/tmp/test_tokenizer_XXXXXX", data[256];
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};
    size_t n = 0;

    (void)state;
    close(mkstemp(path));
    n += put_piece(data + n, "<unk>", 0, 2);
    n += put_piece(data + n, "<s>", 0, 3);
    n += put_piece(data + n, "</s>", 0, 3);
    n += put_piece(data + n, UL, -2, 1);
    n += put_piece(data + n, "a", -3, 1);
    memcpy(data + n, specs, sizeof(specs));
    n += sizeof(specs);
    write_file(path, data, n);
    if (infer_tokenizer_load_spm(&t, path, &err) != 0)
        fail_msg("%s", err.text);
    CHECK(t, "aa", true, BOS, SP, A, A);
    infer_tokenizer_free(t);
    for (size_t cut = 0; cut < n; cut++) { /* some are valid, shorter models */
        t = NULL;
        write_file(path, data, cut);
        if (infer_tokenizer_load_spm(&t, path, &err) == 0)
            infer_tokenizer_free(t);
        else
            assert_non_null(strstr(err.text, path));
    }
    unlink(path);
    assert_int_equal(infer_tokenizer_load_spm(&t, path, &err), INFER_EIO);
    assert_int_equal(infer_tokenizer_load_spm(&t, "/tmp", &err), INFER_EIO);
}

/* ---- threads
 * ------------------------------------------------------------------------- */

static void *encode_many(void *arg)
{
    static const char text[] = "ab ab aaaa</s>ab <user> \xc3\xa9 \xff ab1ab";
    const struct infer_tokenizer *t = arg;
    struct infer_tokens first = {0};

    infer_tokenizer_encode(t, text, sizeof(text) - 1, true, true, &first, NULL);
    for (int i = 0; i < 200; i++) {
        struct infer_tokens got = {0};
        char *back;
        size_t len;

        if (infer_tokenizer_encode(t, text, sizeof(text) - 1, true, true, &got,
                                   NULL) != 0 ||
            got.n != first.n || memcmp(got.ids, first.ids, got.n * 4) != 0 ||
            infer_tokenizer_decode(t, got.ids, got.n, true, &back, &len,
                                   NULL) != 0)
            return NULL;
        free(back);
        infer_tokens_release(&got);
    }
    infer_tokens_release(&first);
    return arg;
}

static void share(struct infer_tokenizer *t)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, t), 0);
    for (int i = 0; i < 4; i++) {
        void *ok = NULL;

        pthread_join(threads[i], &ok);
        assert_non_null(ok);
    }
    infer_tokenizer_free(t);
}

static void test_threads(void **state)
{
    struct vocab_image im;

    (void)state;
    vocab_spm(&im, true);
    share(vocab_must_create(&im));
    vocab_bpe(&im, "qwen2");
    vocab_strs(&im, KEY "merges", vocab_bpe_merges, 6);
    share(vocab_must_create(&im));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm),
        cmocka_unit_test(test_spm_empty),
        cmocka_unit_test(test_spm_keys),
        cmocka_unit_test(test_spm_without_bytes),
        cmocka_unit_test(test_spm_without_scores),
        cmocka_unit_test(test_spm_definition),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_bpe),
        cmocka_unit_test(test_bpe_pre),
        cmocka_unit_test(test_bpe_long_word),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_model_file),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
