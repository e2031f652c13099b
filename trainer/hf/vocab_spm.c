/*
 * vocab_spm.c - merges by rank to pieces with scores.
 *
 * Transformers writes a SentencePiece BPE as the list of all pairs of pieces
 * that make a piece, ordered by that piece's score; so the order of the results
 * is the order of the scores. Another BPE with byte fallback may merge fewer
 * pairs, or one piece at two ranks: SentencePiece cannot do that, so it is
 * refused.
 */
#include "trainer/hf/vocab_parts.h"

#include "core/base/error.h"
#include "core/tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

struct counts {
    struct infer_strs texts; /* of normal tokens */
    int32_t *ids;            /* [texts.n] */
    uint32_t *merges;        /* [n_vocab] that make this token */
};

static int differs(const struct hf_vocab *v)
{
    return infer_fail(v->err, INFER_EUNSUPPORTED,
                      "tokenizer.json: a BPE with byte fallback whose merges "
                      "are not those of a SentencePiece model is not "
                      "supported; tokenizer.model would be read");
}

static int index_tokens(struct hf_vocab *v, struct counts *c)
{
    c->ids = malloc(v->tokens.n * sizeof(*c->ids));
    c->merges = calloc(v->tokens.n, sizeof(*c->merges));
    if (!c->ids || !c->merges ||
        infer_strs_init(&c->texts, (uint32_t)v->tokens.n) != 0)
        return infer_fail(v->err, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < v->tokens.n; i++)
        if (v->tokens.items[i].data && v->types[i] == INFER_TOKEN_NORMAL) {
            const uint32_t at =
                infer_strs_add(&c->texts, v->tokens.items[i].data,
                               (size_t)v->tokens.items[i].len);

            c->ids[at] = (int32_t)i;
        }
    return 0;
}

/* The token that a merge makes; -1: none. */
static int32_t result_of(const struct counts *c, const struct infer_gguf_str *m,
                         char *joined)
{
    const char *space = memchr(m->data, ' ', (size_t)m->len);
    const size_t left = (size_t)(space - m->data);
    int32_t at;

    memcpy(joined, m->data, left);
    memcpy(joined + left, space + 1, (size_t)m->len - left - 1);
    at = infer_strs_find(&c->texts, joined, (size_t)m->len - 1);
    return at < 0 ? -1 : c->ids[at];
}

static int score_all(struct hf_vocab *v, struct counts *c)
{
    int32_t last = -1;
    float score = 0.0f;
    int status = 0;

    for (size_t i = 0; i < v->merges.n && status == 0; i++) {
        char *joined = malloc((size_t)v->merges.items[i].len);
        const int32_t id =
            joined ? result_of(c, &v->merges.items[i], joined) : -1;

        free(joined);
        if (!joined)
            return infer_fail(v->err, INFER_ENOMEM, "out of memory");
        if (id < 0 || (id != last && c->merges[id]))
            status = differs(v);
        else if (id != last)
            v->scores[id] = score -= 1.0f;
        if (status == 0)
            c->merges[id]++;
        last = id;
    }
    return status;
}

/* Every way to make a token of two must be a merge. */
static bool all_there(const struct counts *c)
{
    for (uint32_t k = 0; k < c->texts.n; k++) {
        const struct infer_gguf_str *s = &c->texts.data[k];
        uint32_t ways = 0;

        for (size_t i = 1; i < s->len; i++)
            ways += infer_strs_find(&c->texts, s->data, i) >= 0 &&
                    infer_strs_find(&c->texts, s->data + i, s->len - i) >= 0;
        if (ways != c->merges[c->ids[k]])
            return false;
    }
    return true;
}

int hf_vocab_scores(struct hf_vocab *v)
{
    struct counts c = {0};
    int status = index_tokens(v, &c);

    if (status == 0)
        status = score_all(v, &c);
    if (status == 0 && !all_there(&c))
        status = differs(v);
    infer_strs_release(&c.texts);
    free(c.ids);
    free(c.merges);
    return status;
}
