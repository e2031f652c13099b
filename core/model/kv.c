/*
 * kv.c - memory of the key/value cache; who uses which block is the caller's.
 */
#include "core/model/forward.h"

#include "core/base/error.h"

#include <sys/mman.h>

static size_t head_bytes(const struct infer_model *m, enum infer_kv_type type)
{
    const size_t element = type == INFER_KV_F32 ? 4 : 2;
    const size_t bytes = (size_t)INFER_KV_BLOCK * m->hp.d_head * 2 * element;

    return (bytes + 63) / 64 * 64;
}

size_t infer_kv_block_bytes(const struct infer_model *m,
                            enum infer_kv_type type)
{
    /* an encoder is done with a layer's keys when it leaves it */
    const size_t layers = m->hp.arch->encoder ? 1 : m->hp.n_layers;

    return head_bytes(m, type) * m->hp.n_kv_heads * layers;
}

int infer_kv_create(struct infer_kv *kv, const struct infer_model *m,
                    enum infer_kv_type type, uint32_t n_blocks,
                    struct infer_error *err)
{
    const size_t block = infer_kv_block_bytes(m, type);
    const size_t bytes = block * n_blocks;
    void *data;

    if (n_blocks == 0 || bytes / n_blocks != block)
        return infer_fail(err, INFER_EINVAL,
                          "a cache of %u blocks is not possible", n_blocks);
    /* zeroed: a slot nobody wrote must hold a finite number */
    data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for a cache of %zu bytes", bytes);
    madvise(data, bytes, MADV_HUGEPAGE);
    *kv = (struct infer_kv){.type = type,
                            .n_blocks = n_blocks,
                            .block_bytes = block,
                            .head_bytes = head_bytes(m, type),
                            .data = data};
    return INFER_OK;
}

void infer_kv_release(struct infer_kv *kv)
{
    if (kv->data)
        munmap(kv->data, kv->block_bytes * kv->n_blocks);
    *kv = (struct infer_kv){0};
}
