/* tiny.h - whole models of a few kilobytes, written to a file, to be spoiled.
 */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include "core/format/gguf.h"
#include "core/format/quant.h"

enum {
    TINY_D = 32,
    TINY_CTX = 64,
    TINY_FF = 64,
    TINY_HEADS = 2,
    TINY_LLAMA_VOCAB = 10,
    TINY_GPT2_VOCAB = 6
};

struct tiny {
    const char *arch;   /* "llama" (also its relatives), "gpt2" */
    uint32_t type;      /* of the matrices */
    uint32_t vectors;   /* type of norms and biases; 0: F32 */
    uint32_t alignment; /* 0: the usual */
    bool untied;        /* llama: an output.weight of its own */
    const char *omit;   /* keys and tensors to leave out, a pattern */
    void (*extra)(struct infer_gguf_writer *w); /* more, or instead */
};

/* Fails the test where it cannot be written. */
void tiny_write(const char *path, const struct tiny *t);

/* A path for such a file, in a folder of its own; tiny_clean() removes both. */
const char *tiny_path(void);
void tiny_clean(void);

/* A matrix [n][k] (n 0: a vector) of small numbers, for `extra`; lives until
 * the next tiny_write() ends. */
void tiny_tensor(struct infer_gguf_writer *w, const char *name, uint32_t type,
                 size_t n, size_t k);

#endif
