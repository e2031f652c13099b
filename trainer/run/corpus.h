/*
 * corpus.h - from texts and a tokenizer to the files a run trains on.
 *
 *   RUN/tokenizer.gguf   RUN/data/train.tokens   RUN/data/val.tokens
 *   RUN/data/sources.txt  (sha256, bytes and path of each file)
 */
#ifndef TRAINER_RUN_CORPUS_H
#define TRAINER_RUN_CORPUS_H

#include "trainer/data/tokens.h"
#include "trainer/run/lm.h"

struct train_corpus {
    struct infer_tokenizer *tokenizer;
    uint32_t n_vocab;
    struct train_tokens train, val;
};

/*
 * Make the files; the folders must be there.
 *   stop  set by a signal handler: leave off
 * Errors  as train_text_each(), EIO, EBUSY (stopped)
 */
int train_corpus_make(const struct train_lm *o, const volatile int *stop,
                      struct infer_error *err);

/* Open what make left. */
int train_corpus_open(struct train_corpus *c, const char *run,
                      struct infer_error *err);
void train_corpus_close(struct train_corpus *c);

#endif
