/*
 * wordpiece.c - BERT's tokenizer: words, then the longest pieces of each.
 *
 * A text becomes words as the reference (llama.cpp) cuts it: every character is
 * replaced by the first of its canonical decomposition, which takes accents
 * off; marks and controls go; the rest is lower case; punctuation and Chinese
 * characters are words of their own. A word is "▁" and its characters; from
 * the left the longest piece is taken, and if one place has none, the word as
 * a whole is unknown.
 *
 * The reference keeps only the first character of a decomposition, of a Hangul
 * syllable its leading consonant. That differs from the original BERT, but
 * files and answers agree with the reference's ids.
 *
 * Each byte of a word knows the source bytes of its character, which makes
 * spans exact. Cost: linear, times the longest piece for words that are none.
 */
#include "core/tokenizer/wordpiece.h"

#include "core/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define WORD_START "\xe2\x96\x81" /* U+2581 */

enum { START_BYTES = 3 };

/* The word in the making. */
struct word {
    char *text;              /* [n] begins with WORD_START */
    struct infer_span *from; /* [n] source bytes of each byte's character */
    size_t n, cap;
};

struct state {
    const struct infer_vocab *v;
    struct infer_ids *out;
    struct infer_spans *spans; /* or NULL */
    struct word word;
};

static int push(struct state *s, int32_t id, uint32_t begin, uint32_t end)
{
    int status = infer_ids_push(s->out, id);

    if (status == 0 && s->spans)
        status = infer_spans_push(s->spans, begin, end);
    return status;
}

static int reserve(struct word *w, size_t more)
{
    size_t cap = w->cap ? w->cap : 256;
    void *text, *from;

    if (w->n + more <= w->cap)
        return 0;
    while (cap < w->n + more)
        cap *= 2;
    text = realloc(w->text, cap);
    if (text)
        w->text = text;
    from = realloc(w->from, cap * sizeof(*w->from));
    if (from)
        w->from = from;
    if (!text || !from)
        return INFER_ENOMEM;
    w->cap = cap;
    return 0;
}

static int add_char(struct state *s, uint32_t cp, uint32_t begin, uint32_t end)
{
    struct word *w = &s->word;
    size_t n = 0;

    if (reserve(w, START_BYTES + 4) != 0)
        return INFER_ENOMEM;
    if (w->n == 0) {
        memcpy(w->text, WORD_START, START_BYTES);
        n = START_BYTES;
    }
    n += infer_utf8_put(w->text + w->n + n, cp);
    for (size_t i = 0; i < n; i++)
        w->from[w->n + i] = (struct infer_span){begin, end};
    w->n += n;
    return 0;
}

/* The longest piece at text[0..n): its id and bytes; -1: none. */
static int32_t longest(const struct infer_vocab *v, const char *text, size_t n,
                       size_t *len)
{
    for (*len = n < v->longest ? n : v->longest; *len > 0; --*len) {
        const int32_t id = infer_strs_find(&v->texts, text, *len);

        if (id >= 0)
            return id;
    }
    return -1;
}

/* The word is complete: its pieces, or the unknown token. */
static int end_word(struct state *s)
{
    struct word *w = &s->word;
    const size_t n_ids = s->out->n, n_spans = s->spans ? s->spans->n : 0;
    const size_t n = w->n;
    size_t len;

    w->n = 0;
    for (size_t i = 0; i < n; i += len) {
        const int32_t id = longest(s->v, w->text + i, n - i, &len);

        if (id < 0) {
            s->out->n = n_ids;
            if (s->spans)
                s->spans->n = n_spans;
            return s->v->unk < 0 ? 0
                                 : push(s, s->v->unk, w->from[0].begin,
                                        w->from[n - 1].end);
        }
        if (push(s, id, w->from[i].begin, w->from[i + len - 1].end) != 0)
            return INFER_ENOMEM;
    }
    return 0;
}

/* ---- characters -----------------------------------------------------------
 */

static bool is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == ' ' || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* CJK ideographs as BERT has them; the last extension begins where the
 * reference (and Hugging Face's) has it. */
static bool is_chinese(uint32_t cp)
{
    static const uint32_t ranges[][2] = {
        {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},
        {0x20000, 0x2a6df}, {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f},
        {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f},
    };

    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
        if (cp >= ranges[i][0] && cp <= ranges[i][1])
            return true;
    return false;
}

enum kind { KIND_DROP, KIND_SPACE, KIND_ALONE, KIND_WORD };

static enum kind kind_of(uint32_t cp)
{
    if (is_space(cp))
        return KIND_SPACE;
    if (cp == 0 || cp == 0xfffd)
        return KIND_DROP;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return KIND_DROP;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return KIND_ALONE;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return cp < 0x7f ? KIND_ALONE : KIND_WORD;
    default:
        return is_chinese(cp) ? KIND_ALONE : KIND_WORD;
    }
}

/* The first character of the canonical decomposition. */
static uint32_t base_of(uint32_t cp)
{
    utf8proc_int32_t parts[32];
    int boundary = 0;

    if (cp < 0xc0)
        return cp;
    return utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32,
                                   UTF8PROC_DECOMPOSE, &boundary) > 0
               ? (uint32_t)parts[0]
               : cp;
}

static int take_char(struct state *s, uint32_t cp, uint32_t begin, uint32_t end)
{
    const uint32_t base = base_of(cp);
    const enum kind kind = kind_of(base);
    int status = 0;

    if (kind == KIND_DROP)
        return 0;
    if (kind != KIND_WORD)
        status = end_word(s);
    if (kind == KIND_SPACE || status != 0)
        return status;
    status = add_char(s, (uint32_t)utf8proc_tolower((utf8proc_int32_t)base),
                      begin, end);
    return status == 0 && kind == KIND_ALONE ? end_word(s) : status;
}

int infer_wordpiece_encode(const struct infer_vocab *v, const char *text,
                           size_t len, size_t base, struct infer_ids *out,
                           struct infer_spans *spans)
{
    struct state s = {.v = v, .out = out, .spans = spans};
    int status = 0;

    for (size_t i = 0, n; i < len && status == 0; i += n) {
        uint32_t cp;

        n = infer_utf8_next_lax(text + i, len - i, &cp);
        status =
            take_char(&s, cp, (uint32_t)(base + i), (uint32_t)(base + i + n));
    }
    if (status == 0)
        status = end_word(&s);
    free(s.word.text);
    free(s.word.from);
    return status;
}
