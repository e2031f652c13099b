/*
 * quantize.h - copy a model file, its matrices in another type.
 */
#ifndef TRAINER_RUN_QUANTIZE_H
#define TRAINER_RUN_QUANTIZE_H

#include "trainer/run/importance.h"

enum { TRAIN_QUANTIZE_TYPES = 31, TRAIN_QUANTIZE_NAME = 64 };

struct train_quantize_report {
    size_t n_tensors[TRAIN_QUANTIZE_TYPES]; /* of each infer_qtype */
    uint64_t bytes[TRAIN_QUANTIZE_TYPES];
    size_t n_weighed;  /* tensors whose importance was known */
    size_t n_fallback; /* matrices whose rows the blocks do not divide */
    char fallback[TRAIN_QUANTIZE_NAME]; /* the first of them */
    uint64_t bytes_before, bytes_after; /* of the files */
};

/* Can matrices be written as this infer_qtype? */
bool train_quantize_supports(uint32_t type);

/* What general.file_type says of a file whose matrices are of such a type. */
uint32_t train_file_type(uint32_t type);

/*
 * Write `to` (atomically) with the metadata of `from`. Tensors of one
 * dimension, and the learned positions and token types, which are added and
 * not multiplied, become F32; rows that whole blocks do not fill become F16.
 *
 *   imp  weighs the errors of rounding; NULL: all alike
 * Cost    the new weights are in memory until they are written
 * Errors  EIO, EFORMAT, EINVAL (a weight is not finite; `to` is `from`), ENOMEM
 */
int train_quantize_file(const char *from, const char *to, uint32_t type,
                        const struct train_importance *imp,
                        struct train_quantize_report *report,
                        struct infer_error *err);

#endif
