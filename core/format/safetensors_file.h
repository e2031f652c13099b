/*
 * safetensors_file.h - what the parts of the safetensors module share; private
 * to it.
 *
 *   safetensors_parse.c   header → tensors, distrusting everything
 *   safetensors.c         opening, lookups
 *   safetensors_write.c   the way back
 */
#ifndef INFER_FORMAT_SAFETENSORS_FILE_H
#define INFER_FORMAT_SAFETENSORS_FILE_H

#include "core/format/names.h"
#include "core/format/safetensors.h"

enum { INFER_ST_LABEL = 96 }; /* of the path in messages */

struct infer_safetensors {
    const uint8_t *data; /* the whole file */
    size_t size;
    void *map;                  /* munmap this, NULL: caller's memory */
    char label[INFER_ST_LABEL]; /* end of the path */

    struct infer_st_tensor *tensors; /* [n] */
    size_t n, cap;
    struct infer_names index;
    char *names; /* every name, each NUL-terminated */
};

/* Fill tensors from data. On failure s is left half-built. */
int infer_safetensors_parse(struct infer_safetensors *s,
                            struct infer_error *err);

/* Set t->bytes from its type and shape; false: they overflow. */
bool infer_st_measure(struct infer_st_tensor *t);

#endif
