/*
 * vocab.c - the vocabulary of a GGUF file: pieces, what they stand for, ids.
 *
 * What a token adds to a text is worked out once here ("▁the" is " the",
 * <0x41> is "A", byte-level characters are bytes), so that decoding is a copy.
 * The metadata is untrusted: array lengths, types, scores, piece lengths and
 * ids are proved here, and no later function distrusts them again.
 */
#include "core/tokenizer/vocab.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

/* Tokens that end an answer, whatever the file calls its end of sequence. */
static const char *const eog_names[] = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<EOT>",
    "<|eot|>",
    "<|return|>",
    "<|call|>",
    "_<EOT>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};

int infer_vocab_init(struct infer_vocab *v, uint32_t n, size_t text_bytes,
                     struct infer_error *err)
{
    v->bos = v->eos = v->unk = v->sep = -1;
    v->types = malloc(n);
    v->scores = malloc(n * sizeof(*v->scores));
    v->eog = calloc(n, 1);
    v->bytes = calloc(n, sizeof(*v->bytes));
    v->text_arena = malloc(text_bytes + 1);
    v->byte_arena = malloc(text_bytes + 1);
    if (!v->types || !v->scores || !v->eog || !v->bytes || !v->text_arena ||
        !v->byte_arena || infer_strs_init(&v->texts, n) != 0)
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for a vocabulary of %u tokens", n);
    return 0;
}

void infer_vocab_release(struct infer_vocab *v)
{
    free(v->types);
    free(v->scores);
    free(v->eog);
    free(v->bytes);
    free(v->text_arena);
    free(v->byte_arena);
    infer_strs_release(&v->texts);
    infer_specials_release(&v->user);
    infer_specials_release(&v->specials);
    *v = (struct infer_vocab){0};
}

int infer_vocab_add(struct infer_vocab *v, const char *text, size_t len,
                    float score, uint32_t type, const char *what,
                    struct infer_error *err)
{
    const struct infer_gguf_str *last = v->n ? &v->texts.data[v->n - 1] : NULL;
    char empty[INFER_VOCAB_EMPTY_NAME], *copy = v->text_arena;
    uint32_t id;

    if (len > INFER_VOCAB_MAX_PIECE)
        return infer_fail(err, INFER_EFORMAT,
                          "%s: piece %u has %zu bytes, at most %d are allowed",
                          what, v->n, len, INFER_VOCAB_MAX_PIECE);
    if (type < INFER_TOKEN_NORMAL || type > INFER_TOKEN_BYTE)
        return infer_fail(err, INFER_EFORMAT,
                          "%s: piece %u has unknown type %u", what, v->n, type);
    if (!isfinite(score))
        return infer_fail(err, INFER_EFORMAT,
                          "%s: the score of piece %u is not finite", what,
                          v->n);
    if (len == 0) { /* some converters leave holes; nothing matches this */
        len = (size_t)snprintf(empty, sizeof(empty), "[EMPTY_%u]", v->n);
        text = empty;
    }
    if (last)
        copy += (last->data - v->text_arena) + (ptrdiff_t)last->len;
    memcpy(copy, text, len);
    id = infer_strs_add(&v->texts, copy, len);
    if (id != v->n)
        return infer_fail(err, INFER_EFORMAT, "%s: piece %u repeats piece %u",
                          what, v->n, id);
    if (len > v->longest)
        v->longest = len;
    v->types[id] = (uint8_t)type;
    v->scores[id] = score;
    v->n++;
    return 0;
}

/* ---- what a token stands for ----------------------------------------------
 */

/* "▁" → " " */
static size_t spm_text(char *out, const struct infer_gguf_str *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->len;) {
        if (text->len - i >= 3 &&
            memcmp(text->data + i, "\xe2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text->data[i++];
        }
    }
    return n;
}

/* Byte-level characters → bytes; what is none of them stands for itself. */
static size_t bpe_text(char *out, const struct infer_gguf_str *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->len;) {
        uint32_t cp = 0;
        const size_t k = infer_utf8_next(text->data + i, text->len - i, &cp);
        const int byte = k ? infer_bpe_byte(cp) : -1;

        if (byte >= 0) {
            out[n++] = (char)byte;
            i += k;
        } else {
            out[n++] = text->data[i++];
        }
    }
    return n;
}

/* "<0x41>" → 'A'; -1: not of that form */
static int byte_piece(const struct infer_gguf_str *text)
{
    static const char digits[] = "0123456789ABCDEF0123456789abcdef";
    const char *high, *low;

    if (text->len != 6 || memcmp(text->data, "<0x", 3) != 0 ||
        text->data[5] != '>' || !text->data[3] || !text->data[4])
        return -1;
    high = strchr(digits, text->data[3]);
    low = strchr(digits, text->data[4]);
    if (!high || !low)
        return -1;
    return (int)((high - digits) % 16 * 16 + (low - digits) % 16);
}

static size_t token_text(char *out, const struct infer_vocab *v, uint32_t id)
{
    const struct infer_gguf_str *text = &v->texts.data[id];

    switch (v->types[id]) {
    case INFER_TOKEN_NORMAL:
        return v->family == INFER_FAMILY_BPE ? bpe_text(out, text)
                                             : spm_text(out, text);
    case INFER_TOKEN_USER:
        memcpy(out, text->data, text->len);
        return text->len;
    case INFER_TOKEN_BYTE:
        if (v->family != INFER_FAMILY_SPM)
            return 0;
        out[0] = (char)byte_piece(text);
        return 1;
    default: /* control, unknown, unused */
        return 0;
    }
}

static int set_bytes(struct infer_vocab *v, struct infer_error *err)
{
    char *out = v->byte_arena;

    for (uint32_t id = 0; id < v->n; id++) {
        size_t len;

        if (v->types[id] == INFER_TOKEN_BYTE && v->family == INFER_FAMILY_SPM &&
            byte_piece(&v->texts.data[id]) < 0)
            return infer_fail(err, INFER_EFORMAT,
                              "%stokens: byte piece %u is not like <0x41>", KEY,
                              id);
        len = token_text(out, v, id);
        v->bytes[id] = (struct infer_gguf_str){out, len};
        out += len;
    }
    return 0;
}

/* The token of each single byte, for text that no SentencePiece piece covers.
 */
static void set_byte_ids(struct infer_vocab *v)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        const char raw = (char)byte;
        int32_t *id = &v->byte_ids[byte];

        snprintf(name, sizeof(name), "<0x%02X>", byte);
        *id = infer_strs_find(&v->texts, name, 6);
        if (*id < 0)
            *id = infer_strs_find(&v->texts, &raw, 1);
        if (*id < 0)
            *id = v->unk;
    }
}

static void set_eog(struct infer_vocab *v)
{
    if (v->eos >= 0)
        v->eog[v->eos] = 1;
    for (size_t i = 0; i < sizeof(eog_names) / sizeof(*eog_names); i++) {
        const int32_t id =
            infer_strs_find(&v->texts, eog_names[i], strlen(eog_names[i]));

        if (id >= 0 && (v->types[id] == INFER_TOKEN_CONTROL ||
                        v->types[id] == INFER_TOKEN_USER))
            v->eog[id] = 1;
    }
}

int infer_vocab_finish(struct infer_vocab *v, struct infer_error *err)
{
    const int status = set_bytes(v, err);

    if (status != 0)
        return status;
    if (v->family == INFER_FAMILY_SPM)
        set_byte_ids(v);
    set_eog(v);
    if (infer_specials_init(&v->user, v, true) != 0 ||
        infer_specials_init(&v->specials, v, false) != 0)
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for the special tokens");
    return 0;
}

/* ---- GGUF ------------------------------------------------------------------
 */

/* A metadata array that may be absent but else must have n elements. */
static int get_array(const struct infer_gguf *g, const char *key, uint64_t n,
                     enum infer_gguf_type type, struct infer_gguf_array *a,
                     struct infer_error *err)
{
    const int status = infer_gguf_get_array(g, key, a, err);

    if (status < 0)
        return status;
    if (status > 0)
        *a = (struct infer_gguf_array){0};
    else if (a->type != type &&
             !(type == INFER_GGUF_I32 && a->type == INFER_GGUF_U32))
        return infer_fail(err, INFER_EFORMAT, "%s has elements of type %d", key,
                          (int)a->type);
    else if (a->n != n)
        return infer_fail(err, INFER_EFORMAT,
                          "%s has %llu elements for %llu tokens", key,
                          (unsigned long long)a->n, (unsigned long long)n);
    return 0;
}

static int get_tokens(const struct infer_gguf *g, struct infer_gguf_array *a,
                      size_t *text_bytes, struct infer_error *err)
{
    const int status = infer_gguf_get_array(g, KEY "tokens", a, err);

    if (status < 0)
        return status;
    if (status > 0 || a->type != INFER_GGUF_STRING)
        return infer_fail(err, INFER_EFORMAT,
                          KEY "tokens is not an array of strings");
    if (a->n == 0 || a->n > INFER_VOCAB_MAX_TOKENS)
        return infer_fail(err, INFER_EFORMAT,
                          KEY "tokens has %llu elements, 1 to %d are allowed",
                          (unsigned long long)a->n, INFER_VOCAB_MAX_TOKENS);
    *text_bytes = 0;
    for (uint64_t i = 0; i < a->n; i++)
        *text_bytes +=
            a->strs[i].len ? (size_t)a->strs[i].len : INFER_VOCAB_EMPTY_NAME;
    return 0;
}

static int load_pieces(struct infer_vocab *v, const struct infer_gguf *g,
                       struct infer_error *err)
{
    struct infer_gguf_array tokens, scores, types;
    size_t text_bytes = 0;
    int status = get_tokens(g, &tokens, &text_bytes, err);

    if (status == 0)
        status =
            get_array(g, KEY "scores", tokens.n, INFER_GGUF_F32, &scores, err);
    if (status == 0)
        status = get_array(g, KEY "token_type", tokens.n, INFER_GGUF_I32,
                           &types, err);
    if (status == 0)
        status = infer_vocab_init(v, (uint32_t)tokens.n, text_bytes, err);
    for (uint32_t i = 0; status == 0 && i < tokens.n; i++) {
        float score = 0.0f;
        uint32_t type = INFER_TOKEN_NORMAL;

        if (scores.data)
            memcpy(&score, (const char *)scores.data + 4 * (size_t)i, 4);
        if (types.data)
            memcpy(&type, (const char *)types.data + 4 * (size_t)i, 4);
        status = infer_vocab_add(v, tokens.strs[i].data, tokens.strs[i].len,
                                 score, type, KEY "tokens", err);
    }
    return status;
}

/* The id of a key, if it is there, proved to be a token. */
static int get_id(const struct infer_vocab *v, const struct infer_gguf *g,
                  const char *key, int32_t *id, struct infer_error *err)
{
    uint32_t value;
    const int status = infer_gguf_get_u32(g, key, &value, err);

    if (status < 0)
        return status;
    if (status > 0)
        return 0;
    if (value >= v->n)
        return infer_fail(err, INFER_EFORMAT, "%s is %u of %u tokens", key,
                          value, v->n);
    *id = (int32_t)value;
    return 0;
}

static int get_flag(const struct infer_gguf *g, const char *key, bool *out,
                    struct infer_error *err)
{
    const int status = infer_gguf_get_bool(g, key, out, err);

    return status < 0 ? status : 0;
}

/* What BERT's files leave out is where the original vocabulary has it; some
 * name the first token [CLS], others BOS. */
static int load_bert_ids(struct infer_vocab *v, const struct infer_gguf *g,
                         struct infer_error *err)
{
    int status;

    if (v->n > 102) {
        v->unk = 100;
        v->bos = 101;
        v->sep = 102;
    }
    status = get_id(v, g, KEY "cls_token_id", &v->bos, err);
    if (status == 0)
        status = get_id(v, g, KEY "separator_token_id", &v->sep, err);
    if (status == 0) /* the reference's spelling */
        status = get_id(v, g, KEY "seperator_token_id", &v->sep, err);
    return status;
}

static int load_ids(struct infer_vocab *v, const struct infer_gguf *g,
                    struct infer_error *err)
{
    static const char *const more_eog[] = {KEY "eot_token_id",
                                           KEY "eom_token_id"};
    int status = 0;

    if (v->family == INFER_FAMILY_WPM)
        status = load_bert_ids(v, g, err);
    if (status != 0)
        return status;
    if (v->family == INFER_FAMILY_SPM && v->n > 2) {
        v->unk = 0; /* the customary places, when no key says otherwise */
        v->bos = 1;
        v->eos = 2;
    }
    if ((status = get_id(v, g, KEY "bos_token_id", &v->bos, err)) != 0 ||
        (status = get_id(v, g, KEY "eos_token_id", &v->eos, err)) != 0 ||
        (status = get_id(v, g, KEY "unknown_token_id", &v->unk, err)) != 0 ||
        (status = get_flag(g, KEY "add_bos_token", &v->add_bos, err)) != 0 ||
        (status = get_flag(g, KEY "add_eos_token", &v->add_eos, err)) != 0 ||
        (status = get_flag(g, KEY "add_sep_token", &v->add_sep, err)) != 0 ||
        (status = get_flag(g, KEY "add_space_prefix", &v->add_space_prefix,
                           err)) != 0)
        return status;
    for (int i = 0; i < 2; i++) {
        int32_t id = -1;

        if ((status = get_id(v, g, more_eog[i], &id, err)) != 0)
            return status;
        if (id >= 0)
            v->eog[id] = 1;
    }
    if (v->family != INFER_FAMILY_WPM)
        v->sep = v->eos;
    if (v->add_sep && v->sep < 0)
        return infer_fail(err, INFER_EFORMAT,
                          KEY "seperator_token_id is missing, but is to be "
                              "added to texts");
    if ((v->add_bos && v->bos < 0) || (v->add_eos && v->eos < 0))
        return infer_fail(err, INFER_EFORMAT,
                          KEY "%s is missing, but is to be added to texts",
                          v->add_bos && v->bos < 0 ? "bos_token_id"
                                                   : "eos_token_id");
    return 0;
}

int infer_vocab_load(struct infer_vocab *v, const struct infer_gguf *g,
                     struct infer_error *err)
{
    int status = load_pieces(v, g, err);

    if (status == 0)
        status = load_ids(v, g, err);
    if (status == 0)
        status = infer_vocab_finish(v, err);
    return status;
}
