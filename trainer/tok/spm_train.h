/*
 * spm_train.h - SentencePiece's trainer behind a C face.
 *
 * Lines go in one by one; of a corpus over the memory limit a fixed sample is
 * kept (each line by its number, so the same text gives the same pieces).
 */
#ifndef TRAINER_TOK_SPM_TRAIN_H
#define TRAINER_TOK_SPM_TRAIN_H

#ifdef __cplusplus
extern "C" {
#endif

#include "infer.h"

struct train_spm; /* opaque */

struct train_spm_options {
    const char *kind; /* "unigram" or "bpe" */
    uint64_t n_vocab; /* pieces, special ones and bytes included */
    bool byte_fallback;
    bool split_digits;          /* each digit is a piece */
    const char *const *symbols; /* [n_symbols] pieces never cut */
    size_t n_symbols;
    uint64_t max_bytes; /* of lines to keep */
    int n_threads;
};

/* Errors  ENOMEM */
int train_spm_create(struct train_spm **t, uint64_t max_bytes,
                     struct infer_error *err);
/* One line of UTF-8 without its newline; long ones are cut at spaces. */
int train_spm_add(struct train_spm *t, const char *line, size_t len,
                  struct infer_error *err);
uint64_t train_spm_lines(const struct train_spm *t); /* kept */

/*
 * Train on the lines. *model is the serialised ModelProto, malloc'd.
 *
 * The text is taken as it is (no normalisation, no added space, no dropped
 * spaces), so that what is encoded decodes to the same bytes and so that a
 * GGUF vocabulary can say the same.
 * Errors  EINVAL (says what to change, e.g. the vocabulary's size), ENOMEM
 */
int train_spm_run(struct train_spm *t, const struct train_spm_options *o,
                  char **model, size_t *size, struct infer_error *err);
void train_spm_free(struct train_spm *t);

#ifdef __cplusplus
}
#endif
#endif
