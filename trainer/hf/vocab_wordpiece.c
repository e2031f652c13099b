/*
 * vocab_wordpiece.c - BERT's vocabulary, from tokenizer.json or vocab.txt.
 *
 * In a GGUF file what begins a word has U+2581 in front and what goes on with
 * one has lost its "##"; tokens in brackets stay as they are. Text is
 * lower-cased and loses its accents there, always: a vocabulary that wants
 * neither is refused.
 */
#include "trainer/hf/vocab_parts.h"

#include "core/base/error.h"
#include "trainer/data/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

enum { PATH_LEN = 4096 };

static int put(struct hf_vocab *v, double id, const char *text, size_t len)
{
    const bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
    const bool goes_on = len > 2 && text[0] == '#' && text[1] == '#';
    char *word;
    int status;

    if (bracketed || goes_on)
        return hf_vocab_put(v, id, text + (goes_on ? 2 : 0),
                            len - (goes_on ? 2 : 0), 0.0f, INFER_TOKEN_NORMAL);
    word = malloc(len + 4);
    if (!word)
        return infer_fail(v->err, INFER_ENOMEM, "out of memory");
    memcpy(word, "\xe2\x96\x81", 3);
    memcpy(word + 3, text, len);
    word[len + 3] = '\0';
    status = hf_vocab_put(v, id, word, len + 3, 0.0f, INFER_TOKEN_NORMAL);
    free(word);
    return status;
}

/* One token a line, its number the id. */
static int read_lines(struct hf_vocab *v)
{
    struct train_map map = {"", 0};
    char path[PATH_LEN];
    const char *at, *end;
    double id = 0.0;
    int status;

    snprintf(path, sizeof(path), "%s/vocab.txt", v->folder);
    status = train_map_open(&map, path, v->err);
    if (status != 0)
        return status;
    at = map.data;
    end = map.data + map.size;
    while (at < end && status == 0) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((line ? line : end) - at);

        if (len && at[len - 1] == '\r')
            len--;
        status = put(v, id++, at, len);
        at = line ? line + 1 : end;
    }
    train_map_close(&map);
    return status;
}

/* A choice that must be on, or left to its default. */
static void demand_on(struct hf_reader *r, const char *key)
{
    if (!hf_bool(r, key, true))
        hf_refuse(r, INFER_EUNSUPPORTED, key, "must be true");
}

/* null, unlike none, says that text stays as it is. */
static void check_normalizer(struct hf_reader *r, const cJSON *root)
{
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "normalizer")))
        hf_refuse(r, INFER_EUNSUPPORTED, "normalizer", "must not be null");
    r->object = root;
    r->object = hf_object(r, "normalizer");
    if (!r->object)
        return;
    if (strcmp(hf_text(r, "type", ""), "BertNormalizer") != 0)
        hf_refuse(r, INFER_EUNSUPPORTED, "type",
                  "of its normalizer must be BertNormalizer");
    demand_on(r, "lowercase");
    demand_on(r, "strip_accents");
    demand_on(r, "handle_chinese_chars");
}

static const cJSON *find_words(struct hf_reader *r, const cJSON *root)
{
    r->object = root;
    r->object = hf_object(r, "model");
    if (strcmp(hf_text(r, "type", ""), "WordPiece") != 0)
        hf_refuse(r, INFER_EUNSUPPORTED, "type",
                  "of its model must be WordPiece in a BERT");
    if (strcmp(hf_text(r, "continuing_subword_prefix", "##"), "##") != 0)
        hf_refuse(r, INFER_EUNSUPPORTED, "continuing_subword_prefix",
                  "must be ##");
    return hf_object(r, "vocab");
}

static int read_json(struct hf_vocab *v)
{
    struct hf_reader r = {.file = "tokenizer.json", .err = v->err};
    const cJSON *words, *t;
    cJSON *root = NULL;

    r.status = hf_json_open_in(&root, v->folder, r.file, v->err);
    check_normalizer(&r, root);
    words = find_words(&r, root);
    cJSON_ArrayForEach (t, words)
        if (r.status == 0)
            r.status = put(v, cJSON_IsNumber(t) ? t->valuedouble : -1.0,
                           t->string, strlen(t->string));
    cJSON_Delete(root);
    return r.status;
}

static int read_choices(struct hf_vocab *v)
{
    struct hf_reader r = {.file = "tokenizer_config.json", .err = v->err};
    cJSON *root = NULL;

    r.status = hf_json_open_in(&root, v->folder, r.file, v->err);
    r.object = root;
    demand_on(&r, "do_lower_case");
    demand_on(&r, "strip_accents");
    demand_on(&r, "tokenize_chinese_chars");
    cJSON_Delete(root);
    return r.status;
}

static int find_special(struct hf_vocab *v, const char *text, bool needed,
                        int32_t *id)
{
    *id = hf_vocab_find(v, text);
    if (*id >= 0)
        v->types[*id] = INFER_TOKEN_CONTROL;
    else if (needed)
        return infer_fail(v->err, INFER_EFORMAT,
                          "the vocabulary has no token '%s'", text);
    return 0;
}

int hf_vocab_read_wordpiece(struct hf_vocab *v)
{
    int status = read_choices(v);

    if (status == 0 && hf_json_exists(v->folder, "tokenizer.json"))
        status = read_json(v);
    else if (status == 0 && hf_json_exists(v->folder, "vocab.txt"))
        status = read_lines(v);
    else if (status == 0)
        status = infer_fail(v->err, INFER_EIO,
                            "'%.150s' has no tokenizer: tokenizer.json or "
                            "vocab.txt",
                            v->folder);
    v->model = "bert";
    v->pre = "bert-bge"; /* one tokenizer under many names */
    if (status == 0)
        status = find_special(v, "[UNK]", true, &v->unk);
    if (status == 0)
        status = find_special(v, "[CLS]", true, &v->bos);
    if (status == 0)
        status = find_special(v, "[SEP]", true, &v->sep);
    if (status == 0)
        status = find_special(v, "[PAD]", false, &v->pad);
    if (status == 0)
        status = find_special(v, "[MASK]", false, &v->mask);
    return status;
}

void hf_vocab_set_wordpiece(const struct hf_vocab *v,
                            struct infer_gguf_writer *w)
{
    infer_gguf_set_str(w, KEY "model", v->model);
    infer_gguf_set_str(w, KEY "pre", v->pre);
    infer_gguf_set_strs(w, KEY "tokens", v->tokens.items, v->tokens.n);
    infer_gguf_set_array(w, KEY "token_type", INFER_GGUF_I32, v->types,
                         v->tokens.n);
    infer_gguf_set_u32(w, KEY "token_type_count", v->config->n_types);
    infer_gguf_set_u32(w, KEY "unknown_token_id", (uint32_t)v->unk);
    infer_gguf_set_u32(w, KEY "bos_token_id", (uint32_t)v->bos);
    infer_gguf_set_u32(w, KEY "cls_token_id", (uint32_t)v->bos);
    /* the spelling that readers know */
    infer_gguf_set_u32(w, KEY "seperator_token_id", (uint32_t)v->sep);
    if (v->pad >= 0)
        infer_gguf_set_u32(w, KEY "padding_token_id", (uint32_t)v->pad);
    if (v->mask >= 0)
        infer_gguf_set_u32(w, KEY "mask_token_id", (uint32_t)v->mask);
}
