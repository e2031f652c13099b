/*
 * schema_regex.c - a subset of ECMA-262 patterns, as what a JSON string holds
 * between its quotes.
 *
 * Literals, classes, groups, alternatives, quantifiers, and ^ and $ at the
 * ends. A pattern need not match the whole string: without ^ anything may come
 * before, without $ after. Readers differ on \d, \w and \s beyond ASCII, so
 * only ASCII is written for them, and for their complements.
 *
 * Recursion is as deep as groups are nested: SCHEMA_MAX_GROUPS at most.
 */
#include "server/schema_parts.h"

#include "server/jsonout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANGES = 256, MAX_ALTERNATIVES = 256, MAX_CODE = 0x10ffff };

struct span {
    uint32_t lo, hi;
};

/* Characters, as ranges in any order. */
struct chars {
    struct span list[MAX_RANGES];
    size_t n;
    bool ascii; /* a complement must stay within ASCII */
};

struct regex {
    struct compiler *c;
    const struct place *at;
    const char *all, *s; /* s: what is left */
    int depth;
};

static uint32_t alternatives(struct regex *r);

static uint32_t refuse(struct regex *r, const char *what)
{
    return schema_fail(r->c, r->at, INFER_EUNSUPPORTED, "pattern, byte %zu: %s",
                       (size_t)(r->s - r->all), what);
}

/* ---- sets of characters -------------------------------------------------- */

static bool add(struct regex *r, struct chars *set, uint32_t lo, uint32_t hi)
{
    if (set->n == MAX_RANGES) {
        refuse(r, "a class has too many ranges");
        return false;
    }
    set->list[set->n++] = (struct span){lo, hi};
    return true;
}

static int by_start(const void *a, const void *b)
{
    const struct span *x = a, *y = b;

    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Sort and join. */
static void tidy(struct chars *set)
{
    size_t n = 0;

    qsort(set->list, set->n, sizeof(set->list[0]), by_start);
    for (size_t i = 0; i < set->n; i++) {
        const struct span s = set->list[i];

        if (n > 0 && s.lo <= set->list[n - 1].hi + 1) {
            if (s.hi > set->list[n - 1].hi)
                set->list[n - 1].hi = s.hi;
        } else {
            set->list[n++] = s;
        }
    }
    set->n = n;
}

static bool complement(struct regex *r, struct chars *set)
{
    const uint32_t top = set->ascii ? 0x7f : MAX_CODE;
    struct chars out = {.n = 0};
    uint32_t next = 0;

    tidy(set);
    for (size_t i = 0; i < set->n; i++) {
        if (set->list[i].lo > next && next <= top &&
            !add(r, &out, next,
                 set->list[i].lo - 1 < top ? set->list[i].lo - 1 : top))
            return false;
        next = set->list[i].hi + 1;
    }
    if (next <= top && !add(r, &out, next, top))
        return false;
    *set = out;
    return true;
}

/* ---- characters as bytes ------------------------------------------------- */

struct pieces {
    struct compiler *c;
    uint8_t ascii[32]; /* written as they are */
    uint32_t parts[MAX_RANGES * 4];
    size_t n;
};

static void put(struct pieces *p, uint32_t part)
{
    if (p->n < sizeof(p->parts) / sizeof(p->parts[0]))
        p->parts[p->n++] = part;
}

static size_t encode(uint32_t cp, uint8_t *out)
{
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xc0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 63));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xe0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 63));
        out[2] = (uint8_t)(0x80 | (cp & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (cp & 63));
    return 4;
}

/* Bytes from i on of the encodings between lo and hi, n bytes each. */
static uint32_t between(struct compiler *c, const uint8_t *lo,
                        const uint8_t *hi, size_t n)
{
    static const uint8_t least[4] = {0x80, 0x80, 0x80, 0x80};
    static const uint8_t most[4] = {0xbf, 0xbf, 0xbf, 0xbf};
    unsigned from = lo[0], to = hi[0];
    uint32_t parts[3];
    size_t k = 0;

    if (n == 1)
        return schema_range(c, from, to);
    if (from == to)
        return schema_pair(c, schema_range(c, from, to),
                           between(c, lo + 1, hi + 1, n - 1));
    if (memcmp(lo + 1, least, n - 1) != 0) {
        parts[k++] = schema_pair(c, schema_range(c, from, from),
                                 between(c, lo + 1, most, n - 1));
        from++;
    }
    if (memcmp(hi + 1, most, n - 1) != 0) {
        parts[k++] = schema_pair(c, schema_range(c, to, to),
                                 between(c, least, hi + 1, n - 1));
        to--;
    }
    if (from <= to)
        parts[k++] = schema_pair(c, schema_range(c, from, to),
                                 between(c, least, most, n - 1));
    return infer_grammar_choice(c->g, parts, k);
}

/* Cut where encodings change their length, and surrogates out. */
static void put_range(struct pieces *p, uint32_t lo, uint32_t hi)
{
    static const struct span lengths[] = {
        {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, MAX_CODE}};

    for (size_t i = 0; i < 4; i++) {
        const uint32_t from = lo > lengths[i].lo ? lo : lengths[i].lo;
        const uint32_t to = hi < lengths[i].hi ? hi : lengths[i].hi;
        uint8_t a[4], b[4];
        size_t n;

        if (from > to)
            continue;
        n = encode(from, a);
        encode(to, b);
        put(p, between(p->c, a, b, n));
    }
}

/* What JSON escapes; U+0000 is never written. */
static void put_ascii(struct pieces *p, uint32_t ch)
{
    char text[8] = {(char)ch, '\0'}, *quoted;

    if (ch == 0)
        return;
    if (ch >= 0x20 && ch != '"' && ch != '\\') {
        p->ascii[ch / 8] |= (uint8_t)(1u << ch % 8);
        return;
    }
    quoted = schema_quote(text);
    if (!quoted) {
        schema_fail(p->c, NULL, INFER_ENOMEM, "out of memory");
        return;
    }
    put(p, infer_grammar_text(p->c->g, quoted + 1, strlen(quoted) - 2));
    free(quoted);
}

static uint32_t written(struct regex *r, struct chars *set)
{
    struct pieces *p = calloc(1, sizeof(*p));
    static const uint8_t none[32];
    uint32_t part = 0;

    if (!p)
        return schema_fail(r->c, r->at, INFER_ENOMEM, "out of memory");
    p->c = r->c;
    tidy(set);
    for (size_t i = 0; i < set->n; i++) {
        for (uint32_t ch = set->list[i].lo; ch <= set->list[i].hi && ch < 0x80;
             ch++)
            put_ascii(p, ch);
        put_range(p, set->list[i].lo, set->list[i].hi);
    }
    if (memcmp(p->ascii, none, 32) != 0)
        put(p, infer_grammar_bytes(r->c->g, p->ascii));
    if (p->n == 0)
        refuse(r, "no character that is written is in the class");
    else
        part = infer_grammar_choice(r->c->g, p->parts, p->n);
    free(p);
    return part;
}

/* ---- escapes ------------------------------------------------------------- */

/* \d and the like. Readers differ on which control characters are white
 * space: unsure ones are in neither \s nor \S, or, where the class will be
 * complemented (wide), in both. */
static bool add_named(struct regex *r, struct chars *set, char name, bool wide)
{
    struct chars named = {.n = 0, .ascii = true};
    bool ok = true;

    switch (name | 0x20) {
    case 'd':
        ok = add(r, &named, '0', '9');
        break;
    case 'w':
        ok = add(r, &named, '0', '9') && add(r, &named, 'A', 'Z') &&
             add(r, &named, '_', '_') && add(r, &named, 'a', 'z');
        break;
    default: /* s */
        ok = add(r, &named, '\t', '\r') && add(r, &named, ' ', ' ');
        break;
    }
    if ((name == 's' && wide) || (name == 'S' && !wide))
        ok = ok && add(r, &named, 0x1c, 0x1f);
    if (ok && !(name & 0x20))
        ok = complement(r, &named);
    for (size_t i = 0; ok && i < named.n; i++)
        ok = add(r, set, named.list[i].lo, named.list[i].hi);
    set->ascii = true;
    return ok;
}

static bool hex(struct regex *r, int n, uint32_t *cp)
{
    char text[5] = {0};
    char *end;

    for (int i = 0; i < n; i++)
        if (!(text[i] = r->s[i]))
            break;
    *cp = (uint32_t)strtoul(text, &end, 16);
    if (strspn(text, "0123456789abcdefABCDEF") != (size_t)n) {
        refuse(r, "hexadecimal digits are missing");
        return false;
    }
    r->s += n;
    return true;
}

/* After a backslash: a character (true) or a named class, added to set. */
static bool escape(struct regex *r, struct chars *set, bool wide, uint32_t *cp,
                   bool *single)
{
    static const char from[] = "nrtfv", to[] = "\n\r\t\f\v";
    const char ch = *r->s;
    const char *simple = ch ? strchr(from, ch) : NULL;

    *single = true;
    if (!ch)
        return refuse(r, "it ends in a backslash");
    if (strchr("dDwWsS", ch)) {
        r->s++;
        *single = false;
        return add_named(r, set, ch, wide);
    }
    if (simple) {
        r->s++;
        *cp = (uint32_t)to[simple - from];
        return true;
    }
    if (ch == 'x' || ch == 'u') {
        r->s++;
        return hex(r, ch == 'x' ? 2 : 4, cp);
    }
    if (!strchr("^$\\.*+?()[]{}|/-\"'#&~!%,:;<=>@`_ ", ch))
        return refuse(r, "this escape is not supported");
    r->s++;
    *cp = (uint32_t)ch;
    return true;
}

/* ---- classes ------------------------------------------------------------- */

/* The next character of the pattern, any of UTF-8. */
static uint32_t next_char(struct regex *r)
{
    const unsigned char *u = (const unsigned char *)r->s;
    const size_t n = utf8_char(r->s, strlen(r->s));

    r->s += n ? n : 1;
    switch (n) {
    case 2:
        return (u[0] & 31u) << 6 | (u[1] & 63u);
    case 3:
        return (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u);
    case 4:
        return (u[0] & 7u) << 18 | (u[1] & 63u) << 12 | (u[2] & 63u) << 6 |
               (u[3] & 63u);
    default:
        return u[0];
    }
}

static bool class_char(struct regex *r, struct chars *set, bool wide,
                       uint32_t *cp, bool *single)
{
    *single = true;
    if (*r->s == '\\') {
        r->s++;
        if (*r->s == 'b')
            return refuse(r, "\\b is not supported");
        return escape(r, set, wide, cp, single);
    }
    *cp = next_char(r);
    return true;
}

/* After '['. */
static uint32_t class_of(struct regex *r)
{
    struct chars set = {.n = 0};
    const bool negated = *r->s == '^';

    r->s += negated;
    while (*r->s != ']') {
        uint32_t lo = 0, hi = 0;
        bool single;

        if (!*r->s)
            return refuse(r, "a class is not closed");
        if (!class_char(r, &set, negated, &lo, &single))
            return 0;
        if (!single)
            continue;
        hi = lo;
        if (r->s[0] == '-' && r->s[1] && r->s[1] != ']') {
            r->s++;
            if (!class_char(r, &set, negated, &hi, &single))
                return 0;
            if (!single || hi < lo)
                return refuse(r, "a range is out of order");
        }
        if (!add(r, &set, lo, hi))
            return 0;
    }
    r->s++;
    if (negated && !complement(r, &set))
        return 0;
    return written(r, &set);
}

static uint32_t any_char(struct regex *r)
{
    struct chars set = {.n = 0};

    if (!add(r, &set, '\n', '\n') || !add(r, &set, '\r', '\r') ||
        !add(r, &set, 0x2028, 0x2029) || !complement(r, &set))
        return 0;
    return written(r, &set);
}

/* ---- terms --------------------------------------------------------------- */

static uint32_t group(struct regex *r)
{
    uint32_t part;

    if (++r->depth > SCHEMA_MAX_GROUPS)
        return refuse(r, "too many groups inside one another");
    if (r->s[0] == '?' && r->s[1] == ':')
        r->s += 2;
    else if (r->s[0] == '?')
        return refuse(r, "only (...) and (?:...) are supported");
    part = alternatives(r);
    if (r->c->failed)
        return 0;
    if (*r->s != ')')
        return refuse(r, "a group is not closed");
    r->s++;
    r->depth--;
    return part;
}

static uint32_t atom(struct regex *r)
{
    struct chars set = {.n = 0};
    uint32_t cp = 0;
    bool single = true;

    switch (*r->s) {
    case '(':
        r->s++;
        return group(r);
    case '[':
        r->s++;
        return class_of(r);
    case '.':
        r->s++;
        return any_char(r);
    case '^':
    case '$':
        return refuse(r, "^ and $ are supported at the ends only");
    case '*':
    case '+':
    case '?':
    case '{':
        return refuse(r, "there is nothing to repeat");
    case ']':
    case '}':
        return refuse(r, "a bracket is not open");
    case '\\':
        r->s++;
        if (!escape(r, &set, false, &cp, &single))
            return 0;
        break;
    default:
        cp = next_char(r);
    }
    if (single && !add(r, &set, cp, cp))
        return 0;
    return written(r, &set);
}

/* Digits; more than any text has are no limit. */
static bool count(struct regex *r, uint32_t *out)
{
    uint32_t n = 0;

    if (*r->s < '0' || *r->s > '9')
        return refuse(r, "a quantifier must be {n}, {n,} or {n,m}");
    for (; *r->s >= '0' && *r->s <= '9'; r->s++)
        if (n != UINT32_MAX)
            n = n < 100000000 ? n * 10 + (uint32_t)(*r->s - '0') : UINT32_MAX;
    *out = n;
    return true;
}

static bool quantifier(struct regex *r, uint32_t *least, uint32_t *most)
{
    const char ch = *r->s;

    *least = ch == '+';
    *most = ch == '?' ? 1 : UINT32_MAX;
    r->s++;
    if (ch == '{') {
        if (!count(r, least))
            return false;
        *most = *least;
        if (*r->s == ',') {
            r->s++;
            *most = UINT32_MAX;
            if (*r->s != '}' && !count(r, most))
                return false;
        }
        if (*r->s != '}')
            return refuse(r, "a quantifier must be {n}, {n,} or {n,m}");
        r->s++;
        if (*least > *most)
            return refuse(r, "a quantifier is out of order");
    }
    if (*r->s == '?') /* lazy: the same texts */
        r->s++;
    if (*r->s && strchr("*+?{", *r->s))
        return refuse(r, "there is nothing to repeat");
    return true;
}

/* What comes up to the next '|', ')' or '$' at the end. */
static uint32_t sequence(struct regex *r)
{
    uint32_t *parts = malloc(SCHEMA_MAX_PATTERN * sizeof(*parts));
    uint32_t part = 0;
    size_t n = 0;

    if (!parts)
        return schema_fail(r->c, r->at, INFER_ENOMEM, "out of memory");
    while (*r->s && *r->s != '|' && *r->s != ')' && !r->c->failed) {
        uint32_t least, most;

        if (*r->s == '$' && r->depth == 0 && (!r->s[1] || r->s[1] == '|'))
            break;
        part = atom(r);
        if (!r->c->failed && *r->s && strchr("*+?{", *r->s) &&
            quantifier(r, &least, &most))
            part = infer_grammar_repeat(r->c->g, part, least, most);
        parts[n++] = part;
    }
    part = r->c->failed ? 0 : infer_grammar_sequence(r->c->g, parts, n);
    free(parts);
    return part;
}

static uint32_t anything(struct compiler *c)
{
    return infer_grammar_repeat(c->g, schema_character(c), 0, UINT32_MAX);
}

/* A sequence with what its ends allow before and after it. */
static uint32_t outermost(struct regex *r)
{
    const bool begins = *r->s == '^';
    uint32_t part;

    r->s += begins;
    part = sequence(r);
    if (!begins)
        part = schema_pair(r->c, anything(r->c), part);
    if (*r->s == '$')
        r->s++;
    else
        part = schema_pair(r->c, part, anything(r->c));
    return part;
}

static uint32_t alternatives(struct regex *r)
{
    const bool outer = r->depth == 0;
    uint32_t parts[MAX_ALTERNATIVES];
    size_t n = 0;

    for (;;) {
        if (n == MAX_ALTERNATIVES)
            return refuse(r, "too many alternatives");
        parts[n++] = outer ? outermost(r) : sequence(r);
        if (r->c->failed)
            return 0;
        if (*r->s != '|')
            break;
        r->s++;
    }
    return infer_grammar_choice(r->c->g, parts, n);
}

uint32_t schema_pattern(struct compiler *c, const char *pattern,
                        const struct place *at)
{
    struct regex r = {.c = c, .at = at, .all = pattern, .s = pattern};
    uint32_t part;

    if (strlen(pattern) > SCHEMA_MAX_PATTERN)
        return schema_fail(c, at, INFER_ETOOLONG,
                           "pattern has more than %d bytes",
                           SCHEMA_MAX_PATTERN);
    part = alternatives(&r);
    if (!c->failed && *r.s)
        return refuse(&r, "a group is not open");
    return part;
}
