/*
 * tokenizer.c - one face for the tokenizer families.
 *
 * Encoding: special tokens are cut out of the text, the family encodes what
 * lies between, BOS and EOS go around it. Decoding is the same for all: each
 * token's bytes are known since load. Nothing changes after creation, so
 * threads share a tokenizer without a lock.
 */
#include "core/tokenizer/tokenizer.h"

#include "core/base/error.h"
#include "core/model/model.h"
#include "core/tokenizer/bpe.h"
#include "core/tokenizer/clean.h"
#include "core/tokenizer/spm.h"
#include "core/tokenizer/wordpiece.h"

#include <stdlib.h>
#include <string.h>

struct infer_tokenizer {
    struct infer_vocab vocab;
    struct infer_spm *spm; /* by the vocabulary's family; WordPiece needs */
    struct infer_bpe *bpe; /* neither */
};

/* ---- creation -------------------------------------------------------------
 */

static int create_spm(struct infer_tokenizer *t, const struct infer_gguf *g,
                      struct infer_error *err)
{
    int status;

    t->vocab.family = INFER_FAMILY_SPM;
    t->vocab.add_bos = true;
    t->vocab.add_space_prefix = true;
    status = infer_vocab_load(&t->vocab, g, err);
    if (status == 0)
        status = infer_spm_create(&t->spm, &t->vocab, NULL, err);
    return status;
}

/* "t5" files: SentencePiece's unigram. Their normalisation, if any, would have
 * to be done as well. */
static int create_unigram(struct infer_tokenizer *t, const struct infer_gguf *g,
                          struct infer_error *err)
{
    struct infer_gguf_array map = {.n = 0};
    bool squeeze = false;
    int status = infer_gguf_get_array(g, "tokenizer.ggml.precompiled_charsmap",
                                      &map, err);

    if (status >= 0)
        status = infer_gguf_get_bool(
            g, "tokenizer.ggml.remove_extra_whitespaces", &squeeze, err);
    if (status < 0)
        return status;
    if (map.n || squeeze)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "the vocabulary normalises its text "
                          "(tokenizer.ggml.%s), which is not supported",
                          map.n ? "precompiled_charsmap"
                                : "remove_extra_whitespaces");
    t->vocab.family = INFER_FAMILY_SPM;
    t->vocab.unigram = true;
    t->vocab.add_space_prefix = true;
    status = infer_vocab_load(&t->vocab, g, err);
    if (status == 0)
        status = infer_spm_create(&t->spm, &t->vocab, NULL, err);
    return status;
}

static int create_bpe(struct infer_tokenizer *t, const struct infer_gguf *g,
                      struct infer_error *err)
{
    struct infer_gguf_str pre = {"default", 7};
    const struct infer_pretok_rule *rule;
    int status = infer_gguf_get_str(g, "tokenizer.ggml.pre", &pre, err);

    if (status < 0)
        return status;
    rule = infer_pretok_find(pre.data, pre.len);
    if (!rule)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "unknown pre-tokenizer '%.*s' (tokenizer.ggml.pre)",
                          pre.len < 64 ? (int)pre.len : 64, pre.data);
    t->vocab.family = INFER_FAMILY_BPE;
    t->vocab.add_bos = rule->add_bos;
    t->vocab.clean_spaces = rule->clean_spaces;
    status = infer_vocab_load(&t->vocab, g, err);
    if (status == 0)
        status = infer_bpe_create(&t->bpe, &t->vocab, rule, g, err);
    return status;
}

static int create_wordpiece(struct infer_tokenizer *t,
                            const struct infer_gguf *g, struct infer_error *err)
{
    t->vocab.family = INFER_FAMILY_WPM;
    t->vocab.add_bos = true;
    t->vocab.add_sep = true;
    t->vocab.clean_spaces = true;
    return infer_vocab_load(&t->vocab, g, err);
}

static bool is(struct infer_gguf_str s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.data, name, s.len) == 0;
}

int infer_tokenizer_create(struct infer_tokenizer **out,
                           const struct infer_gguf *g, struct infer_error *err)
{
    struct infer_tokenizer *t = calloc(1, sizeof(*t));
    struct infer_gguf_str model;
    int status;

    if (!t)
        return infer_fail(err, INFER_ENOMEM, "out of memory for a tokenizer");
    status = infer_gguf_get_str(g, "tokenizer.ggml.model", &model, err);
    if (status > 0)
        status =
            infer_fail(err, INFER_EFORMAT, "tokenizer.ggml.model is missing");
    else if (status == 0 && is(model, "llama"))
        status = create_spm(t, g, err);
    else if (status == 0 && is(model, "t5"))
        status = create_unigram(t, g, err);
    else if (status == 0 && is(model, "gpt2"))
        status = create_bpe(t, g, err);
    else if (status == 0 && is(model, "bert"))
        status = create_wordpiece(t, g, err);
    else if (status == 0)
        status = infer_fail(err, INFER_EUNSUPPORTED,
                            "tokenizer model '%.*s' is not supported",
                            model.len < 64 ? (int)model.len : 64, model.data);
    if (status != 0)
        infer_tokenizer_free(t);
    else
        *out = t;
    return status;
}

int infer_tokenizer_load_spm(struct infer_tokenizer **out, const char *path,
                             struct infer_error *err)
{
    struct infer_tokenizer *t = calloc(1, sizeof(*t));
    struct infer_error why = {0};
    struct infer_spm_file file;
    char *data = NULL;
    int status;

    if (!t)
        return infer_fail(err, INFER_ENOMEM, "out of memory for a tokenizer");
    status = infer_spm_file_load(&t->vocab, &file, &data, path, &why);
    if (status == 0)
        status = infer_spm_create(&t->spm, &t->vocab, &file, &why);
    free(data);
    if (status != 0) {
        infer_tokenizer_free(t);
        return infer_fail(err, status, "cannot load '%s': %s", path, why.text);
    }
    *out = t;
    return 0;
}

void infer_tokenizer_free(struct infer_tokenizer *t)
{
    if (!t)
        return;
    infer_spm_free(t->spm);
    infer_bpe_free(t->bpe);
    infer_vocab_release(&t->vocab);
    free(t);
}

uint32_t infer_tokenizer_n_vocab(const struct infer_tokenizer *t)
{
    return t->vocab.n;
}

int32_t infer_tokenizer_bos(const struct infer_tokenizer *t)
{
    return t->vocab.bos;
}

int32_t infer_tokenizer_eos(const struct infer_tokenizer *t)
{
    return t->vocab.eos;
}

static bool in_vocab(const struct infer_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab.n;
}

void infer_tokenizer_around(const struct infer_tokenizer *t, int32_t ids[3])
{
    const struct infer_vocab *v = &t->vocab;

    ids[0] = v->add_bos ? v->bos : -1;
    ids[1] = v->add_sep ? v->sep : -1;
    ids[2] = v->add_eos ? v->eos : -1;
}

int32_t infer_tokenizer_sep(const struct infer_tokenizer *t)
{
    return t->vocab.sep;
}

bool infer_tokenizer_is_eog(const struct infer_tokenizer *t, int32_t id)
{
    return in_vocab(t, id) && t->vocab.eog[id];
}

/* ---- encoding --------------------------------------------------------------
 */

/* Text or a special token, in the making of an answer. */
struct encoding {
    const struct infer_tokenizer *t;
    struct infer_ids ids;
    struct infer_spans spans;
    bool with_spans;
};

static int push_id(struct encoding *e, int32_t id, struct infer_fragment at)
{
    int status = infer_ids_push(&e->ids, id);

    if (status == 0 && e->with_spans)
        status = infer_spans_push(&e->spans, (uint32_t)at.start,
                                  (uint32_t)(at.start + at.len));
    return status;
}

static int encode_text(struct encoding *e, const char *text, size_t len,
                       struct infer_error *err)
{
    const struct infer_tokenizer *t = e->t;

    /* A stretch of text follows a special token or the beginning: in both
     * places the reference puts a space. */
    return t->spm ? infer_spm_encode(t->spm, &t->vocab, text, len,
                                     t->vocab.add_space_prefix, &e->ids, err)
                  : infer_bpe_encode(t->bpe, text, len, &e->ids, err);
}

static int encode_fragment(struct encoding *e, const char *text,
                           struct infer_fragment f, struct infer_error *err)
{
    const struct infer_vocab *v = &e->t->vocab;
    const size_t before = e->ids.n;
    int status;

    if (f.id >= 0)
        return push_id(e, f.id, f);
    if (v->family == INFER_FAMILY_WPM)
        return infer_wordpiece_encode(v, text + f.start, f.len, f.start,
                                      &e->ids,
                                      e->with_spans ? &e->spans : NULL);
    status = encode_text(e, text + f.start, f.len, err);
    if (status == 0 && e->with_spans)
        status = infer_spans_align(v, text + f.start, f.len, f.start,
                                   e->ids.data + before, e->ids.n - before,
                                   &e->spans);
    return status;
}

/* Ids of fragments, with what the file wants around them. Takes frags. */
static int encode_fragments(struct encoding *e, const char *text, size_t len,
                            struct infer_fragment *frags, size_t n,
                            bool add_special, struct infer_error *err)
{
    const struct infer_vocab *v = &e->t->vocab;
    const struct infer_fragment nowhere = {0};
    int status = 0;

    if (add_special && v->add_bos)
        status = push_id(e, v->bos, nowhere);
    for (size_t i = 0; i < n && status == 0; i++)
        status = encode_fragment(e, text, frags[i], err);
    if (status == 0 && add_special && v->add_sep)
        status = push_id(e, v->sep, nowhere);
    if (status == 0 && add_special && v->add_eos)
        status = push_id(e, v->eos, nowhere);
    free(frags);
    return status == INFER_ENOMEM
               ? infer_fail(err, status, "out of memory encoding %zu bytes",
                            len)
               : status;
}

static int check_length(size_t len, struct infer_error *err)
{
    if (len > INFER_TOKENIZE_MAX_BYTES)
        return infer_fail(err, INFER_ETOOLONG,
                          "a text of %zu bytes, at most %d are allowed", len,
                          INFER_TOKENIZE_MAX_BYTES);
    return 0;
}

int infer_tokenizer_encode_spans(const struct infer_tokenizer *t,
                                 const char *text, size_t len, bool add_special,
                                 bool parse_special, struct infer_tokens *out,
                                 struct infer_span **spans,
                                 struct infer_error *err)
{
    struct encoding e = {.t = t, .with_spans = spans != NULL};
    struct infer_fragment *frags = NULL;
    size_t n = 0;
    int status = check_length(len, err);

    if (status == 0)
        status = infer_special_split(&t->vocab, text, len, parse_special,
                                     &frags, &n, err);
    if (status == 0)
        status = encode_fragments(&e, text, len, frags, n, add_special, err);

    if (status != 0) {
        free(e.ids.data);
        free(e.spans.data);
        return status;
    }
    *out = (struct infer_tokens){.ids = e.ids.data, .n = e.ids.n};
    if (spans)
        *spans = e.spans.data;
    return 0;
}

int infer_tokenizer_encode(const struct infer_tokenizer *t, const char *text,
                           size_t len, bool add_special, bool parse_special,
                           struct infer_tokens *out, struct infer_error *err)
{
    return infer_tokenizer_encode_spans(t, text, len, add_special,
                                        parse_special, out, NULL, err);
}

int infer_tokenizer_encode_parts(const struct infer_tokenizer *t,
                                 const struct infer_part *parts, size_t n_parts,
                                 bool bos, struct infer_tokens *out,
                                 struct infer_error *err)
{
    struct encoding e = {.t = t};
    struct infer_fragment *frags = NULL;
    size_t len = 0, n = 0;
    char *text;
    int status;

    for (size_t i = 0; i < n_parts; i++) {
        status = check_length(parts[i].len, err);
        if (status == 0)
            status = check_length(len += parts[i].len, err);
        if (status != 0)
            return status;
    }
    text = malloc(len + 1);
    if (!text)
        return infer_fail(err, INFER_ENOMEM, "out of memory for a prompt");
    len = 0;
    for (size_t i = 0; i < n_parts; i++) {
        memcpy(text + len, parts[i].text, parts[i].len);
        len += parts[i].len;
    }
    status = infer_special_split_parts(&t->vocab, text, parts, n_parts, &frags,
                                       &n, err);
    if (status == 0)
        status = encode_fragments(&e, text, len, frags, n, false, err);
    free(text);
    bos = (bos || t->vocab.add_bos) && t->vocab.bos >= 0;
    if (status != 0) {
        free(e.ids.data);
        return status;
    }
    out->ids = malloc((e.ids.n + 1) * sizeof(*out->ids));
    if (!out->ids) {
        free(e.ids.data);
        return infer_fail(err, INFER_ENOMEM, "out of memory for a prompt");
    }
    if (bos)
        out->ids[0] = t->vocab.bos;
    if (e.ids.n > 0)
        memcpy(out->ids + bos, e.ids.data, e.ids.n * sizeof(*out->ids));
    out->n = e.ids.n + bos;
    free(e.ids.data);
    return 0;
}

/* ---- decoding --------------------------------------------------------------
 */

const char *infer_tokenizer_bytes(const struct infer_tokenizer *t, int32_t id,
                                  bool show_special, size_t *len)
{
    const struct infer_gguf_str *s;

    *len = 0;
    if (!in_vocab(t, id))
        return NULL;
    s = &t->vocab.bytes[id];
    if (show_special && (t->vocab.types[id] == INFER_TOKEN_CONTROL ||
                         t->vocab.types[id] == INFER_TOKEN_UNKNOWN))
        s = &t->vocab.texts.data[id];
    *len = s->len;
    return s->data;
}

/* The bytes a token adds; the first that adds any loses its space. */
static const char *next_bytes(const struct infer_tokenizer *t, int32_t id,
                              bool show_special, bool *started, size_t *len)
{
    const char *s = infer_tokenizer_bytes(t, id, show_special, len);

    if (s && *len > 0 && !*started) {
        *started = true;
        if (t->vocab.add_space_prefix && *s == ' ') {
            s++;
            --*len;
        }
    }
    return s;
}

int infer_tokenizer_decode(const struct infer_tokenizer *t, const int32_t *ids,
                           size_t n, bool show_special, char **text,
                           size_t *len, struct infer_error *err)
{
    size_t total = 0, used = 0, k = 0;
    bool started = false;
    char *out;

    for (size_t i = 0; i < n; i++) {
        if (!infer_tokenizer_bytes(t, ids[i], show_special, &k))
            return infer_fail(err, INFER_EINVAL,
                              "token id %d is outside the vocabulary of %u",
                              ids[i], t->vocab.n);
        total += k;
    }
    out = malloc(total + 1);
    if (!out)
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory decoding %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        const char *s = next_bytes(t, ids[i], show_special, &started, &k);

        memcpy(out + used, s, k);
        used += k;
    }
    if (t->vocab.clean_spaces)
        used = infer_clean_spaces(out, used);
    out[used] = '\0';
    *text = out;
    *len = used;
    return 0;
}

void infer_decoder_init(struct infer_decoder *d,
                        const struct infer_tokenizer *t)
{
    *d = (struct infer_decoder){.tokenizer = t};
}

const char *infer_decoder_feed(struct infer_decoder *d, int32_t id, size_t *len)
{
    return next_bytes(d->tokenizer, id, false, &d->started, len);
}

/* ---- the public face --------------------------------------------------------
 */

int infer_tokenize(const struct infer_model *m, const char *text, size_t len,
                   bool add_special, bool parse_special,
                   struct infer_tokens *out, struct infer_error *err)
{
    return infer_tokenizer_encode(m->tokenizer, text, len, add_special,
                                  parse_special, out, err);
}

int infer_tokenize_spans(const struct infer_model *m, const char *text,
                         size_t len, bool add_special, bool parse_special,
                         struct infer_tokens *out, struct infer_span **spans,
                         struct infer_error *err)
{
    return infer_tokenizer_encode_spans(m->tokenizer, text, len, add_special,
                                        parse_special, out, spans, err);
}

int infer_tokenize_parts(const struct infer_model *m,
                         const struct infer_part *parts, size_t n, bool bos,
                         struct infer_tokens *out, struct infer_error *err)
{
    return infer_tokenizer_encode_parts(m->tokenizer, parts, n, bos, out, err);
}

void infer_tokens_release(struct infer_tokens *tokens)
{
    free(tokens->ids);
    *tokens = (struct infer_tokens){0};
}

int infer_detokenize(const struct infer_model *m, const int32_t *ids, size_t n,
                     bool show_special, char **text, size_t *len,
                     struct infer_error *err)
{
    return infer_tokenizer_decode(m->tokenizer, ids, n, show_special, text, len,
                                  err);
}

const char *infer_token_bytes(const struct infer_model *m, int32_t id,
                              bool show_special, size_t *len)
{
    return infer_tokenizer_bytes(m->tokenizer, id, show_special, len);
}

bool infer_token_is_eog(const struct infer_model *m, int32_t id)
{
    return infer_tokenizer_is_eog(m->tokenizer, id);
}
