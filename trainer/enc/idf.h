/*
 * idf.h - n-gram rows that begin as random directions, the longer the rarer
 * their n-gram is.
 *
 * The cosine of two texts is then about that of their tf-idf vectors, as far as
 * D values can tell them apart (random projection: Johnson & Lindenstrauss
 * 1984), before anything is learned and also for n-grams that training never
 * shows.
 */
#ifndef TRAINER_ENC_IDF_H
#define TRAINER_ENC_IDF_H

#include "trainer/enc/model.h"

/*
 * Fill the model's rows by the texts an n-gram is in.
 * Cost    all rows are touched: 4 D bytes each
 * Errors  ENOMEM
 */
int enc_idf_rows(struct enc_model *m, const struct enc_texts *t, uint64_t seed,
                 struct infer_error *err);

#endif
