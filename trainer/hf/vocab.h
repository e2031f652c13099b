/*
 * vocab.h - tokenizers of checkpoints to GGUF keys and back.
 *
 *   read   tokenizer.model (SentencePiece), tokenizer.json (byte-level BPE,
 *          SentencePiece's merges, WordPiece), vocab.json and merges.txt, or
 *          BERT's vocab.txt
 *   write  tokenizer.model, or tokenizer.json
 * and tokenizer_config.json beside them.
 */
#ifndef TRAINER_HF_VOCAB_H
#define TRAINER_HF_VOCAB_H

#include "trainer/hf/config.h"

/*
 * Set tokenizer.* from the files of a folder. Ids without a token become
 * unused ones, as many as the model's embedding has.
 * Errors  EIO, EFORMAT, EUNSUPPORTED (a kind of tokenizer), ENOMEM
 */
int hf_vocab_read(const struct hf_config *c, const char *folder,
                  struct infer_gguf_writer *w, struct infer_error *err);

/* Write the files for the vocabulary of g. Errors  as above */
int hf_vocab_write(const struct hf_config *c, const struct infer_gguf *g,
                   const char *folder, struct infer_error *err);

#endif
