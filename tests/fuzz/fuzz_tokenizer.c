/*
 * fuzz_tokenizer.c - arbitrary text through both tokenizer families.
 *
 * The vocabularies are small and made here, with all byte pieces, so nothing
 * is lost on the way: the tokens of a text must decode to it again. The first
 * byte of the input chooses the flags. In bytes that are not UTF-8 a space can
 * become the bytes of U+2581, as in the reference. For the byte-level family,
 * text that is not UTF-8 comes back as what the reference reads in it; there
 * the check is that a second round changes nothing more.
 */
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/utf8.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct infer_tokenizer *spm, *bpe;

struct image {
    char data[32 << 10];
    size_t n;
};

static void put(struct image *im, const void *data, size_t n)
{
    assert(im->n + n <= sizeof(im->data));
    memcpy(im->data + im->n, data, n);
    im->n += n;
}

static void put_u64(struct image *im, uint64_t v)
{
    put(im, &v, 8);
}

static void put_u32(struct image *im, uint32_t v)
{
    put(im, &v, 4);
}

static void put_str(struct image *im, const char *s)
{
    put_u64(im, strlen(s));
    put(im, s, strlen(s));
}

static void set_str(struct image *im, const char *name, const char *v)
{
    put_str(im, name);
    put_u32(im, INFER_GGUF_STRING);
    put_str(im, v);
}

static void set_array(struct image *im, const char *name, uint32_t type,
                      uint64_t n)
{
    put_str(im, name);
    put_u32(im, INFER_GGUF_ARRAY);
    put_u32(im, type);
    put_u64(im, n);
}

static void image_init(struct image *im, uint64_t n_keys)
{
    im->n = 0;
    put(im, "GGUF\3\0\0\0", 8);
    put_u64(im, 0);
    put_u64(im, n_keys);
}

static struct infer_tokenizer *create(struct image *im)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};
    struct infer_gguf *g = NULL;

    while (im->n % 32 != 0)
        put(im, "", 1);
    if (infer_gguf_open_memory(&g, im->data, im->n, &err) != 0 ||
        infer_tokenizer_create(&t, g, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    infer_gguf_close(g);
    return t;
}

static struct infer_tokenizer *make_spm(struct image *im)
{
    static const char *const pieces[] = {
        "<unk>",
        "<s>",
        "</s>",
        "\xe2\x96\x81",
        "a",
        "b",
        "ab",
        "aa",
        "aaaa",
        ("\xe2\x96\x81"
         "a"),
        "\xc3\xa9",
        "<u>",
        "<uu>",
    };
    static const uint32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4};
    const uint64_t n = sizeof(types) / sizeof(*types);

    image_init(im, 4);
    set_str(im, "tokenizer.ggml.model", "llama");
    set_array(im, "tokenizer.ggml.tokens", INFER_GGUF_STRING, n + 256);
    for (uint64_t i = 0; i < n + 256; i++) {
        char name[8];

        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)(i - n) & 255);
        put_str(im, i < n ? pieces[i] : name);
    }
    set_array(im, "tokenizer.ggml.scores", INFER_GGUF_F32, n + 256);
    for (uint64_t i = 0; i < n + 256; i++) {
        const float score = -(float)(i % 7);

        put(im, &score, 4);
    }
    set_array(im, "tokenizer.ggml.token_type", INFER_GGUF_I32, n + 256);
    for (uint64_t i = 0; i < n + 256; i++)
        put_u32(im, i < n ? types[i] : 6);
    return create(im);
}

/* The character of a byte in byte-level BPE. */
static void byte_char(char *s, unsigned byte)
{
    static const unsigned char moved_end = 0xa0;
    uint32_t cp = byte;

    if (byte <= 0x20)
        cp = 0x100 + byte;
    else if (byte >= 0x7f && byte <= moved_end)
        cp = 0x121 + byte - 0x7f;
    else if (byte == 0xad)
        cp = 0x143;
    s[infer_utf8_put(s, cp)] = '\0';
}

static struct infer_tokenizer *make_bpe(struct image *im)
{
    static const char *const merges[] = {"a b", "a a", "aa aa", "\xc4\xa0 a",
                                         "\xc3\x83 \xc2\xa9"};
    static const char *const merged[] = {"ab",
                                         "aa",
                                         "aaaa",
                                         ("\xc4\xa0"
                                          "a"),
                                         "\xc3\x83\xc2\xa9",
                                         "<u>"};

    image_init(im, 5);
    set_str(im, "tokenizer.ggml.model", "gpt2");
    set_str(im, "tokenizer.ggml.pre", "qwen2"); /* leaves spaces alone */
    set_array(im, "tokenizer.ggml.tokens", INFER_GGUF_STRING, 256 + 6);
    for (unsigned i = 0; i < 256 + 6; i++) {
        char name[5];

        byte_char(name, i & 255);
        put_str(im, i < 256 ? name : merged[i - 256]);
    }
    set_array(im, "tokenizer.ggml.token_type", INFER_GGUF_I32, 256 + 6);
    for (unsigned i = 0; i < 256 + 6; i++)
        put_u32(im, i == 256 + 5 ? 3 : 1);
    set_array(im, "tokenizer.ggml.merges", INFER_GGUF_STRING, 5);
    for (unsigned i = 0; i < 5; i++)
        put_str(im, merges[i]);
    return create(im);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct image im;

    (void)argc;
    (void)argv;
    spm = make_spm(&im);
    bpe = make_bpe(&im);
    return 0;
}

/* Encode and decode; *back is malloc'd. */
static void round_trip(const struct infer_tokenizer *t, const char *text,
                       size_t len, unsigned flags, char **back, size_t *n)
{
    struct infer_tokens ids = {0};
    struct infer_decoder d;
    size_t at = 0;

    if (infer_tokenizer_encode(t, text, len, flags & 1, flags & 2, &ids,
                               NULL) != 0 ||
        infer_tokenizer_decode(t, ids.ids, ids.n, flags & 2, back, n, NULL) !=
            0)
        abort();
    infer_decoder_init(&d, t);
    for (size_t i = 0; i < ids.n && !(flags & 2); i++) {
        size_t k;
        const char *s = infer_decoder_feed(&d, ids.ids[i], &k);

        if (at + k > *n || memcmp(*back + at, s, k) != 0)
            abort();
        at += k;
    }
    if (!(flags & 2) && at != *n)
        abort();
    infer_tokens_release(&ids);
}

static bool is_utf8(const char *s, size_t len)
{
    uint32_t cp;

    for (size_t i = 0, n; i < len; i += n)
        if ((n = infer_utf8_next(s + i, len - i, &cp)) == 0)
            return false;
    return true;
}

/* Does the text hold a special token, or U+2581 (which decodes to a space)?
 * Then spaces come and go. */
static bool has_special(const char *s, size_t len)
{
    return memchr(s, '<', len) || memmem(s, len, "\xe2\x96\x81", 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    const unsigned flags = size ? data[0] & 1 : 0;
    char *back, *again;
    size_t n, m;

    if (size == 0)
        return 0;
    size--;
    if (infer_utf8_complete(text, size) > size)
        abort();
    round_trip(spm, text, size, flags, &back, &n);
    if (!has_special(text, size) &&
        (is_utf8(text, size) || !memchr(text, ' ', size)) &&
        (n != size || memcmp(back, text, size) != 0))
        abort();
    free(back);
    round_trip(spm, text, size, data[0] & 3, &back, &n);
    free(back);
    round_trip(bpe, text, size, data[0] & 3, &back, &n);
    if (is_utf8(text, size) && (n != size || memcmp(back, text, size) != 0))
        abort();
    round_trip(bpe, back, n, data[0] & 3, &again, &m);
    if (m != n || memcmp(back, again, n) != 0)
        abort();
    free(back);
    free(again);
    return 0;
}
