/*
 * safetensors_write.c - builds .safetensors files. Tensors lie in the order
 * they were added; what is written opens again in safetensors_parse.c.
 */
#include "core/format/safetensors_file.h"

#include "core/base/error.h"
#include "core/format/replace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALIGNMENT = 8,
    LENGTH_BYTES = 8,
    ENTRY_MAX = INFER_ST_MAX_NAME + INFER_ST_MAX_DIMS * 21 + 128
};

struct held {
    struct infer_st_tensor t;
    char name[INFER_ST_MAX_NAME + 1];
};

struct infer_safetensors_writer {
    struct held **tensors; /* [n], each owned: names don't move */
    size_t n, cap;
    struct infer_names index;
    struct infer_error failed; /* the first failure, status 0: none */
};

int infer_safetensors_writer_create(struct infer_safetensors_writer **w,
                                    struct infer_error *err)
{
    struct infer_safetensors_writer *made = calloc(1, sizeof(*made));

    if (!made)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    *w = made;
    return 0;
}

void infer_safetensors_writer_free(struct infer_safetensors_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++)
        free(w->tensors[i]);
    free(w->tensors);
    infer_names_release(&w->index);
    free(w);
}

/* Names go into the header as they are. */
static bool plain(const char *name)
{
    const size_t len = strlen(name);

    if (len == 0 || len > INFER_ST_MAX_NAME)
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] < ' ' || name[i] > '~' || name[i] == '"' || name[i] == '\\')
            return false;
    return strcmp(name, "__metadata__") != 0;
}

static bool reserve(struct infer_safetensors_writer *w)
{
    const size_t cap = w->cap ? 2 * w->cap : 64;
    struct held **p;

    if (w->n < w->cap)
        return true;
    p = realloc(w->tensors, cap * sizeof(*p));
    if (!p)
        return false;
    w->tensors = p;
    w->cap = cap;
    return true;
}

static void no_memory(struct infer_safetensors_writer *w)
{
    infer_fail(&w->failed, INFER_ENOMEM, "out of memory");
}

static void refuse(struct infer_safetensors_writer *w, const char *name,
                   const char *what)
{
    infer_fail(&w->failed, INFER_EINVAL, "tensor '%.100s' %s", name, what);
}

void infer_safetensors_add(struct infer_safetensors_writer *w, const char *name,
                           enum infer_st_dtype dtype, uint32_t n_dims,
                           const uint64_t *dims, const void *data)
{
    struct held *h;
    int status;

    if (w->failed.status)
        return;
    if (!plain(name) || n_dims > INFER_ST_MAX_DIMS ||
        w->n >= INFER_ST_MAX_TENSORS) {
        refuse(w, name, "has an impossible name or shape, or is one too many");
        return;
    }
    h = calloc(1, sizeof(*h));
    if (!h || !reserve(w)) {
        free(h);
        no_memory(w);
        return;
    }
    w->tensors[w->n++] = h; /* owned from here on, also after a failure */
    memcpy(h->name, name, strlen(name) + 1);
    h->t = (struct infer_st_tensor){
        .name = h->name, .dtype = dtype, .n_dims = n_dims, .data = data};
    for (uint32_t d = 0; d < n_dims; d++)
        h->t.dims[d] = dims[d];
    status = infer_names_add(&w->index, h->name, strlen(h->name), 0);
    if (status < 0)
        no_memory(w);
    else if (status || !infer_st_measure(&h->t) || (!data && h->t.bytes))
        refuse(w, name, status ? "is added twice" : "has no such data");
}

/* ---- saving -------------------------------------------------------------- */

/* Writes n < room bytes; the rooms below are larger than any. */
static size_t print_tensor(char *out, size_t room,
                           const struct infer_st_tensor *t, uint64_t offset)
{
    int n = snprintf(out, room, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                     t->name, infer_st_dtype_name(t->dtype));

    for (uint32_t d = 0; d < t->n_dims; d++)
        n += snprintf(out + n, room - (size_t)n, "%s%llu", d ? "," : "",
                      (unsigned long long)t->dims[d]);
    n += snprintf(out + n, room - (size_t)n, "],\"data_offsets\":[%llu,%llu]}",
                  (unsigned long long)offset,
                  (unsigned long long)(offset + t->bytes));
    return (size_t)n;
}

/* Length and header; *text is malloc'd. */
static int make_header(const struct infer_safetensors_writer *w, char **text,
                       size_t *size)
{
    static const char first[] = "        {\"__metadata__\":{\"format\":\"pt\"}";
    const size_t room = sizeof(first) + w->n * ENTRY_MAX + 2 * ALIGNMENT;
    size_t n = sizeof(first) - 1;
    uint64_t offset = 0;
    char *out = malloc(room);

    if (!out)
        return INFER_ENOMEM;
    memcpy(out, first, n);
    for (size_t i = 0; i < w->n; i++) {
        n += print_tensor(out + n, room - n, &w->tensors[i]->t, offset);
        offset += w->tensors[i]->t.bytes;
    }
    out[n++] = '}';
    while (n % ALIGNMENT)
        out[n++] = ' ';
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        out[i] = (char)((uint64_t)(n - LENGTH_BYTES) >> 8 * i & 0xff);
    *text = out;
    *size = n;
    return 0;
}

int infer_safetensors_save(struct infer_safetensors_writer *w, const char *path,
                           struct infer_error *err)
{
    struct infer_replace r = {.fd = -1};
    char *header = NULL;
    size_t size = 0;
    int status;

    if (w->failed.status)
        return infer_fail(err, w->failed.status, "cannot save '%.100s': %s",
                          path, w->failed.text);
    status = make_header(w, &header, &size);
    if (status)
        return infer_fail(err, status, "out of memory");
    status = infer_replace_begin(&r, path, err);
    if (!status)
        status = infer_replace_write(&r, header, size, err);
    for (size_t i = 0; i < w->n && !status; i++)
        status = infer_replace_write(&r, w->tensors[i]->t.data,
                                     (size_t)w->tensors[i]->t.bytes, err);
    if (!status)
        status = infer_replace_commit(&r, err);
    infer_replace_abort(&r);
    free(header);
    return status;
}
