/*
 * safetensors_parse.c - from bytes to struct infer_safetensors.
 *
 * The header is JSON, but of one fixed form: objects of known keys, strings,
 * arrays of unsigned integers. So it is read by this small strict parser (core/
 * knows no JSON library): no recursion, each byte looked at once, whatever else
 * JSON may be is refused. Every size is compared with what is left before it is
 * used.
 */
#include "core/format/safetensors_file.h"

#include "core/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, SHOWN = 64, KEY_MAX = 24 };

struct parser {
    struct infer_safetensors *s;
    const char *start, *p, *end; /* of the header */
    char *next_name;             /* free room in s->names */
    struct infer_error *err;
};

/* Where the data of a tensor is said to be. */
struct range {
    uint64_t begin, end;
};

/* ---- complaints ---------------------------------------------------------- */

static int fail(const struct parser *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(const struct parser *c, int status, const char *fmt, ...)
{
    char text[160];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return infer_fail(c->err, status, "cannot load '%s': %s", c->s->label,
                      text);
}

static int malformed(const struct parser *c, const char *what)
{
    return fail(c, INFER_EFORMAT, "byte %zu of its header: expected %s",
                (size_t)(c->p - c->start), what);
}

/* A name from the file, made fit for a message. */
static const char *show(char out[SHOWN + 1], const char *name)
{
    size_t n = 0;

    for (; name[n] && n < SHOWN; n++)
        out[n] = name[n] >= ' ' && name[n] <= '~' ? name[n] : '?';
    out[n] = '\0';
    return out;
}

/* ---- JSON ---------------------------------------------------------------- */

static void skip_space(struct parser *c)
{
    while (c->p < c->end && memchr(" \t\r\n", *c->p, 4))
        c->p++;
}

/* Take a punctuation mark if it is next. */
static bool take(struct parser *c, char mark)
{
    skip_space(c);
    if (c->p == c->end || *c->p != mark)
        return false;
    c->p++;
    return true;
}

/*
 * A string into out, at most room - 1 bytes, NUL-terminated; it never takes
 * more bytes than its source. Of escapes only those of one character are read:
 * nobody writes others, since a name has no control characters.
 */
static int read_string(struct parser *c, char *out, size_t room)
{
    size_t n = 0;

    if (!take(c, '"'))
        return malformed(c, "a string");
    while (c->p < c->end && *c->p != '"') {
        if (*c->p == '\\' && (++c->p == c->end || !memchr("\"\\/", *c->p, 3)))
            return malformed(c, "an escape that a name can have");
        if ((unsigned char)*c->p < ' ' || *c->p == 0x7f)
            return malformed(c, "no control character");
        if (n + 1 >= room)
            return malformed(c, "a shorter string");
        out[n++] = *c->p++;
    }
    if (c->p == c->end)
        return malformed(c, "the end of a string");
    c->p++;
    out[n] = '\0';
    return 0;
}

/* Pass over a string of any length and any escapes. */
static int skip_string(struct parser *c)
{
    if (!take(c, '"'))
        return malformed(c, "a string");
    while (c->p < c->end && *c->p != '"') {
        if ((unsigned char)*c->p < ' ')
            return malformed(c, "no control character");
        c->p += *c->p == '\\' && c->p + 1 < c->end ? 2 : 1;
    }
    if (c->p == c->end)
        return malformed(c, "the end of a string");
    c->p++;
    return 0;
}

static int read_u64(struct parser *c, uint64_t *out)
{
    const char *first;
    uint64_t v = 0;

    skip_space(c);
    for (first = c->p; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*c->p - '0'), &v))
            return malformed(c, "a smaller number");
    if (c->p == first)
        return malformed(c, "a number");
    if (*first == '0' && c->p - first > 1)
        return malformed(c, "a number without leading zeros");
    *out = v;
    return 0;
}

/* [1, 2, 3] */
static int read_numbers(struct parser *c, uint64_t *out, uint32_t max,
                        uint32_t *n)
{
    *n = 0;
    if (!take(c, '['))
        return malformed(c, "'['");
    if (take(c, ']'))
        return 0;
    do {
        int status;

        if (*n == max)
            return malformed(c, "fewer numbers");
        status = read_u64(c, &out[(*n)++]);
        if (status)
            return status;
    } while (take(c, ','));
    return take(c, ']') ? 0 : malformed(c, "',' or ']'");
}

/* ---- tensors ------------------------------------------------------------- */

static int read_dtype(struct parser *c, struct infer_st_tensor *t)
{
    char name[KEY_MAX], shown[SHOWN + 1], which[SHOWN + 1];
    const int status = read_string(c, name, sizeof(name));

    for (int i = 0; i < INFER_ST_N_DTYPES && !status; i++)
        if (strcmp(name, infer_st_dtype_name((enum infer_st_dtype)i)) == 0) {
            t->dtype = (enum infer_st_dtype)i;
            return 0;
        }
    if (status)
        return status;
    return fail(c, INFER_EUNSUPPORTED, "tensor '%s' has the unknown dtype '%s'",
                show(which, t->name), show(shown, name));
}

/* One of the three keys of a tensor; bit i of *seen: it came. */
static int read_field(struct parser *c, struct infer_st_tensor *t,
                      struct range *range, unsigned *seen)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    uint64_t offsets[2];
    char key[KEY_MAX], shown[SHOWN + 1];
    uint32_t n;
    int status = read_string(c, key, sizeof(key));
    unsigned k = 0;

    if (status)
        return status;
    while (k < 3 && strcmp(key, keys[k]) != 0)
        k++;
    if (k == 3 || *seen & 1u << k)
        return fail(c, INFER_EFORMAT, "tensor '%s' has '%s' %s",
                    show(shown, t->name), key,
                    k == 3 ? "which is not known" : "twice");
    *seen |= 1u << k;
    if (!take(c, ':'))
        return malformed(c, "':'");
    if (k == 0)
        return read_dtype(c, t);
    if (k == 1)
        return read_numbers(c, t->dims, INFER_ST_MAX_DIMS, &t->n_dims);
    status = read_numbers(c, offsets, 2, &n);
    if (!status && n != 2)
        status = malformed(c, "two data_offsets");
    if (!status)
        *range = (struct range){offsets[0], offsets[1]};
    return status;
}

/* The data of a tensor: its place is believed if it is inside, and of the size
 * that type and shape make. */
static int place(struct parser *c, struct infer_st_tensor *t,
                 const struct range *range)
{
    const uint64_t room =
        (uint64_t)(c->s->data + c->s->size - (const uint8_t *)c->end);
    char shown[SHOWN + 1];

    for (uint32_t d = t->n_dims; d < INFER_ST_MAX_DIMS; d++)
        t->dims[d] = 1;
    if (!infer_st_measure(t))
        return fail(c, INFER_EFORMAT, "the shape of tensor '%s' overflows",
                    show(shown, t->name));
    if (range->begin > range->end || range->end > room)
        return fail(c, INFER_EFORMAT,
                    "the data of tensor '%s' ends past the end of the file",
                    show(shown, t->name));
    if (range->end - range->begin != t->bytes)
        return fail(c, INFER_EFORMAT,
                    "tensor '%s' has %llu bytes for a shape of %llu",
                    show(shown, t->name),
                    (unsigned long long)(range->end - range->begin),
                    (unsigned long long)t->bytes);
    t->data = (const uint8_t *)c->end + range->begin;
    return 0;
}

static int grow(struct parser *c)
{
    struct infer_safetensors *s = c->s;
    const size_t cap = s->cap ? 2 * s->cap : 64;
    struct infer_st_tensor *p;

    if (s->n == INFER_ST_MAX_TENSORS)
        return fail(c, INFER_EFORMAT, "it has more than %d tensors",
                    INFER_ST_MAX_TENSORS);
    p = realloc(s->tensors, cap * sizeof(*p));
    if (!p)
        return fail(c, INFER_ENOMEM, "out of memory");
    s->tensors = p;
    s->cap = cap;
    return 0;
}

/* What follows the name of a tensor. */
static int read_tensor(struct parser *c, const char *name)
{
    struct infer_safetensors *s = c->s;
    struct infer_st_tensor t = {.name = name};
    struct range range = {0, 0};
    char shown[SHOWN + 1];
    unsigned seen = 0;
    int status = s->n == s->cap ? grow(c) : 0;

    if (status)
        return status;
    if (!take(c, '{'))
        return malformed(c, "'{'");
    do
        status = read_field(c, &t, &range, &seen);
    while (!status && take(c, ','));
    if (!status && !take(c, '}'))
        return malformed(c, "',' or '}'");
    if (!status && seen != 7)
        return fail(c, INFER_EFORMAT,
                    "tensor '%s' lacks dtype, shape or data_offsets",
                    show(shown, name));
    if (!status)
        status = place(c, &t, &range);
    if (!status)
        s->tensors[s->n++] = t;
    return status;
}

/* {"key": "text", ...}: checked and passed over */
static int read_metadata(struct parser *c)
{
    int status;

    if (!take(c, '{'))
        return malformed(c, "'{'");
    if (take(c, '}'))
        return 0;
    do {
        status = skip_string(c);
        if (!status && !take(c, ':'))
            status = malformed(c, "':'");
        if (!status)
            status = skip_string(c);
    } while (!status && take(c, ','));
    if (!status && !take(c, '}'))
        status = malformed(c, "',' or '}'");
    return status;
}

static int read_entry(struct parser *c, bool *metadata)
{
    char *name = c->next_name;
    int status = read_string(c, name, INFER_ST_MAX_NAME + 1);

    if (status)
        return status;
    if (!take(c, ':'))
        return malformed(c, "':'");
    if (strcmp(name, "__metadata__") == 0) {
        if (*metadata)
            return fail(c, INFER_EFORMAT, "'__metadata__' is there twice");
        *metadata = true;
        return read_metadata(c);
    }
    if (*name == '\0')
        return malformed(c, "a name that is not empty");
    c->next_name += strlen(name) + 1;
    return read_tensor(c, name);
}

static int read_header(struct parser *c)
{
    bool metadata = false;
    int status = 0;

    if (c->p == c->end || *c->p != '{')
        return malformed(c, "'{'");
    c->p++;
    if (!take(c, '}')) {
        do
            status = read_entry(c, &metadata);
        while (!status && take(c, ','));
        if (!status && !take(c, '}'))
            status = malformed(c, "',' or '}'");
    }
    skip_space(c); /* padding */
    if (!status && c->p != c->end)
        status = malformed(c, "nothing more");
    return status;
}

/* ---- the whole ----------------------------------------------------------- */

static int by_data(const void *a, const void *b)
{
    const struct infer_st_tensor *x = a, *y = b;
    const uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;

    if (p != q)
        return p < q ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int check_cover(struct parser *c)
{
    const struct infer_safetensors *s = c->s;
    const uint8_t *at = (const uint8_t *)c->end;
    char shown[SHOWN + 1];

    if (s->n)
        qsort(s->tensors, s->n, sizeof(*s->tensors), by_data);
    for (size_t i = 0; i < s->n; i++) {
        const struct infer_st_tensor *t = &s->tensors[i];

        if ((const uint8_t *)t->data != at)
            return fail(c, INFER_EFORMAT,
                        "the data of tensor '%s' %s the tensor before it",
                        show(shown, t->name),
                        (const uint8_t *)t->data < at ? "overlaps"
                                                      : "does not follow");
        at += t->bytes;
    }
    if (at != s->data + s->size)
        return fail(c, INFER_EFORMAT,
                    "%zu bytes at its end belong to no tensor",
                    (size_t)(s->data + s->size - at));
    return 0;
}

static int make_index(struct parser *c)
{
    struct infer_safetensors *s = c->s;
    char shown[SHOWN + 1];

    for (size_t i = 0; i < s->n; i++) {
        const char *name = s->tensors[i].name;
        const int status =
            infer_names_add(&s->index, name, strlen(name), (uint32_t)i);

        if (status < 0)
            return fail(c, status, "out of memory");
        if (status)
            return fail(c, INFER_EFORMAT, "tensor '%s' is there twice",
                        show(shown, name));
    }
    return 0;
}

int infer_safetensors_parse(struct infer_safetensors *s,
                            struct infer_error *err)
{
    struct parser c = {.s = s, .err = err};
    uint64_t n = 0;
    int status;

    if (s->size < LENGTH_BYTES + 2)
        return fail(&c, INFER_EFORMAT, "not a safetensors file");
    for (int i = 0; i < LENGTH_BYTES; i++)
        n |= (uint64_t)s->data[i] << 8 * i;
    if (n < 2 || n > INFER_ST_MAX_HEADER || n > s->size - LENGTH_BYTES)
        return fail(&c, INFER_EFORMAT,
                    "not a safetensors file: a header of %llu bytes",
                    (unsigned long long)n);
    c.start = c.p = (const char *)s->data + LENGTH_BYTES;
    c.end = c.start + n;
    /* a name and its NUL take no more than the quoted name */
    s->names = c.next_name = malloc((size_t)n + INFER_ST_MAX_NAME + 1);
    if (!s->names)
        return fail(&c, INFER_ENOMEM, "out of memory");
    status = read_header(&c);
    if (!status)
        status = check_cover(&c);
    return status ? status : make_index(&c);
}
