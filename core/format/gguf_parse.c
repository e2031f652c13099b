/*
 * gguf_parse.c - reads the bytes of a GGUF file, which it does not trust.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_keys
 *   n_keys times     str name | u32 type | value
 *   n_tensors times  str name | u32 n_dims | u64 dims[n_dims] | u32 type |
 *                    u64 offset
 *   padding to general.alignment | tensor data, each at its offset from here
 *
 * str is u64 length and bytes; an array is u32 type, u64 n, n values. Every
 * read goes through the cursor, which knows where the file ends, and every
 * count is compared with the bytes that are left before memory is asked for,
 * so a file costs at most a small multiple of its size. One pass, since a
 * vocabulary of 150,000 strings is the bulk of the work and pays for its
 * page faults once.
 */
#include "core/format/gguf_file.h"

#include "core/base/error.h"
#include "core/format/quant.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are read from the file as they lie there");

enum { SHOWN = 64, MIN_KEY = 8 + 4 + 1, MIN_TENSOR = 8 + 4 + 8 + 4 + 8 };

struct cursor {
    struct infer_gguf *g;
    size_t at; /* <= g->size */
    struct infer_error *err;
};

/* What a tensor's description says, until its data has been found. */
struct claim {
    struct infer_gguf_str name; /* in the file */
    uint64_t offset;            /* from the start of the data */
};

static const uint8_t type_bytes[] = {
    [INFER_GGUF_U8] = 1,    [INFER_GGUF_I8] = 1,   [INFER_GGUF_U16] = 2,
    [INFER_GGUF_I16] = 2,   [INFER_GGUF_U32] = 4,  [INFER_GGUF_I32] = 4,
    [INFER_GGUF_F32] = 4,   [INFER_GGUF_BOOL] = 1, [INFER_GGUF_STRING] = 0,
    [INFER_GGUF_ARRAY] = 0, [INFER_GGUF_U64] = 8,  [INFER_GGUF_I64] = 8,
    [INFER_GGUF_F64] = 8,
};

size_t infer_gguf_type_bytes(enum infer_gguf_type type)
{
    return type_bytes[type];
}

__attribute__((format(printf, 3, 4))) static int
fail(const struct cursor *c, int status, const char *fmt, ...)
{
    char text[160];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return infer_fail(c->err, status, "cannot load '%s': %s", c->g->label,
                      text);
}

/* ---- cursor -------------------------------------------------------------- */

static size_t left(const struct cursor *c)
{
    return c->g->size - c->at;
}

static const uint8_t *here(const struct cursor *c)
{
    return c->g->data + c->at;
}

/* n bytes, if there are so many. */
static bool take(struct cursor *c, void *out, size_t n)
{
    if (n > left(c))
        return false;
    memcpy(out, here(c), n);
    c->at += n;
    return true;
}

static bool skip(struct cursor *c, uint64_t n)
{
    if (n > left(c))
        return false;
    c->at += (size_t)n;
    return true;
}

static bool take_str(struct cursor *c, struct infer_gguf_str *s)
{
    uint64_t len;

    if (!take(c, &len, sizeof(len)) || len > left(c))
        return false;
    s->data = (const char *)here(c);
    s->len = len;
    return skip(c, len);
}

bool infer_gguf_name_ok(struct infer_gguf_str s, size_t max)
{
    if (s.len == 0 || s.len > max)
        return false;
    for (uint64_t i = 0; i < s.len; i++)
        if ((unsigned char)s.data[i] < ' ' || s.data[i] == 0x7f)
            return false;
    return true;
}

/* A name from the file, made fit for a message. */
static const char *show(char out[SHOWN + 1], struct infer_gguf_str s)
{
    const size_t n = s.len < SHOWN ? (size_t)s.len : SHOWN;

    for (size_t i = 0; i < n; i++)
        out[i] = s.data[i] >= ' ' && s.data[i] <= '~' ? s.data[i] : '?';
    out[n] = '\0';
    return out;
}

/* ---- keys ---------------------------------------------------------------- */

static int ends_inside(struct cursor *c, struct infer_gguf_str key)
{
    char k[SHOWN + 1];

    return fail(c, INFER_EFORMAT, "the file ends inside key '%s'",
                show(k, key));
}

static int read_bools(struct cursor *c, struct infer_gguf_str key, uint64_t n)
{
    char k[SHOWN + 1];
    const uint8_t *v = here(c);

    if (!skip(c, n))
        return ends_inside(c, key);
    for (uint64_t i = 0; i < n; i++)
        if (v[i] > 1)
            return fail(c, INFER_EFORMAT,
                        "key '%s' holds %u where a bool should be",
                        show(k, key), v[i]);
    return 0;
}

static int read_strs(struct cursor *c, struct infer_gguf_str key,
                     struct infer_gguf_kv *kv, uint64_t n)
{
    if (n > left(c) / sizeof(uint64_t))
        return ends_inside(c, key);
    kv->strs = malloc((n ? (size_t)n : 1) * sizeof(*kv->strs));
    if (!kv->strs)
        return fail(c, INFER_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < n; i++)
        if (!take_str(c, &kv->strs[i]))
            return ends_inside(c, key);
    return 0;
}

static int read_array(struct cursor *c, struct infer_gguf_str key,
                      struct infer_gguf_kv *kv)
{
    char k[SHOWN + 1];
    uint32_t type;
    uint64_t n;

    if (!take(c, &type, sizeof(type)) || !take(c, &n, sizeof(n)))
        return ends_inside(c, key);
    if (type == INFER_GGUF_ARRAY)
        return fail(c, INFER_EFORMAT, "key '%s' is an array of arrays",
                    show(k, key));
    if (type > INFER_GGUF_F64)
        return fail(c, INFER_EFORMAT, "key '%s' is an array of type %u",
                    show(k, key), type);
    if (type == INFER_GGUF_STRING)
        return read_strs(c, key, kv, n);
    if (type == INFER_GGUF_BOOL)
        return read_bools(c, key, n);
    if (n > left(c) / type_bytes[type] || !skip(c, n * type_bytes[type]))
        return ends_inside(c, key);
    return 0;
}

static int read_value(struct cursor *c, struct infer_gguf_str key,
                      struct infer_gguf_kv *kv)
{
    struct infer_gguf_str s;
    char k[SHOWN + 1];
    uint32_t type;

    if (!take(c, &type, sizeof(type)))
        return ends_inside(c, key);
    if (type > INFER_GGUF_F64)
        return fail(c, INFER_EFORMAT, "key '%s' has type %u", show(k, key),
                    type);
    kv->type = (enum infer_gguf_type)type;
    kv->value = here(c);
    if (type == INFER_GGUF_ARRAY)
        return read_array(c, key, kv);
    if (type == INFER_GGUF_BOOL)
        return read_bools(c, key, 1);
    if (type == INFER_GGUF_STRING ? !take_str(c, &s)
                                  : !skip(c, type_bytes[type]))
        return ends_inside(c, key);
    return 0;
}

static int read_key(struct cursor *c, struct infer_gguf_str *key, size_t i)
{
    struct infer_gguf_kv *kv = &c->g->keys[i];
    char k[SHOWN + 1];
    int status;

    if (!take_str(c, key))
        return fail(c, INFER_EFORMAT,
                    "the file ends inside the name of key %zu", i);
    if (!infer_gguf_name_ok(*key, INFER_GGUF_MAX_KEY))
        return fail(c, INFER_EFORMAT,
                    "key %zu has an empty, overlong or broken name", i);
    status = infer_names_add(&c->g->key_index, key->data, (size_t)key->len,
                             (uint32_t)i);
    if (status < 0)
        return fail(c, status, "out of memory");
    if (status)
        return fail(c, INFER_EFORMAT, "key '%s' is there twice", show(k, *key));
    status = read_value(c, *key, kv);
    if (!status)
        kv->bytes = (size_t)(here(c) - kv->value);
    return status;
}

/* ---- tensors ------------------------------------------------------------- */

const char *infer_gguf_measure(struct infer_gguf_tensor *t)
{
    const struct infer_qtype_info *info = infer_qtype_info(t->type);
    uint64_t n = 1;

    if (!info)
        return "has a type that is not supported";
    if (t->n_dims < 1 || t->n_dims > INFER_GGUF_MAX_DIMS)
        return "does not have 1 to 4 dimensions";
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] == 0)
            return "has an empty dimension";
        if (__builtin_mul_overflow(n, t->dims[i], &n))
            return "has dimensions whose product overflows";
    }
    if (t->dims[0] % info->block)
        return "has rows that are not whole blocks of its type";
    if (__builtin_mul_overflow(n / info->block, info->block_bytes, &t->bytes))
        return "has dimensions whose product overflows";
    return NULL;
}

static int check_tensor(struct cursor *c, const char *name,
                        struct infer_gguf_tensor *t)
{
    const struct infer_qtype_info *info = infer_qtype_info(t->type);
    const char *wrong = infer_gguf_measure(t);

    if (!wrong)
        return 0;
    return fail(c, info ? INFER_EFORMAT : INFER_EUNSUPPORTED,
                "tensor '%s' %s (type %u %s, rows of %llu)", name, wrong,
                t->type, info ? info->name : "unknown",
                (unsigned long long)t->dims[0]);
}

static int read_tensor(struct cursor *c, struct claim *claim, size_t i)
{
    struct infer_gguf_tensor *t = &c->g->tensors[i];
    char name[SHOWN + 1];
    int status;

    if (!take_str(c, &claim->name))
        return fail(c, INFER_EFORMAT,
                    "the file ends inside the name of tensor %zu", i);
    if (!infer_gguf_name_ok(claim->name, INFER_GGUF_MAX_NAME))
        return fail(c, INFER_EFORMAT,
                    "tensor %zu has an empty, overlong or broken name", i);
    show(name, claim->name);
    status = infer_names_add(&c->g->tensor_index, claim->name.data,
                             (size_t)claim->name.len, (uint32_t)i);
    if (status < 0)
        return fail(c, status, "out of memory");
    if (status)
        return fail(c, INFER_EFORMAT, "tensor '%s' is there twice", name);
    if (!take(c, &t->n_dims, sizeof(t->n_dims)))
        goto ends;
    if (t->n_dims < 1 || t->n_dims > INFER_GGUF_MAX_DIMS)
        return fail(c, INFER_EFORMAT, "tensor '%s' has %u dimensions", name,
                    t->n_dims);
    for (uint32_t d = 0; d < INFER_GGUF_MAX_DIMS; d++)
        t->dims[d] = 1;
    if (!take(c, t->dims, t->n_dims * sizeof(t->dims[0])) ||
        !take(c, &t->type, sizeof(t->type)) ||
        !take(c, &claim->offset, sizeof(claim->offset)))
        goto ends;
    return check_tensor(c, name, t);

ends:
    return fail(c, INFER_EFORMAT,
                "the file ends inside the description of tensor '%s'", name);
}

/* Bind a tensor to its bytes. */
static int place(struct cursor *c, const struct claim *claim,
                 struct infer_gguf_tensor *t, uint64_t start,
                 uint32_t alignment)
{
    char name[SHOWN + 1];

    if (claim->offset % alignment)
        return fail(c, INFER_EFORMAT,
                    "the data of tensor '%s' is not aligned to %u bytes",
                    show(name, claim->name), alignment);
    if (start > c->g->size || claim->offset > c->g->size - start ||
        t->bytes > c->g->size - start - claim->offset)
        return fail(c, INFER_EFORMAT,
                    "the data of tensor '%s' ends past the end of the file",
                    show(name, claim->name));
    t->data = c->g->data + start + claim->offset;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const struct infer_gguf_tensor *const *x = a, *const *y = b;
    const uintptr_t p = (uintptr_t)(*x)->data, q = (uintptr_t)(*y)->data;

    return (p > q) - (p < q);
}

static int overlap(struct cursor *c, const struct infer_gguf_tensor *a,
                   const struct infer_gguf_tensor *b)
{
    char x[SHOWN + 1], y[SHOWN + 1];

    return fail(c, INFER_EFORMAT, "the data of tensors '%s' and '%s' overlaps",
                show(x, (struct infer_gguf_str){a->name, strlen(a->name)}),
                show(y, (struct infer_gguf_str){b->name, strlen(b->name)}));
}

static int check_overlap(struct cursor *c)
{
    const size_t n = c->g->n_tensors;
    const struct infer_gguf_tensor **sorted = malloc(n * sizeof(*sorted));
    int status = 0;

    if (!sorted)
        return fail(c, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        sorted[i] = &c->g->tensors[i];
    qsort(sorted, n, sizeof(*sorted), by_data);
    for (size_t i = 1; i < n && !status; i++) {
        const struct infer_gguf_tensor *a = sorted[i - 1], *b = sorted[i];

        if ((uintptr_t)b->data - (uintptr_t)a->data < a->bytes)
            status = overlap(c, a, b);
    }
    free(sorted);
    return status;
}

/* ---- the whole file ------------------------------------------------------ */

static int read_header(struct cursor *c)
{
    uint64_t n_tensors, n_keys;
    uint32_t version;
    char magic[4];

    if (!take(c, magic, sizeof(magic)) || memcmp(magic, "GGUF", sizeof(magic)))
        return fail(c, INFER_EFORMAT, "not a GGUF file");
    if (!take(c, &version, sizeof(version)))
        goto ends;
    if (version != 0 && (version & 0xffffu) == 0)
        return fail(c, INFER_EUNSUPPORTED,
                    "its numbers are in big-endian byte order");
    /* version 2 differs in nothing but the promise about byte order */
    if (version != 2 && version != INFER_GGUF_VERSION)
        return fail(c, INFER_EUNSUPPORTED, "GGUF version %u is not supported",
                    version);
    if (!take(c, &n_tensors, sizeof(n_tensors)) ||
        !take(c, &n_keys, sizeof(n_keys)))
        goto ends;
    if (n_keys > INFER_GGUF_MAX_COUNT || n_keys > left(c) / MIN_KEY)
        return fail(c, INFER_EFORMAT, "%llu keys are too many",
                    (unsigned long long)n_keys);
    if (n_tensors > INFER_GGUF_MAX_COUNT || n_tensors > left(c) / MIN_TENSOR)
        return fail(c, INFER_EFORMAT, "%llu tensors are too many",
                    (unsigned long long)n_tensors);
    c->g->n_keys = (size_t)n_keys;
    c->g->n_tensors = (size_t)n_tensors;
    return 0;

ends:
    return fail(c, INFER_EFORMAT, "the file ends inside its header");
}

static int read_alignment(struct cursor *c, uint32_t *alignment)
{
    static const char key[] = "general.alignment";
    const struct infer_gguf *g = c->g;
    const int64_t i = infer_names_find(&g->key_index, key, sizeof(key) - 1);

    *alignment = INFER_GGUF_ALIGNMENT;
    if (i < 0)
        return 0;
    if (!infer_gguf_to_u32(g->keys[i].type, g->keys[i].value, alignment) ||
        !infer_gguf_alignment_ok(*alignment))
        return fail(c, INFER_EFORMAT,
                    "key '%s' is not a power of two of at least 8", key);
    return 0;
}

/* Names get their final NUL in one block of their own. */
static int copy_names(struct cursor *c, const struct infer_gguf_str *keys,
                      const struct claim *claims)
{
    struct infer_gguf *g = c->g;
    size_t total = 1;
    char *p;

    for (size_t i = 0; i < g->n_keys; i++)
        total += (size_t)keys[i].len + 1;
    for (size_t i = 0; i < g->n_tensors; i++)
        total += (size_t)claims[i].name.len + 1;
    g->names = p = calloc(total, 1);
    if (!p)
        return fail(c, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < g->n_keys; i++) {
        g->keys[i].name = memcpy(p, keys[i].data, (size_t)keys[i].len);
        p += keys[i].len + 1;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        g->tensors[i].name =
            memcpy(p, claims[i].name.data, (size_t)claims[i].name.len);
        p += claims[i].name.len + 1;
    }
    return 0;
}

static int read_all(struct cursor *c, struct infer_gguf_str *keys,
                    struct claim *claims)
{
    struct infer_gguf *g = c->g;
    uint32_t alignment = 0;
    uint64_t start;
    int status = 0;

    for (size_t i = 0; i < g->n_keys && !status; i++)
        status = read_key(c, &keys[i], i);
    for (size_t i = 0; i < g->n_tensors && !status; i++)
        status = read_tensor(c, &claims[i], i);
    if (!status)
        status = read_alignment(c, &alignment);
    if (!status)
        status = copy_names(c, keys, claims);
    if (status)
        return status;
    start = ((uint64_t)c->at + alignment - 1) & ~(uint64_t)(alignment - 1);
    for (size_t i = 0; i < g->n_tensors && !status; i++)
        status = place(c, &claims[i], &g->tensors[i], start, alignment);
    if (!status && g->n_tensors)
        status = check_overlap(c);
    return status;
}

int infer_gguf_parse(struct infer_gguf *g, struct infer_error *err)
{
    struct cursor c = {g, 0, err};
    struct infer_gguf_str *keys = NULL;
    struct claim *claims = NULL;
    int status = read_header(&c);

    if (status)
        return status;
    g->keys = calloc(g->n_keys + 1, sizeof(*g->keys));
    g->tensors = calloc(g->n_tensors + 1, sizeof(*g->tensors));
    keys = calloc(g->n_keys + 1, sizeof(*keys));
    claims = calloc(g->n_tensors + 1, sizeof(*claims));
    if (g->keys && g->tensors && keys && claims)
        status = read_all(&c, keys, claims);
    else
        status = fail(&c, INFER_ENOMEM, "out of memory");
    free(keys);
    free(claims);
    return status;
}
