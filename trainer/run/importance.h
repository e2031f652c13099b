/*
 * importance.h - how much an error in each column of a matrix matters: the mean
 * square of what the column is multiplied with, over a calibration text.
 *
 * Squared error weighted so is, for inputs that do not correlate, the squared
 * error of the product (the "importance matrix" of llama.cpp).
 */
#ifndef TRAINER_RUN_IMPORTANCE_H
#define TRAINER_RUN_IMPORTANCE_H

#include "trainer/data/text.h"

struct train_importance; /* opaque */

/*
 * Send a text through a model.
 *   context     tokens of a window; 0: the model's training context
 *   max_tokens  of the text; 0: all
 * Errors  as train_evaluate_file()
 */
int train_importance_create(struct train_importance **imp, const char *model,
                            const struct train_text *text, uint64_t context,
                            uint64_t max_tokens, struct infer_error *err);
void train_importance_free(struct train_importance *imp);

/* For the columns of a tensor: [k]; NULL: not known, e.g. of an embedding. */
const float *train_importance_of(const struct train_importance *imp,
                                 const char *tensor, size_t k);

/* Tokens that it is the mean of. */
uint64_t train_importance_tokens(const struct train_importance *imp);

#endif
