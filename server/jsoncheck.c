/*
 * jsoncheck.c - is this text strictly JSON?
 *
 * cJSON is lenient where a server must not be: it takes trailing garbage,
 * `01`, invalid UTF-8 and duplicate keys (the first wins here, the last in the
 * proxy before us), and cuts strings at \u0000. This scanner goes first and
 * refuses all of them with the byte where it happened; what passes, cJSON
 * reads without surprises. It builds nothing, and its recursion is bounded.
 *
 * Duplicates: each key's hash (of the decoded text, so "a" equals "\u0061")
 * goes on a stack; when an object closes, its part is sorted and neighbours
 * compared. A 64-bit collision costs whoever made it a 400.
 */
#include "server/jsoncheck.h"
#include "server/jsonout.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct key {
    uint64_t hash;
    size_t at; /* byte of its opening quote */
};

struct scan {
    const char *s;
    size_t n, at;
    int depth;
    struct key *keys; /* of the objects open now */
    size_t n_keys, cap_keys;
    size_t n_values;
    struct infer_error *err;
};

static int value(struct scan *p);

static int fail_at(struct scan *p, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_at(struct scan *p, size_t at, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (!p->err)
        return INFER_EINVAL;
    p->err->status = INFER_EINVAL;
    n = snprintf(p->err->text, sizeof(p->err->text), "byte %zu: ", at);
    va_start(ap, fmt);
    vsnprintf(p->err->text + n, sizeof(p->err->text) - (size_t)n, fmt, ap);
    va_end(ap);
    return INFER_EINVAL;
}

static int peek(const struct scan *p)
{
    return p->at < p->n ? (unsigned char)p->s[p->at] : -1;
}

static void spaces(struct scan *p)
{
    while (p->at < p->n && strchr(" \t\r\n", p->s[p->at]) && p->s[p->at])
        p->at++;
}

static int unexpected(struct scan *p, const char *wanted)
{
    const int c = peek(p);

    if (c < 0)
        return fail_at(p, p->at, "the text ends where %s is expected", wanted);
    if (c > 0x20 && c < 0x7f)
        return fail_at(p, p->at, "'%c' where %s is expected", c, wanted);
    return fail_at(p, p->at, "0x%02x where %s is expected", c, wanted);
}

static int hex4(struct scan *p, unsigned *out)
{
    unsigned v = 0;

    for (int i = 0; i < 4; i++) {
        const int c = peek(p);

        if (c >= '0' && c <= '9')
            v = v << 4 | (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v << 4 | (unsigned)((c | 32) - 'a' + 10);
        else
            return unexpected(p, "a hexadecimal digit");
        p->at++;
    }
    *out = v;
    return 0;
}

/* One step of FNV-1a over the bytes of a code point. */
static void hash_add(uint64_t *h, unsigned c)
{
    *h = (*h ^ c) * 0x100000001b3u;
}

static void hash_code_point(uint64_t *h, unsigned c)
{
    if (c < 0x80) {
        hash_add(h, c);
    } else if (c < 0x800) {
        hash_add(h, 0xc0 | c >> 6);
        hash_add(h, 0x80 | (c & 63));
    } else if (c < 0x10000) {
        hash_add(h, 0xe0 | c >> 12);
        hash_add(h, 0x80 | (c >> 6 & 63));
        hash_add(h, 0x80 | (c & 63));
    } else {
        hash_add(h, 0xf0 | c >> 18);
        hash_add(h, 0x80 | (c >> 12 & 63));
        hash_add(h, 0x80 | (c >> 6 & 63));
        hash_add(h, 0x80 | (c & 63));
    }
}

/* After "\u"; a high surrogate must be followed by its low one. */
static int escape_u(struct scan *p, uint64_t *h)
{
    const size_t start = p->at - 2;
    unsigned hi, lo;
    int rc = hex4(p, &hi);

    if (rc)
        return rc;
    if (hi == 0)
        return fail_at(p, start, "\\u0000 in a string is not supported");
    if (hi >= 0xdc00 && hi <= 0xdfff)
        return fail_at(p, start, "lone surrogate \\u%04x", hi);
    if (hi < 0xd800 || hi > 0xdbff) {
        hash_code_point(h, hi);
        return 0;
    }
    if (p->n - p->at < 6 || p->s[p->at] != '\\' || p->s[p->at + 1] != 'u')
        return fail_at(p, start, "lone surrogate \\u%04x", hi);
    p->at += 2;
    rc = hex4(p, &lo);
    if (rc)
        return rc;
    if (lo < 0xdc00 || lo > 0xdfff)
        return fail_at(p, start, "lone surrogate \\u%04x", hi);
    hash_code_point(h, 0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00));
    return 0;
}

static int escape(struct scan *p, uint64_t *h)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const int c = peek(p);
    const char *at = c > 0 ? strchr(from, c) : NULL;

    if (c == 'u') {
        p->at++;
        return escape_u(p, h);
    }
    if (!at)
        return unexpected(p, "an escape (\" \\ / b f n r t u)");
    hash_add(h, (unsigned char)to[at - from]);
    p->at++;
    return 0;
}

/* At the opening quote. *h becomes the hash of the decoded text. */
static int string(struct scan *p, uint64_t *h)
{
    const size_t start = p->at++;

    *h = 0xcbf29ce484222325u;
    for (;;) {
        const int c = peek(p);
        size_t len;
        int rc;

        if (c < 0)
            return fail_at(p, start, "this string never ends");
        if (c == '"') {
            p->at++;
            return 0;
        }
        if (c < 0x20)
            return fail_at(p, p->at, "raw control character 0x%02x", c);
        if (c == '\\') {
            p->at++;
            rc = escape(p, h);
            if (rc)
                return rc;
            continue;
        }
        len = utf8_char(p->s + p->at, p->n - p->at);
        if (len == 0)
            return fail_at(p, p->at, "not UTF-8");
        while (len--)
            hash_add(h, (unsigned char)p->s[p->at++]);
    }
}

static bool digits(struct scan *p)
{
    const size_t start = p->at;

    while (peek(p) >= '0' && peek(p) <= '9')
        p->at++;
    return p->at > start;
}

static int number(struct scan *p)
{
    if (peek(p) == '-')
        p->at++;
    if (peek(p) == '0') {
        p->at++;
        if (peek(p) >= '0' && peek(p) <= '9')
            return fail_at(p, p->at, "a number must not begin with 0");
    } else if (!digits(p)) {
        return unexpected(p, "a digit");
    }
    if (peek(p) == '.') {
        p->at++;
        if (!digits(p))
            return unexpected(p, "a digit");
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        p->at++;
        if (peek(p) == '+' || peek(p) == '-')
            p->at++;
        if (!digits(p))
            return unexpected(p, "a digit");
    }
    return 0;
}

static int key_push(struct scan *p, struct key key)
{
    if (p->n_keys == p->cap_keys) {
        const size_t cap = p->cap_keys ? 2 * p->cap_keys : 64;
        struct key *keys = realloc(p->keys, cap * sizeof(*keys));

        if (!keys) {
            fail_at(p, key.at, "out of memory");
            if (p->err)
                p->err->status = INFER_ENOMEM;
            return INFER_ENOMEM;
        }
        p->keys = keys;
        p->cap_keys = cap;
    }
    p->keys[p->n_keys++] = key;
    return 0;
}

static int key_order(const void *a, const void *b)
{
    const struct key *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Name the key, as it is written, as far as it fits. */
static int fail_twice(struct scan *p, size_t at)
{
    size_t n = 0;

    while (n < 64 && at + 1 + n < p->n && p->s[at + 1 + n] != '"')
        n++;
    return fail_at(p, at, "the key \"%.*s\" is there twice", (int)n,
                   p->s + at + 1);
}

/* The keys above `base` are those of the object that closes here. */
static int keys_pop(struct scan *p, size_t base)
{
    const size_t n = p->n_keys - base;
    struct key *keys;

    p->n_keys = base;
    if (n < 2)
        return 0;
    keys = p->keys + base;
    qsort(keys, n, sizeof(*keys), key_order);
    for (size_t i = 1; i < n; i++)
        if (keys[i].hash == keys[i - 1].hash)
            return fail_twice(p, keys[i].at);
    return 0;
}

static int member(struct scan *p)
{
    struct key key = {.at = p->at};
    int rc;

    if (peek(p) != '"')
        return unexpected(p, "a string as key");
    rc = string(p, &key.hash);
    if (rc == 0)
        rc = key_push(p, key);
    if (rc)
        return rc;
    spaces(p);
    if (peek(p) != ':')
        return unexpected(p, "':'");
    p->at++;
    return value(p);
}

/* At the opening bracket of an object or array. */
static int container(struct scan *p, char end)
{
    const bool object = end == '}';
    const size_t base = p->n_keys;
    int rc = 0;

    if (++p->depth > JSON_MAX_DEPTH)
        return fail_at(p, p->at, "nested deeper than %d", JSON_MAX_DEPTH);
    p->at++;
    spaces(p);
    if (peek(p) == end)
        goto close;
    for (;;) {
        spaces(p);
        rc = object ? member(p) : value(p);
        if (rc)
            return rc;
        spaces(p);
        if (peek(p) == end)
            break;
        if (peek(p) != ',')
            return unexpected(p, object ? "',' or '}'" : "',' or ']'");
        p->at++;
    }
close:
    p->at++;
    p->depth--;
    return keys_pop(p, base);
}

static int word(struct scan *p, const char *w)
{
    const size_t len = strlen(w);

    if (p->n - p->at < len || memcmp(p->s + p->at, w, len) != 0)
        return fail_at(p, p->at, "not a JSON value");
    p->at += len;
    return 0;
}

static int value(struct scan *p)
{
    uint64_t hash;

    spaces(p);
    if (++p->n_values > JSON_MAX_VALUES)
        return fail_at(p, p->at, "more than %d values", JSON_MAX_VALUES);
    switch (peek(p)) {
    case '{':
        return container(p, '}');
    case '[':
        return container(p, ']');
    case '"':
        return string(p, &hash);
    case 't':
        return word(p, "true");
    case 'f':
        return word(p, "false");
    case 'n':
        return word(p, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return number(p);
    default:
        return unexpected(p, "a value");
    }
}

int json_check(const char *text, size_t len, struct infer_error *err)
{
    struct scan p = {.s = text, .n = len, .err = err};
    int rc = value(&p);

    if (rc == 0) {
        spaces(&p);
        if (p.at < p.n)
            rc = fail_at(&p, p.at, "something follows the JSON value");
    }
    free(p.keys);
    return rc;
}
