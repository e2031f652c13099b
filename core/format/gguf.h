/*
 * gguf.h - GGUF model files: the one reader (v2, v3) and writer (v3).
 *
 * A file is magic, version, counts, key/value metadata, tensor descriptions,
 * padding, tensor data. The reader maps it and validates all of it before the
 * first pointer is handed out; afterwards names, strings, arrays and tensor
 * data are borrowed from the mapping and live until infer_gguf_close().
 *
 * Spec  https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
#ifndef INFER_FORMAT_GGUF_H
#define INFER_FORMAT_GGUF_H

#include "infer.h"

/* Numbers of the spec. */
enum infer_gguf_type {
    INFER_GGUF_U8 = 0,
    INFER_GGUF_I8,
    INFER_GGUF_U16,
    INFER_GGUF_I16,
    INFER_GGUF_U32,
    INFER_GGUF_I32,
    INFER_GGUF_F32,
    INFER_GGUF_BOOL,
    INFER_GGUF_STRING,
    INFER_GGUF_ARRAY,
    INFER_GGUF_U64,
    INFER_GGUF_I64,
    INFER_GGUF_F64
};

enum { INFER_GGUF_MAX_DIMS = 4 };

struct infer_gguf_str {
    const char *data; /* not NUL-terminated */
    uint64_t len;     /* bytes */
};

struct infer_gguf_array {
    enum infer_gguf_type type; /* of the elements; never ARRAY */
    uint64_t n;
    const void *data; /* packed little-endian elements, unaligned */
    const struct infer_gguf_str *strs; /* [n] when type is STRING, else NULL */
};

struct infer_gguf_tensor {
    const char *name; /* NUL-terminated */
    uint32_t type;    /* an enum infer_qtype (quant.h), proved known */
    uint32_t n_dims;
    uint64_t dims[INFER_GGUF_MAX_DIMS]; /* ne[0] is the contiguous one; unused
                                           are 1 */
    const void *data;                   /* aligned to the file's alignment */
    uint64_t bytes;
};

struct infer_gguf; /* opaque */

/*
 * Map and validate a file.
 * Errors  EIO, ENOMEM, EFORMAT (the sentence names path and key or tensor),
 *         EUNSUPPORTED (version, tensor type)
 */
int infer_gguf_open(struct infer_gguf **g, const char *path,
                    struct infer_error *err);

/* The same for a file image in memory (not copied; must outlive g; tensor data
 * is aligned only as far as the image is). */
int infer_gguf_open_memory(struct infer_gguf **g, const void *data, size_t size,
                           struct infer_error *err);
void infer_gguf_close(struct infer_gguf *g);

uint64_t infer_gguf_file_bytes(const struct infer_gguf *g);
size_t infer_gguf_n_tensors(const struct infer_gguf *g);
const struct infer_gguf_tensor *infer_gguf_tensor(const struct infer_gguf *g,
                                                  size_t i);
/* NULL: absent. O(1) expected. */
const struct infer_gguf_tensor *infer_gguf_find(const struct infer_gguf *g,
                                                const char *name);

/*
 * Metadata by key. Each returns 0 and sets *out; 1 when the key is absent (out
 * untouched); EFORMAT when it has another type or does not fit (integers of
 * any width convert when the value fits; a float must be finite).
 */
int infer_gguf_get_u32(const struct infer_gguf *g, const char *key,
                       uint32_t *out, struct infer_error *err);
int infer_gguf_get_f32(const struct infer_gguf *g, const char *key, float *out,
                       struct infer_error *err);
int infer_gguf_get_bool(const struct infer_gguf *g, const char *key, bool *out,
                        struct infer_error *err);
int infer_gguf_get_str(const struct infer_gguf *g, const char *key,
                       struct infer_gguf_str *out, struct infer_error *err);
int infer_gguf_get_array(const struct infer_gguf *g, const char *key,
                         struct infer_gguf_array *out, struct infer_error *err);

/* Keys in file order, for tools that copy or list metadata. */
size_t infer_gguf_n_keys(const struct infer_gguf *g);
const char *infer_gguf_key(const struct infer_gguf *g, size_t i,
                           enum infer_gguf_type *type);

/* ---- writing ------------------------------------------------------------ */

struct infer_gguf_writer; /* opaque: metadata and tensor list in memory */

int infer_gguf_writer_create(struct infer_gguf_writer **w,
                             struct infer_error *err);
void infer_gguf_writer_free(struct infer_gguf_writer *w);

/* Add metadata; a key may be set once. Strings and arrays are copied. Failures
 * (ENOMEM, EINVAL) stick: a later _save() reports the first one. */
void infer_gguf_set_u32(struct infer_gguf_writer *w, const char *key,
                        uint32_t v);
void infer_gguf_set_f32(struct infer_gguf_writer *w, const char *key, float v);
void infer_gguf_set_bool(struct infer_gguf_writer *w, const char *key, bool v);
void infer_gguf_set_str(struct infer_gguf_writer *w, const char *key,
                        const char *v);
/* elements of a fixed-width type, [n], native layout */
void infer_gguf_set_array(struct infer_gguf_writer *w, const char *key,
                          enum infer_gguf_type type, const void *v, size_t n);
void infer_gguf_set_strs(struct infer_gguf_writer *w, const char *key,
                         const struct infer_gguf_str *v, size_t n);
/* Copy every key of g that w does not have yet; the second, those that begin
 * with prefix. */
void infer_gguf_set_all(struct infer_gguf_writer *w,
                        const struct infer_gguf *g);
void infer_gguf_set_some(struct infer_gguf_writer *w,
                         const struct infer_gguf *g, const char *prefix);

/* Add a tensor; data is borrowed until _save(). dims as in the reader. */
void infer_gguf_add_tensor(struct infer_gguf_writer *w, const char *name,
                           uint32_t type, uint32_t n_dims, const uint64_t *dims,
                           const void *data);

/*
 * Write atomically: temporary file beside path, fsync, rename, fsync of the
 * folder. Either the old file or the complete new one is there afterwards.
 * Errors  EIO (says what failed, e.g. no space), ENOMEM, EINVAL
 */
int infer_gguf_save(struct infer_gguf_writer *w, const char *path,
                    struct infer_error *err);

#endif
