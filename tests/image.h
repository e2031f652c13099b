/* image.h - GGUF files built in memory, correct or not. */
#ifndef TESTS_IMAGE_H
#define TESTS_IMAGE_H

#include "core/format/gguf.h"

struct image {
    uint8_t *data; /* malloc'd */
    size_t len, cap;
};

void image_put(struct image *m, const void *data, size_t n);
void image_u32(struct image *m, uint32_t v);
void image_u64(struct image *m, uint64_t v);
void image_str(struct image *m, const char *s, size_t len);
void image_pad(struct image *m, size_t alignment);
void image_free(struct image *m);

/* A whole file; an empty image when it cannot be read. */
struct image image_read(const char *path);

/* Open, and fail the test where that fails. */
struct infer_gguf *image_open(const struct image *m);

/* ---- a file as a plan that each test may spoil ----------------------------
 */

struct planned_key {
    const char *name;
    size_t name_len;
    uint32_t type;
    struct image value;
};

struct planned_tensor {
    const char *name;
    size_t name_len;
    uint32_t n_dims;
    uint64_t dims[5];
    uint32_t type;
    uint64_t offset;
};

struct plan {
    const char *magic;
    uint32_t version;
    uint64_t n_tensors, n_keys; /* as the header says */
    struct planned_key keys[24];
    size_t real_keys;
    struct planned_tensor tensors[4];
    size_t real_tensors;
    size_t alignment;
    size_t data_bytes;
};

/* The next key; its value is for the caller to put. */
struct image *plan_key(struct plan *p, const char *name, uint32_t type);
void plan_u32(struct plan *p, const char *name, uint32_t v);
void plan_tensor(struct plan *p, const char *name, uint32_t type, uint64_t d0,
                 uint64_t d1, uint64_t offset);

/* "first.weight" Q8_0 [2][32] at 0 (68 bytes), "second.weight" F32 [3][4] at 96
 * (48 bytes), keys a.count, a.text, a.floats and a.strings. */
void plan_good(struct plan *p);
void plan_free(struct plan *p);

/* The file; header (may be NULL): where its tensor descriptions end. */
struct image plan_build(const struct plan *p, size_t *header);

#endif
