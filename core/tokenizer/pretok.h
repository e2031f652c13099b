/*
 * pretok.h - cut a text into the words that byte-level BPE merges within.
 *
 * Private to core/tokenizer. tokenizer.ggml.pre names a row of a table; each
 * row is a list of PCRE2 patterns and what else the name implies.
 */
#ifndef INFER_TOKENIZER_PRETOK_H
#define INFER_TOKENIZER_PRETOK_H

#include "core/tokenizer/vocab.h"

struct infer_pretok_rule {
    const char *names;       /* separated by spaces */
    const char *patterns[4]; /* each cuts what the one before left whole */
    bool ignore_merges;      /* a word that is a piece is not merged */
    bool add_bos;            /* unless the file says otherwise */
    bool clean_spaces;       /* see struct infer_vocab */
};

/* NULL: unknown */
const struct infer_pretok_rule *infer_pretok_find(const char *name, size_t len);

struct infer_pretok; /* compiled patterns; any thread may split */

int infer_pretok_create(struct infer_pretok **p,
                        const struct infer_pretok_rule *rule,
                        struct infer_error *err);
void infer_pretok_free(struct infer_pretok *p);

/* Gets one word; anything but 0 ends the split. */
typedef int infer_pretok_word(void *ctx, const char *word, size_t len);

/*
 * Call word for every word of text, in order; together they are the text.
 * text must be structurally UTF-8 (surrogates may occur).
 */
int infer_pretok_split(const struct infer_pretok *p, const char *text,
                       size_t len, infer_pretok_word *word, void *ctx,
                       struct infer_error *err);

#endif
