/*
 * tensors.h - which tensors a model has, what they are called in a GGUF file
 * and in a Hugging Face checkpoint, and how their values are arranged there.
 */
#ifndef TRAINER_HF_TENSORS_H
#define TRAINER_HF_TENSORS_H

#include "trainer/hf/config.h"

enum hf_change {
    HF_SAME,
    HF_ROTATE,   /* llama's q and k: a GGUF file turns the neighbours 2i and
                    2i + 1 of a head, a checkpoint i and i + K/2 */
    HF_TRANSPOSE /* gpt2's Conv1D: [in][out] in a checkpoint */
};

struct hf_tensor {
    char gguf[64], hf[96];
    enum hf_change change;
    uint32_t n_dims;     /* 1 or 2 */
    uint64_t rows, cols; /* in GGUF's order; a vector has one column */
    uint32_t d_head;     /* of rows to rotate */
};

/* All of them, in the order of the GGUF file; *list is malloc'd. */
int hf_tensors(const struct hf_config *c, struct hf_tensor **list, size_t *n,
               struct infer_error *err);

/*
 * Values in the one order from those in the other.
 *   width  bytes of a value
 *   src    [rows * cols]   in    dst   [rows * cols]   out, elsewhere
 */
void hf_rearrange(const struct hf_tensor *t, bool to_gguf, size_t width,
                  const void *src, void *dst);

#endif
