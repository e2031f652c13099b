/*
 * vocab_json.c - tokenizer.json: byte-level BPE as it is, and SentencePiece's
 * pieces where they are written as a BPE with byte fallback.
 */
#include "trainer/hf/vocab_parts.h"

#include "core/base/error.h"
#include "trainer/hf/pretok.h"

#include <stdlib.h>
#include <string.h>

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static bool is(const cJSON *v, const char *text)
{
    return cJSON_IsString(v) && strcmp(v->valuestring, text) == 0;
}

static int malformed(const struct hf_vocab *v, const char *what)
{
    return infer_fail(v->err, INFER_EFORMAT, "tokenizer.json: %s", what);
}

static int unsupported(const struct hf_vocab *v, const char *what)
{
    return infer_fail(v->err, INFER_EUNSUPPORTED,
                      "tokenizer.json: %s is not supported", what);
}

int hf_vocab_read_ids(struct hf_vocab *v, const cJSON *vocab)
{
    const cJSON *t;
    int status = 0;

    cJSON_ArrayForEach (t, vocab) {
        if (!cJSON_IsNumber(t))
            return malformed(v, "the id of a token is not a number");
        if (status == 0)
            status = hf_vocab_put(v, t->valuedouble, t->string,
                                  strlen(t->string), 0.0f, INFER_TOKEN_NORMAL);
    }
    return status;
}

/* "left right", or ["left", "right"] */
static int read_merge(struct hf_vocab *v, const cJSON *m)
{
    const cJSON *left = cJSON_GetArrayItem(m, 0);
    const cJSON *right = cJSON_GetArrayItem(m, 1);
    char *text, *space;
    int status;

    if (cJSON_IsArray(m) && cJSON_GetArraySize(m) == 2 &&
        cJSON_IsString(left) && cJSON_IsString(right) &&
        !strchr(left->valuestring, ' ') && !strchr(right->valuestring, ' '))
        return hf_vocab_merge(v, left->valuestring, right->valuestring);
    text = cJSON_IsString(m) ? strdup(m->valuestring) : NULL;
    space = text ? strchr(text, ' ') : NULL;
    if (!space || space == text || !space[1] || strchr(space + 1, ' ')) {
        free(text);
        return malformed(v, "a merge is not two pieces");
    }
    *space = '\0';
    status = hf_vocab_merge(v, text, space + 1);
    free(text);
    return status;
}

static int read_merges(struct hf_vocab *v, const cJSON *merges)
{
    const cJSON *m;

    if (!cJSON_IsArray(merges))
        return malformed(v, "'merges' is missing");
    cJSON_ArrayForEach (m, merges) {
        const int status = read_merge(v, m);

        if (status != 0)
            return status;
    }
    return 0;
}

static int read_added(struct hf_vocab *v, const cJSON *added, const cJSON *unk)
{
    const cJSON *t;

    cJSON_ArrayForEach (t, added) {
        const cJSON *id = get(t, "id"), *text = get(t, "content");
        enum infer_token_type type = cJSON_IsTrue(get(t, "special"))
                                         ? INFER_TOKEN_CONTROL
                                         : INFER_TOKEN_USER;
        int status;

        if (!cJSON_IsNumber(id) || !cJSON_IsString(text))
            return malformed(v, "an added token has no id or content");
        if (cJSON_IsString(unk) && is(text, unk->valuestring))
            type = INFER_TOKEN_UNKNOWN;
        status = hf_vocab_put(v, id->valuedouble, text->valuestring,
                              strlen(text->valuestring), 0.0f, type);
        if (status != 0)
            return status;
    }
    return 0;
}

/* Does the template of a single text begin (or end) with a special token? */
static void read_template(struct hf_vocab *v, const cJSON *p)
{
    const cJSON *list = get(p, "single");
    const int n = cJSON_GetArraySize(list);
    const cJSON *first =
        get(get(cJSON_GetArrayItem(list, 0), "SpecialToken"), "id");
    const cJSON *last =
        get(get(cJSON_GetArrayItem(list, n - 1), "SpecialToken"), "id");
    const cJSON *item;

    cJSON_ArrayForEach (item, get(p, "processors"))
        read_template(v, item); /* cJSON bounds the depth */
    if (!is(get(p, "type"), "TemplateProcessing") || n == 0)
        return;
    v->add_bos = cJSON_IsString(first);
    v->add_eos = n > 1 && cJSON_IsString(last);
    if (v->add_bos)
        v->bos = hf_vocab_find(v, first->valuestring);
    if (v->add_eos)
        v->eos = hf_vocab_find(v, last->valuestring);
}

/* ---- SentencePiece's pieces -----------------------------------------------
 */

static bool is_byte(const char *s)
{
    return strlen(s) == 6 && strncmp(s, "<0x", 3) == 0 && s[5] == '>';
}

/* A normalizer that only makes U+2581 of spaces, and puts one before the text
 * or not; or a pre-tokenizer that does. */
static bool read_spaces(struct hf_vocab *v, const cJSON *root)
{
    const cJSON *n = get(root, "normalizer"), *p = get(root, "pre_tokenizer");
    const cJSON *step;
    bool replaced = false;

    v->add_space = false;
    if (is(get(p, "type"), "Metaspace") && (!n || cJSON_IsNull(n))) {
        const cJSON *scheme = get(p, "prepend_scheme");

        v->add_space = !is(scheme, "never");
        return is(get(p, "replacement"), "\xe2\x96\x81") &&
               cJSON_IsFalse(get(p, "split"));
    }
    if (!is(get(n, "type"), "Sequence") || (p && !cJSON_IsNull(p)))
        return false;
    cJSON_ArrayForEach (step, get(n, "normalizers")) {
        if (is(get(step, "type"), "Prepend") && !replaced &&
            is(get(step, "prepend"), "\xe2\x96\x81"))
            v->add_space = true;
        else if (is(get(step, "type"), "Replace") &&
                 is(get(get(step, "pattern"), "String"), " ") &&
                 is(get(step, "content"), "\xe2\x96\x81"))
            replaced = true;
        else
            return false;
    }
    return replaced;
}

static int read_pieces(struct hf_vocab *v, const cJSON *root,
                       const cJSON *model)
{
    const cJSON *unk = get(model, "unk_token");

    if (!read_spaces(v, root))
        return unsupported(v, "its normalizer or pre_tokenizer");
    if (cJSON_IsString(unk))
        v->unk = hf_vocab_find(v, unk->valuestring);
    if (v->unk >= 0)
        v->types[v->unk] = INFER_TOKEN_UNKNOWN;
    for (size_t i = 0; i < v->tokens.n; i++)
        if (v->tokens.items[i].data && is_byte(v->tokens.items[i].data))
            v->types[i] = INFER_TOKEN_BYTE;
    v->model = "llama";
    v->pre = "default";
    return hf_vocab_scores(v);
}

static int read_bytes(struct hf_vocab *v, const cJSON *root)
{
    const char *why = NULL;
    const struct hf_pretok *p = hf_pretok_match(root, &why);

    if (!p)
        return unsupported(v, why);
    v->model = "gpt2";
    v->pre = p->pre;
    return 0;
}

int hf_vocab_read_json(struct hf_vocab *v, const cJSON *root)
{
    const cJSON *model = get(root, "model"), *type = get(model, "type");
    const cJSON *vocab = get(model, "vocab");
    int status;

    if (cJSON_IsString(type) && !is(type, "BPE"))
        return unsupported(v, "a model of another type than BPE");
    if (!cJSON_IsObject(vocab))
        return malformed(v, "'vocab' is missing");
    if (cJSON_IsNumber(get(model, "dropout")))
        return unsupported(v, "dropout");
    status = hf_vocab_read_ids(v, vocab);
    if (status == 0)
        status = read_merges(v, get(model, "merges"));
    if (status == 0)
        status =
            read_added(v, get(root, "added_tokens"), get(model, "unk_token"));
    if (status != 0)
        return status;
    read_template(v, get(root, "post_processor"));
    return cJSON_IsTrue(get(model, "byte_fallback"))
               ? read_pieces(v, root, model)
               : read_bytes(v, root);
}
