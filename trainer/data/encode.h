/*
 * encode.h - parts of documents to token ids, the same for training and for
 * evaluation.
 *
 * A stream of documents is: BOS (if the vocabulary asks for it), the text's
 * tokens, then EOS before the next document's BOS. One document alone has no
 * EOS. The parts of a document are encoded each by itself; parts end behind
 * newlines, which pieces of the trainer's own vocabularies never cross.
 */
#ifndef TRAINER_DATA_ENCODE_H
#define TRAINER_DATA_ENCODE_H

#include "core/tokenizer/tokenizer.h"
#include "trainer/data/text.h"

struct train_encoder {
    const struct infer_tokenizer *tokenizer;
    int32_t bos; /* before every document; -1: none */
    int32_t eos; /* between two; -1: none */
    uint64_t n_docs, n_bytes;
};

int train_encoder_init(struct train_encoder *e, const struct infer_tokenizer *t,
                       struct infer_error *err);

/* A growing list of ids; zero it to start. */
struct train_ids {
    int32_t *data; /* [cap], malloc'd */
    size_t n, cap;
};

int train_ids_add(struct train_ids *ids, const int32_t *more, size_t n);

/* Append the tokens of a part. Errors  ENOMEM */
int train_encode(struct train_encoder *e, const struct train_part *part,
                 struct train_ids *ids, struct infer_error *err);

#endif
