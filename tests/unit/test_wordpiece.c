/*
 * test_wordpiece.c - words, pieces and spans of BERT's tokenizer, on a small
 * vocabulary. The reference's own cases are in tests/golden.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/tokenizer/tokenizer.h"
#include "tests/image.h"

#include <stdlib.h>
#include <string.h>

#define MARK "\xe2\x96\x81"

static const char *const pieces[] = {
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    MARK "un",
    "believ",
    "able",
    MARK "cafe",
    MARK "!",
    MARK "\xe4\xb8\xad",
    MARK "\xe6\x96\x87",
};

enum { N_PIECES = sizeof(pieces) / sizeof(*pieces) };

/* A file with the vocabulary; sep: id of [SEP], or N_PIECES and more. */
static int create(struct infer_tokenizer **t, uint32_t sep,
                  struct infer_error *err)
{
    struct plan plan;
    struct image *v, file;
    struct infer_gguf *g;
    int status;

    plan_good(&plan);
    v = plan_key(&plan, "tokenizer.ggml.model", INFER_GGUF_STRING);
    image_str(v, "bert", 4);
    v = plan_key(&plan, "tokenizer.ggml.tokens", INFER_GGUF_ARRAY);
    image_u32(v, INFER_GGUF_STRING);
    image_u64(v, N_PIECES);
    for (size_t i = 0; i < N_PIECES; i++)
        image_str(v, pieces[i], strlen(pieces[i]));
    v = plan_key(&plan, "tokenizer.ggml.token_type", INFER_GGUF_ARRAY);
    image_u32(v, INFER_GGUF_I32);
    image_u64(v, N_PIECES);
    for (size_t i = 0; i < N_PIECES; i++)
        image_u32(v, i < 5 ? INFER_TOKEN_CONTROL : INFER_TOKEN_NORMAL);
    plan_u32(&plan, "tokenizer.ggml.unknown_token_id", 1);
    plan_u32(&plan, "tokenizer.ggml.cls_token_id", 2);
    plan_u32(&plan, "tokenizer.ggml.seperator_token_id", sep);
    file = plan_build(&plan, NULL);
    g = image_open(&file);
    status = infer_tokenizer_create(t, g, err);
    infer_gguf_close(g);
    image_free(&file);
    plan_free(&plan);
    return status;
}

static void test_cases(void **state)
{
    static const struct {
        const char *text;
        int32_t ids[8];
        struct infer_span spans[8];
    } cases[] = {
        {"", {-1}, {{0, 0}}},
        {"unbelievable!",
         {5, 6, 7, 9, -1},
         {{0, 2}, {2, 8}, {8, 12}, {12, 13}}},
        /* é as one character and as two: the accent goes, its bytes stay with
         * no one or with the letter */
        {"Caf\xc3\xa9", {8, -1}, {{0, 5}}},
        {"cafe\xcc\x81 un", {8, 5, -1}, {{0, 4}, {7, 9}}},
        {"\xe4\xb8\xad\xe6\x96\x87", {10, 11, -1}, {{0, 3}, {3, 6}}},
        /* one place without a piece makes the whole word unknown */
        {" unx un", {1, 5, -1}, {{1, 4}, {5, 7}}},
        {"u\xc2\xadn\x01 \xff!", {5, 9, -1}, {{0, 4}, {7, 8}}},
    };
    struct infer_error err = {0};
    struct infer_tokenizer *t = NULL;

    (void)state;
    if (create(&t, 3, &err) != 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct infer_tokens got = {0};
        struct infer_span *spans = NULL;
        size_t n = 0;

        while (cases[i].ids[n] >= 0)
            n++;
        assert_int_equal(infer_tokenizer_encode_spans(
                             t, cases[i].text, strlen(cases[i].text), true,
                             false, &got, &spans, &err),
                         0);
        assert_int_equal(got.n, n + 2);
        assert_int_equal(got.ids[0], 2);
        assert_int_equal(got.ids[n + 1], 3);
        assert_memory_equal(got.ids + 1, cases[i].ids, n * 4);
        assert_memory_equal(spans + 1, cases[i].spans, n * sizeof(*spans));
        assert_int_equal(spans[0].end, 0);
        assert_int_equal(spans[n + 1].end, 0);
        free(spans);
        infer_tokens_release(&got);
    }
    assert_int_equal(infer_tokenizer_sep(t), 3);
    infer_tokenizer_free(t);
}

static void test_bad_separator(void **state)
{
    struct infer_error err = {0};
    struct infer_tokenizer *t = NULL;

    (void)state;
    assert_int_equal(create(&t, N_PIECES, &err), INFER_EFORMAT);
    assert_non_null(strstr(err.text, "seperator_token_id"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_bad_separator),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
