/*
 * utf8.c - decode and encode single characters, and find where a stream of
 * bytes may be cut.
 *
 * The smallest and largest second byte of each lead byte carry all of RFC
 * 3629's exceptions (overlong forms, surrogates, the end at U+10FFFF), so one
 * rule serves the decoder and the search for an incomplete tail.
 */
#include "core/tokenizer/utf8.h"

#include "infer.h"

/* Length by lead byte, and the range of the second; 0: not a lead byte. */
static size_t lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    *high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    return c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* How many bytes of s belong to the character it starts with; *n: how many it
 * needs (0: invalid lead byte). */
static size_t valid_prefix(const char *s, size_t len, size_t *n)
{
    unsigned char low, high;
    size_t i = 1;

    *n = lead((unsigned char)s[0], &low, &high);
    for (; i < *n && i < len; i++) {
        const unsigned char c = (unsigned char)s[i];

        if (c < low || c > high)
            break;
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

size_t infer_utf8_next(const char *s, size_t len, uint32_t *cp)
{
    static const unsigned char mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t n;
    uint32_t c;

    if (valid_prefix(s, len, &n) < n || n == 0)
        return 0;
    c = (unsigned char)s[0] & mask[n];
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    *cp = c;
    return n;
}

size_t infer_utf8_next_lax(const char *s, size_t len, uint32_t *cp)
{
    const unsigned char c = (unsigned char)s[0];
    const size_t n = c < 0x80   ? 1
                     : c < 0xc0 ? 0
                     : c < 0xe0 ? 2
                     : c < 0xf0 ? 3
                                : 4;

    *cp = n == 1 ? c : 0xfffd;
    if (n == 1)
        return 1;
    if (n == 0 || n > len || c >= 0xf8)
        return 1;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 1;
    *cp = n == 2 ? c & 0x1fu : n == 3 ? c & 0x0fu : c & 0x07u;
    for (size_t i = 1; i < n; i++)
        *cp = *cp << 6 | ((unsigned char)s[i] & 0x3f);
    if (*cp < 0x110000)
        return n;
    *cp = 0xfffd;
    return 1;
}

size_t infer_utf8_put(char *s, uint32_t cp)
{
    if (cp < 0x80) {
        s[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        s[0] = (char)(0xc0 | cp >> 6);
        s[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        s[0] = (char)(0xe0 | cp >> 12);
        s[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        s[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    s[0] = (char)(0xf0 | cp >> 18);
    s[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    s[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    s[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

size_t infer_utf8_complete(const char *text, size_t len)
{
    /* an incomplete character is at most three bytes at the very end */
    for (size_t tail = 1; tail <= 3 && tail <= len; tail++) {
        const char *s = text + len - tail;
        size_t n;

        if (((unsigned char)*s & 0xc0) == 0x80)
            continue; /* a continuation: its lead byte is further left */
        return valid_prefix(s, tail, &n) == tail && n > tail ? len - tail : len;
    }
    return len;
}
