/*
 * ngrams.h - text to the buckets of its word and character n-grams.
 *
 * Encoders of this project may have, beside their tokens, a table of rows that
 * n-grams are hashed into; trainer and engine look rows up by the ids that come
 * from here. What is hashed, and how, is part of the file format:
 * docs/model-format.md, "N-grams".
 */
#ifndef INFER_NGRAMS_H
#define INFER_NGRAMS_H

#include "infer.h"

enum {
    INFER_NGRAMS_MAX_WORDS = 4096, /* of a text; the rest is left out */
    INFER_NGRAMS_MAX_CHARS = 64,   /* of a word; the rest makes no n-grams */
    INFER_NGRAMS_MAX_N = 8         /* largest max and char_max */
};

struct infer_ngrams_spec {
    uint32_t buckets;            /* rows; 1 .. 2^31 */
    uint32_t min, max;           /* words; 1 <= min <= max */
    uint32_t char_min, char_max; /* characters; both 0: none */
};

/* Ids of a text, word n-grams and character n-grams; zero it to start. The
 * lists keep their memory from text to text. */
struct infer_ngrams {
    uint32_t *word, *chars; /* [n_word], [n_chars], owned; may repeat */
    size_t n_word, n_chars, word_cap, chars_cap;
    struct infer_ngrams_words *words; /* working memory, owned */
};

/* Is it one a file may have? Errors  EINVAL (says which number) */
int infer_ngrams_check(const struct infer_ngrams_spec *spec,
                       struct infer_error *err);

/*
 * Append the n-grams of one text.
 *
 *   side  0, or 1 for the second text of a pair, whose n-grams fall elsewhere
 *   text  [len]  any bytes; those that are not UTF-8 separate words
 * Cost    O(len), no allocation once the lists are large enough, but for text
 *         beyond ASCII
 * Errors  ENOMEM
 */
int infer_ngrams_add(struct infer_ngrams *out,
                     const struct infer_ngrams_spec *spec, unsigned side,
                     const char *text, size_t len, struct infer_error *err);

/* No ids, memory kept. */
void infer_ngrams_clear(struct infer_ngrams *out);
void infer_ngrams_release(struct infer_ngrams *out);

#endif
