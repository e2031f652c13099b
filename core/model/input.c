/*
 * input.c - a text, or a pair of texts, as an encoder was trained to read it:
 * its tokens in their frame, and its n-grams.
 */
#include "core/model/model.h"

#include "core/base/error.h"
#include "core/tokenizer/frame.h"
#include "core/tokenizer/ngrams.h"

#include <stdlib.h>

/* Bucket ids of both texts, whole: what was cut off counts here. */
static int add_ngrams(const struct infer_model *m,
                      const struct infer_text_piece *text,
                      const struct infer_text_piece *pair,
                      struct infer_encoded *out, struct infer_error *err)
{
    struct infer_ngrams n = {0};
    int status =
        infer_ngrams_add(&n, &m->hp.ngrams, 0, text->text, text->len, err);

    if (!status && pair)
        status =
            infer_ngrams_add(&n, &m->hp.ngrams, 1, pair->text, pair->len, err);
    if (!status) {
        out->ngrams = malloc((n.n_word + n.n_chars + 1) * sizeof(uint32_t));
        status = out->ngrams ? INFER_OK : INFER_ENOMEM;
    }
    if (!status) {
        out->n_words = (uint32_t)n.n_word;
        out->n_chars = (uint32_t)n.n_chars;
        for (size_t i = 0; i < n.n_word; i++)
            out->ngrams[i] = n.word[i];
        for (size_t i = 0; i < n.n_chars; i++)
            out->ngrams[n.n_word + i] = n.chars[i];
    } else {
        infer_fail(err, status, "out of memory for n-grams");
    }
    infer_ngrams_release(&n);
    return status;
}

int infer_encode(const struct infer_model *m,
                 const struct infer_text_piece *text,
                 const struct infer_text_piece *pair, uint32_t max_tokens,
                 enum infer_truncate truncate, struct infer_encoded *out,
                 struct infer_error *err)
{
    const uint32_t n_ctx = m->hp.n_ctx;
    struct infer_encoded e = {0};
    int status = infer_frame_encode(
        m->tokenizer, text, pair,
        max_tokens && max_tokens < n_ctx ? max_tokens : n_ctx, truncate, &e,
        err);

    if (!status && m->ngram_embd.data)
        status = add_ngrams(m, text, pair, &e, err);
    if (status)
        infer_encoded_release(&e);
    else
        *out = e;
    return status;
}
