/*
 * gguf_file.h - what the parts of the GGUF module share; private to it.
 *
 *   gguf_parse.c   bytes → struct infer_gguf, distrusting everything
 *   gguf.c         opening, lookups, conversions
 *   gguf_write.c   the way back
 */
#ifndef INFER_FORMAT_GGUF_FILE_H
#define INFER_FORMAT_GGUF_FILE_H

#include "core/format/gguf.h"
#include "core/format/names.h"

enum {
    INFER_GGUF_VERSION = 3,
    INFER_GGUF_ALIGNMENT = 32, /* unless general.alignment says otherwise */
    INFER_GGUF_MAX_COUNT = 1 << 16, /* keys, tensors: 100 times the usual */
    INFER_GGUF_MAX_KEY = 65535,     /* bytes, as in the spec */
    INFER_GGUF_MAX_NAME = 255,      /* bytes; the spec has 64 */
    INFER_GGUF_LABEL = 96           /* of the path in messages */
};

struct infer_gguf_kv {
    const char *name; /* NUL-terminated */
    enum infer_gguf_type type;
    const uint8_t *value; /* as encoded in the file, borrowed from it */
    size_t bytes;
    struct infer_gguf_str *strs; /* [n] of an array of strings, owned */
};

struct infer_gguf {
    const uint8_t *data; /* the whole file */
    size_t size;
    void *map;                    /* munmap this, NULL: caller's memory */
    char label[INFER_GGUF_LABEL]; /* end of the path */

    struct infer_gguf_kv *keys; /* [n_keys] */
    size_t n_keys;
    struct infer_names key_index;
    struct infer_gguf_tensor *tensors; /* [n_tensors] */
    size_t n_tensors;
    struct infer_names tensor_index;
    char *names; /* every key and tensor name, each NUL-terminated */
};

/* Fill keys and tensors from data. On failure g is left half-built. */
int infer_gguf_parse(struct infer_gguf *g, struct infer_error *err);

/* Names end up in logs and in C strings: 1 to max bytes, no control characters,
 * no NUL. */
bool infer_gguf_name_ok(struct infer_gguf_str s, size_t max);

/* Set t->bytes from its type and shape. Returns what is wrong with them, to
 * follow the tensor's name; NULL: nothing. */
const char *infer_gguf_measure(struct infer_gguf_tensor *t);

/* Bytes of one value of a fixed-width type; 0 for STRING and ARRAY. */
size_t infer_gguf_type_bytes(enum infer_gguf_type type);

/* An encoded integer of any width; false: not an integer, or not a u32. */
bool infer_gguf_to_u32(enum infer_gguf_type type, const uint8_t *value,
                       uint32_t *out);

/* Is this an alignment that tensors may have? */
static inline bool infer_gguf_alignment_ok(uint32_t a)
{
    return a >= 8 && (a & (a - 1)) == 0;
}

#endif
