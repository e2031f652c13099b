/*
 * ngrams.c - see ngrams.h and docs/model-format.md, which this file defines.
 *
 * A text becomes code points once (normalised, lower-cased), those become words
 * (a hash and a range of code points each), and n-grams are hashes of hashes:
 * nothing is copied per n-gram. ASCII needs no normalisation and no allocation.
 */
#include "core/tokenizer/ngrams.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define FNV_START  0xcbf29ce484222325u
#define FNV_PRIME  0x100000001b3u
#define EDGE_BEGIN 0x9ae16a3b2f90404fu /* stands for the start of a text */
#define EDGE_END   0xc949c7defebe6f5cu /* and for its end */

struct word {
    uint64_t hash;
    uint32_t at, n; /* code points; n 0: an edge */
    bool letters;   /* may have character n-grams */
};

struct infer_ngrams_words {
    uint32_t *cps; /* [n_cps] */
    size_t n_cps, cps_cap;
    struct word words[INFER_NGRAMS_MAX_WORDS + 2]; /* with both edges */
    size_t n;
};

int infer_ngrams_check(const struct infer_ngrams_spec *s,
                       struct infer_error *err)
{
    if (s->buckets < 1 || s->buckets > 1u << 31)
        return infer_fail(err, INFER_EINVAL,
                          "%u n-gram buckets are not in 1..2^31", s->buckets);
    if (s->min < 1 || s->min > s->max || s->max > INFER_NGRAMS_MAX_N)
        return infer_fail(err, INFER_EINVAL,
                          "word n-grams of %u..%u are not in 1..%d", s->min,
                          s->max, INFER_NGRAMS_MAX_N);
    if (s->char_min == 0 && s->char_max == 0)
        return INFER_OK;
    if (s->char_min < 1 || s->char_min > s->char_max ||
        s->char_max > INFER_NGRAMS_MAX_N)
        return infer_fail(err, INFER_EINVAL,
                          "character n-grams of %u..%u are not in 1..%d",
                          s->char_min, s->char_max, INFER_NGRAMS_MAX_N);
    return INFER_OK;
}

/* ---- hashes ---------------------------------------------------------------
 */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* FNV-1a over the four bytes of each code point, low byte first. */
static uint64_t hash_cps(uint64_t h, const uint32_t *cps, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (unsigned shift = 0; shift < 32; shift += 8)
            h = (h ^ (cps[i] >> shift & 0xff)) * FNV_PRIME;
    return h;
}

static uint32_t bucket(uint64_t h, uint32_t buckets)
{
    return (uint32_t)((mix(h) >> 32) * buckets >> 32);
}

static int push(uint32_t **list, size_t *n, size_t *cap, uint32_t id)
{
    if (*n == *cap) {
        const size_t more = *cap ? *cap * 2 : 256;
        uint32_t *p = realloc(*list, more * sizeof(*p));

        if (!p)
            return INFER_ENOMEM;
        *list = p;
        *cap = more;
    }
    (*list)[(*n)++] = id;
    return INFER_OK;
}

/* ---- text to code points ----------------------------------------------------
 */

static int reserve_cps(struct infer_ngrams_words *w, size_t n)
{
    if (n <= w->cps_cap)
        return INFER_OK;
    uint32_t *p = realloc(w->cps, n * sizeof(*p));

    if (!p)
        return INFER_ENOMEM;
    w->cps = p;
    w->cps_cap = n;
    return INFER_OK;
}

/* True: all was ASCII and is done. */
static bool take_ascii(struct infer_ngrams_words *w, const char *text,
                       size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];

        if (c >= 0x80)
            return false;
        w->cps[i] = c >= 'A' && c <= 'Z' ? c + 32u : c;
    }
    w->n_cps = len;
    return true;
}

/* A copy that is UTF-8; what is not becomes a control character, which
 * separates words. */
static char *valid_copy(const char *text, size_t len)
{
    char *copy = malloc(len);
    size_t i = 0, n;
    uint32_t cp;

    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    for (; i < len; i += n) {
        n = infer_utf8_next(copy + i, len - i, &cp);
        if (n == 0) {
            copy[i] = '\1';
            n = 1;
        }
    }
    return copy;
}

static int take_unicode(struct infer_ngrams_words *w, const char *text,
                        size_t len)
{
    const int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    char *copy = valid_copy(text, len);
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t n = -1;
    int status;

    if (copy)
        n = utf8proc_map((const utf8proc_uint8_t *)copy, (utf8proc_ssize_t)len,
                         &folded, (utf8proc_option_t)options);
    free(copy);
    if (n < 0)
        return INFER_ENOMEM;
    status = reserve_cps(w, (size_t)n);
    for (size_t i = 0, used; i < (size_t)n && status == INFER_OK; i += used) {
        uint32_t cp = 1;

        used = infer_utf8_next((const char *)folded + i, (size_t)n - i, &cp);
        if (used == 0)
            used = 1;
        w->cps[w->n_cps++] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    }
    free(folded);
    return status;
}

/* ---- code points to words ---------------------------------------------------
 */

enum kind { KIND_SPACE, KIND_LETTER, KIND_SINGLE, KIND_NONE };

/* Scripts that are written without spaces, whose characters mean something:
 * Han, Hiragana, Katakana, Bopomofo. */
static bool stands_alone(uint32_t c)
{
    return (c >= 0x2e80 && c <= 0x31ff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x20000 && c <= 0x3ffff);
}

static enum kind kind_of_ascii(uint32_t c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
        return KIND_LETTER;
    if (c == '\'')
        return KIND_NONE;
    return c <= ' ' || c == 0x7f ? KIND_SPACE : KIND_SINGLE;
}

static enum kind kind_of(uint32_t c)
{
    if (c < 0x80)
        return kind_of_ascii(c);
    if (c == 0x2019)
        return KIND_NONE;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return stands_alone(c) ? KIND_SINGLE : KIND_LETTER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
        return KIND_SPACE;
    default: /* punctuation and symbols */
        return KIND_SINGLE;
    }
}

static void end_word(struct infer_ngrams_words *w, size_t at, size_t n,
                     bool letters)
{
    if (n == 0 || w->n > INFER_NGRAMS_MAX_WORDS)
        return;
    w->words[w->n++] =
        (struct word){.hash = hash_cps(FNV_START, w->cps + at, n),
                      .at = (uint32_t)at,
                      .n = (uint32_t)n,
                      .letters = letters};
}

/* Words between the two edges. Apostrophes are squeezed out of the code points
 * on the way, so that a word is a range of them. */
static void cut(struct infer_ngrams_words *w)
{
    size_t begin = 0, to = 0;

    w->words[0] = (struct word){.hash = EDGE_BEGIN};
    w->n = 1;
    for (size_t i = 0; i < w->n_cps; i++) {
        const uint32_t c = w->cps[i];
        const enum kind kind = kind_of(c);

        if (kind == KIND_NONE)
            continue;
        if (kind != KIND_LETTER) {
            end_word(w, begin, to - begin, true);
            begin = to;
        }
        if (kind == KIND_SPACE)
            continue;
        w->cps[to++] = c;
        if (kind == KIND_SINGLE) {
            end_word(w, begin, 1, false);
            begin = to;
        }
    }
    end_word(w, begin, to - begin, true);
    w->words[w->n++] = (struct word){.hash = EDGE_END};
}

/* ---- n-grams
 * ----------------------------------------------------------------
 */

static int add_words(struct infer_ngrams *out,
                     const struct infer_ngrams_spec *s, uint64_t side)
{
    const struct infer_ngrams_words *w = out->words;

    for (size_t n = s->min; n <= s->max; n++)
        for (size_t i = n == 1; i + n + (n == 1) <= w->n; i++) {
            uint64_t h = side + n;

            for (size_t k = 0; k < n; k++)
                h = mix(h * FNV_PRIME ^ w->words[i + k].hash);
            if (push(&out->word, &out->n_word, &out->word_cap,
                     bucket(h, s->buckets)))
                return INFER_ENOMEM;
        }
    return INFER_OK;
}

static int add_chars(struct infer_ngrams *out,
                     const struct infer_ngrams_spec *s, uint64_t side,
                     const struct word *word)
{
    uint32_t c[INFER_NGRAMS_MAX_CHARS + 2];
    const size_t n =
        word->n < INFER_NGRAMS_MAX_CHARS ? word->n : INFER_NGRAMS_MAX_CHARS;

    c[0] = '<';
    memcpy(c + 1, out->words->cps + word->at, n * sizeof(*c));
    c[n + 1] = '>';
    for (size_t k = s->char_min; k <= s->char_max && k < n + 2; k++)
        for (size_t i = 0; i + k <= n + 2; i++) {
            const uint64_t h = hash_cps(FNV_START ^ (side + 0x100), c + i, k);

            if (push(&out->chars, &out->n_chars, &out->chars_cap,
                     bucket(h, s->buckets)))
                return INFER_ENOMEM;
        }
    return INFER_OK;
}

int infer_ngrams_add(struct infer_ngrams *out,
                     const struct infer_ngrams_spec *spec, unsigned side,
                     const char *text, size_t len, struct infer_error *err)
{
    const uint64_t salt = side ? 0x10000 : 0;
    int status;

    if (!out->words)
        out->words = calloc(1, sizeof(*out->words));
    if (!out->words || reserve_cps(out->words, len))
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    out->words->n_cps = 0;
    status = take_ascii(out->words, text, len)
                 ? INFER_OK
                 : take_unicode(out->words, text, len);
    if (status == INFER_OK) {
        cut(out->words);
        status = add_words(out, spec, salt);
    }
    for (size_t i = 1; i + 1 < out->words->n && status == INFER_OK; i++)
        if (spec->char_max && out->words->words[i].letters)
            status = add_chars(out, spec, salt, &out->words->words[i]);
    return status ? infer_fail(err, status, "out of memory") : INFER_OK;
}

void infer_ngrams_clear(struct infer_ngrams *out)
{
    out->n_word = out->n_chars = 0;
}

void infer_ngrams_release(struct infer_ngrams *out)
{
    if (out->words)
        free(out->words->cps);
    free(out->words);
    free(out->word);
    free(out->chars);
    *out = (struct infer_ngrams){0};
}
