/*
 * retrieval.h - judging embedders: scored pairs, and questions with documents.
 *
 * A retrieval folder holds corpus.jsonl and queries.jsonl ({"_id", "text"}) and
 * qrels.tsv (a header line; query, document, gain), as BEIR's do. A document
 * with a gain above 0 is relevant.
 */
#ifndef TRAINER_ENC_RETRIEVAL_H
#define TRAINER_ENC_RETRIEVAL_H

#include "trainer/data/table.h"
#include "trainer/enc/model.h"

/* Pairs of texts with a score: text 2 i and 2 i + 1. Zero it to start. */
struct enc_pairs {
    struct enc_texts texts;
    double *scores; /* [n] */
    size_t n, cap;
};

/* Append the pairs of files. columns: a, b, score. Errors  as
 * train_table_read(); EFORMAT (a score is not a number) */
int enc_pairs_read(struct enc_pairs *p, struct enc_model *m,
                   const struct train_list *paths,
                   const struct train_table_options *o,
                   const char *const columns[3], struct infer_error *err);
void enc_pairs_release(struct enc_pairs *p);

/* Spearman of the cosines of vectors cut to d values, and the scores. */
int enc_pairs_spearman(struct enc_model *m, const struct enc_pairs *p, size_t d,
                       double *rho, struct infer_error *err);

/* Unit vectors [n][d] of all texts, malloc'd. Errors  ENOMEM */
int enc_embed_all(struct enc_model *m, const struct enc_texts *t, size_t d,
                  float **vectors, struct infer_error *err);

struct enc_retrieval {
    double ndcg10, recall100;
    size_t n_queries, n_docs;
};

/* Errors  EIO, EFORMAT, ENOMEM */
int enc_retrieval_run(struct enc_model *m, const char *folder, size_t d,
                      struct enc_retrieval *out, struct infer_error *err);

#endif
