/* vocab_image.c - see vocab_image.h. */
#include "tests/vocab_image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

void vocab_put(struct vocab_image *im, const void *data, size_t n)
{
    assert_true(im->n + n <= sizeof(im->data));
    memcpy(im->data + im->n, data, n);
    im->n += n;
}

void vocab_put_u32(struct vocab_image *im, uint32_t v)
{
    vocab_put(im, &v, 4);
}

static void put_u64(struct vocab_image *im, uint64_t v)
{
    vocab_put(im, &v, 8);
}

void vocab_put_str(struct vocab_image *im, const char *s)
{
    put_u64(im, strlen(s));
    vocab_put(im, s, strlen(s));
}

void vocab_begin(struct vocab_image *im)
{
    im->n = 0;
    im->n_keys = 0;
    vocab_put(im, "GGUF\3\0\0\0", 8);
    put_u64(im, 0); /* tensors */
    put_u64(im, 0); /* keys, patched by vocab_create() */
}

static void key(struct vocab_image *im, const char *name, uint32_t type)
{
    vocab_put_str(im, name);
    vocab_put_u32(im, type);
    im->n_keys++;
}

void vocab_u32(struct vocab_image *im, const char *name, uint32_t v)
{
    key(im, name, INFER_GGUF_U32);
    vocab_put_u32(im, v);
}

void vocab_bool(struct vocab_image *im, const char *name, bool v)
{
    key(im, name, INFER_GGUF_BOOL);
    vocab_put(im, &v, 1);
}

void vocab_str(struct vocab_image *im, const char *name, const char *v)
{
    key(im, name, INFER_GGUF_STRING);
    vocab_put_str(im, v);
}

void vocab_array(struct vocab_image *im, const char *name, uint32_t type,
                 uint64_t n)
{
    key(im, name, INFER_GGUF_ARRAY);
    vocab_put_u32(im, type);
    put_u64(im, n);
}

void vocab_strs(struct vocab_image *im, const char *name, const char *const *v,
                size_t n)
{
    vocab_array(im, name, INFER_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        vocab_put_str(im, v[i]);
}

int vocab_create(struct infer_tokenizer **t, struct vocab_image *im,
                 struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    int status;

    while (im->n % 32 != 0)
        vocab_put(im, "", 1);
    memcpy(im->data + 16, &im->n_keys, 8);
    status = infer_gguf_open_memory(&g, im->data, im->n, err);
    if (status == 0)
        status = infer_tokenizer_create(t, g, err);
    infer_gguf_close(g);
    return status;
}

struct infer_tokenizer *vocab_must_create(struct vocab_image *im)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};

    if (vocab_create(&t, im, &err) != 0)
        fail_msg("%s", err.text);
    return t;
}

const struct vocab_piece vocab_spm_pieces[] = {
    {"<unk>", 0, 2},   {"<s>", 0, 3},        {"</s>", 0, 3},
    {UL, -9, 1},       {"a", -10, 1},        {"b", -11, 1},
    {"ab", -1, 1},     {UL "ab", -2, 1},     {"aa", -3, 1},
    {"aaaa", -4, 1},   {"<|im_end|>", 0, 3}, {"<user>", 0, 4},
    {"<user>!", 0, 4}, {"\xc3\xa9", -12, 1}, {"z", -13, 5},
};
void vocab_spm(struct vocab_image *im, bool bytes)
{
    const uint64_t n = N_SPM + (bytes ? 256 : 0);

    vocab_begin(im);
    vocab_str(im, KEY "model", "llama");
    vocab_array(im, KEY "tokens", INFER_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) {
        char name[8];

        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)(i - N_SPM) & 255);
        vocab_put_str(im, i < N_SPM ? vocab_spm_pieces[i].text : name);
    }
    vocab_array(im, KEY "scores", INFER_GGUF_F32, n);
    for (uint64_t i = 0; i < n; i++) {
        const float score = i < N_SPM ? vocab_spm_pieces[i].score : 0;

        vocab_put(im, &score, 4);
    }
    vocab_array(im, KEY "token_type", INFER_GGUF_I32, n);
    for (uint64_t i = 0; i < n; i++)
        vocab_put_u32(im, i < N_SPM ? vocab_spm_pieces[i].type : 6);
}

static const char *const bpe_tokens[] = {
    "a",        "b",        G,   "ab", G "ab", "aa", "<|endoftext|>",
    "\xc3\x83", "\xc2\xa9", "1",
};
const char *const vocab_bpe_merges[] = {"a b",   G " ab", "a a",
                                        "aa aa", "a b",   "q r"};

void vocab_bpe(struct vocab_image *im, const char *pre)
{
    vocab_begin(im);
    vocab_str(im, KEY "model", "gpt2");
    if (pre)
        vocab_str(im, KEY "pre", pre);
    vocab_strs(im, KEY "tokens", bpe_tokens, N_BPE);
    vocab_array(im, KEY "token_type", INFER_GGUF_I32, N_BPE);
    for (int i = 0; i < N_BPE; i++)
        vocab_put_u32(im, i == BEND ? 3 : 1);
    vocab_u32(im, KEY "bos_token_id", BEND);
    vocab_u32(im, KEY "eos_token_id", BEND);
}
