/*
 * chars.c - see chars.h. A flat table of all code points (9 MB, untouched
 * pages cost nothing) makes counting one addition a character.
 *
 * In vocabularies of this kind U+2581 stands for a space, so the two share a
 * token.
 */
#include "trainer/tok/chars.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { CODE_POINTS = 0x110000, MARK = 0x2581 };

int train_chars_create(struct train_chars *c, struct infer_error *err)
{
    *c =
        (struct train_chars){.counts = calloc(CODE_POINTS, sizeof(*c->counts))};
    return c->counts ? 0
                     : infer_fail(err, INFER_ENOMEM,
                                  "out of memory counting characters");
}

void train_chars_release(struct train_chars *c)
{
    free(c->counts);
    *c = (struct train_chars){0};
}

void train_chars_add(struct train_chars *c, const char *text, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t cp = 0;

        n = infer_utf8_next(text + i, len - i, &cp);
        if (n == 0)
            return;
        c->counts[cp == ' ' ? MARK : cp]++;
        c->n++;
    }
}

static int rarer_last(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x < y) - (x > y);
}

/* The smallest count among the `room` most frequent; 0: all fit. Characters
 * at the limit itself are taken by code point while there is room. */
static int find_limit(const struct train_chars *c, size_t n_chars, size_t room,
                      uint64_t *limit, size_t *at_limit,
                      struct infer_error *err)
{
    uint64_t *sorted;
    size_t n = 0;

    *limit = 0;
    *at_limit = 0;
    if (n_chars <= room)
        return 0;
    sorted = malloc(n_chars * sizeof(*sorted));
    if (!sorted)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    for (size_t cp = 0; cp < CODE_POINTS; cp++)
        if (c->counts[cp])
            sorted[n++] = c->counts[cp];
    qsort(sorted, n, sizeof(*sorted), rarer_last);
    *limit = sorted[room - 1];
    for (size_t i = 0; i < room; i++)
        *at_limit += sorted[i] == *limit;
    free(sorted);
    return 0;
}

int train_chars_vocab(const struct train_chars *c, bool bytes,
                      uint64_t max_tokens, struct train_vocab *v,
                      uint64_t *dropped, struct infer_error *err)
{
    size_t n_chars = 0, at_limit;
    uint64_t limit;
    int status = train_vocab_specials(v, err);

    if (status == 0 && bytes)
        status = train_vocab_bytes(v, err);
    for (size_t cp = 0; cp < CODE_POINTS; cp++)
        n_chars += c->counts[cp] > 0;
    if (status == 0 && max_tokens && max_tokens <= v->n)
        return infer_fail(err, INFER_EINVAL,
                          "%llu tokens leave no room for characters; pass a "
                          "--vocab above %zu",
                          (unsigned long long)max_tokens, v->n);
    if (status == 0)
        status = find_limit(c, n_chars,
                            max_tokens ? (size_t)max_tokens - v->n : n_chars,
                            &limit, &at_limit, err);
    *dropped = 0;
    for (uint32_t cp = 0; cp < CODE_POINTS && status == 0; cp++) {
        char text[4];

        if (!c->counts[cp])
            continue;
        if (c->counts[cp] < limit || (c->counts[cp] == limit && !at_limit)) {
            *dropped += c->counts[cp];
            continue;
        }
        at_limit -= c->counts[cp] == limit;
        status = train_vocab_add(v, text, infer_utf8_put(text, cp), 0.0f,
                                 INFER_TOKEN_NORMAL, err);
    }
    return status;
}
