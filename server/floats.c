/*
 * floats.c - many floats as text or base64, straight into a buffer.
 *
 * An embedding is some hundred numbers and a request has a thousand of them;
 * printf takes 0.5 us for each. Nine significant digits tell any two floats
 * apart, and a float times a power of ten in double is exact far beyond the
 * ninth digit, so an integer holds them all.
 */
#include "server/floats.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { DIGITS = 9, LOWEST = -45, HIGHEST = 38 };

/* 10^(8 - e) for exponents e of floats */
static double power(int e)
{
    static const double table[] = {
        1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int k = DIGITS - 1 - e;

    if (k >= 0)
        return k <= 22 ? table[k] : pow(10.0, k);
    return 1.0 / (k >= -22 ? table[-k] : pow(10.0, -k));
}

/* Nine digits of x > 0 and its decimal exponent. */
static uint32_t digits_of(double x, int *exponent)
{
    int e = (int)floor(log10(x));
    uint64_t m = (uint64_t)(x * power(e) + 0.5);

    if (m < 100000000) /* log10 rounds at powers of ten */
        m = (uint64_t)(x * power(--e) + 0.5);
    if (m >= 1000000000) {
        m = (m + 5) / 10;
        e++;
    }
    *exponent = e;
    return (uint32_t)m;
}

/* Digits of m without zeros at the end; how many. */
static int put_digits(char *d, uint32_t m)
{
    int n = DIGITS;

    for (int i = DIGITS - 1; i >= 0; i--, m /= 10)
        d[i] = (char)('0' + m % 10);
    while (n > 1 && d[n - 1] == '0')
        n--;
    return n;
}

/* d.ddde-dd */
static size_t scientific(char *p, const char *d, int n, int e)
{
    char *at = p;
    const unsigned size = (unsigned)(e < 0 ? -e : e);

    *at++ = d[0];
    if (n > 1) {
        *at++ = '.';
        memcpy(at, d + 1, (size_t)n - 1);
        at += n - 1;
    }
    *at++ = 'e';
    if (e < 0)
        *at++ = '-';
    if (size >= 10)
        *at++ = (char)('0' + size / 10);
    *at++ = (char)('0' + size % 10);
    return (size_t)(at - p);
}

static size_t plain(char *p, const char *d, int n, int e)
{
    char *at = p;

    if (e < 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = -1; i > e; i--)
            *at++ = '0';
        memcpy(at, d, (size_t)n);
        return (size_t)(at + n - p);
    }
    for (int i = 0; i <= e; i++)
        *at++ = i < n ? d[i] : '0';
    if (n > e + 1) {
        *at++ = '.';
        memcpy(at, d + e + 1, (size_t)(n - e - 1));
        at += n - e - 1;
    }
    return (size_t)(at - p);
}

size_t float_text(char *p, float v)
{
    char d[DIGITS], *at = p;
    int n, e;

    if (!isfinite(v)) {
        memcpy(p, "null", 4);
        return 4;
    }
    if (v == 0.0f) {
        *p = '0';
        return 1;
    }
    if (v < 0.0f)
        *at++ = '-';
    n = put_digits(d, digits_of(fabs((double)v), &e));
    at += e >= -5 && e < DIGITS ? plain(at, d, n, e) : scientific(at, d, n, e);
    return (size_t)(at - p);
}

void floats_json(struct buf *out, const float *v, size_t n)
{
    char *p;

    if (!buf_reserve(out, n * (FLOAT_CHARS + 1) + 2))
        return;
    p = out->data + out->len;
    *p++ = '[';
    for (size_t i = 0; i < n; i++) {
        if (i)
            *p++ = ',';
        p += float_text(p, v[i]);
    }
    *p++ = ']';
    out->len = (size_t)(p - out->data);
}

void floats_base64(struct buf *out, const float *v, size_t n)
{
    static const char code[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstu"
                               "vwxyz0123456789+/";
    const size_t bytes = 4 * n;
    char *p;

    if (!buf_reserve(out, (bytes + 2) / 3 * 4))
        return;
    p = out->data + out->len;
    for (size_t i = 0; i < bytes; i += 3) {
        const size_t left = bytes - i < 3 ? bytes - i : 3;
        uint32_t group = 0;

        for (size_t k = 0; k < 3; k++) {
            uint32_t word = 0;

            if (k < left)
                memcpy(&word, &v[(i + k) / 4], 4);
            group = group << 8 | (word >> 8 * ((i + k) % 4) & 0xff);
        }
        for (size_t k = 0; k < 4; k++)
            *p++ = k <= left ? code[group >> (18 - 6 * k) & 63] : '=';
    }
    out->len = (size_t)(p - out->data);
}
