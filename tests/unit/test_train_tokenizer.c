/*
 * test_train_tokenizer.c - vocabularies that are trained here: the GGUF file
 * must encode as SentencePiece's own model does (unigram by its own proto), and
 * everything decodes to the bytes it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/format/gguf.h"
#include "core/format/replace.h"
#include "trainer/tok/chars.h"
#include "trainer/tok/spm_train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/infer-tokenizer-XXXXXX";
static char model[96], vocab[96];

static const char *const words[] = {"the",
                                    "then",
                                    "there",
                                    "other",
                                    "mother",
                                    "rather",
                                    "gather",
                                    "leather",
                                    "12",
                                    "2024",
                                    "caf\xc3\xa9",
                                    "na\xc3\xafve",
                                    "\xe6\xbc\xa2\xe5\xad\x97",
                                    "stone",
                                    "tone",
                                    "one",
                                    "none",
                                    "alone",
                                    "phone",
                                    "honest",
                                    "  two"};

enum { N_WORDS = sizeof(words) / sizeof(*words), LINE = 400 };

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Words in some order; odd lines have characters that are in no training. */
static size_t make_line(char *line, uint32_t seed, bool strange)
{
    static const char *const odd[] = {
        "\xf0\x9f\x8e\x89", "Q", "\t", "\xc3\x9f", "<|x|>", "\xe2\x96\x81"};
    size_t n = 0;

    for (int i = 0; i < 12; i++) {
        const uint32_t r = next(&seed);
        const char *w =
            strange && r % 5 == 0 ? odd[r / 5 % 6] : words[r / 5 % N_WORDS];

        n += (size_t)snprintf(line + n, LINE - n, "%s%s", i ? " " : "", w);
    }
    return n;
}

static void train(const struct train_spm_options *o)
{
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    struct infer_error err = {0};
    struct train_spm *t = NULL;
    char *proto = NULL, line[LINE];
    size_t size = 0;

    assert_int_equal(train_spm_create(&t, 1 << 20, NULL), 0);
    for (uint32_t i = 0; i < 400; i++)
        assert_int_equal(
            train_spm_add(t, line, make_line(line, i, false), NULL), 0);
    if (train_spm_run(t, o, &proto, &size, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(infer_replace_file(model, proto, size, NULL), 0);
    assert_int_equal(train_vocab_load_spm(&v, model, NULL), 0);
    assert_int_equal(train_vocab_save(&v, vocab, NULL), 0);
    train_vocab_release(&v);
    train_spm_free(t);
    free(proto);
}

static struct infer_tokenizer *open_vocab(void)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};
    struct infer_gguf *g = NULL;

    assert_int_equal(infer_gguf_open(&g, vocab, NULL), 0);
    if (infer_tokenizer_create(&t, g, &err) != 0)
        fail_msg("%s", err.text);
    infer_gguf_close(g);
    return t;
}

static void check_line(const struct infer_tokenizer *ours,
                       const struct infer_tokenizer *theirs, const char *line,
                       size_t len, bool whole)
{
    struct infer_tokens a = {0}, b = {0};
    char *text = NULL;
    size_t n = 0;

    assert_int_equal(
        infer_tokenizer_encode(ours, line, len, false, false, &a, NULL), 0);
    assert_int_equal(
        infer_tokenizer_encode(theirs, line, len, false, false, &b, NULL), 0);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.ids, b.ids, a.n * sizeof(*a.ids));
    assert_int_equal(
        infer_tokenizer_decode(ours, a.ids, a.n, false, &text, &n, NULL), 0);
    if (whole) {
        assert_int_equal(n, len);
        assert_memory_equal(text, line, len);
    }
    free(text);
    infer_tokens_release(&a);
    infer_tokens_release(&b);
}

static void check(const struct train_spm_options *o)
{
    struct infer_tokenizer *ours, *theirs = NULL;
    char line[LINE];

    train(o);
    ours = open_vocab();
    assert_int_equal(infer_tokenizer_load_spm(&theirs, model, NULL), 0);
    assert_int_equal(infer_tokenizer_n_vocab(ours), o->n_vocab);
    assert_int_equal(infer_tokenizer_sep(theirs), infer_tokenizer_sep(ours));
    for (uint32_t i = 0; i < 500; i++) {
        const bool strange = i % 2 == 1;
        const size_t n = make_line(line, 1000 + i, strange);
        /* U+2581 is how pieces write a space: it comes back as one */
        const bool mark = strstr(line, "\xe2\x96\x81") != NULL;

        check_line(ours, theirs, line, n,
                   !mark && (o->byte_fallback || !strange));
    }
    infer_tokenizer_free(ours);
    infer_tokenizer_free(theirs);
}

static void test_pieces(void **state)
{
    static const char *const symbols[] = {"<|x|>", "<|end|>"};
    const struct train_spm_options options[] = {
        {.kind = "unigram", .n_vocab = 320, .byte_fallback = true},
        {.kind = "bpe", .n_vocab = 320, .byte_fallback = true},
        {.kind = "unigram", .n_vocab = 70},
        {.kind = "unigram",
         .n_vocab = 322,
         .byte_fallback = true,
         .split_digits = true,
         .symbols = symbols,
         .n_symbols = 2},
        {.kind = "bpe",
         .n_vocab = 322,
         .byte_fallback = true,
         .split_digits = true,
         .symbols = symbols,
         .n_symbols = 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
        struct train_spm_options o = options[i];

        o.n_threads = 1;
        check(&o);
    }
}

/* A symbol is one token wherever it stands; digits are cut apart. */
static void test_symbols(void **state)
{
    static const char text[] = "one<|end|>2024";
    struct infer_tokenizer *t = open_vocab(); /* the last of test_pieces */
    struct infer_tokens a = {0};
    size_t n, digits = 0;
    int symbols = 0;

    (void)state;
    assert_int_equal(
        infer_tokenizer_encode(t, text, strlen(text), false, false, &a, NULL),
        0);
    for (size_t i = 0; i < a.n; i++) {
        const char *s = infer_tokenizer_bytes(t, a.ids[i], false, &n);

        symbols += n == 7 && memcmp(s, "<|end|>", 7) == 0;
        digits += n == 1 && *s >= '0' && *s <= '9';
    }
    assert_int_equal(symbols, 1);
    assert_int_equal(digits, 4);
    infer_tokens_release(&a);
    infer_tokenizer_free(t);
}

static void test_normalised_is_refused(void **state)
{
    const char *const keys[] = {"precompiled_charsmap",
                                "remove_extra_whitespaces"};
    struct infer_gguf_writer *w = NULL;
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};
    struct infer_gguf *g = NULL;
    const uint8_t map[4] = {1, 2, 3, 4};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(infer_gguf_writer_create(&w, NULL), 0);
        infer_gguf_set_str(w, "general.architecture", "llama");
        if (i == 0)
            infer_gguf_set_array(w, "tokenizer.ggml.precompiled_charsmap",
                                 INFER_GGUF_U8, map, sizeof(map));
        else
            infer_gguf_set_bool(w, "tokenizer.ggml.remove_extra_whitespaces",
                                true);
        infer_gguf_set_str(w, "tokenizer.ggml.model", "t5");
        assert_int_equal(infer_gguf_save(w, vocab, NULL), 0);
        infer_gguf_writer_free(w);
        assert_int_equal(infer_gguf_open(&g, vocab, NULL), 0);
        assert_int_equal(infer_tokenizer_create(&t, g, &err),
                         INFER_EUNSUPPORTED);
        assert_non_null(strstr(err.text, keys[i]));
        infer_gguf_close(g);
    }
}

static void test_characters(void **state)
{
    static const char text[] = "aa b\xc3\xa9\n aa";
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    struct train_chars c = {0};
    struct infer_tokenizer *t;
    struct infer_tokens a = {0};
    uint64_t dropped;

    (void)state;
    assert_int_equal(train_chars_create(&c, NULL), 0);
    train_chars_add(&c, text, strlen(text));
    assert_int_equal(train_chars_vocab(&c, true, 0, &v, &dropped, NULL), 0);
    assert_int_equal(v.n, 3 + 256 + 5); /* a b e-acute newline space */
    assert_int_equal(dropped, 0);
    assert_int_equal(train_vocab_save(&v, vocab, NULL), 0);
    t = open_vocab();
    /* known characters are one token each, others their bytes */
    assert_int_equal(infer_tokenizer_encode(t, "b\xc3\xa9 z\xe6\xbc\xa2", 8,
                                            false, false, &a, NULL),
                     0);
    assert_int_equal(a.n, 3 + 1 + 3);
    infer_tokens_release(&a);
    infer_tokenizer_free(t);
    train_vocab_release(&v);
    v = (struct train_vocab){.unk = -1, .bos = -1, .eos = -1};
    assert_int_equal(train_chars_vocab(&c, false, 5, &v, &dropped, NULL), 0);
    assert_int_equal(v.n, 5); /* the two most frequent: a and the space */
    assert_int_equal(dropped, 3);
    train_vocab_release(&v);
    train_chars_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_normalised_is_refused),
        cmocka_unit_test(test_characters),
    };
    int failed;

    if (!mkdtemp(folder))
        return 1;
    snprintf(model, sizeof(model), "%s/tok.model", folder);
    snprintf(vocab, sizeof(vocab), "%s/tok.gguf", folder);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(model);
    unlink(vocab);
    rmdir(folder);
    return failed;
}
