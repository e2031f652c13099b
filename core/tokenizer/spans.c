/*
 * spans.c - which bytes of a text each token came from.
 *
 * SentencePiece and byte-level BPE cut a text and change nothing in it, so the
 * tokens' bytes, one after the other, are the text (behind a space that
 * SentencePiece may put first). Where that fails (bytes that were not UTF-8, a
 * piece nobody has) the walk takes what fits and goes on.
 */
#include "core/tokenizer/utf8.h"
#include "core/tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

int infer_spans_push(struct infer_spans *s, uint32_t begin, uint32_t end)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 64;
        struct infer_span *data = realloc(s->data, cap * sizeof(*data));

        if (!data)
            return INFER_ENOMEM;
        s->data = data;
        s->cap = cap;
    }
    s->data[s->n++] = (struct infer_span){begin, end};
    return 0;
}

/* Bytes of text that token[0..n) is the copy of (SentencePiece's space may be
 * U+2581 in the text); -1: it is not. */
static ptrdiff_t match(const char *token, size_t n, const char *text,
                       size_t left)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (at < left && token[i] == text[at])
            at++;
        else if (token[i] == ' ' && left - at >= 3 &&
                 memcmp(text + at, "\xe2\x96\x81", 3) == 0)
            at += 3;
        else
            return -1;
    }
    return (ptrdiff_t)at;
}

/* Bytes of the text at a place that a token with these bytes takes. */
static size_t taken(const struct infer_gguf_str *token, const char *text,
                    size_t left, bool prefix)
{
    const size_t n = (size_t)token->len;
    ptrdiff_t k = -1;
    uint32_t cp;

    if (prefix && n > 0 && token->data[0] == ' ')
        k = match(token->data + 1, n - 1, text, left);
    if (k < 0 && n > 0)
        k = match(token->data, n, text, left);
    if (k >= 0)
        return (size_t)k;
    if (n == 0)
        return left ? infer_utf8_next_lax(text, left, &cp) : 0;
    return n < left ? n : left;
}

/* The character around byte i: a token of half a character stands for it. */
static size_t char_begin(const char *text, size_t len, size_t i)
{
    size_t at = i;
    uint32_t cp;

    while (at > 0 && i - at < 3 && ((unsigned char)text[at] & 0xc0) == 0x80)
        at--;
    return infer_utf8_next(text + at, len - at, &cp) ? at : i;
}

static size_t char_end(const char *text, size_t len, size_t i)
{
    size_t at = i;

    while (at < len && at - i < 3 && ((unsigned char)text[at] & 0xc0) == 0x80)
        at++;
    return at;
}

int infer_spans_align(const struct infer_vocab *v, const char *text, size_t len,
                      size_t base, const int32_t *ids, size_t n,
                      struct infer_spans *out)
{
    const bool prefix = v->family == INFER_FAMILY_SPM && v->add_space_prefix;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t end = at + taken(&v->bytes[ids[i]], text + at, len - at,
                                      prefix && i == 0);
        size_t b = at, e = end;

        if (end > at) {
            b = char_begin(text, len, at);
            e = char_end(text, len, end);
        }
        if (infer_spans_push(out, (uint32_t)(base + b), (uint32_t)(base + e)) !=
            0)
            return INFER_ENOMEM;
        at = end;
    }
    return 0;
}
