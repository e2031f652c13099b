/* vocab.h - the vocabulary of an encoder: given, or learned from its texts. */
#ifndef TRAINER_ENC_VOCAB_H
#define TRAINER_ENC_VOCAB_H

#include "core/tokenizer/tokenizer.h"

struct enc_text_ref {
    const char *text;
    size_t len;
};

/*
 * RUN/tokenizer.gguf: of a .model or .gguf file, or learned from texts [n]
 * (SentencePiece, at most n_vocab pieces; fewer where the texts have not so
 * many).
 * Errors  EIO, EFORMAT, EUNSUPPORTED, EINVAL (texts too poor), ENOMEM
 */
int enc_vocab_make(const char *run, const char *given,
                   const struct enc_text_ref *texts, size_t n, uint64_t n_vocab,
                   int n_threads, struct infer_error *err);

int enc_vocab_open(const char *run, struct infer_tokenizer **t,
                   struct infer_error *err);

#endif
