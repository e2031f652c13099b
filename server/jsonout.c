/*
 * jsonout.c - JSON written straight into a buffer.
 *
 * Building a tree only to print it costs an allocation per value; replies here
 * are small and many. Text comes from models and clients, so any bytes may
 * arrive: strings are escaped as RFC 8259 demands, and bytes that are not
 * UTF-8 are replaced, because a reply that is not UTF-8 is not JSON.
 */
#include "server/jsonout.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

size_t utf8_char(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t len;
    uint32_t c, low;

    if (n == 0)
        return 0;
    if (u[0] < 0x80)
        return 1;
    if (u[0] >= 0xc2 && u[0] < 0xe0)
        len = 2, c = u[0] & 0x1fu, low = 0x80;
    else if (u[0] >= 0xe0 && u[0] < 0xf0)
        len = 3, c = u[0] & 0x0fu, low = 0x800;
    else if (u[0] >= 0xf0 && u[0] < 0xf5)
        len = 4, c = u[0] & 0x07u, low = 0x10000;
    else
        return 0;
    if (n < len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (u[i] & 0x3fu);
    }
    if (c < low || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    return len;
}

struct json json_into(struct buf *out)
{
    return (struct json){.out = out};
}

static void before(struct json *j)
{
    if (j->comma)
        buf_char(j->out, ',');
    j->comma = true;
}

void json_open(struct json *j, char bracket)
{
    before(j);
    buf_char(j->out, bracket);
    j->comma = false;
}

void json_close(struct json *j, char bracket)
{
    buf_char(j->out, bracket);
    j->comma = true;
}

void json_key(struct json *j, const char *key)
{
    before(j);
    buf_char(j->out, '"');
    buf_str(j->out, key);
    buf_add(j->out, "\":", 2);
    j->comma = false;
}

/* What an ASCII character needs in front of a JSON string; 0: nothing. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void escaped(struct buf *out, unsigned char c)
{
    const char e = short_escape(c);

    if (e) {
        buf_char(out, '\\');
        buf_char(out, e);
    } else {
        buf_printf(out, "\\u%04x", c);
    }
}

void json_text(struct json *j, const char *text, size_t len)
{
    size_t start = 0, i = 0;

    if (!text) /* an empty buffer */
        text = "";
    before(j);
    buf_char(j->out, '"');
    while (i < len) {
        const unsigned char c = (unsigned char)text[i];
        size_t n;

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            i++;
            continue;
        }
        n = utf8_char(text + i, len - i);
        if (n > 1) {
            i += n;
            continue;
        }
        buf_add(j->out, text + start, i - start);
        if (n == 1)
            escaped(j->out, c);
        else
            buf_add(j->out, "\xef\xbf\xbd", 3);
        start = ++i;
    }
    buf_add(j->out, text + start, len - start);
    buf_char(j->out, '"');
}

void json_str(struct json *j, const char *text)
{
    json_text(j, text, strlen(text));
}

void json_int(struct json *j, int64_t v)
{
    before(j);
    buf_printf(j->out, "%" PRId64, v);
}

void json_uint(struct json *j, uint64_t v)
{
    before(j);
    buf_printf(j->out, "%" PRIu64, v);
}

void json_float(struct json *j, float v)
{
    before(j);
    if (isfinite(v))
        buf_printf(j->out, "%.9g", (double)v);
    else
        buf_str(j->out, "null");
}

void json_ms(struct json *j, double v)
{
    before(j);
    if (isfinite(v))
        buf_printf(j->out, "%.3f", v);
    else
        buf_str(j->out, "null");
}

void json_bool(struct json *j, bool v)
{
    before(j);
    buf_str(j->out, v ? "true" : "false");
}

void json_null(struct json *j)
{
    before(j);
    buf_str(j->out, "null");
}

void json_key_text(struct json *j, const char *key)
{
    json_str(j, key);
    buf_char(j->out, ':');
    j->comma = false;
}

void json_begin(struct json *j)
{
    before(j);
}

void json_raw(struct json *j, const char *text, size_t len)
{
    before(j);
    buf_add(j->out, text, len);
}

void json_key_str(struct json *j, const char *key, const char *text)
{
    json_key(j, key);
    json_str(j, text);
}

void json_key_uint(struct json *j, const char *key, uint64_t v)
{
    json_key(j, key);
    json_uint(j, v);
}
