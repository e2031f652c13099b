/*
 * pack.h - weights of a file into the kernels' panels (layout: kernels.h).
 */
#ifndef INFER_MODEL_PACK_H
#define INFER_MODEL_PACK_H

#include "core/format/gguf.h"
#include "core/kernels/kernels.h"

/* What a file type becomes; every format keeps its values exactly. */
enum infer_pack infer_pack_kind(uint32_t qtype);

/* Bytes of rows [N][K] in panels. */
size_t infer_pack_bytes(uint32_t qtype, size_t n, size_t k);

/*
 * Rows [row0, row0 + n) of a 2-D tensor into panels at data (64-byte aligned,
 * infer_pack_bytes(), zeroed).
 * Errors  EFORMAT: a scale or value is not finite; names tensor and row
 */
int infer_pack_rows(struct infer_packed *w, uint8_t *data,
                    const struct infer_gguf_tensor *t, size_t row0, size_t n,
                    struct infer_error *err);

#endif
