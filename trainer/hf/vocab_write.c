/*
 * vocab_write.c - the vocabulary of a GGUF file as the files of a checkpoint:
 * tokenizer.model for SentencePiece's pieces, tokenizer.json for byte-level
 * BPE.
 */
#include "trainer/hf/vocab.h"

#include "core/base/error.h"
#include "core/tokenizer/spm.h"
#include "core/tokenizer/utf8.h"
#include "trainer/hf/json.h"
#include "trainer/hf/pretok.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

enum { PATH_LEN = 4096 };

struct writing {
    const struct hf_config *config;
    const struct infer_gguf *g;
    const char *folder;
    struct infer_vocab vocab;
    struct infer_error *err;
};

static bool is(struct infer_gguf_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* A copy for JSON. NULL: not a text, or no memory. */
static char *copy_text(struct infer_gguf_str s)
{
    uint32_t cp;

    for (size_t i = 0, k; i < s.len; i += k) {
        k = infer_utf8_next(s.data + i, (size_t)s.len - i, &cp);
        if (k == 0 || cp == 0)
            return NULL;
    }
    return strndup(s.data, (size_t)s.len);
}

static int not_text(const struct writing *w, const char *what, size_t i)
{
    return infer_fail(w->err, INFER_EUNSUPPORTED,
                      "%s %zu is not UTF-8, which JSON needs", what, i);
}

/* ---- tokenizer.json -------------------------------------------------------
 */

static cJSON *added_token(uint32_t id, const char *text, bool special)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "id", id);
    cJSON_AddStringToObject(o, "content", text);
    cJSON_AddFalseToObject(o, "single_word");
    cJSON_AddFalseToObject(o, "lstrip");
    cJSON_AddFalseToObject(o, "rstrip");
    cJSON_AddFalseToObject(o, "normalized");
    cJSON_AddBoolToObject(o, "special", special);
    return o;
}

static int add_tokens(const struct writing *w, cJSON *added, cJSON *vocab)
{
    const struct infer_vocab *v = &w->vocab;

    for (uint32_t id = 0; id < v->n; id++) {
        char *text = copy_text(v->texts.data[id]);

        if (!text)
            return not_text(w, "token", id);
        if (v->types[id] == INFER_TOKEN_CONTROL ||
            v->types[id] == INFER_TOKEN_USER)
            cJSON_AddItemToArray(
                added,
                added_token(id, text, v->types[id] == INFER_TOKEN_CONTROL));
        else
            cJSON_AddNumberToObject(vocab, text, id);
        free(text);
    }
    return 0;
}

static int add_merges(const struct writing *w, cJSON *merges)
{
    struct infer_gguf_array a;
    const int status = infer_gguf_get_array(w->g, KEY "merges", &a, w->err);

    if (status != 0 || a.type != INFER_GGUF_STRING)
        return infer_fail(w->err, INFER_EFORMAT,
                          KEY "merges is not an array of strings");
    for (uint64_t i = 0; i < a.n; i++) {
        char *text = copy_text(a.strs[i]);

        if (!text)
            return not_text(w, "merge", (size_t)i);
        cJSON_AddItemToArray(merges, cJSON_CreateString(text));
        free(text);
    }
    return 0;
}

static cJSON *byte_level(void)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "type", "ByteLevel");
    cJSON_AddFalseToObject(o, "add_prefix_space");
    cJSON_AddFalseToObject(o, "trim_offsets");
    cJSON_AddTrueToObject(o, "use_regex");
    return o;
}

/* One step of a template: a token, or the text. */
static void add_step(cJSON *list, const char *kind, const char *id, int type)
{
    cJSON *outer = cJSON_CreateObject();
    cJSON *inner = cJSON_AddObjectToObject(outer, kind);

    cJSON_AddStringToObject(inner, "id", id);
    cJSON_AddNumberToObject(inner, "type_id", type);
    cJSON_AddItemToArray(list, outer);
}

/* BOS before every text. */
static cJSON *bos_template(int32_t bos, const char *text)
{
    cJSON *o = cJSON_CreateObject(), *one, *two, *tokens, *token, *list;

    cJSON_AddStringToObject(o, "type", "TemplateProcessing");
    one = cJSON_AddArrayToObject(o, "single");
    add_step(one, "SpecialToken", text, 0);
    add_step(one, "Sequence", "A", 0);
    two = cJSON_AddArrayToObject(o, "pair");
    add_step(two, "SpecialToken", text, 0);
    add_step(two, "Sequence", "A", 0);
    add_step(two, "SpecialToken", text, 1);
    add_step(two, "Sequence", "B", 1);
    tokens = cJSON_AddObjectToObject(o, "special_tokens");
    token = cJSON_AddObjectToObject(tokens, text);
    cJSON_AddStringToObject(token, "id", text);
    list = cJSON_AddArrayToObject(token, "ids");
    cJSON_AddItemToArray(list, cJSON_CreateNumber(bos));
    list = cJSON_AddArrayToObject(token, "tokens");
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
    return o;
}

static int write_bpe(const struct writing *w, const struct hf_pretok *pretok,
                     const char *bos)
{
    cJSON *o = cJSON_CreateObject(), *added, *model, *vocab, *merges;
    int status;

    cJSON_AddStringToObject(o, "version", "1.0");
    cJSON_AddNullToObject(o, "truncation");
    cJSON_AddNullToObject(o, "padding");
    added = cJSON_AddArrayToObject(o, "added_tokens");
    if (pretok->nfc)
        cJSON_AddStringToObject(cJSON_AddObjectToObject(o, "normalizer"),
                                "type", "NFC");
    else
        cJSON_AddNullToObject(o, "normalizer");
    cJSON_AddItemToObject(o, "pre_tokenizer", hf_pretok_json(pretok));
    cJSON_AddItemToObject(o, "post_processor",
                          w->vocab.add_bos && bos
                              ? bos_template(w->vocab.bos, bos)
                              : byte_level());
    cJSON_AddItemToObject(o, "decoder", byte_level());
    model = cJSON_AddObjectToObject(o, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddNullToObject(model, "dropout");
    cJSON_AddNullToObject(model, "unk_token");
    cJSON_AddNullToObject(model, "continuing_subword_prefix");
    cJSON_AddNullToObject(model, "end_of_word_suffix");
    cJSON_AddFalseToObject(model, "fuse_unk");
    cJSON_AddFalseToObject(model, "byte_fallback");
    cJSON_AddBoolToObject(model, "ignore_merges", pretok->ignore_merges);
    vocab = cJSON_AddObjectToObject(model, "vocab");
    merges = cJSON_AddArrayToObject(model, "merges");
    status = add_tokens(w, added, vocab);
    if (status == 0)
        status = add_merges(w, merges);
    if (status == 0)
        status = hf_json_save(o, w->folder, "tokenizer.json", w->err);
    cJSON_Delete(o);
    return status;
}

/* ---- tokenizer_config.json ------------------------------------------------
 */

static char *token_text(const struct writing *w, int32_t id)
{
    return id < 0 ? NULL : copy_text(w->vocab.texts.data[id]);
}

static void add_text(cJSON *o, const char *key, const char *text)
{
    if (text)
        cJSON_AddStringToObject(o, key, text);
}

static int write_config(const struct writing *w, bool spm, const char *bos,
                        const char *eos)
{
    struct infer_gguf_str s;
    cJSON *o = cJSON_CreateObject();
    char *unk = spm ? token_text(w, w->vocab.unk) : NULL, *template = NULL;
    int status;

    if (infer_gguf_get_str(w->g, "tokenizer.chat_template", &s, NULL) == 0)
        template = copy_text(s);
    cJSON_AddStringToObject(o, "tokenizer_class",
                            spm ? "LlamaTokenizer" : "PreTrainedTokenizerFast");
    cJSON_AddNumberToObject(o, "model_max_length", w->config->n_ctx);
    cJSON_AddBoolToObject(o, "add_bos_token", w->vocab.add_bos);
    cJSON_AddBoolToObject(o, "add_eos_token", w->vocab.add_eos);
    cJSON_AddFalseToObject(o, "clean_up_tokenization_spaces");
    if (spm)
        cJSON_AddBoolToObject(o, "add_prefix_space", w->vocab.add_space_prefix);
    add_text(o, "unk_token", unk);
    add_text(o, "bos_token", bos);
    add_text(o, "eos_token", eos);
    add_text(o, "chat_template", template);
    status = hf_json_save(o, w->folder, "tokenizer_config.json", w->err);
    cJSON_Delete(o);
    free(unk);
    free(template);
    return status;
}

/* ---- both -----------------------------------------------------------------
 */

static int write_tokenizer(struct writing *w, bool spm,
                           struct infer_gguf_str pre)
{
    const struct hf_pretok *pretok = hf_pretok_find(pre.data, (size_t)pre.len);
    char path[PATH_LEN], *bos, *eos;
    int status;

    if (w->vocab.n != w->config->n_vocab)
        return infer_fail(w->err, INFER_EFORMAT,
                          "the vocabulary has %u tokens, the embedding %u",
                          w->vocab.n, w->config->n_vocab);
    if (!spm && !pretok)
        return infer_fail(w->err, INFER_EUNSUPPORTED,
                          "pre-tokenizer '%.*s' cannot be written as "
                          "tokenizer.json",
                          pre.len < 40 ? (int)pre.len : 40, pre.data);
    bos = token_text(w, w->vocab.bos);
    eos = token_text(w, w->vocab.eos);
    snprintf(path, sizeof(path), "%s/tokenizer.model", w->folder);
    status = spm ? infer_spm_file_save(&w->vocab, path, w->err)
                 : write_bpe(w, pretok, bos);
    if (status == 0)
        status = write_config(w, spm, bos, eos);
    free(bos);
    free(eos);
    return status;
}

int hf_vocab_write(const struct hf_config *c, const struct infer_gguf *g,
                   const char *folder, struct infer_error *err)
{
    struct writing w = {.config = c, .g = g, .folder = folder, .err = err};
    struct infer_gguf_str model = {"", 0}, pre = {"default", 7};
    struct infer_gguf_array map;
    int status = infer_gguf_get_str(g, KEY "model", &model, err);
    bool spm;

    if (status >= 0)
        status = infer_gguf_get_str(g, KEY "pre", &pre, err);
    if (status < 0)
        return status;
    spm = is(model, "llama") || is(model, "t5");
    if ((!spm && !is(model, "gpt2")) ||
        infer_gguf_get_array(g, KEY "precompiled_charsmap", &map, NULL) == 0)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "tokenizer model '%.*s' cannot be converted",
                          model.len < 40 ? (int)model.len : 40, model.data);
    /* the defaults of each family, as core/tokenizer has them */
    w.vocab.family = spm ? INFER_FAMILY_SPM : INFER_FAMILY_BPE;
    w.vocab.unigram = is(model, "t5");
    w.vocab.add_bos = is(model, "llama") || is(pre, "llama-bpe");
    w.vocab.add_space_prefix = spm;
    status = infer_vocab_load(&w.vocab, g, err);
    if (status == 0)
        status = write_tokenizer(&w, spm, pre);
    infer_vocab_release(&w.vocab);
    return status;
}
