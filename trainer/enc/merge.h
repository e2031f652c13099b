/*
 * merge.h - models of one shape averaged weight by weight ("soups": Wortsman et
 * al. 2022, arXiv:2203.05482). It helps for models that share a beginning, such
 * as runs with the same --init.
 */
#ifndef TRAINER_ENC_MERGE_H
#define TRAINER_ENC_MERGE_H

#include "trainer/options.h"

enum enc_merge_kind {
    ENC_MERGE_UNIFORM,
    ENC_MERGE_EMA /* in the order given: each counts 1 - decay, the average so
                     far decay */
};

/*
 * Write `out` (atomically): the metadata of the first file, the tensors' means
 * as F32. All must have the same architecture and tensors of the same shapes.
 *   take  [files->n] which to average, or NULL: all
 * Errors  EIO, EFORMAT (not alike: names file and tensor), ENOMEM
 */
int enc_merge(const char *out, const struct train_list *files, const bool *take,
              enum enc_merge_kind kind, double decay, struct infer_error *err);

#endif
