/*
 * schema_number.c - numbers within bounds, digit by digit.
 *
 * A bounded number is written without an exponent, in at most 15 digits: all
 * such decimals differ as doubles and keep their order, so what is within the
 * bounds here is so for any reader. Digits are compared with those of a bound
 * as long as they are equal to them ("tight"); after the first that differs,
 * any may follow.
 */
#include "server/schema_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No text at all; parts of it vanish. */
#define NEVER UINT32_MAX

/* A bound >= 0 as decimal digits. */
struct bound {
    char whole[SCHEMA_MAX_DIGITS + 2]; /* no leading zeros but "0" */
    char part[SCHEMA_MAX_DIGITS + 2];  /* after the point; may be empty */
    bool open;                         /* the bound itself is excluded */
};

struct range {
    struct bound lo, hi;
    bool integer;
};

/* ---- small tools --------------------------------------------------------- */

static uint32_t digits(struct compiler *c, uint32_t least, uint32_t most)
{
    if (!c->digit)
        c->digit = schema_range(c, '0', '9');
    return infer_grammar_repeat(c->g, c->digit, least, most);
}

static uint32_t then(struct compiler *c, uint32_t a, uint32_t b)
{
    return a == NEVER || b == NEVER ? NEVER : schema_pair(c, a, b);
}

static uint32_t one_of(struct compiler *c, const uint32_t *parts, size_t n)
{
    uint32_t kept[2 * SCHEMA_MAX_DIGITS + 4];
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        if (parts[i] != NEVER)
            kept[k++] = parts[i];
    return k > 0 ? infer_grammar_choice(c->g, kept, k) : NEVER;
}

static uint32_t nothing(struct compiler *c)
{
    return infer_grammar_sequence(c->g, NULL, 0);
}

static bool zeros(const char *digits_left)
{
    return digits_left[strspn(digits_left, "0")] == '\0';
}

/* ---- after the point ----------------------------------------------------- */

/* Whether a number may end whose digits equal those of the tight bounds so
 * far, lo and hi being what is left of theirs. */
static bool may_end(const struct range *r, const char *lo, const char *hi)
{
    return (!lo || (zeros(lo) && !r->lo.open)) &&
           (!hi || !zeros(hi) || !r->hi.open);
}

/* Digits after the point, `left` at most. lo, hi: what is left of the bound's
 * digits, NULL if no longer tight. begun: one was written. */
static uint32_t fraction(struct compiler *c, const struct range *r,
                         const char *lo, const char *hi, uint32_t left,
                         bool begun)
{
    const char low = lo && *lo ? *lo : '0';
    const char high = hi ? (*hi ? *hi : '0') : '9';
    const char *lo_next = lo && *lo ? lo + 1 : lo;
    const char *hi_next = hi && *hi ? hi + 1 : hi;
    uint32_t parts[4] = {NEVER, NEVER, NEVER, NEVER};

    if (!lo && !hi)
        return digits(c, !begun, left);
    if (begun && may_end(r, lo, hi))
        parts[0] = nothing(c);
    if (left == 0 || (hi && !*hi && begun)) /* equal to hi: no more zeros */
        return parts[0];
    if (lo && hi && low == high) {
        parts[1] = then(c, schema_range(c, (uint8_t)low, (uint8_t)low),
                        fraction(c, r, lo_next, hi_next, left - 1, true));
        return one_of(c, parts, 2);
    }
    if (lo)
        parts[1] = then(c, schema_range(c, (uint8_t)low, (uint8_t)low),
                        fraction(c, r, lo_next, NULL, left - 1, true));
    if (hi)
        parts[2] = then(c, schema_range(c, (uint8_t)high, (uint8_t)high),
                        fraction(c, r, NULL, hi_next, left - 1, true));
    if (low + (lo != NULL) <= high - (hi != NULL))
        parts[3] = then(c,
                        schema_range(c, (uint8_t)(low + (lo != NULL)),
                                     (uint8_t)(high - (hi != NULL))),
                        digits(c, 0, left - 1));
    return one_of(c, parts, 4);
}

/* The whole part is written, in n digits. */
static uint32_t end_of_whole(struct compiler *c, const struct range *r,
                             bool tight_lo, bool tight_hi, uint32_t n)
{
    const char *lo = tight_lo ? r->lo.part : NULL;
    const char *hi = tight_hi ? r->hi.part : NULL;
    uint32_t parts[2] = {NEVER, NEVER};

    if (may_end(r, lo, hi))
        parts[0] = nothing(c);
    if (!r->integer && n < SCHEMA_MAX_DIGITS)
        parts[1] = then(c, schema_word(c, "."),
                        fraction(c, r, lo, hi, SCHEMA_MAX_DIGITS - n, false));
    return one_of(c, parts, 2);
}

/* ---- before it ----------------------------------------------------------- */

/* Whole parts of n digits between lo and hi of as many, from digit i on. */
static uint32_t whole(struct compiler *c, const struct range *r, const char *lo,
                      const char *hi, uint32_t n, uint32_t i, bool tight_lo,
                      bool tight_hi)
{
    const char low = tight_lo ? lo[i] : '0', high = tight_hi ? hi[i] : '9';
    /* the bounds of this length are the real ones */
    const bool real_lo = strcmp(lo, r->lo.whole) == 0;
    const bool real_hi = strcmp(hi, r->hi.whole) == 0;
    uint32_t parts[3] = {NEVER, NEVER, NEVER};

    if (i == n)
        return end_of_whole(c, r, tight_lo && real_lo, tight_hi && real_hi, n);
    if (!tight_lo && !tight_hi)
        return then(c, digits(c, n - i, n - i),
                    end_of_whole(c, r, false, false, n));
    if (tight_lo && tight_hi && low == high)
        return then(c, schema_range(c, (uint8_t)low, (uint8_t)low),
                    whole(c, r, lo, hi, n, i + 1, true, true));
    if (tight_lo)
        parts[0] = then(c, schema_range(c, (uint8_t)low, (uint8_t)low),
                        whole(c, r, lo, hi, n, i + 1, true, false));
    if (tight_hi)
        parts[1] = then(c, schema_range(c, (uint8_t)high, (uint8_t)high),
                        whole(c, r, lo, hi, n, i + 1, false, true));
    if (low + tight_lo <= high - tight_hi)
        parts[2] = then(c,
                        schema_range(c, (uint8_t)(low + tight_lo),
                                     (uint8_t)(high - tight_hi)),
                        whole(c, r, lo, hi, n, i + 1, false, false));
    return one_of(c, parts, 3);
}

/* Numbers >= 0 in a range: lengths of the whole part one by one. */
static uint32_t magnitude(struct compiler *c, const struct range *r)
{
    const size_t first = strlen(r->lo.whole), last = strlen(r->hi.whole);
    uint32_t parts[SCHEMA_MAX_DIGITS + 1];
    size_t k = 0;

    for (size_t n = first; n <= last; n++) {
        char lo[SCHEMA_MAX_DIGITS + 2] = "1", hi[SCHEMA_MAX_DIGITS + 2];

        memset(lo + 1, '0', n - 1);
        lo[n] = '\0';
        memset(hi, '9', n);
        hi[n] = '\0';
        parts[k++] =
            whole(c, r, n == first ? r->lo.whole : lo,
                  n == last ? r->hi.whole : hi, (uint32_t)n, 0, true, true);
    }
    return one_of(c, parts, k);
}

/* ---- bounds -------------------------------------------------------------- */

/* |x| as digits. false: it has too many. */
static bool to_digits(double x, struct bound *b)
{
    char text[400];
    size_t n;
    char *point;

    snprintf(text, sizeof(text), "%.15g", x);
    if (strtod(text, NULL) != x)
        return false;
    snprintf(text, sizeof(text), "%.*f", SCHEMA_MAX_DIGITS, x);
    if (strtod(text, NULL) != x)
        return false;
    point = strchr(text, '.');
    *point = '\0';
    n = strlen(point + 1);
    while (n > 0 && point[n] == '0')
        n--;
    point[n + 1] = '\0';
    if (strlen(text) > SCHEMA_MAX_DIGITS)
        return false;
    snprintf(b->whole, sizeof(b->whole), "%.15s", text);
    /* "%.15g" told that no more digits matter */
    snprintf(b->part, sizeof(b->part), "%.15s", point + 1);
    return true;
}

struct bounds {
    double lo, hi; /* infinite: none */
    bool lo_open, hi_open;
};

static bool read_bound(struct compiler *c, const cJSON *s, const char *key,
                       const struct place *at, bool upper, bool open,
                       struct bounds *b)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(s, key);
    double *to = upper ? &b->hi : &b->lo;
    bool *to_open = upper ? &b->hi_open : &b->lo_open;

    if (!v)
        return true;
    if (!cJSON_IsNumber(v)) {
        schema_fail(c, at, INFER_EINVAL, "%s must be a number", key);
        return false;
    }
    if (upper ? v->valuedouble < *to : v->valuedouble > *to) {
        *to = v->valuedouble;
        *to_open = open;
    } else if (v->valuedouble == *to) {
        *to_open = *to_open || open;
    }
    return true;
}

static bool read_bounds(struct compiler *c, const cJSON *s, bool *integer,
                        const struct place *at, struct bounds *b)
{
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(s, "multipleOf");

    *b = (struct bounds){-(double)INFINITY, (double)INFINITY, false, false};
    if (step && !(cJSON_IsNumber(step) && step->valuedouble == 1)) {
        schema_fail(c, at, INFER_EUNSUPPORTED,
                    "multipleOf other than 1 is not supported");
        return false;
    }
    *integer = *integer || step;
    return read_bound(c, s, "minimum", at, false, false, b) &&
           read_bound(c, s, "exclusiveMinimum", at, false, true, b) &&
           read_bound(c, s, "maximum", at, true, false, b) &&
           read_bound(c, s, "exclusiveMaximum", at, true, true, b);
}

/* Whole bounds, the nearest within. */
static void round_inwards(struct bounds *b)
{
    const double lo = ceil(b->lo), hi = floor(b->hi);

    b->lo = b->lo_open && lo == b->lo ? lo + 1 : lo;
    b->hi = b->hi_open && hi == b->hi ? hi - 1 : hi;
    b->lo_open = b->hi_open = false;
}

/* One side of zero. negative: of the magnitudes, zero excluded. */
static uint32_t side(struct compiler *c, const struct bounds *b, bool integer,
                     bool negative, const struct place *at)
{
    struct range r = {.integer = integer};
    double lo = negative ? -b->hi : b->lo, hi = negative ? -b->lo : b->hi;

    r.lo.open = negative ? b->hi_open : b->lo_open;
    r.hi.open = negative ? b->lo_open : b->hi_open;
    if (lo < 0 || (negative && lo == 0)) {
        r.lo.open = negative && !integer;
        lo = negative && integer ? 1 : 0;
    }
    if (hi >= 1e15) { /* more than is ever written */
        hi = 999999999999999.0;
        r.hi.open = false;
    }
    if (hi < lo || (hi == lo && (r.lo.open || r.hi.open)))
        return NEVER;
    if (!to_digits(lo, &r.lo) || !to_digits(hi, &r.hi)) {
        schema_fail(c, at, INFER_EUNSUPPORTED,
                    "a bound has more than %d digits, or more than that after "
                    "the point",
                    SCHEMA_MAX_DIGITS);
        return NEVER;
    }
    return magnitude(c, &r);
}

static uint32_t free_number(struct compiler *c, bool integer)
{
    uint32_t *made = integer ? &c->free_integer : &c->free_number;

    if (!*made) {
        const uint32_t positive =
            schema_pair(c, schema_range(c, '1', '9'), digits(c, 0, 14));
        const uint32_t exponent = infer_grammar_sequence(
            c->g,
            (uint32_t[]){
                schema_either(c, schema_word(c, "e"), schema_word(c, "E")),
                infer_grammar_repeat(
                    c->g,
                    schema_either(c, schema_word(c, "+"), schema_word(c, "-")),
                    0, 1),
                digits(c, 1, 2)},
            3);
        const uint32_t any[] = {
            infer_grammar_repeat(c->g, schema_word(c, "-"), 0, 1),
            schema_either(c, schema_word(c, "0"), positive),
            infer_grammar_repeat(
                c->g, schema_pair(c, schema_word(c, "."), digits(c, 1, 15)), 0,
                1),
            infer_grammar_repeat(c->g, exponent, 0, 1)};

        *made = integer ? schema_either(c, schema_word(c, "0"),
                                        schema_pair(c, any[0], positive))
                        : infer_grammar_sequence(c->g, any, 4);
    }
    return *made;
}

uint32_t schema_number(struct compiler *c, const cJSON *s, bool integer,
                       const struct place *at)
{
    struct bounds b;
    uint32_t sides[2] = {NEVER, NEVER};

    if (!read_bounds(c, s, &integer, at, &b))
        return 0;
    if (isinf(b.lo) && isinf(b.hi) && b.lo < b.hi)
        return free_number(c, integer);
    if (integer)
        round_inwards(&b);
    if (b.hi >= 0)
        sides[0] = side(c, &b, integer, false, at);
    if (b.lo < 0) {
        sides[1] = side(c, &b, integer, true, at);
        sides[1] = then(c, schema_word(c, "-"), sides[1]);
    }
    if (c->failed)
        return 0;
    sides[0] = one_of(c, sides, 2);
    if (sides[0] == NEVER)
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "no number of %d digits is within the bounds",
                           SCHEMA_MAX_DIGITS);
    return sides[0];
}
