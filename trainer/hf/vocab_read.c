/*
 * vocab_read.c - the files of a tokenizer to GGUF keys: which of them there
 * are, what tokenizer_config.json adds, and the writing of the keys.
 */
#include "trainer/hf/vocab_parts.h"

#include "core/base/error.h"
#include "core/tokenizer/vocab.h"
#include "trainer/data/files.h"
#include "trainer/tok/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

enum { PATH_LEN = 4096 };

/* ---- strings --------------------------------------------------------------
 */

static int no_memory(const struct hf_vocab *v)
{
    return infer_fail(v->err, INFER_ENOMEM, "out of memory for a vocabulary");
}

static int add_string(struct hf_vocab *v, struct hf_strings *s, char *text,
                      size_t len)
{
    if (text && s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 1024;
        struct infer_gguf_str *p = realloc(s->items, cap * sizeof(*p));

        if (p) {
            s->items = p;
            s->cap = cap;
        }
    }
    if (!text || s->n == s->cap) {
        free(text);
        return no_memory(v);
    }
    s->items[s->n++] = (struct infer_gguf_str){text, len};
    return 0;
}

static void free_strings(struct hf_strings *s)
{
    for (size_t i = 0; i < s->n; i++) {
        char *text;

        memcpy(&text, &s->items[i].data, sizeof(text)); /* ours */
        free(text);
    }
    free(s->items);
}

int hf_vocab_put(struct hf_vocab *v, double id, const char *text, size_t len,
                 float score, enum infer_token_type type)
{
    struct infer_gguf_str *at;
    char *copy;

    if (!(id >= 0) || id >= (double)v->tokens.n || id != (double)(size_t)id)
        return infer_fail(v->err, INFER_EFORMAT,
                          "token '%.*s' has id %.15g, the model has %zu",
                          len < 60 ? (int)len : 60, text, id, v->tokens.n);
    if (len > INFER_VOCAB_MAX_PIECE)
        return infer_fail(v->err, INFER_EFORMAT,
                          "token %zu has %zu bytes, at most %d are allowed",
                          (size_t)id, len, INFER_VOCAB_MAX_PIECE);
    at = &v->tokens.items[(size_t)id];
    v->types[(size_t)id] = (int32_t)type;
    v->scores[(size_t)id] = score;
    if (at->data) {
        if (at->len == len && memcmp(at->data, text, len) == 0)
            return 0;
        return infer_fail(v->err, INFER_EFORMAT,
                          "tokens '%.60s' and '%.*s' both have id %zu",
                          at->data, len < 60 ? (int)len : 60, text, (size_t)id);
    }
    copy = malloc(len + 1); /* strndup() would stop at a NUL */
    if (!copy)
        return no_memory(v);
    memcpy(copy, text, len);
    copy[len] = '\0';
    *at = (struct infer_gguf_str){copy, len};
    return 0;
}

int hf_vocab_merge(struct hf_vocab *v, const char *left, const char *right)
{
    const size_t n = strlen(left), m = strlen(right);
    char *text = malloc(n + m + 2);

    if (text) {
        memcpy(text, left, n);
        text[n] = ' ';
        memcpy(text + n + 1, right, m + 1);
    }
    return add_string(v, &v->merges, text, n + m + 1);
}

int32_t hf_vocab_find(const struct hf_vocab *v, const char *text)
{
    for (size_t i = 0; i < v->tokens.n; i++)
        if (v->tokens.items[i].data &&
            strcmp(v->tokens.items[i].data, text) == 0)
            return (int32_t)i;
    return -1;
}

/* ---- kinds of files -------------------------------------------------------
 */

/* tokenizer.model */
static int read_spm(struct hf_vocab *v, const char *path)
{
    struct train_vocab from = {.unk = -1, .bos = -1, .eos = -1};
    int status = train_vocab_load_spm(&from, path, v->err);

    if (status == 0 && from.n > v->tokens.n)
        status = infer_fail(v->err, INFER_EFORMAT,
                            "tokenizer.model has %zu pieces, the model's "
                            "embedding %zu",
                            from.n, v->tokens.n);
    for (size_t i = 0; i < from.n && status == 0; i++)
        status = hf_vocab_put(v, (double)i, from.texts[i].data,
                              (size_t)from.texts[i].len, from.scores[i],
                              (enum infer_token_type)from.types[i]);
    v->model = from.unigram ? "t5" : "llama";
    v->pre = "default";
    v->unk = from.unk;
    v->bos = from.bos;
    v->eos = from.eos;
    v->add_bos = from.add_bos;
    v->add_space = from.add_space;
    train_vocab_release(&from);
    return status;
}

/* A line of merges.txt */
static int add_merge_line(struct hf_vocab *v, char *line, size_t number)
{
    char *space = strchr(line, ' ');

    if (*line == '\0' || (number == 1 && strncmp(line, "#version", 8) == 0))
        return 0;
    if (!space || space == line || !space[1] || strchr(space + 1, ' '))
        return infer_fail(v->err, INFER_EFORMAT,
                          "merges.txt:%zu: not two pieces", number);
    *space = '\0';
    return hf_vocab_merge(v, line, space + 1);
}

static int read_merges(struct hf_vocab *v, const char *path)
{
    struct train_map map = {"", 0};
    char *text = NULL;
    size_t number = 0;
    int status = train_map_open(&map, path, v->err);

    if (status != 0)
        return status;
    text = strndup(map.data, map.size);
    if (!text)
        status = no_memory(v);
    for (char *at = text, *line; status == 0 && (line = strsep(&at, "\n"));) {
        const size_t n = strlen(line);

        if (n && line[n - 1] == '\r')
            line[n - 1] = '\0';
        status = add_merge_line(v, line, ++number);
    }
    free(text);
    train_map_close(&map);
    return status;
}

/* vocab.json and merges.txt, as gpt2 has them: the end of text is special. */
static int read_pair(struct hf_vocab *v)
{
    static const char end[] = "<|endoftext|>";
    char path[PATH_LEN];
    cJSON *vocab = NULL;
    int32_t id;
    int status = hf_json_open_in(&vocab, v->folder, "vocab.json", v->err);

    if (status == 0)
        status = hf_vocab_read_ids(v, vocab);
    cJSON_Delete(vocab);
    snprintf(path, sizeof(path), "%s/merges.txt", v->folder);
    if (status == 0)
        status = read_merges(v, path);
    id = status == 0 ? hf_vocab_find(v, end) : -1;
    if (id >= 0)
        v->types[id] = INFER_TOKEN_CONTROL;
    v->model = "gpt2";
    v->pre = v->config->arch == HF_GPT2    ? "gpt-2"
             : v->config->arch == HF_LLAMA ? NULL
                                           : "qwen2";
    if (status == 0 && !v->pre)
        status = infer_fail(v->err, INFER_EUNSUPPORTED,
                            "vocab.json and merges.txt do not say how a llama "
                            "cuts text into words; tokenizer.json is wanted");
    return status;
}

static int read_files(struct hf_vocab *v)
{
    char path[PATH_LEN];
    cJSON *root = NULL;
    int status;

    if (v->config->arch == HF_BERT)
        return hf_vocab_read_wordpiece(v);
    if (hf_json_exists(v->folder, "tokenizer.model")) {
        snprintf(path, sizeof(path), "%s/tokenizer.model", v->folder);
        return read_spm(v, path);
    }
    if (hf_json_exists(v->folder, "tokenizer.json")) {
        status = hf_json_open_in(&root, v->folder, "tokenizer.json", v->err);
        if (status == 0)
            status = hf_vocab_read_json(v, root);
        cJSON_Delete(root);
        return status;
    }
    if (hf_json_exists(v->folder, "vocab.json") &&
        hf_json_exists(v->folder, "merges.txt"))
        return read_pair(v);
    return infer_fail(v->err, INFER_EIO,
                      "'%.150s' has no tokenizer: tokenizer.model, "
                      "tokenizer.json, or vocab.json and merges.txt",
                      v->folder);
}

/* ---- tokenizer_config.json ------------------------------------------------
 */

/* {"32000": {"content": "<|im_start|>", "special": true}, ...} */
static int read_added(struct hf_vocab *v, struct hf_reader *r)
{
    const cJSON *map = hf_object(r, "added_tokens_decoder"), *t;
    int status = r->status;

    cJSON_ArrayForEach (t, map) {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(t, "content");
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(t, "special");
        char *end = NULL;
        const unsigned long id = strtoul(t->string, &end, 10);

        if (*end || end == t->string || !cJSON_IsString(text))
            return infer_fail(v->err, INFER_EFORMAT,
                              "%s: added token '%.40s' is malformed", r->file,
                              t->string);
        /* those of tokenizer.model know better what they are */
        if (status == 0 && (id >= v->tokens.n || !v->tokens.items[id].data))
            status = hf_vocab_put(v, (double)id, text->valuestring,
                                  strlen(text->valuestring), 0.0f,
                                  cJSON_IsTrue(special) ? INFER_TOKEN_CONTROL
                                                        : INFER_TOKEN_USER);
    }
    return status;
}

/* One template, or the default one of several. */
static const char *chat_template(const cJSON *config)
{
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(config, "chat_template");
    const cJSON *item;

    if (cJSON_IsString(t))
        return t->valuestring;
    cJSON_ArrayForEach (item, t) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, "template");

        if (cJSON_IsString(name) && cJSON_IsString(text) &&
            strcmp(name->valuestring, "default") == 0)
            return text->valuestring;
    }
    return NULL;
}

static int read_config(struct hf_vocab *v, const cJSON *config)
{
    struct hf_reader r = {
        .object = config, .file = "tokenizer_config.json", .err = v->err};

    v->add_bos = hf_bool(&r, "add_bos_token", v->add_bos);
    v->add_eos = hf_bool(&r, "add_eos_token", v->add_eos);
    return read_added(v, &r);
}

/* ---- GGUF -----------------------------------------------------------------
 */

static int fill_holes(struct hf_vocab *v)
{
    for (size_t id = 0; id < v->tokens.n; id++) {
        char name[32];
        const int len = snprintf(name, sizeof(name), "[PAD%zu]", id);

        if (!v->tokens.items[id].data) {
            const int status = hf_vocab_put(v, (double)id, name, (size_t)len,
                                            0.0f, INFER_TOKEN_UNUSED);

            if (status != 0)
                return status;
        }
    }
    return 0;
}

static void set_id(struct infer_gguf_writer *w, const char *key, int32_t id)
{
    if (id >= 0)
        infer_gguf_set_u32(w, key, (uint32_t)id);
}

static void set_keys(const struct hf_vocab *v, struct infer_gguf_writer *w,
                     const char *template)
{
    const struct hf_config *c = v->config;
    const int32_t bos = c->bos >= 0 ? c->bos : v->bos;
    const int32_t eos = c->eos[0] >= 0 ? c->eos[0] : v->eos;

    infer_gguf_set_str(w, KEY "model", v->model);
    infer_gguf_set_str(w, KEY "pre", v->pre);
    infer_gguf_set_strs(w, KEY "tokens", v->tokens.items, v->tokens.n);
    infer_gguf_set_array(w, KEY "token_type", INFER_GGUF_I32, v->types,
                         v->tokens.n);
    if (strcmp(v->model, "t5") == 0)
        infer_gguf_set_bool(w, KEY "remove_extra_whitespaces", false);
    if (strcmp(v->model, "gpt2") != 0) {
        infer_gguf_set_array(w, KEY "scores", INFER_GGUF_F32, v->scores,
                             v->tokens.n);
        infer_gguf_set_bool(w, KEY "add_space_prefix", v->add_space);
    } else {
        infer_gguf_set_strs(w, KEY "merges", v->merges.items, v->merges.n);
    }
    set_id(w, KEY "unknown_token_id", v->unk);
    set_id(w, KEY "bos_token_id", bos);
    set_id(w, KEY "eos_token_id", eos);
    set_id(w, KEY "eot_token_id", c->eos[1]);
    set_id(w, KEY "eom_token_id", c->eos[2]);
    infer_gguf_set_bool(w, KEY "add_bos_token", v->add_bos && bos >= 0);
    infer_gguf_set_bool(w, KEY "add_eos_token", v->add_eos && eos >= 0);
    if (template)
        infer_gguf_set_str(w, "tokenizer.chat_template", template);
}

int hf_vocab_read(const struct hf_config *c, const char *folder,
                  struct infer_gguf_writer *w, struct infer_error *err)
{
    struct hf_vocab v = {.config = c,
                         .folder = folder,
                         .err = err,
                         .unk = -1,
                         .bos = -1,
                         .eos = -1};
    cJSON *config = NULL;
    int status = 0;

    v.tokens.items = calloc(c->n_vocab, sizeof(*v.tokens.items));
    v.tokens.n = v.tokens.cap = c->n_vocab;
    v.scores = calloc(c->n_vocab, sizeof(*v.scores));
    v.types = calloc(c->n_vocab, sizeof(*v.types));
    if (!v.tokens.items || !v.scores || !v.types) {
        v.tokens.n = v.tokens.items ? v.tokens.n : 0;
        status = no_memory(&v);
    }
    if (status == 0)
        status = read_files(&v);
    if (status == 0)
        status = hf_json_open_in(&config, folder, "tokenizer_config.json", err);
    if (status == 0 && config)
        status = read_config(&v, config);
    if (status == 0)
        status = fill_holes(&v);
    if (status == 0 && c->arch == HF_BERT)
        hf_vocab_set_wordpiece(&v, w);
    else if (status == 0)
        set_keys(&v, w, chat_template(config));
    cJSON_Delete(config);
    free_strings(&v.tokens);
    free_strings(&v.merges);
    free(v.scores);
    free(v.types);
    return status;
}
