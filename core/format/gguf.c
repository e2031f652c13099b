/*
 * gguf.c - opens GGUF files and answers questions about them.
 *
 * The file is mapped, not read: tensor data is touched only when it is packed,
 * and what is copied from it is copied once. A file that is cut short while it
 * is mapped raises SIGBUS on the next touch, so models are replaced by rename,
 * never in place (infer_gguf_save() does), and loading a model ends with the
 * file closed.
 */
#include "core/format/gguf_file.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening ------------------------------------------------------------- */

/* Messages have room for the end of a long path. */
static void set_label(struct infer_gguf *g, const char *path)
{
    const size_t len = strlen(path), room = sizeof(g->label) - 1;

    snprintf(g->label, sizeof(g->label), "%s%s", len > room ? "..." : "",
             len > room ? path + len - (room - 3) : path);
}

static int io_fail(const struct infer_gguf *g, struct infer_error *err)
{
    return infer_fail(err, errno == ENOMEM ? INFER_ENOMEM : INFER_EIO,
                      "cannot open '%s': %s", g->label, strerror(errno));
}

static int map_file(struct infer_gguf *g, int fd, struct infer_error *err)
{
    struct stat st;

    if (fstat(fd, &st))
        return io_fail(g, err);
    if (!S_ISREG(st.st_mode))
        return infer_fail(err, INFER_EIO,
                          "cannot open '%s': not a regular file", g->label);
    if (st.st_size == 0)
        return infer_fail(err, INFER_EFORMAT, "cannot load '%s': it is empty",
                          g->label);
    g->size = (size_t)st.st_size;
    g->map = mmap(NULL, g->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (g->map == MAP_FAILED) {
        g->map = NULL;
        return io_fail(g, err);
    }
    g->data = g->map;
    return 0;
}

/* Parse what g maps; g is freed on failure. */
static int finish(struct infer_gguf **out, struct infer_gguf *g, int status,
                  struct infer_error *err)
{
    if (!status)
        status = infer_gguf_parse(g, err);
    if (status)
        infer_gguf_close(g);
    else
        *out = g;
    return status;
}

int infer_gguf_open(struct infer_gguf **out, const char *path,
                    struct infer_error *err)
{
    struct infer_gguf *g = calloc(1, sizeof(*g));
    int status, fd;

    if (!g)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    set_label(g, path);
    /* O_NONBLOCK: a FIFO must not make us wait for its writer */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    status = fd < 0 ? io_fail(g, err) : map_file(g, fd, err);
    if (fd >= 0)
        close(fd);
    return finish(out, g, status, err);
}

int infer_gguf_open_memory(struct infer_gguf **out, const void *data,
                           size_t size, struct infer_error *err)
{
    struct infer_gguf *g = calloc(1, sizeof(*g));

    if (!g)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    set_label(g, "memory");
    g->data = data;
    g->size = size;
    return finish(out, g, 0, err);
}

void infer_gguf_close(struct infer_gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; g->keys && i < g->n_keys; i++)
        free(g->keys[i].strs);
    free(g->keys);
    free(g->tensors);
    free(g->names);
    infer_names_release(&g->key_index);
    infer_names_release(&g->tensor_index);
    if (g->map)
        munmap(g->map, g->size);
    free(g);
}

/* ---- tensors ------------------------------------------------------------- */

uint64_t infer_gguf_file_bytes(const struct infer_gguf *g)
{
    return g->size;
}

size_t infer_gguf_n_tensors(const struct infer_gguf *g)
{
    return g->n_tensors;
}

const struct infer_gguf_tensor *infer_gguf_tensor(const struct infer_gguf *g,
                                                  size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const struct infer_gguf_tensor *infer_gguf_find(const struct infer_gguf *g,
                                                const char *name)
{
    const int64_t i = infer_names_find(&g->tensor_index, name, strlen(name));

    return i < 0 ? NULL : &g->tensors[i];
}

/* ---- metadata ------------------------------------------------------------ */

size_t infer_gguf_n_keys(const struct infer_gguf *g)
{
    return g->n_keys;
}

const char *infer_gguf_key(const struct infer_gguf *g, size_t i,
                           enum infer_gguf_type *type)
{
    if (i >= g->n_keys)
        return NULL;
    if (type)
        *type = g->keys[i].type;
    return g->keys[i].name;
}

static const struct infer_gguf_kv *find_key(const struct infer_gguf *g,
                                            const char *key)
{
    const int64_t i = infer_names_find(&g->key_index, key, strlen(key));

    return i < 0 ? NULL : &g->keys[i];
}

static int not_a(const struct infer_gguf *g, const char *key, const char *what,
                 struct infer_error *err)
{
    return infer_fail(err, INFER_EFORMAT, "key '%.100s' of '%s' is not %s", key,
                      g->label, what);
}

#define AS(type, p)                                                            \
    __extension__({                                                            \
        type as_;                                                              \
        memcpy(&as_, p, sizeof(as_));                                          \
        as_;                                                                   \
    })

/* The two's complement of a negative value does not fit a u32 either. */
static bool to_u64(enum infer_gguf_type type, const uint8_t *p, uint64_t *out)
{
    switch (type) {
    case INFER_GGUF_U8:
        *out = *p;
        return true;
    case INFER_GGUF_I8:
        *out = (uint64_t)AS(int8_t, p);
        return true;
    case INFER_GGUF_U16:
        *out = AS(uint16_t, p);
        return true;
    case INFER_GGUF_I16:
        *out = (uint64_t)AS(int16_t, p);
        return true;
    case INFER_GGUF_U32:
        *out = AS(uint32_t, p);
        return true;
    case INFER_GGUF_I32:
        *out = (uint64_t)AS(int32_t, p);
        return true;
    case INFER_GGUF_U64:
    case INFER_GGUF_I64:
        *out = AS(uint64_t, p);
        return true;
    case INFER_GGUF_F32:
    case INFER_GGUF_F64:
    case INFER_GGUF_BOOL:
    case INFER_GGUF_STRING:
    case INFER_GGUF_ARRAY:
        break;
    }
    return false;
}

bool infer_gguf_to_u32(enum infer_gguf_type type, const uint8_t *value,
                       uint32_t *out)
{
    uint64_t v;

    if (!to_u64(type, value, &v) || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

int infer_gguf_get_u32(const struct infer_gguf *g, const char *key,
                       uint32_t *out, struct infer_error *err)
{
    const struct infer_gguf_kv *kv = find_key(g, key);

    if (!kv)
        return 1;
    if (!infer_gguf_to_u32(kv->type, kv->value, out))
        return not_a(g, key, "a whole number of 32 bits", err);
    return 0;
}

int infer_gguf_get_f32(const struct infer_gguf *g, const char *key, float *out,
                       struct infer_error *err)
{
    const struct infer_gguf_kv *kv = find_key(g, key);
    float v = NAN;

    if (!kv)
        return 1;
    if (kv->type == INFER_GGUF_F32)
        v = AS(float, kv->value);
    else if (kv->type == INFER_GGUF_F64)
        v = (float)AS(double, kv->value);
    if (!isfinite(v))
        return not_a(g, key, "a finite float", err);
    *out = v;
    return 0;
}

int infer_gguf_get_bool(const struct infer_gguf *g, const char *key, bool *out,
                        struct infer_error *err)
{
    const struct infer_gguf_kv *kv = find_key(g, key);

    if (!kv)
        return 1;
    if (kv->type != INFER_GGUF_BOOL)
        return not_a(g, key, "a bool", err);
    *out = kv->value[0] != 0;
    return 0;
}

int infer_gguf_get_str(const struct infer_gguf *g, const char *key,
                       struct infer_gguf_str *out, struct infer_error *err)
{
    const struct infer_gguf_kv *kv = find_key(g, key);

    if (!kv)
        return 1;
    if (kv->type != INFER_GGUF_STRING)
        return not_a(g, key, "a string", err);
    out->len = AS(uint64_t, kv->value);
    out->data = (const char *)kv->value + sizeof(uint64_t);
    return 0;
}

int infer_gguf_get_array(const struct infer_gguf *g, const char *key,
                         struct infer_gguf_array *out, struct infer_error *err)
{
    const struct infer_gguf_kv *kv = find_key(g, key);

    if (!kv)
        return 1;
    if (kv->type != INFER_GGUF_ARRAY)
        return not_a(g, key, "an array", err);
    out->type = (enum infer_gguf_type)AS(uint32_t, kv->value);
    out->n = AS(uint64_t, kv->value + sizeof(uint32_t));
    out->data = kv->value + sizeof(uint32_t) + sizeof(uint64_t);
    out->strs = kv->strs;
    return 0;
}
