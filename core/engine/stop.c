/*
 * stop.c - hold back what may be a stop string or half a character.
 *
 * After each token the buffer holds only the longest tail that begins some
 * stop string, or an incomplete character, so it stays as short as the longest
 * stop string and the searches below stay trivial. The result depends on the
 * concatenated bytes alone, never on where tokens were cut: the scan for
 * characters goes left to right, and of several stop strings the one that ends
 * first wins, as if the bytes came one by one.
 *
 * An invalid sequence becomes one U+FFFD per maximal subpart (Unicode 15,
 * section 3.9, "U+FFFD Substitution of Maximal Subparts").
 */
#include "core/engine/stop.h"

#include <assert.h>
#include <string.h>

enum unit_kind { UNIT_VALID, UNIT_INVALID, UNIT_PARTIAL };

static const char REPLACEMENT[3] = "\xef\xbf\xbd";

/* Continuation bytes after this first byte, and the range of the first. */
static int lead(uint8_t c, uint8_t *lo, uint8_t *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (c < 0x80)
        return 0;
    if (c < 0xc2 || c > 0xf4)
        return -1;
    if (c < 0xe0)
        return 1;
    if (c < 0xf0) {
        if (c == 0xe0)
            *lo = 0xa0; /* no overlong forms */
        if (c == 0xed)
            *hi = 0x9f; /* no surrogates */
        return 2;
    }
    if (c == 0xf0)
        *lo = 0x90;
    if (c == 0xf4)
        *hi = 0x8f; /* nothing past U+10FFFF */
    return 3;
}

/* The character or maximal invalid subpart at s[0..n), n >= 1. */
static enum unit_kind next_unit(const char *s, size_t n, size_t *len)
{
    uint8_t lo, hi;
    const int more = lead((uint8_t)s[0], &lo, &hi);

    *len = 1;
    if (more < 0)
        return UNIT_INVALID;
    for (int i = 1; i <= more; i++) {
        if (*len == n)
            return UNIT_PARTIAL;
        if ((uint8_t)s[i] < lo || (uint8_t)s[i] > hi)
            return UNIT_INVALID;
        lo = 0x80;
        hi = 0xbf;
        (*len)++;
    }
    return UNIT_VALID;
}

size_t infer_text_bytes(const struct infer_stops *stops, size_t n)
{
    /* held: less than a stop string, or 3 bytes of a character before it */
    return 4 * (stops->longest + 4 + n);
}

void infer_text_init(struct infer_text *t, const struct infer_stops *stops,
                     size_t n, char *memory)
{
    memset(t, 0, sizeof(*t));
    t->stops = stops;
    t->cap = (uint32_t)(stops->longest + 4 + n);
    t->raw = memory;
    t->out = memory + t->cap;
}

/* Extend out to the first n raw bytes; last: nothing follows them. */
static void show(struct infer_text *t, size_t n, bool last)
{
    size_t at = t->ready;

    while (at < n) {
        size_t len;
        const enum unit_kind kind = next_unit(t->raw + at, n - at, &len);
        const bool valid = kind == UNIT_VALID;

        if (kind == UNIT_PARTIAL && !last)
            break;
        memcpy(t->out + t->out_len, valid ? t->raw + at : REPLACEMENT,
               valid ? len : sizeof(REPLACEMENT));
        t->out_len += valid ? (uint32_t)len : (uint32_t)sizeof(REPLACEMENT);
        at += len;
    }
    t->ready = (uint32_t)at;
}

void infer_text_drop(struct infer_text *t)
{
    memmove(t->raw, t->raw + t->ready, t->len - t->ready);
    t->len -= t->ready;
    t->exempt -= t->exempt < t->ready ? t->exempt : t->ready;
    t->raw_base += t->ready;
    t->out_base += t->out_len;
    t->ready = t->out_len = 0;
}

/* Length of the longest stop string that ends at raw[end), or 0. */
static uint32_t stop_ending_at(const struct infer_text *t, uint32_t end)
{
    const struct infer_stops *s = t->stops;
    uint32_t best = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t len = s->len[i];

        if (len > best && len <= end - t->exempt &&
            memcmp(t->raw + end - len, s->text[i], len) == 0)
            best = len;
    }
    return best;
}

/* Length of the longest tail that begins a stop string. */
static uint32_t possible_stop(const struct infer_text *t)
{
    const struct infer_stops *s = t->stops;
    uint32_t best = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t k = t->len - t->exempt;

        if (k > s->len[i] - 1)
            k = s->len[i] - 1;
        for (; k > best; k--)
            if (memcmp(t->raw + t->len - k, s->text[i], k) == 0)
                best = k;
    }
    return best;
}

void infer_text_feed(struct infer_text *t, const char *bytes, size_t n,
                     bool exempt)
{
    uint32_t end;

    infer_text_drop(t);
    assert(n <= t->cap - t->len);
    end = t->len;
    memcpy(t->raw + t->len, bytes, n);
    t->len += (uint32_t)n;
    if (exempt)
        t->exempt = t->len;
    while (!exempt && end++ < t->len) {
        const uint32_t len = stop_ending_at(t, end);

        if (len > 0) {
            t->stopped = true;
            t->len = end - len;
            show(t, t->len, true);
            return;
        }
    }
    show(t, t->len - possible_stop(t), false);
}

void infer_text_finish(struct infer_text *t)
{
    show(t, t->len, true);
}

uint64_t infer_text_raw_end(const struct infer_text *t)
{
    return t->raw_base + t->len;
}

uint64_t infer_text_raw_shown(const struct infer_text *t)
{
    return t->raw_base + t->ready;
}

uint64_t infer_text_offset(const struct infer_text *t, uint64_t raw_pos)
{
    const uint64_t goal = raw_pos - t->raw_base;
    uint64_t at = 0, text = t->out_base;

    if (goal >= t->ready)
        return t->out_base + t->out_len;
    for (;;) {
        size_t len;
        const bool valid =
            next_unit(t->raw + at, t->ready - at, &len) == UNIT_VALID;

        if (at + len > goal)
            return text + (valid ? goal - at : 0);
        at += len;
        text += valid ? len : sizeof(REPLACEMENT);
    }
}
