/*
 * explain.c - what each token of a text contributed to a class.
 *
 * A token's contribution is what the score gains when it joins the tokens
 * before it, and what it gains when it joins those behind it, averaged:
 * Shapley values (Strumbelj and Kononenko 2010) estimated from one order and
 * its reverse. The gains of an order telescope, so attributions sum to the
 * score minus that of the empty text, to rounding: nothing is left over, which
 * leaving one token out at a time does not give.
 *
 *   variants  0 the text, 1 no tokens, 1 + i the first i, n + i without these
 *
 * Cost: 2n sequences, of half the text's length on average, so about n times
 * the text itself; hence the limits on explained texts.
 */
#include "server/worker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokens of the text itself; those that frame it are in every variant. */
static uint32_t n_own(const struct infer_encoded *e)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < e->n; i++)
        n += e->text[i] != INFER_TEXT_NONE;
    return n;
}

/* Own tokens [from, to) of a variant. */
static void range_of(uint32_t variant, uint32_t n, uint32_t *from, uint32_t *to)
{
    *from = variant > n ? variant - n : 0;
    *to = variant > n || variant == 0 ? n : variant - 1;
}

static uint32_t put_ids(const struct infer_encoded *e, uint32_t from,
                        uint32_t to, int32_t *ids)
{
    uint32_t n = 0, own = 0;

    for (uint32_t i = 0; i < e->n; i++) {
        const bool frame = e->text[i] == INFER_TEXT_NONE;

        if (frame || (own >= from && own < to))
            ids[n++] = e->ids[i];
        own += !frame;
    }
    return n;
}

/* The bytes of each text that own tokens [from, to) cover. */
static void cover(const struct input *in, uint32_t from, uint32_t to,
                  struct infer_text_piece pieces[2])
{
    const struct infer_encoded *e = &in->encoded[0];
    const char *const texts[2] = {in->text, in->pair};
    size_t begin[2] = {SIZE_MAX, SIZE_MAX}, end[2] = {0, 0};
    uint32_t own = 0;

    for (uint32_t i = 0; i < e->n; i++) {
        const uint8_t t = e->text[i];

        if (t == INFER_TEXT_NONE)
            continue;
        if (own >= from && own < to) {
            if (e->spans[i].begin < begin[t])
                begin[t] = e->spans[i].begin;
            if (e->spans[i].end > end[t])
                end[t] = e->spans[i].end;
        }
        own++;
    }
    for (int t = 0; t < 2; t++) {
        const bool some = end[t] > begin[t];

        pieces[t].text = some ? texts[t] + begin[t] : "";
        pieces[t].len = some ? end[t] - begin[t] : 0;
    }
}

/* N-grams are of a text: of the part that a variant's tokens came from. */
static int add_ngrams(const struct worker *w, struct input *in, uint32_t v,
                      uint32_t from, uint32_t to, struct infer_error *err)
{
    struct infer_sequence *s = &in->probes[v].request.seq;
    struct infer_text_piece pieces[2];
    struct infer_encoded e;
    int rc;

    cover(in, from, to, pieces);
    rc = infer_encode(w->members[0].model, &pieces[0],
                      in->pair ? &pieces[1] : NULL, 0, INFER_TRUNCATE_RIGHT, &e,
                      err);
    if (rc)
        return rc;
    s->ngrams = in->ngrams[v] = e.ngrams;
    s->n_words = e.n_words;
    s->n_chars = e.n_chars;
    e.ngrams = NULL;
    infer_encoded_release(&e);
    return 0;
}

int explain_begin(const struct worker *w, struct input *in,
                  struct infer_error *err)
{
    const struct infer_encoded *e = &in->encoded[0];
    const uint32_t n = n_own(e);
    int rc;

    if (n > EXPLAIN_MAX_TOKENS) {
        err->status = INFER_ETOOLONG;
        snprintf(err->text, sizeof(err->text),
                 "%u tokens, at most %d are explained", n, EXPLAIN_MAX_TOKENS);
        return INFER_ETOOLONG;
    }
    in->n_variants = n ? 2 * n : 1;
    in->n_made = 1; /* the whole text */
    in->variant_ids =
        malloc(((size_t)in->n_variants * e->n + 1) * sizeof(*in->variant_ids));
    in->ngrams = calloc(in->n_variants, sizeof(uint32_t *));
    rc = encode_make_probes(w, in, err);
    if (!rc && (!in->variant_ids || !in->ngrams)) {
        err->status = rc = INFER_ENOMEM;
        strcpy(err->text, "out of memory");
    }
    return rc;
}

bool explain_more(const struct worker *w, struct input *in, uint64_t until_ns,
                  int *rc, struct infer_error *err)
{
    const struct infer_encoded *e = &in->encoded[0];

    *rc = 0;
    while (in->n_made < in->n_variants) {
        const uint32_t v = in->n_made++;
        struct infer_sequence *s = &in->probes[v].request.seq;
        uint32_t from, to;

        range_of(v, n_own(e), &from, &to);
        s->ids = in->variant_ids + in->n_variant_ids;
        s->n = put_ids(e, from, to, in->variant_ids + in->n_variant_ids);
        in->n_variant_ids += s->n;
        if (w->info->has_ngrams)
            *rc = add_ngrams(w, in, v, from, to, err);
        if (*rc || infer_clock_ns() > until_ns)
            break;
    }
    return *rc || in->n_made == in->n_variants;
}

static float score_of(const struct worker *w, const struct input *in,
                      uint32_t variant, bool raw_scores, uint32_t c,
                      float *scores)
{
    const float *raw = in->results + (size_t)variant * w->info->n_out;

    if (raw_scores)
        return raw[c];
    infer_classifier_scores(w->members[0].model, raw, scores);
    return scores[c];
}

float explain_attribute(const struct worker *w, const struct input *in,
                        bool raw_scores, uint32_t c, float *out)
{
    const struct infer_encoded *e = &in->encoded[0];
    const uint32_t n = n_own(e);
    float *scores = calloc(w->info->n_out, sizeof(float));
    float before = 0, behind, base = 0;
    uint32_t own = 0;

    memset(out, 0, e->n * sizeof(*out));
    if (!scores)
        return NAN;
    behind = score_of(w, in, 0, raw_scores, c, scores);
    base = n ? score_of(w, in, 1, raw_scores, c, scores) : behind;
    before = base;
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->text[i] == INFER_TEXT_NONE)
            continue;
        own++; /* the first `own` tokens, and all without these */
        const float with =
            score_of(w, in, own == n ? 0 : 1 + own, raw_scores, c, scores);
        const float without =
            score_of(w, in, own == n ? 1 : n + own, raw_scores, c, scores);

        out[i] = 0.5f * ((with - before) + (behind - without));
        before = with;
        behind = without;
    }
    free(scores);
    return base;
}
