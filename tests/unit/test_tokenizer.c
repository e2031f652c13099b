/*
 * test_tokenizer.c - tokenizers on small vocabularies made here.
 *
 * Equality with the reference is tests/golden/test_tokenizers.c's; this one
 * has what no file of the oracle has: malformed vocabularies of every kind,
 * vocabularies with pieces missing, very long words, the stream decoder on
 * arbitrary ids, and threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "core/tokenizer/tokenizer.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY "tokenizer.ggml."
#define UL  "\xe2\x96\x81" /* U+2581, a space in SentencePiece's pieces */

/* ---- GGUF images ------------------------------------------------------------
 */

struct image {
    unsigned char data[64 << 10];
    size_t n;
    uint64_t n_keys;
};

static void put(struct image *im, const void *data, size_t n)
{
    assert_true(im->n + n <= sizeof(im->data));
    memcpy(im->data + im->n, data, n);
    im->n += n;
}

static void put_u32(struct image *im, uint32_t v)
{
    put(im, &v, 4);
}

static void put_u64(struct image *im, uint64_t v)
{
    put(im, &v, 8);
}

static void put_str(struct image *im, const char *s)
{
    put_u64(im, strlen(s));
    put(im, s, strlen(s));
}

static void image_init(struct image *im)
{
    im->n = 0;
    im->n_keys = 0;
    put(im, "GGUF\3\0\0\0", 8);
    put_u64(im, 0); /* tensors */
    put_u64(im, 0); /* keys, patched by image_open() */
}

static void key(struct image *im, const char *name, uint32_t type)
{
    put_str(im, name);
    put_u32(im, type);
    im->n_keys++;
}

static void set_u32(struct image *im, const char *name, uint32_t v)
{
    key(im, name, INFER_GGUF_U32);
    put_u32(im, v);
}

static void set_bool(struct image *im, const char *name, bool v)
{
    key(im, name, INFER_GGUF_BOOL);
    put(im, &v, 1);
}

static void set_str(struct image *im, const char *name, const char *v)
{
    key(im, name, INFER_GGUF_STRING);
    put_str(im, v);
}

static void set_array(struct image *im, const char *name, uint32_t type,
                      uint64_t n)
{
    key(im, name, INFER_GGUF_ARRAY);
    put_u32(im, type);
    put_u64(im, n);
}

static void set_strs(struct image *im, const char *name, const char *const *v,
                     size_t n)
{
    set_array(im, name, INFER_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        put_str(im, v[i]);
}

static int create(struct infer_tokenizer **t, struct image *im,
                  struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    int status;

    while (im->n % 32 != 0)
        put(im, "", 1);
    memcpy(im->data + 16, &im->n_keys, 8);
    status = infer_gguf_open_memory(&g, im->data, im->n, err);
    if (status == 0)
        status = infer_tokenizer_create(t, g, err);
    infer_gguf_close(g);
    return status;
}

static struct infer_tokenizer *must_create(struct image *im)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};

    if (create(&t, im, &err) != 0)
        fail_msg("%s", err.text);
    return t;
}

/* ---- a SentencePiece vocabulary
 * ---------------------------------------------- */

struct piece {
    const char *text;
    float score;
    uint32_t type;
};

/* Ids 0.., behind them the 256 bytes where wanted. */
static const struct piece spm_pieces[] = {
    {"<unk>", 0, 2},   {"<s>", 0, 3},        {"</s>", 0, 3},
    {UL, -9, 1},       {"a", -10, 1},        {"b", -11, 1},
    {"ab", -1, 1},     {UL "ab", -2, 1},     {"aa", -3, 1},
    {"aaaa", -4, 1},   {"<|im_end|>", 0, 3}, {"<user>", 0, 4},
    {"<user>!", 0, 4}, {"\xc3\xa9", -12, 1}, {"z", -13, 5},
};
enum {
    UNK,
    BOS,
    EOS,
    SP,
    A,
    B,
    AB,
    SP_AB,
    AA,
    AAAA,
    IM_END,
    USER,
    USER_BANG,
    E_ACUTE,
    UNUSED,
    N_SPM,
    BYTE0 = N_SPM
};

static void spm_image(struct image *im, bool bytes)
{
    const uint64_t n = N_SPM + (bytes ? 256 : 0);

    image_init(im);
    set_str(im, KEY "model", "llama");
    set_array(im, KEY "tokens", INFER_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) {
        char name[8];

        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)(i - N_SPM) & 255);
        put_str(im, i < N_SPM ? spm_pieces[i].text : name);
    }
    set_array(im, KEY "scores", INFER_GGUF_F32, n);
    for (uint64_t i = 0; i < n; i++) {
        const float score = i < N_SPM ? spm_pieces[i].score : 0;

        put(im, &score, 4);
    }
    set_array(im, KEY "token_type", INFER_GGUF_I32, n);
    for (uint64_t i = 0; i < n; i++)
        put_u32(im, i < N_SPM ? spm_pieces[i].type : 6);
}

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
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    spm_image(&im, true);
    t = must_create(&im);
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
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    spm_image(&im, true);
    t = must_create(&im);
    check_n(t, "", 0, false, NULL, 0);
    check_n(t, NULL, 0, false, NULL, 0);
    CHECK(t, "", true, BOS);
    infer_tokenizer_free(t);
}

/* What the keys switch. */
static void test_spm_keys(void **state)
{
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    spm_image(&im, true);
    set_bool(&im, KEY "add_bos_token", false);
    set_bool(&im, KEY "add_eos_token", true);
    set_bool(&im, KEY "add_space_prefix", false);
    set_u32(&im, KEY "eos_token_id", IM_END);
    set_u32(&im, KEY "eot_token_id", USER);
    t = must_create(&im);
    CHECK(t, "ab ab", true, AB, SP_AB, IM_END);
    assert_true(infer_tokenizer_is_eog(t, USER));
    assert_false(infer_tokenizer_is_eog(t, EOS));
    assert_int_equal(infer_tokenizer_eos(t), IM_END);
    infer_tokenizer_free(t);
}

/* Without byte pieces what no piece covers is unknown, byte by byte. */
static void test_spm_without_bytes(void **state)
{
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    spm_image(&im, false);
    t = must_create(&im);
    CHECK(t, "ab cab", false, SP_AB, SP, UNK, AB);
    CHECK(t, "b\xe2\x82\xac\xff", false, SP, B, UNK, UNK, UNK, UNK);
    infer_tokenizer_free(t);
}

static void test_spm_without_scores(void **state)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", UL, "a", ""};
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    image_init(&im);
    set_str(&im, KEY "model", "llama");
    set_strs(&im, KEY "tokens", tokens, 6);
    t = must_create(&im);
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

                if (strlen(spm_pieces[k].text) == len &&
                    memcmp(text + start[i], spm_pieces[k].text, len) == 0 &&
                    spm_pieces[k].score > score) {
                    best = i;
                    score = spm_pieces[k].score;
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
            if (strlen(spm_pieces[k].text) == len &&
                memcmp(text + start[i], spm_pieces[k].text, len) == 0)
                ids[i] = k;
    }
    return n;
}

/* Cutting, looking up and SentencePiece together keep to the definition. */
static void test_spm_definition(void **state)
{
    static const char letters[] = "aaaaaab b c";
    struct infer_tokenizer *t;
    struct image im;
    unsigned seed = 1;

    (void)state;
    spm_image(&im, true);
    t = must_create(&im);
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
    struct image im;
    char *text = malloc(too_long);

    (void)state;
    assert_non_null(text);
    memset(text, 'a', too_long);
    spm_image(&im, true);
    t = must_create(&im);
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

#define G "\xc4\xa0" /* U+0120, a space in byte-level pieces */

static const char *const bpe_tokens[] = {
    "a",        "b",        G,   "ab", G "ab", "aa", "<|endoftext|>",
    "\xc3\x83", "\xc2\xa9", "1",
};
static const char *const bpe_merges[] = {"a b",   G " ab", "a a",
                                         "aa aa", "a b",   "q r"};
enum { BA, BB, BG, BAB, BGAB, BAA, BEND, BC3, BA9, B1, N_BPE };

static void bpe_image(struct image *im, const char *pre)
{
    image_init(im);
    set_str(im, KEY "model", "gpt2");
    if (pre)
        set_str(im, KEY "pre", pre);
    set_strs(im, KEY "tokens", bpe_tokens, N_BPE);
    set_array(im, KEY "token_type", INFER_GGUF_I32, N_BPE);
    for (int i = 0; i < N_BPE; i++)
        put_u32(im, i == BEND ? 3 : 1);
    set_u32(im, KEY "bos_token_id", BEND);
    set_u32(im, KEY "eos_token_id", BEND);
}

static void test_bpe(void **state)
{
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    bpe_image(&im, "gpt-2");
    set_strs(&im, KEY "merges", bpe_merges, 6);
    t = must_create(&im);
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
    struct image im;
    struct infer_tokenizer *t;

    (void)state;
    bpe_image(&im, NULL); /* "default" */
    set_strs(&im, KEY "merges", bpe_merges, 6);
    t = must_create(&im);
    CHECK(t, "ab ab", true, BAB, BGAB);
    infer_tokenizer_free(t);
    bpe_image(&im, "llama-bpe"); /* adds BOS, takes whole pieces */
    set_strs(&im, KEY "merges", bpe_merges, 1);
    t = must_create(&im);
    CHECK(t, "ab ab", true, BEND, BAB, BGAB);
    infer_tokenizer_free(t);
}

/* The heap keeps a megabyte of one letter from taking hours. */
static void test_bpe_long_word(void **state)
{
    const size_t n = 1 << 20;
    struct infer_tokens got = {0};
    struct infer_tokenizer *t;
    struct image im;
    char *text = malloc(n);

    (void)state;
    assert_non_null(text);
    memset(text, 'a', n);
    bpe_image(&im, "qwen2");
    set_strs(&im, KEY "merges", bpe_merges, 3);
    t = must_create(&im);
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
    struct image im;
    struct infer_tokenizer *t;
    struct infer_error err = {0};
    char *text = NULL;
    size_t len = 99;

    (void)state;
    spm_image(&im, true);
    t = must_create(&im);
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
    struct image im;
    struct infer_tokenizer *t;
    unsigned seed = 1;

    (void)state;
    spm_image(&im, true);
    t = must_create(&im);
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

/* ---- malformed vocabularies
 * ------------------------------------------------------ */

static void expect(struct image *im, int status, const char *word)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};

    assert_int_equal(create(&t, im, &err), status);
    assert_int_equal(err.status, status);
    assert_null(t);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not name '%s'", err.text, word);
}

/* One token vocabulary with the arrays' lengths as given. */
static void tiny(struct image *im, const char *token, uint64_t n_scores,
                 float score, uint64_t n_types, uint32_t type)
{
    image_init(im);
    set_str(im, KEY "model", "llama");
    set_strs(im, KEY "tokens", &token, 1);
    set_array(im, KEY "scores", INFER_GGUF_F32, n_scores);
    for (uint64_t i = 0; i < n_scores; i++)
        put(im, &score, 4);
    set_array(im, KEY "token_type", INFER_GGUF_I32, n_types);
    for (uint64_t i = 0; i < n_types; i++)
        put_u32(im, type);
}

static void test_malformed(void **state)
{
    static const char *const twice[] = {"a", "b", "a"};
    struct image im;

    (void)state;
    image_init(&im);
    expect(&im, INFER_EFORMAT, "tokenizer.ggml.model");
    image_init(&im);
    set_str(&im, KEY "model", "rwkv");
    expect(&im, INFER_EUNSUPPORTED, "rwkv");
    image_init(&im);
    set_str(&im, KEY "model", "llama");
    expect(&im, INFER_EFORMAT, "tokens");
    image_init(&im);
    set_u32(&im, KEY "model", 1);
    expect(&im, INFER_EFORMAT, "model");
    image_init(&im);
    set_str(&im, KEY "model", "llama");
    set_array(&im, KEY "tokens", INFER_GGUF_STRING, 0);
    expect(&im, INFER_EFORMAT, "tokens");
    image_init(&im);
    set_str(&im, KEY "model", "llama");
    set_strs(&im, KEY "tokens", twice, 3);
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
    set_bool(&im, KEY "add_bos_token", false);
    expect(&im, INFER_EFORMAT, "byte piece");
    tiny(&im, "a", 1, 0, 1, 1); /* no bos among one token, but wanted */
    expect(&im, INFER_EFORMAT, "bos_token_id");
    spm_image(&im, true);
    set_u32(&im, KEY "bos_token_id", N_SPM + 256);
    expect(&im, INFER_EFORMAT, "bos_token_id");
    spm_image(&im, true);
    set_str(&im, KEY "add_bos_token", "yes");
    expect(&im, INFER_EFORMAT, "add_bos_token");
}

static void test_long_piece(void **state)
{
    char *piece = malloc(5000);
    struct image im;

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
    struct image im;

    (void)state;
    bpe_image(&im, "klingon");
    expect(&im, INFER_EUNSUPPORTED, "klingon");
    bpe_image(&im, "gpt-2");
    expect(&im, INFER_EFORMAT, "merges");
    bpe_image(&im, "gpt-2");
    set_strs(&im, KEY "merges", bad, 2);
    expect(&im, INFER_EFORMAT, "entry 1");
    bpe_image(&im, "gpt-2");
    set_strs(&im, KEY "merges", half, 1);
    expect(&im, INFER_EFORMAT, "entry 0");
    bpe_image(&im, "gpt-2");
    set_array(&im, KEY "merges", INFER_GGUF_I32, 1);
    put_u32(&im, 1);
    expect(&im, INFER_EFORMAT, "merges");
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
    struct image im;

    (void)state;
    spm_image(&im, true);
    share(must_create(&im));
    bpe_image(&im, "qwen2");
    set_strs(&im, KEY "merges", bpe_merges, 6);
    share(must_create(&im));
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
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_malformed_bpe),
        cmocka_unit_test(test_model_file),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
