/*
 * gguf_walk.h - touch everything that an open GGUF file hands out.
 *
 * For sanitizers: what infer_gguf_open() accepted must be readable to the last
 * byte, whatever the file says. A header, since fuzz programs link no helpers.
 */
#ifndef TESTS_GGUF_WALK_H
#define TESTS_GGUF_WALK_H

#include "core/format/gguf.h"
#include "core/format/quant.h"

/* A sum of bytes, so that reading them is not optimized away. */
static inline uint64_t walk_bytes(const void *data, uint64_t n)
{
    const uint8_t *p = data;
    uint64_t sum = n;

    for (uint64_t i = 0; i < n; i++)
        sum = sum * 31 + p[i];
    return sum;
}

static inline uint64_t walk_array(const struct infer_gguf_array *a)
{
    static const uint8_t width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t sum = 0;

    if (!a->strs)
        return walk_bytes(a->data, a->n * width[a->type]);
    for (uint64_t i = 0; i < a->n; i++)
        sum += walk_bytes(a->strs[i].data, a->strs[i].len);
    return sum;
}

static inline uint64_t walk_key(const struct infer_gguf *g, const char *key)
{
    struct infer_gguf_array array = {0};
    struct infer_gguf_str str = {0};
    uint32_t u = 0;
    float f = 0.0f;
    bool b = false;
    uint64_t sum = 0;

    if (infer_gguf_get_u32(g, key, &u, NULL) == 0)
        sum += u;
    if (infer_gguf_get_f32(g, key, &f, NULL) == 0)
        sum += f > 0.0f;
    if (infer_gguf_get_bool(g, key, &b, NULL) == 0)
        sum += b;
    if (infer_gguf_get_str(g, key, &str, NULL) == 0)
        sum += walk_bytes(str.data, str.len);
    if (infer_gguf_get_array(g, key, &array, NULL) == 0)
        sum += walk_array(&array);
    return sum;
}

/* Every value of a tensor, a few blocks at a time. */
static inline uint64_t walk_tensor(const struct infer_gguf_tensor *t)
{
    enum { CHUNK = 256 };
    const uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    const uint32_t per_block = infer_qtype_info(t->type)->block;
    const uint8_t *p = t->data;
    float values[CHUNK];
    uint64_t sum = walk_bytes(t->data, t->bytes);

    sum += infer_quant_finite(t->type, t->data, (size_t)n);
    for (uint64_t i = 0; i < n; i += CHUNK) {
        const uint64_t left = n - i;
        const size_t part = left < CHUNK ? (size_t)left : CHUNK;

        infer_dequantize(t->type, p, values, part);
        sum += values[part / per_block * per_block - 1] > 0.0f;
        p += infer_qtype_bytes(t->type, part);
    }
    return sum;
}

static inline uint64_t walk_gguf(const struct infer_gguf *g)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < infer_gguf_n_keys(g); i++)
        sum += walk_key(g, infer_gguf_key(g, i, NULL));
    for (size_t i = 0; i < infer_gguf_n_tensors(g); i++)
        sum += walk_tensor(infer_gguf_tensor(g, i));
    return sum;
}

#endif
