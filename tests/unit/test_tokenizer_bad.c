/*
 * test_tokenizer_bad.c - malformed vocabularies of every kind: each is refused
 * with a sentence that names what is wrong with it.
 */
#include "tests/vocab_image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void expect(struct vocab_image *im, int status, const char *word)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};

    assert_int_equal(vocab_create(&t, im, &err), status);
    assert_int_equal(err.status, status);
    assert_null(t);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not name '%s'", err.text, word);
}

/* One token vocabulary with the arrays' lengths as given. */
static void tiny(struct vocab_image *im, const char *token, uint64_t n_scores,
                 float score, uint64_t n_types, uint32_t type)
{
    vocab_begin(im);
    vocab_str(im, KEY "model", "llama");
    vocab_strs(im, KEY "tokens", &token, 1);
    vocab_array(im, KEY "scores", INFER_GGUF_F32, n_scores);
    for (uint64_t i = 0; i < n_scores; i++)
        vocab_put(im, &score, 4);
    vocab_array(im, KEY "token_type", INFER_GGUF_I32, n_types);
    for (uint64_t i = 0; i < n_types; i++)
        vocab_put_u32(im, type);
}

static void test_malformed(void **state)
{
    static const char *const twice[] = {"a", "b", "a"};
    struct vocab_image im;

    (void)state;
    vocab_begin(&im);
    expect(&im, INFER_EFORMAT, "tokenizer.ggml.model");
    vocab_begin(&im);
    vocab_str(&im, KEY "model", "rwkv");
    expect(&im, INFER_EUNSUPPORTED, "rwkv");
    vocab_begin(&im);
    vocab_str(&im, KEY "model", "llama");
    expect(&im, INFER_EFORMAT, "tokens");
    vocab_begin(&im);
    vocab_u32(&im, KEY "model", 1);
    expect(&im, INFER_EFORMAT, "model");
    vocab_begin(&im);
    vocab_str(&im, KEY "model", "llama");
    vocab_array(&im, KEY "tokens", INFER_GGUF_STRING, 0);
    expect(&im, INFER_EFORMAT, "tokens");
    vocab_begin(&im);
    vocab_str(&im, KEY "model", "llama");
    vocab_strs(&im, KEY "tokens", twice, 3);
    expect(&im, INFER_EFORMAT, "repeats");
    tiny(&im, "a", 2, 0, 1, 1);
    expect(&im, INFER_EFORMAT, "scores");
    tiny(&im, "a", 1, 0, 0, 1);
    expect(&im, INFER_EFORMAT, "token_type");
    tiny(&im, "a", 1, NAN, 1, 1);
    expect(&im, INFER_EFORMAT, "score");
    tiny(&im, "a", 1, INFINITY, 1, 1);
    expect(&im, INFER_EFORMAT, "score");
    tiny(&im, "a", 1, 0, 1, 7);
    expect(&im, INFER_EFORMAT, "type");
    tiny(&im, "<0x1>", 1, 0, 1, 6);
    vocab_bool(&im, KEY "add_bos_token", false);
    expect(&im, INFER_EFORMAT, "byte piece");
    tiny(&im, "a", 1, 0, 1, 1); /* no bos among one token, but wanted */
    expect(&im, INFER_EFORMAT, "bos_token_id");
    vocab_spm(&im, true);
    vocab_u32(&im, KEY "bos_token_id", N_SPM + 256);
    expect(&im, INFER_EFORMAT, "bos_token_id");
    vocab_spm(&im, true);
    vocab_str(&im, KEY "add_bos_token", "yes");
    expect(&im, INFER_EFORMAT, "add_bos_token");
}

static void test_long_piece(void **state)
{
    char *piece = malloc(5000);
    struct vocab_image im;

    (void)state;
    memset(piece, 'x', 4999);
    piece[4999] = '\0';
    tiny(&im, piece, 1, 0, 1, 1);
    expect(&im, INFER_EFORMAT, "4999");
    free(piece);
}

static void test_malformed_bpe(void **state)
{
    static const char *const bad[] = {"a b", "ab"};
    static const char *const half[] = {"a "};
    struct vocab_image im;

    (void)state;
    vocab_bpe(&im, "klingon");
    expect(&im, INFER_EUNSUPPORTED, "klingon");
    vocab_bpe(&im, "gpt-2");
    expect(&im, INFER_EFORMAT, "merges");
    vocab_bpe(&im, "gpt-2");
    vocab_strs(&im, KEY "merges", bad, 2);
    expect(&im, INFER_EFORMAT, "entry 1");
    vocab_bpe(&im, "gpt-2");
    vocab_strs(&im, KEY "merges", half, 1);
    expect(&im, INFER_EFORMAT, "entry 0");
    vocab_bpe(&im, "gpt-2");
    vocab_array(&im, KEY "merges", INFER_GGUF_I32, 1);
    vocab_put_u32(&im, 1);
    expect(&im, INFER_EFORMAT, "merges");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_malformed),
                                       cmocka_unit_test(test_long_piece),
                                       cmocka_unit_test(test_malformed_bpe)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
