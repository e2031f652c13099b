/* tiny.c - see tiny.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/tiny.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPACE      "\xe2\x96\x81"
#define GPT2_SPACE "\xc4\xa0"

enum { MAX_TENSORS = 64 };

static void *owned[MAX_TENSORS];
static size_t n_owned;

void tiny_tensor(struct infer_gguf_writer *w, const char *name, uint32_t type,
                 size_t n, size_t k)
{
    const size_t all = (n ? n : 1) * k;
    const uint64_t dims[] = {k, n};
    float *x = malloc(all * sizeof(*x));
    void *data = malloc(infer_qtype_bytes(type, all));

    assert_true(x && data && n_owned < MAX_TENSORS);
    for (size_t i = 0; i < all; i++)
        x[i] = n ? sinf((float)(i * 7 + n_owned)) * 0.3f
                 : 1.0f + 0.1f * cosf((float)i);
    assert_int_equal(infer_quantize(type, x, data, all, NULL, NULL), 0);
    free(x);
    infer_gguf_add_tensor(w, name, type, n ? 2 : 1, dims, data);
    owned[n_owned++] = data;
}

/* The writer of a model, and what to leave out of it. */
struct out {
    struct infer_gguf_writer *w;
    const struct tiny *t;
};

static bool omitted(const struct out *o, const char *name)
{
    return o->t->omit && fnmatch(o->t->omit, name, 0) == 0;
}

static void key_u32(const struct out *o, const char *name, uint32_t v)
{
    char key[96];

    snprintf(key, sizeof(key), "%s.%s", o->t->arch, name);
    if (!omitted(o, key))
        infer_gguf_set_u32(o->w, key, v);
}

static void tokenizer_u32(const struct out *o, const char *name, uint32_t v)
{
    char key[96];

    snprintf(key, sizeof(key), "tokenizer.ggml.%s", name);
    if (!omitted(o, key))
        infer_gguf_set_u32(o->w, key, v);
}

static void matrix(const struct out *o, const char *name, size_t n, size_t k)
{
    if (!omitted(o, name))
        tiny_tensor(o->w, name, o->t->type, n, k);
}

static void vector(const struct out *o, const char *name, size_t k)
{
    if (!omitted(o, name))
        tiny_tensor(o->w, name, o->t->vectors, 0, k);
}

static void set_strs(const struct out *o, const char *key,
                     const char *const *texts, size_t n)
{
    struct infer_gguf_str strs[16];

    for (size_t i = 0; i < n; i++)
        strs[i] = (struct infer_gguf_str){texts[i], strlen(texts[i])};
    if (!omitted(o, key))
        infer_gguf_set_strs(o->w, key, strs, n);
}

static void spm_vocab(const struct out *o)
{
    static const char *const tokens[TINY_LLAMA_VOCAB] = {
        "<unk>", "<s>", "</s>",      SPACE,        "a",
        "b",     "ab",  (SPACE "a"), (SPACE "ab"), "<|im_end|>"};
    static const int32_t types[TINY_LLAMA_VOCAB] = {2, 3, 3, 1, 1,
                                                    1, 1, 1, 1, 4};
    float scores[TINY_LLAMA_VOCAB];

    for (int i = 0; i < TINY_LLAMA_VOCAB; i++)
        scores[i] = i < 6 ? 0.0f : (float)-i;
    infer_gguf_set_str(o->w, "tokenizer.ggml.model", "llama");
    set_strs(o, "tokenizer.ggml.tokens", tokens, TINY_LLAMA_VOCAB);
    infer_gguf_set_array(o->w, "tokenizer.ggml.scores", INFER_GGUF_F32, scores,
                         TINY_LLAMA_VOCAB);
    if (!omitted(o, "tokenizer.ggml.token_type"))
        infer_gguf_set_array(o->w, "tokenizer.ggml.token_type", INFER_GGUF_I32,
                             types, TINY_LLAMA_VOCAB);
    tokenizer_u32(o, "bos_token_id", 1);
    tokenizer_u32(o, "eos_token_id", 2);
    tokenizer_u32(o, "unknown_token_id", 0);
}

static void bpe_vocab(const struct out *o)
{
    static const char *const tokens[TINY_GPT2_VOCAB] = {
        "a", "b", "ab", GPT2_SPACE, (GPT2_SPACE "ab"), "<|endoftext|>"};
    static const char *const merges[] = {"a b", GPT2_SPACE " ab"};
    static const int32_t types[TINY_GPT2_VOCAB] = {1, 1, 1, 1, 1, 3};

    infer_gguf_set_str(o->w, "tokenizer.ggml.model", "gpt2");
    if (!omitted(o, "tokenizer.ggml.pre"))
        infer_gguf_set_str(o->w, "tokenizer.ggml.pre", "gpt-2");
    set_strs(o, "tokenizer.ggml.tokens", tokens, TINY_GPT2_VOCAB);
    infer_gguf_set_array(o->w, "tokenizer.ggml.token_type", INFER_GGUF_I32,
                         types, TINY_GPT2_VOCAB);
    set_strs(o, "tokenizer.ggml.merges", merges, 2);
    tokenizer_u32(o, "bos_token_id", 5);
    tokenizer_u32(o, "eos_token_id", 5);
}

static void llama_tensors(const struct out *o)
{
    const size_t d = TINY_D, kv = TINY_D / 2, ff = TINY_FF;

    matrix(o, "token_embd.weight", TINY_LLAMA_VOCAB, d);
    vector(o, "output_norm.weight", d);
    if (o->t->untied)
        matrix(o, "output.weight", TINY_LLAMA_VOCAB, d);
    vector(o, "blk.0.attn_norm.weight", d);
    matrix(o, "blk.0.attn_q.weight", d, d);
    matrix(o, "blk.0.attn_k.weight", kv, d);
    matrix(o, "blk.0.attn_v.weight", kv, d);
    matrix(o, "blk.0.attn_output.weight", d, d);
    vector(o, "blk.0.ffn_norm.weight", d);
    matrix(o, "blk.0.ffn_gate.weight", ff, d);
    matrix(o, "blk.0.ffn_up.weight", ff, d);
    matrix(o, "blk.0.ffn_down.weight", d, ff);
}

static void gpt2_tensors(const struct out *o)
{
    static const char *const linear[] = {"attn_qkv", "attn_output", "ffn_up",
                                         "ffn_down"};
    const size_t d = TINY_D, ff = TINY_FF;
    const size_t n[] = {3 * d, d, ff, d}, k[] = {d, d, d, ff};
    char name[64];

    matrix(o, "token_embd.weight", TINY_GPT2_VOCAB, d);
    matrix(o, "position_embd.weight", TINY_CTX, d);
    vector(o, "output_norm.weight", d);
    vector(o, "output_norm.bias", d);
    vector(o, "blk.0.attn_norm.weight", d);
    vector(o, "blk.0.attn_norm.bias", d);
    vector(o, "blk.0.ffn_norm.weight", d);
    vector(o, "blk.0.ffn_norm.bias", d);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "blk.0.%s.weight", linear[i]);
        matrix(o, name, n[i], k[i]);
        snprintf(name, sizeof(name), "blk.0.%s.bias", linear[i]);
        vector(o, name, n[i]);
    }
}

void tiny_write(const char *path, const struct tiny *t)
{
    struct out o = {.t = t};
    struct infer_error err = {0};
    const bool gpt2 = strcmp(t->arch, "gpt2") == 0;

    assert_int_equal(infer_gguf_writer_create(&o.w, NULL), 0);
    if (!omitted(&o, "general.architecture"))
        infer_gguf_set_str(o.w, "general.architecture", t->arch);
    if (t->alignment)
        infer_gguf_set_u32(o.w, "general.alignment", t->alignment);
    key_u32(&o, "context_length", TINY_CTX);
    key_u32(&o, "embedding_length", TINY_D);
    key_u32(&o, "block_count", 1);
    key_u32(&o, "feed_forward_length", TINY_FF);
    key_u32(&o, "attention.head_count", TINY_HEADS);
    if (!gpt2)
        key_u32(&o, "attention.head_count_kv", 1);
    (gpt2 ? bpe_vocab : spm_vocab)(&o);
    (gpt2 ? gpt2_tensors : llama_tensors)(&o);
    if (t->extra)
        t->extra(o.w);
    if (infer_gguf_save(o.w, path, &err))
        fail_msg("%s", err.text);
    infer_gguf_writer_free(o.w);
    while (n_owned > 0)
        free(owned[--n_owned]);
}

/* ---- where they lie ------------------------------------------------------ */

static char folder[64], file[96];

const char *tiny_path(void)
{
    if (!folder[0]) {
        snprintf(folder, sizeof(folder), "/tmp/infer-tiny-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(file, sizeof(file), "%s/m.gguf", folder);
    }
    return file;
}

void tiny_clean(void)
{
    if (!folder[0])
        return;
    unlink(file);
    rmdir(folder);
    folder[0] = '\0';
}
