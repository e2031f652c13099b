/*
 * chars.h - a vocabulary of characters: one token each, counted in the text.
 */
#ifndef TRAINER_TOK_CHARS_H
#define TRAINER_TOK_CHARS_H

#include "trainer/tok/vocab.h"

struct train_chars {
    uint64_t *counts; /* [0x110000] by code point */
    uint64_t n;       /* characters in all */
};

int train_chars_create(struct train_chars *c, struct infer_error *err);
void train_chars_release(struct train_chars *c);

/* Count the characters of valid UTF-8. */
void train_chars_add(struct train_chars *c, const char *text, size_t len);

/*
 * <unk> <s> </s>, the 256 bytes if asked for, then the characters by code
 * point; of more than max_tokens in all, the rarest are left out (0: no limit).
 *   dropped  out  characters of the text that are left out
 * Errors  EINVAL (not even the special tokens fit), ENOMEM
 */
int train_chars_vocab(const struct train_chars *c, bool bytes,
                      uint64_t max_tokens, struct train_vocab *v,
                      uint64_t *dropped, struct infer_error *err);

#endif
