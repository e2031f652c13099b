/*
 * test_frame.c - what stands around and between the texts of a pair, and what
 * is cut off; by the engine's way in and by the trainer's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/format/gguf.h"
#include "core/tokenizer/frame.h"
#include "trainer/enc/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK "\xe2\x96\x81" /* U+2581 */

enum { CLS = 1, SEP, A, B, V = 5 };

static struct infer_tokenizer *tok;

/* n words, of the one or the other kind. */
static struct infer_text_piece words(char *out, const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memcpy(out + 2 * i, word, 2);
    return (struct infer_text_piece){out, 2 * n};
}

static size_t count(const struct infer_encoded *e, int32_t id)
{
    size_t n = 0;

    for (uint32_t i = 0; i < e->n; i++)
        n += e->ids[i] == id;
    return n;
}

/* Of a and b words so many are kept, where the limit is 11: [CLS], two [SEP]
 * and eight words. */
static const struct {
    size_t a, b, keep_a, keep_b;
} cases[] = {
    {0, 0, 0, 0},  {3, 5, 3, 5},  {4, 5, 4, 4},   {5, 4, 4, 4},
    {2, 40, 2, 6}, {40, 2, 6, 2}, {40, 40, 4, 4}, {4, 40, 4, 4},
    {40, 4, 4, 4}, {0, 40, 0, 8}, {40, 0, 8, 0},  {5, 5, 4, 4},
};

static void test_longest_first(void **state)
{
    char a[100], b[100];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct infer_text_piece x = words(a, "a ", cases[i].a);
        const struct infer_text_piece y = words(b, "b ", cases[i].b);
        struct infer_encoded e = {0};

        assert_int_equal(
            infer_frame_encode(tok, &x, &y, 11, INFER_TRUNCATE_RIGHT, &e, NULL),
            0);
        assert_int_equal(count(&e, A), cases[i].keep_a);
        assert_int_equal(count(&e, B), cases[i].keep_b);
        assert_int_equal(e.n, cases[i].keep_a + cases[i].keep_b + 3);
        assert_int_equal(e.n_full, cases[i].a + cases[i].b + 3);
        assert_int_equal(e.ids[0], CLS);
        assert_int_equal(e.ids[1 + cases[i].keep_a], SEP);
        assert_int_equal(e.ids[e.n - 1], SEP);
        infer_encoded_release(&e);
        /* an odd room: the first text has one more */
        assert_int_equal(
            infer_frame_encode(tok, &x, &y, 10, INFER_TRUNCATE_RIGHT, &e, NULL),
            0);
        if (cases[i].keep_a == 4 && cases[i].keep_b == 4)
            assert_int_equal(count(&e, A), 4);
        infer_encoded_release(&e);
    }
}

/* The beginning or the end of each text is what is kept. */
static void test_direction(void **state)
{
    const struct infer_text_piece text = {"a a a b b b", 11};
    const struct infer_text_piece one = {"b", 1};
    struct infer_encoded e = {0};

    (void)state;
    for (int left = 0; left < 2; left++) {
        const enum infer_truncate how =
            left ? INFER_TRUNCATE_LEFT : INFER_TRUNCATE_RIGHT;

        assert_int_equal(infer_frame_encode(tok, &text, &one, 7, how, &e, NULL),
                         0);
        assert_int_equal(e.n, 7);
        assert_int_equal(count(&e, A), left ? 0 : 3);
        assert_int_equal(e.spans[1].begin, left ? 6 : 0);
        assert_int_equal(e.text[1], 0);
        assert_int_equal(e.text[5], 1);
        infer_encoded_release(&e);
    }
}

static void test_refused(void **state)
{
    const struct infer_text_piece text = {"a a a", 5};
    struct infer_encoded e = {0};
    struct infer_error err = {0};

    (void)state;
    assert_int_equal(
        infer_frame_encode(tok, &text, NULL, 4, INFER_TRUNCATE_NO, &e, &err),
        INFER_ETOOLONG);
    assert_string_equal(err.text, "5 tokens, the model takes at most 4");
    assert_int_equal(/* no room for the frame itself */
                     infer_frame_encode(tok, &text, &text, 2,
                                        INFER_TRUNCATE_RIGHT, &e, &err),
                     INFER_ETOOLONG);
    assert_null(e.ids);
}

/* What is learned is what is asked later. */
static void test_trainer(void **state)
{
    struct enc_model m = {.tokenizer = tok, .max_tokens = 11};
    struct enc_texts t = {0};
    char a[100], b[100];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct infer_text_piece x = words(a, "a ", cases[i].a);
        const struct infer_text_piece y = words(b, "b ", cases[i].b);

        for (int pair = 0; pair < 2; pair++) {
            struct infer_encoded e = {0};
            const struct enc_text *text;

            assert_int_equal(infer_frame_encode(tok, &x, pair ? &y : NULL, 11,
                                                INFER_TRUNCATE_RIGHT, &e, NULL),
                             0);
            assert_int_equal(enc_texts_add(&t, &m, x.text, x.len,
                                           pair ? y.text : NULL, y.len, NULL),
                             0);
            text = &t.texts[t.n - 1];
            assert_int_equal(text->n_tokens, e.n);
            assert_memory_equal(t.tokens + text->tokens, e.ids,
                                e.n * sizeof(*e.ids));
            infer_encoded_release(&e);
        }
    }
    enc_texts_release(&t);
}

/* ---- the vocabulary ------------------------------------------------------ */

static int setup(void **state)
{
    static const char *const texts[V] = {"[UNK]", "[CLS]", "[SEP]", MARK "a",
                                         MARK "b"};
    static const int32_t types[V] = {3, 3, 3, 1, 1};
    struct infer_gguf_str strs[V];
    struct infer_gguf_writer *w = NULL;
    struct infer_gguf *g = NULL;
    char path[] = "/tmp/inferd-frame-XXXXXX";

    (void)state;
    assert_true(mkstemp(path) >= 0);
    for (size_t i = 0; i < V; i++)
        strs[i] = (struct infer_gguf_str){texts[i], strlen(texts[i])};
    assert_int_equal(infer_gguf_writer_create(&w, NULL), 0);
    infer_gguf_set_str(w, "general.architecture", "bert");
    infer_gguf_set_str(w, "tokenizer.ggml.model", "bert");
    infer_gguf_set_strs(w, "tokenizer.ggml.tokens", strs, V);
    infer_gguf_set_array(w, "tokenizer.ggml.token_type", INFER_GGUF_I32, types,
                         V);
    infer_gguf_set_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    infer_gguf_set_u32(w, "tokenizer.ggml.cls_token_id", CLS);
    infer_gguf_set_u32(w, "tokenizer.ggml.seperator_token_id", SEP);
    assert_int_equal(infer_gguf_save(w, path, NULL), 0);
    infer_gguf_writer_free(w);
    assert_int_equal(infer_gguf_open(&g, path, NULL), 0);
    assert_int_equal(infer_tokenizer_create(&tok, g, NULL), 0);
    infer_gguf_close(g);
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    infer_tokenizer_free(tok);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest_first),
        cmocka_unit_test(test_direction),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_trainer),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
