/*
 * gguf_write.c - builds GGUF files.
 *
 * Metadata is encoded as it is set, so that copying a key from an open file is
 * copying its bytes; only tensor data stays with the caller. What is written
 * opens again in gguf_parse.c: the same limits are checked here. Tensors lie
 * in the order they were added, each padded to the alignment, the last too,
 * as other writers do: a file that is read and written again is the same.
 */
#include "core/format/gguf_file.h"

#include "core/base/error.h"
#include "core/format/quant.h"
#include "core/format/replace.h"

#include <stdlib.h>
#include <string.h>

static const char alignment_key[] = "general.alignment";

struct buffer {
    uint8_t *data;
    size_t len, cap;
};

/* A copy of a name, for the indices to point at. */
struct held {
    struct held *next;
    char text[];
};

struct infer_gguf_writer {
    struct buffer kv; /* encoded keys */
    size_t n_keys;
    uint32_t alignment;
    struct infer_gguf_tensor *tensors; /* [cap_tensors], names are held */
    size_t n_tensors, cap_tensors;
    struct infer_names key_index, tensor_index;
    struct held *held;
    struct infer_error failed; /* the first failure, status 0: none */
};

/* Remember the first failure; `what` follows the quoted name. */
static void stick(struct infer_gguf_writer *w, const char *name,
                  const char *what)
{
    if (w->failed.status == 0)
        infer_fail(&w->failed, INFER_EINVAL, "'%.100s' %s", name, what);
}

static void no_memory(struct infer_gguf_writer *w)
{
    if (w->failed.status == 0)
        infer_fail(&w->failed, INFER_ENOMEM, "out of memory");
}

/* ---- bytes --------------------------------------------------------------- */

static int buffer_put(struct buffer *b, const void *data, size_t n)
{
    if (n > b->cap - b->len) {
        const size_t cap = (b->len + n) * 2;
        uint8_t *p = realloc(b->data, cap);

        if (!p)
            return INFER_ENOMEM;
        b->data = p;
        b->cap = cap;
    }
    if (n)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    return 0;
}

static void put(struct infer_gguf_writer *w, const void *data, size_t n)
{
    if (w->failed.status == 0 && buffer_put(&w->kv, data, n))
        no_memory(w);
}

static void put_u32(struct infer_gguf_writer *w, uint32_t v)
{
    put(w, &v, sizeof(v));
}

static void put_str(struct infer_gguf_writer *w, const char *s, uint64_t len)
{
    put(w, &len, sizeof(len));
    put(w, s, (size_t)len);
}

/* Hold a name and add it to an index. NULL: failed, and said so. */
static const char *hold(struct infer_gguf_writer *w, struct infer_names *index,
                        const char *name, size_t max)
{
    const size_t len = strlen(name);
    struct held *h;
    int status;

    if (w->failed.status)
        return NULL;
    if (!infer_gguf_name_ok((struct infer_gguf_str){name, len}, max)) {
        stick(w, name, "cannot be a name");
        return NULL;
    }
    if (index->n >= INFER_GGUF_MAX_COUNT) {
        stick(w, name, "is one name too many");
        return NULL;
    }
    h = malloc(sizeof(*h) + len + 1);
    if (!h) {
        no_memory(w);
        return NULL;
    }
    memcpy(h->text, name, len + 1);
    h->next = w->held;
    w->held = h;
    status = infer_names_add(index, h->text, len, (uint32_t)index->n);
    if (status < 0)
        no_memory(w);
    else if (status)
        stick(w, name, "is set twice");
    return status ? NULL : h->text;
}

/* Start a key; its value follows. */
static bool put_key(struct infer_gguf_writer *w, const char *key,
                    enum infer_gguf_type type)
{
    if (!hold(w, &w->key_index, key, INFER_GGUF_MAX_KEY))
        return false;
    put_str(w, key, strlen(key));
    put_u32(w, type);
    w->n_keys++;
    return true;
}

static void set_alignment(struct infer_gguf_writer *w, uint32_t alignment)
{
    if (!infer_gguf_alignment_ok(alignment))
        stick(w, alignment_key, "is not a power of two of at least 8");
    w->alignment = alignment;
}

/* ---- metadata ------------------------------------------------------------ */

int infer_gguf_writer_create(struct infer_gguf_writer **w,
                             struct infer_error *err)
{
    struct infer_gguf_writer *made = calloc(1, sizeof(*made));

    if (!made)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    made->alignment = INFER_GGUF_ALIGNMENT;
    *w = made;
    return 0;
}

void infer_gguf_writer_free(struct infer_gguf_writer *w)
{
    if (!w)
        return;
    for (struct held *h = w->held, *next; h; h = next) {
        next = h->next;
        free(h);
    }
    infer_names_release(&w->key_index);
    infer_names_release(&w->tensor_index);
    free(w->tensors);
    free(w->kv.data);
    free(w);
}

void infer_gguf_set_u32(struct infer_gguf_writer *w, const char *key,
                        uint32_t v)
{
    if (!put_key(w, key, INFER_GGUF_U32))
        return;
    put_u32(w, v);
    if (strcmp(key, alignment_key) == 0)
        set_alignment(w, v);
}

void infer_gguf_set_f32(struct infer_gguf_writer *w, const char *key, float v)
{
    if (put_key(w, key, INFER_GGUF_F32))
        put(w, &v, sizeof(v));
}

void infer_gguf_set_bool(struct infer_gguf_writer *w, const char *key, bool v)
{
    const uint8_t byte = v;

    if (put_key(w, key, INFER_GGUF_BOOL))
        put(w, &byte, 1);
}

void infer_gguf_set_str(struct infer_gguf_writer *w, const char *key,
                        const char *v)
{
    if (put_key(w, key, INFER_GGUF_STRING))
        put_str(w, v, strlen(v));
}

static bool put_array(struct infer_gguf_writer *w, const char *key,
                      enum infer_gguf_type type, uint64_t n)
{
    if (!put_key(w, key, INFER_GGUF_ARRAY))
        return false;
    put_u32(w, type);
    put(w, &n, sizeof(n));
    return true;
}

void infer_gguf_set_array(struct infer_gguf_writer *w, const char *key,
                          enum infer_gguf_type type, const void *v, size_t n)
{
    if (type > INFER_GGUF_F64 || infer_gguf_type_bytes(type) == 0)
        stick(w, key, "is an array of a type without a fixed width");
    else if (put_array(w, key, type, n))
        put(w, v, n * infer_gguf_type_bytes(type));
}

void infer_gguf_set_strs(struct infer_gguf_writer *w, const char *key,
                         const struct infer_gguf_str *v, size_t n)
{
    if (!put_array(w, key, INFER_GGUF_STRING, n))
        return;
    for (size_t i = 0; i < n; i++)
        put_str(w, v[i].data, v[i].len);
}

void infer_gguf_set_all(struct infer_gguf_writer *w, const struct infer_gguf *g)
{
    infer_gguf_set_some(w, g, "");
}

void infer_gguf_set_some(struct infer_gguf_writer *w,
                         const struct infer_gguf *g, const char *prefix)
{
    for (size_t i = 0; i < g->n_keys; i++) {
        const struct infer_gguf_kv *kv = &g->keys[i];
        uint32_t alignment;

        if (strncmp(kv->name, prefix, strlen(prefix)) != 0 ||
            infer_names_find(&w->key_index, kv->name, strlen(kv->name)) >= 0 ||
            !put_key(w, kv->name, kv->type))
            continue;
        put(w, kv->value, kv->bytes);
        if (strcmp(kv->name, alignment_key) == 0 &&
            infer_gguf_to_u32(kv->type, kv->value, &alignment))
            set_alignment(w, alignment);
    }
}

/* ---- tensors ------------------------------------------------------------- */

/* The next free tensor, NULL: out of memory. */
static struct infer_gguf_tensor *new_tensor(struct infer_gguf_writer *w)
{
    if (w->n_tensors == w->cap_tensors) {
        const size_t cap = w->cap_tensors ? 2 * w->cap_tensors : 64;
        struct infer_gguf_tensor *p = realloc(w->tensors, cap * sizeof(*p));

        if (!p) {
            no_memory(w);
            return NULL;
        }
        w->tensors = p;
        w->cap_tensors = cap;
    }
    return &w->tensors[w->n_tensors];
}

void infer_gguf_add_tensor(struct infer_gguf_writer *w, const char *name,
                           uint32_t type, uint32_t n_dims, const uint64_t *dims,
                           const void *data)
{
    const char *held = hold(w, &w->tensor_index, name, INFER_GGUF_MAX_NAME);
    struct infer_gguf_tensor *t = held ? new_tensor(w) : NULL;
    const char *wrong = "has no data";

    if (!t)
        return;
    *t = (struct infer_gguf_tensor){held, type, n_dims, {1, 1, 1, 1}, data, 0};
    for (uint32_t i = 0; i < n_dims && i < INFER_GGUF_MAX_DIMS; i++)
        t->dims[i] = dims[i];
    if (data)
        wrong = infer_gguf_measure(t);
    if (wrong)
        stick(w, name, wrong);
    else
        w->n_tensors++;
}

/* ---- saving -------------------------------------------------------------- */

static uint64_t padding(const struct infer_gguf_writer *w, uint64_t n)
{
    return (w->alignment - n % w->alignment) % w->alignment;
}

static int put_header(const struct infer_gguf_writer *w, struct buffer *b)
{
    const uint32_t version = INFER_GGUF_VERSION;
    const uint64_t counts[2] = {w->n_tensors, w->n_keys};
    uint64_t offset = 0;
    int bad = buffer_put(b, "GGUF", 4);

    bad |= buffer_put(b, &version, sizeof(version));
    bad |= buffer_put(b, counts, sizeof(counts));
    bad |= buffer_put(b, w->kv.data, w->kv.len);
    for (size_t i = 0; i < w->n_tensors && !bad; i++) {
        const struct infer_gguf_tensor *t = &w->tensors[i];
        const uint64_t len = strlen(t->name);

        bad |= buffer_put(b, &len, sizeof(len));
        bad |= buffer_put(b, t->name, (size_t)len);
        bad |= buffer_put(b, &t->n_dims, sizeof(t->n_dims));
        bad |= buffer_put(b, t->dims, t->n_dims * sizeof(t->dims[0]));
        bad |= buffer_put(b, &t->type, sizeof(t->type));
        bad |= buffer_put(b, &offset, sizeof(offset));
        offset += t->bytes + padding(w, t->bytes);
    }
    return bad ? INFER_ENOMEM : 0;
}

static int pad(const struct infer_gguf_writer *w, struct infer_replace *r,
               uint64_t n, struct infer_error *err)
{
    static const uint8_t zeros[4096];
    uint64_t todo = padding(w, n);
    int status = 0;

    while (todo > 0 && !status) {
        const size_t part = todo < sizeof(zeros) ? (size_t)todo : sizeof(zeros);

        status = infer_replace_write(r, zeros, part, err);
        todo -= part;
    }
    return status;
}

static int write_all(const struct infer_gguf_writer *w, struct infer_replace *r,
                     const struct buffer *header, struct infer_error *err)
{
    int status = infer_replace_write(r, header->data, header->len, err);

    if (!status && w->n_tensors)
        status = pad(w, r, header->len, err);
    for (size_t i = 0; i < w->n_tensors && !status; i++) {
        const struct infer_gguf_tensor *t = &w->tensors[i];

        status = infer_replace_write(r, t->data, (size_t)t->bytes, err);
        if (!status)
            status = pad(w, r, t->bytes, err);
    }
    return status;
}

int infer_gguf_save(struct infer_gguf_writer *w, const char *path,
                    struct infer_error *err)
{
    struct buffer header = {0};
    struct infer_replace r = {.fd = -1};
    int status;

    if (w->failed.status)
        return infer_fail(err, w->failed.status, "cannot save '%.100s': %s",
                          path, w->failed.text);
    status = put_header(w, &header);
    if (status) {
        infer_fail(err, status, "out of memory");
        goto out;
    }
    status = infer_replace_begin(&r, path, err);
    if (!status)
        status = write_all(w, &r, &header, err);
    if (!status)
        status = infer_replace_commit(&r, err);
    infer_replace_abort(&r);
out:
    free(header.data);
    return status;
}
