/*
 * vocab.h - vocabularies as GGUF keys: what every model of the trainer carries
 * and what its data is encoded with, so that training and serving cannot
 * disagree.
 */
#ifndef TRAINER_TOK_VOCAB_H
#define TRAINER_TOK_VOCAB_H

#include "core/tokenizer/tokenizer.h"

/* A vocabulary in the making: tokens in order. */
struct train_vocab {
    struct infer_gguf_str *texts; /* [n], each owned */
    float *scores;
    int32_t *types; /* an enum infer_token_type */
    size_t n, cap;
    int32_t unk, bos, eos; /* -1: none */
    bool unigram;          /* the likeliest pieces, not merges by score */
    bool add_bos;          /* before every text */
    bool add_space;        /* before every text */
};

/* Append a token. Errors  ENOMEM */
int train_vocab_add(struct train_vocab *v, const char *text, size_t len,
                    float score, enum infer_token_type type,
                    struct infer_error *err);
/* <unk>, <s>, </s> as 0, 1, 2, as the readers of such files expect. */
int train_vocab_specials(struct train_vocab *v, struct infer_error *err);
/* <0x00> .. <0xFF> */
int train_vocab_bytes(struct train_vocab *v, struct infer_error *err);
void train_vocab_release(struct train_vocab *v);

/*
 * The pieces of a SentencePiece .model.
 * Errors  EIO, EFORMAT, EUNSUPPORTED (it normalises, which a GGUF vocabulary
 *         cannot), ENOMEM
 */
int train_vocab_load_spm(struct train_vocab *v, const char *path,
                         struct infer_error *err);

/* Whether a path names such a file, by its ending. */
bool train_vocab_is_spm(const char *path);

/* The vocabulary of any GGUF file as a file of its own: what else that file
 * says of its model does not hold for one that only shares the vocabulary.
 * Errors  as infer_gguf_open() and infer_gguf_save() */
int train_vocab_copy(const char *from, const char *path,
                     struct infer_error *err);

/* Set tokenizer.ggml.* */
void train_vocab_set(const struct train_vocab *v, struct infer_gguf_writer *w);

/* A GGUF file of nothing but the vocabulary. Errors  as infer_gguf_save() */
int train_vocab_save(const struct train_vocab *v, const char *path,
                     struct infer_error *err);

#endif
