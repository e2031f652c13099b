/*
 * vocab.c - see vocab.h. Two kinds of file are written, pieces with scores in
 * both: "llama", merged by score, and "t5", the likeliest pieces of a text
 * (SentencePiece's bpe and unigram). A character vocabulary is a "llama"
 * without any merges.
 */
#include "trainer/tok/vocab.h"

#include "core/base/error.h"
#include "core/tokenizer/spm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

static int no_memory(const struct train_vocab *v, struct infer_error *err)
{
    return infer_fail(err, INFER_ENOMEM, "out of memory for %zu tokens", v->n);
}

static int grow(struct train_vocab *v)
{
    const size_t cap = v->cap ? v->cap * 2 : 512;
    struct infer_gguf_str *texts;
    float *scores;
    int32_t *types;

    texts = realloc(v->texts, cap * sizeof(*texts));
    if (texts)
        v->texts = texts;
    scores = realloc(v->scores, cap * sizeof(*scores));
    if (scores)
        v->scores = scores;
    types = realloc(v->types, cap * sizeof(*types));
    if (types)
        v->types = types;
    if (!texts || !scores || !types)
        return INFER_ENOMEM;
    v->cap = cap;
    return 0;
}

int train_vocab_add(struct train_vocab *v, const char *text, size_t len,
                    float score, enum infer_token_type type,
                    struct infer_error *err)
{
    char *copy;

    if (v->n == v->cap && grow(v) != 0)
        return no_memory(v, err);
    copy = malloc(len + 1);
    if (!copy)
        return no_memory(v, err);
    memcpy(copy, text, len);
    v->texts[v->n] = (struct infer_gguf_str){copy, len};
    v->scores[v->n] = score;
    v->types[v->n++] = (int32_t)type;
    return 0;
}

int train_vocab_specials(struct train_vocab *v, struct infer_error *err)
{
    int status = train_vocab_add(v, "<unk>", 5, 0.0f, INFER_TOKEN_UNKNOWN, err);

    if (status == 0)
        status = train_vocab_add(v, "<s>", 3, 0.0f, INFER_TOKEN_CONTROL, err);
    if (status == 0)
        status = train_vocab_add(v, "</s>", 4, 0.0f, INFER_TOKEN_CONTROL, err);
    v->unk = 0;
    v->bos = 1;
    v->eos = 2;
    return status;
}

int train_vocab_bytes(struct train_vocab *v, struct infer_error *err)
{
    int status = 0;

    for (unsigned i = 0; i < 256 && status == 0; i++) {
        char name[8];

        snprintf(name, sizeof(name), "<0x%02X>", i);
        status = train_vocab_add(v, name, 6, 0.0f, INFER_TOKEN_BYTE, err);
    }
    return status;
}

void train_vocab_release(struct train_vocab *v)
{
    for (size_t i = 0; i < v->n; i++) {
        char *text;

        memcpy(&text, &v->texts[i].data, sizeof(text)); /* ours */
        free(text);
    }
    free(v->texts);
    free(v->scores);
    free(v->types);
    *v = (struct train_vocab){.unk = -1, .bos = -1, .eos = -1};
}

static int copy_pieces(struct train_vocab *v, const struct infer_vocab *from,
                       struct infer_error *err)
{
    int status = 0;

    v->unk = from->unk;
    v->bos = from->bos;
    v->eos = from->eos;
    v->unigram = from->unigram;
    v->add_bos = from->add_bos;
    v->add_space = from->add_space_prefix;
    for (uint32_t i = 0; i < from->n && status == 0; i++)
        status = train_vocab_add(
            v, from->texts.data[i].data, (size_t)from->texts.data[i].len,
            from->scores[i], (enum infer_token_type)from->types[i], err);
    return status;
}

int train_vocab_load_spm(struct train_vocab *v, const char *path,
                         struct infer_error *err)
{
    struct infer_vocab from = {0};
    struct infer_spm_file file = {0};
    struct infer_error why = {0};
    char *data = NULL;
    int status = infer_spm_file_load(&from, &file, &data, path, &why);

    if (status != 0)
        infer_fail(err, status, "cannot load '%.100s': %.120s", path, why.text);
    else if (file.normalizes)
        status = infer_fail(err, INFER_EUNSUPPORTED,
                            "'%.100s' normalises its text, which a GGUF "
                            "vocabulary cannot; train one with 'infer-train "
                            "tokenizer'",
                            path);
    else
        status = copy_pieces(v, &from, err);
    infer_vocab_release(&from);
    free(data);
    return status;
}

void train_vocab_set(const struct train_vocab *v, struct infer_gguf_writer *w)
{
    infer_gguf_set_str(w, KEY "model", v->unigram ? "t5" : "llama");
    infer_gguf_set_str(w, KEY "pre", "default");
    infer_gguf_set_strs(w, KEY "tokens", v->texts, v->n);
    infer_gguf_set_array(w, KEY "scores", INFER_GGUF_F32, v->scores, v->n);
    infer_gguf_set_array(w, KEY "token_type", INFER_GGUF_I32, v->types, v->n);
    if (v->unk >= 0)
        infer_gguf_set_u32(w, KEY "unknown_token_id", (uint32_t)v->unk);
    if (v->bos >= 0)
        infer_gguf_set_u32(w, KEY "bos_token_id", (uint32_t)v->bos);
    if (v->eos >= 0)
        infer_gguf_set_u32(w, KEY "eos_token_id", (uint32_t)v->eos);
    infer_gguf_set_bool(w, KEY "add_bos_token", v->add_bos);
    infer_gguf_set_bool(w, KEY "add_eos_token", false);
    infer_gguf_set_bool(w, KEY "add_space_prefix", v->add_space);
    if (v->unigram)
        infer_gguf_set_bool(w, KEY "remove_extra_whitespaces", false);
}

int train_vocab_save(const struct train_vocab *v, const char *path,
                     struct infer_error *err)
{
    struct infer_gguf_writer *w = NULL;
    int status = infer_gguf_writer_create(&w, err);

    if (status != 0)
        return status;
    infer_gguf_set_str(w, "general.architecture", "llama");
    infer_gguf_set_str(w, "general.type", "vocab");
    train_vocab_set(v, w);
    status = infer_gguf_save(w, path, err);
    infer_gguf_writer_free(w);
    return status;
}

bool train_vocab_is_spm(const char *path)
{
    static const char end[] = ".model";
    const size_t n = strlen(path), k = strlen(end);

    return n >= k && strcmp(path + n - k, end) == 0;
}

int train_vocab_copy(const char *from, const char *path,
                     struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    struct infer_gguf_writer *w = NULL;
    int status = infer_gguf_open(&g, from, err);

    if (status == 0)
        status = infer_gguf_writer_create(&w, err);
    if (status == 0) {
        infer_gguf_set_str(w, "general.type", "vocab");
        infer_gguf_set_some(w, g, "tokenizer.");
        status = infer_gguf_save(w, path, err);
    }
    infer_gguf_writer_free(w);
    infer_gguf_close(g);
    return status;
}
