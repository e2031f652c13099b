/*
 * safetensors.c - opens .safetensors files and answers questions about them.
 *
 * As with GGUF the file is mapped, so only the tensors that are used are read.
 */
#include "core/format/safetensors_file.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[INFER_ST_N_DTYPES] = {
    [INFER_ST_F32] = {"F32", 4},         [INFER_ST_F16] = {"F16", 2},
    [INFER_ST_BF16] = {"BF16", 2},       [INFER_ST_F64] = {"F64", 8},
    [INFER_ST_F8_E4M3] = {"F8_E4M3", 1}, [INFER_ST_F8_E5M2] = {"F8_E5M2", 1},
    [INFER_ST_I64] = {"I64", 8},         [INFER_ST_I32] = {"I32", 4},
    [INFER_ST_I16] = {"I16", 2},         [INFER_ST_I8] = {"I8", 1},
    [INFER_ST_U64] = {"U64", 8},         [INFER_ST_U32] = {"U32", 4},
    [INFER_ST_U16] = {"U16", 2},         [INFER_ST_U8] = {"U8", 1},
    [INFER_ST_BOOL] = {"BOOL", 1},
};

const char *infer_st_dtype_name(enum infer_st_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t infer_st_dtype_bytes(enum infer_st_dtype dtype)
{
    return dtypes[dtype].bytes;
}

bool infer_st_measure(struct infer_st_tensor *t)
{
    bool overflow = false, empty = false;
    uint64_t n = dtypes[t->dtype].bytes;

    for (uint32_t d = 0; d < t->n_dims; d++)
        empty = empty || t->dims[d] == 0;
    for (uint32_t d = 0; d < t->n_dims && !empty; d++)
        overflow = overflow || __builtin_mul_overflow(n, t->dims[d], &n);
    t->bytes = empty ? 0 : n;
    return !overflow;
}

/* ---- opening ------------------------------------------------------------- */

/* Messages have room for the end of a long path. */
static void set_label(struct infer_safetensors *s, const char *path)
{
    const size_t len = strlen(path), room = sizeof(s->label) - 1;

    snprintf(s->label, sizeof(s->label), "%s%s", len > room ? "..." : "",
             len > room ? path + len - (room - 3) : path);
}

static int io_fail(const struct infer_safetensors *s, struct infer_error *err)
{
    return infer_fail(err, INFER_EIO, "cannot open '%s': %s", s->label,
                      strerror(errno));
}

static int map_file(struct infer_safetensors *s, int fd,
                    struct infer_error *err)
{
    struct stat st;

    if (fstat(fd, &st))
        return io_fail(s, err);
    if (!S_ISREG(st.st_mode))
        return infer_fail(err, INFER_EIO,
                          "cannot open '%s': not a regular file", s->label);
    if (st.st_size == 0)
        return infer_fail(err, INFER_EFORMAT, "cannot load '%s': it is empty",
                          s->label);
    s->size = (size_t)st.st_size;
    s->map = mmap(NULL, s->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (s->map == MAP_FAILED) {
        s->map = NULL;
        return io_fail(s, err);
    }
    s->data = s->map;
    return 0;
}

/* Parse what s maps; s is freed on failure. */
static int finish(struct infer_safetensors **out, struct infer_safetensors *s,
                  int status, struct infer_error *err)
{
    if (!status)
        status = infer_safetensors_parse(s, err);
    if (status)
        infer_safetensors_close(s);
    else
        *out = s;
    return status;
}

int infer_safetensors_open(struct infer_safetensors **out, const char *path,
                           struct infer_error *err)
{
    struct infer_safetensors *s = calloc(1, sizeof(*s));
    int status, fd;

    if (!s)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    set_label(s, path);
    /* O_NONBLOCK: a FIFO must not make us wait for its writer */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    status = fd < 0 ? io_fail(s, err) : map_file(s, fd, err);
    if (fd >= 0)
        close(fd);
    return finish(out, s, status, err);
}

int infer_safetensors_open_memory(struct infer_safetensors **out,
                                  const void *data, size_t size,
                                  struct infer_error *err)
{
    struct infer_safetensors *s = calloc(1, sizeof(*s));

    if (!s)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    set_label(s, "memory");
    s->data = data;
    s->size = size;
    return finish(out, s, 0, err);
}

void infer_safetensors_close(struct infer_safetensors *s)
{
    if (!s)
        return;
    free(s->tensors);
    free(s->names);
    infer_names_release(&s->index);
    if (s->map)
        munmap(s->map, s->size);
    free(s);
}

size_t infer_safetensors_n(const struct infer_safetensors *s)
{
    return s->n;
}

const struct infer_st_tensor *
infer_safetensors_tensor(const struct infer_safetensors *s, size_t i)
{
    return &s->tensors[i];
}

const struct infer_st_tensor *
infer_safetensors_find(const struct infer_safetensors *s, const char *name)
{
    const int64_t i = infer_names_find(&s->index, name, strlen(name));

    return i < 0 ? NULL : &s->tensors[i];
}
