/*
 * safetensors.h - the one reader and writer of .safetensors files.
 *
 *   file   u64 n | header: n bytes of JSON | data
 *   header {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
 *           ..., "__metadata__": {"key": "text"}}
 *
 * The reader maps a file and validates all of it before the first pointer is
 * handed out; names and data are borrowed from it until it is closed. As the
 * format demands, the tensors cover the data without gap or overlap.
 *
 * Spec  https://huggingface.co/docs/safetensors, section "Format"
 */
#ifndef INFER_FORMAT_SAFETENSORS_H
#define INFER_FORMAT_SAFETENSORS_H

#include "infer.h"

enum {
    INFER_ST_MAX_DIMS = 8,
    INFER_ST_MAX_NAME = 255,         /* bytes */
    INFER_ST_MAX_HEADER = 100 << 20, /* bytes, as in the reference reader */
    INFER_ST_MAX_TENSORS = 1 << 16
};

/* Types of values; their names in files are these. */
enum infer_st_dtype {
    INFER_ST_F32,
    INFER_ST_F16,
    INFER_ST_BF16,
    INFER_ST_F64,
    INFER_ST_F8_E4M3,
    INFER_ST_F8_E5M2,
    INFER_ST_I64,
    INFER_ST_I32,
    INFER_ST_I16,
    INFER_ST_I8,
    INFER_ST_U64,
    INFER_ST_U32,
    INFER_ST_U16,
    INFER_ST_U8,
    INFER_ST_BOOL,
    INFER_ST_N_DTYPES
};

const char *infer_st_dtype_name(enum infer_st_dtype dtype);
size_t infer_st_dtype_bytes(enum infer_st_dtype dtype);

struct infer_st_tensor {
    const char *name; /* NUL-terminated, no control characters */
    enum infer_st_dtype dtype;
    uint32_t n_dims;                  /* 0: a scalar */
    uint64_t dims[INFER_ST_MAX_DIMS]; /* the last is the contiguous one; unused
                                         are 1 */
    const void *data;                 /* may be unaligned */
    uint64_t bytes;                   /* 0 when a dimension is */
};

struct infer_safetensors; /* opaque */

/*
 * Map and validate a file.
 * Errors  EIO, ENOMEM, EFORMAT (the sentence names path and tensor),
 *         EUNSUPPORTED (dtype)
 */
int infer_safetensors_open(struct infer_safetensors **s, const char *path,
                           struct infer_error *err);

/* The same for a file image in memory, which must outlive s. */
int infer_safetensors_open_memory(struct infer_safetensors **s,
                                  const void *data, size_t size,
                                  struct infer_error *err);
void infer_safetensors_close(struct infer_safetensors *s);

size_t infer_safetensors_n(const struct infer_safetensors *s);
/* In the order of their data. */
const struct infer_st_tensor *
infer_safetensors_tensor(const struct infer_safetensors *s, size_t i);
/* NULL: absent. O(1) expected. */
const struct infer_st_tensor *
infer_safetensors_find(const struct infer_safetensors *s, const char *name);

/* ---- writing ------------------------------------------------------------ */

struct infer_safetensors_writer; /* opaque: the tensor list in memory */

int infer_safetensors_writer_create(struct infer_safetensors_writer **w,
                                    struct infer_error *err);
void infer_safetensors_writer_free(struct infer_safetensors_writer *w);

/* Add a tensor; the name is copied, data borrowed until _save(). Failures
 * (ENOMEM, EINVAL) stick: _save() reports the first one. */
void infer_safetensors_add(struct infer_safetensors_writer *w, const char *name,
                           enum infer_st_dtype dtype, uint32_t n_dims,
                           const uint64_t *dims, const void *data);

/*
 * Write atomically, with the metadata {"format": "pt"} that loaders ask for;
 * the data begins at a multiple of 8 bytes.
 * Errors  EIO (says what failed, e.g. no space), ENOMEM, EINVAL
 */
int infer_safetensors_save(struct infer_safetensors_writer *w, const char *path,
                           struct infer_error *err);

#endif
