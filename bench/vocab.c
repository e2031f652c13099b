/*
 * vocab.c - see vocab.h.
 *
 * Invented words count through the letters (a, b, .. z, aa, ab, ..), so they
 * are all different without a table. In the BPE vocabulary each is the merge of
 * the word without its last letter and that letter, which is what makes it
 * reachable.
 */
#include "bench/vocab.h"

#include "core/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKEN_BYTES = 24 }; /* longest is "<|endoftext|>" */

/* Token types of the format. */
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 };

struct words {
    char (*text)[TOKEN_BYTES];   /* [n] */
    struct infer_gguf_str *strs; /* [n], into text */
    char (*merge)[TOKEN_BYTES];  /* [n] "ab c", or "" */
    int32_t *type;               /* [n] */
    float *score;                /* [n] */
    uint32_t n;
};

static void words_release(struct words *v)
{
    free(v->text);
    free(v->strs);
    free(v->merge);
    free(v->type);
    free(v->score);
}

static int words_init(struct words *v, uint32_t n, struct infer_error *err)
{
    if (n < BENCH_VOCAB_MIN || n > BENCH_VOCAB_MAX)
        return infer_fail(err, INFER_EINVAL,
                          "vocabulary of %u tokens: not from %d to %d", n,
                          BENCH_VOCAB_MIN, BENCH_VOCAB_MAX);
    v->text = calloc(n, sizeof(v->text[0]));
    v->strs = calloc(n, sizeof(v->strs[0]));
    v->merge = calloc(n, sizeof(v->merge[0]));
    v->type = calloc(n, sizeof(v->type[0]));
    v->score = calloc(n, sizeof(v->score[0]));
    v->n = n;
    if (!v->text || !v->strs || !v->merge || !v->type || !v->score)
        return infer_fail(err, INFER_ENOMEM, "no memory for a vocabulary");
    return INFER_OK;
}

static void words_set(struct words *v, uint32_t i, int32_t type)
{
    v->strs[i].data = v->text[i];
    v->strs[i].len = strlen(v->text[i]);
    v->type[i] = type;
}

/* The i-th word over a..z: a, b, .. z, aa, ab, .. (bijective base 26). */
static void letters(char out[8], uint32_t i)
{
    char reversed[8];
    size_t n = 0;

    for (i++; i > 0; i = (i - 1) / 26)
        reversed[n++] = (char)('a' + (i - 1) % 26);
    for (size_t j = 0; j < n; j++)
        out[j] = reversed[n - 1 - j];
    out[n] = '\0';
}

int bench_vocab_spm(struct infer_gguf_writer *w, uint32_t n,
                    struct infer_error *err)
{
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    struct words v = {0};
    int status = words_init(&v, n, err);

    if (status != INFER_OK)
        goto out;
    for (uint32_t i = 0; i < n; i++) {
        char word[8];
        int32_t type = NORMAL;

        if (i < 3) {
            snprintf(v.text[i], TOKEN_BYTES, "%s", special[i]);
            type = i == 0 ? UNKNOWN : CONTROL;
        } else if (i < 259) {
            snprintf(v.text[i], TOKEN_BYTES, "<0x%02X>", i - 3);
            type = BYTE;
        } else {
            letters(word, (i - 259) / 2); /* with a leading space, without */
            snprintf(v.text[i], TOKEN_BYTES, "%s%s",
                     i % 2 ? "\xe2\x96\x81" : "", word);
            v.score[i] = -(float)(i - 259);
        }
        words_set(&v, i, type);
    }
    infer_gguf_set_str(w, "tokenizer.ggml.model", "llama");
    infer_gguf_set_str(w, "tokenizer.ggml.pre", "default");
    infer_gguf_set_strs(w, "tokenizer.ggml.tokens", v.strs, n);
    infer_gguf_set_array(w, "tokenizer.ggml.scores", INFER_GGUF_F32, v.score,
                         n);
    infer_gguf_set_array(w, "tokenizer.ggml.token_type", INFER_GGUF_I32, v.type,
                         n);
    infer_gguf_set_u32(w, "tokenizer.ggml.bos_token_id", 1);
    infer_gguf_set_u32(w, "tokenizer.ggml.eos_token_id", 2);
    infer_gguf_set_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    infer_gguf_set_bool(w, "tokenizer.ggml.add_bos_token", true);
    infer_gguf_set_bool(w, "tokenizer.ggml.add_eos_token", false);
out:
    words_release(&v);
    return status;
}

/* GPT-2's visible character for a byte, as UTF-8. `hidden` counts the bytes
 * without one of their own so far: they take the code points from 256 on. */
static void byte_char(char out[3], unsigned byte, unsigned *hidden)
{
    const bool visible =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const unsigned code = visible ? byte : 256 + (*hidden)++;

    if (code < 128) {
        out[0] = (char)code;
        out[1] = '\0';
    } else {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        out[2] = '\0';
    }
}

/* "abc" is the merge of "ab" and "c". */
static void merge_of(char out[TOKEN_BYTES], const char *word)
{
    const int head = (int)strlen(word) - 1;

    snprintf(out, TOKEN_BYTES, "%.*s %c", head, word, word[head]);
}

int bench_vocab_wpm(struct infer_gguf_writer *w, uint32_t n,
                    struct infer_error *err)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                          "[MASK]"};
    struct words v = {0};
    int status = words_init(&v, n, err);

    for (uint32_t i = 0; status == INFER_OK && i < n; i++) {
        char word[TOKEN_BYTES - 3];

        if (i < 5) {
            snprintf(v.text[i], TOKEN_BYTES, "%s", special[i]);
        } else if (i < 31) {
            letters(v.text[i], i - 5); /* goes on within a word */
        } else {
            letters(word, i - 31);
            snprintf(v.text[i], TOKEN_BYTES, "\xe2\x96\x81%s", word);
        }
        words_set(&v, i, i < 5 ? CONTROL : NORMAL);
    }
    if (status == INFER_OK) {
        infer_gguf_set_str(w, "tokenizer.ggml.model", "bert");
        infer_gguf_set_str(w, "tokenizer.ggml.pre", "bert-bge");
        infer_gguf_set_strs(w, "tokenizer.ggml.tokens", v.strs, n);
        infer_gguf_set_array(w, "tokenizer.ggml.token_type", INFER_GGUF_I32,
                             v.type, n);
        infer_gguf_set_u32(w, "tokenizer.ggml.padding_token_id", 0);
        infer_gguf_set_u32(w, "tokenizer.ggml.unknown_token_id", 1);
        infer_gguf_set_u32(w, "tokenizer.ggml.bos_token_id", 2);
        infer_gguf_set_u32(w, "tokenizer.ggml.cls_token_id", 2);
        infer_gguf_set_u32(w, "tokenizer.ggml.seperator_token_id", 3);
        infer_gguf_set_u32(w, "tokenizer.ggml.mask_token_id", 4);
        infer_gguf_set_u32(w, "tokenizer.ggml.token_type_count", 2);
    }
    words_release(&v);
    return status;
}

int bench_vocab_bpe(struct infer_gguf_writer *w, uint32_t n,
                    struct infer_error *err)
{
    struct words v = {0};
    struct infer_gguf_str *merges = NULL;
    unsigned hidden = 0;
    int status = words_init(&v, n, err);

    if (status != INFER_OK)
        goto out;
    merges = calloc(n, sizeof(merges[0]));
    if (merges == NULL) {
        status = infer_fail(err, INFER_ENOMEM, "no memory for the merges");
        goto out;
    }
    for (uint32_t i = 0; i < 256; i++) {
        byte_char(v.text[i], i, &hidden);
        words_set(&v, i, NORMAL);
    }
    for (uint32_t i = 256; i + 1 < n; i++) {
        letters(v.text[i], i - 256 + 26); /* single letters are bytes */
        merge_of(v.merge[i], v.text[i]);
        merges[i - 256] = (struct infer_gguf_str){.data = v.merge[i],
                                                  .len = strlen(v.merge[i])};
        words_set(&v, i, NORMAL);
    }
    snprintf(v.text[n - 1], TOKEN_BYTES, "<|endoftext|>");
    words_set(&v, n - 1, CONTROL);

    infer_gguf_set_str(w, "tokenizer.ggml.model", "gpt2");
    infer_gguf_set_str(w, "tokenizer.ggml.pre", "gpt-2");
    infer_gguf_set_strs(w, "tokenizer.ggml.tokens", v.strs, n);
    infer_gguf_set_array(w, "tokenizer.ggml.token_type", INFER_GGUF_I32, v.type,
                         n);
    infer_gguf_set_strs(w, "tokenizer.ggml.merges", merges, n - 257);
    infer_gguf_set_u32(w, "tokenizer.ggml.bos_token_id", n - 1);
    infer_gguf_set_u32(w, "tokenizer.ggml.eos_token_id", n - 1);
out:
    free(merges);
    words_release(&v);
    return status;
}

/* Strings need a terminator to be set again. */
static int copy_string(struct infer_gguf_writer *w, const struct infer_gguf *g,
                       const char *key, struct infer_error *err)
{
    struct infer_gguf_str s;
    char *text;
    int status = infer_gguf_get_str(g, key, &s, err);

    if (status != INFER_OK)
        return status;
    text = strndup(s.data, s.len);
    if (text == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for '%s'", key);
    infer_gguf_set_str(w, key, text);
    free(text);
    return INFER_OK;
}

static int copy_array(struct infer_gguf_writer *w, const struct infer_gguf *g,
                      const char *key, struct infer_error *err)
{
    struct infer_gguf_array a;
    const int status = infer_gguf_get_array(g, key, &a, err);

    if (status != INFER_OK)
        return status;
    if (a.type == INFER_GGUF_STRING)
        infer_gguf_set_strs(w, key, a.strs, a.n);
    else
        infer_gguf_set_array(w, key, a.type, a.data, a.n);
    return INFER_OK;
}

static int copy_key(struct infer_gguf_writer *w, const struct infer_gguf *g,
                    const char *key, enum infer_gguf_type type,
                    struct infer_error *err)
{
    uint32_t u;
    float f;
    bool b;
    int status;

    switch (type) {
    case INFER_GGUF_STRING:
        return copy_string(w, g, key, err);
    case INFER_GGUF_ARRAY:
        return copy_array(w, g, key, err);
    case INFER_GGUF_BOOL:
        status = infer_gguf_get_bool(g, key, &b, err);
        if (status == INFER_OK)
            infer_gguf_set_bool(w, key, b);
        return status;
    case INFER_GGUF_F32:
        status = infer_gguf_get_f32(g, key, &f, err);
        if (status == INFER_OK)
            infer_gguf_set_f32(w, key, f);
        return status;
    default: /* integers of any width that fit */
        status = infer_gguf_get_u32(g, key, &u, err);
        if (status == INFER_OK)
            infer_gguf_set_u32(w, key, u);
        return status;
    }
}

int bench_vocab_copy(struct infer_gguf_writer *w, const char *path, uint32_t *n,
                     struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    struct infer_gguf_array tokens = {0};
    int status = infer_gguf_open(&g, path, err);

    if (status != INFER_OK)
        return status;
    status = infer_gguf_get_array(g, "tokenizer.ggml.tokens", &tokens, err);
    if (status > 0 || (status == INFER_OK && (tokens.n < BENCH_VOCAB_MIN ||
                                              tokens.n > BENCH_VOCAB_MAX)))
        status = infer_fail(err, INFER_EFORMAT,
                            "'%s' has no vocabulary of %d to %d tokens", path,
                            BENCH_VOCAB_MIN, BENCH_VOCAB_MAX);
    for (size_t i = 0; i < infer_gguf_n_keys(g) && status == INFER_OK; i++) {
        enum infer_gguf_type type;
        const char *key = infer_gguf_key(g, i, &type);

        if (strncmp(key, "tokenizer.", 10) == 0)
            status = copy_key(w, g, key, type, err);
    }
    if (status == INFER_OK)
        *n = (uint32_t)tokens.n;
    infer_gguf_close(g);
    return status;
}
