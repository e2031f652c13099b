/* table_text.c - a file of labelled examples as UTF-8, whatever spreadsheet
 * program wrote it. */
#include "trainer/data/table_parts.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"
#include "trainer/data/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What Windows-1252 has at 0x80..0x9f; 0: nothing. */
static const uint16_t cp1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021,
    0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017d, 0,
    0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
    0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178};

static char *reserve(size_t n)
{
    return n < SIZE_MAX / 4 ? malloc(n * 3 + 4) : NULL;
}

static int from_cp1252(struct train_table *t, const struct train_map *m,
                       size_t *len)
{
    t->text = reserve(m->size);
    if (!t->text)
        return INFER_ENOMEM;
    for (size_t i = 0; i < m->size; i++) {
        const unsigned char c = (unsigned char)m->data[i];
        const uint32_t cp = c >= 0x80 && c < 0xa0 ? cp1252[c - 0x80] : c;

        *len += infer_utf8_put(t->text + *len, cp ? cp : 0xfffd);
    }
    snprintf(t->note, sizeof(t->note), "converted from Windows-1252");
    return 0;
}

static uint32_t unit16(const unsigned char *p, bool big)
{
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

/* Behind the byte order mark. */
static int from_utf16(struct train_table *t, const struct train_map *m,
                      bool big, size_t *len)
{
    const unsigned char *s = (const unsigned char *)m->data;

    t->text = reserve(m->size);
    if (!t->text)
        return INFER_ENOMEM;
    for (size_t i = 2; i + 1 < m->size; i += 2) {
        uint32_t cp = unit16(s + i, big);

        if (cp >= 0xd800 && cp < 0xdc00 && i + 3 < m->size) {
            const uint32_t low = unit16(s + i + 2, big);

            if (low >= 0xdc00 && low < 0xe000) {
                cp = 0x10000 + ((cp - 0xd800) << 10 | (low - 0xdc00));
                i += 2;
            }
        }
        if (cp >= 0xd800 && cp < 0xe000)
            cp = 0xfffd; /* half a pair */
        *len += infer_utf8_put(t->text + *len, cp);
    }
    snprintf(t->note, sizeof(t->note), "converted from UTF-16 (%s)",
             big ? "big endian" : "little endian");
    return 0;
}

static int as_it_is(struct train_table *t, const struct train_map *m,
                    size_t *len)
{
    const size_t skip =
        m->size >= 3 && memcmp(m->data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    t->text = malloc(m->size + 1);
    if (!t->text)
        return INFER_ENOMEM;
    *len = m->size - skip;
    memcpy(t->text, m->data + skip, *len);
    return 0;
}

static int check(const struct train_table *t, size_t len,
                 struct infer_error *err)
{
    uint64_t line = 1;
    char what[160];
    uint32_t cp;

    for (size_t i = 0, n; i < len; i += n) {
        n = infer_utf8_next(t->text + i, len - i, &cp);
        if (n == 0) {
            snprintf(what, sizeof(what),
                     "byte 0x%02x is not UTF-8; convert the file, or pass "
                     "--encoding cp1252 if that is what it is",
                     (unsigned char)t->text[i]);
            return train_table_fail(t, line, what, err);
        }
        if (t->text[i] == '\0')
            return train_table_fail(t, line,
                                    "a NUL byte: this is not a text file", err);
        line += t->text[i] == '\n';
    }
    return 0;
}

int train_table_load(struct train_table *t, enum train_encoding encoding,
                     size_t *len, struct infer_error *err)
{
    struct train_map m = {"", 0};
    int status = train_map_open(&m, t->path, err);
    const bool little = m.size >= 2 && memcmp(m.data, "\xff\xfe", 2) == 0;
    const bool big = m.size >= 2 && memcmp(m.data, "\xfe\xff", 2) == 0;

    if (status != 0)
        return status;
    *len = 0;
    if (little || big)
        status = from_utf16(t, &m, big, len);
    else if (encoding == TRAIN_ENCODING_CP1252)
        status = from_cp1252(t, &m, len);
    else
        status = as_it_is(t, &m, len);
    train_map_close(&m);
    if (status != 0)
        return infer_fail(err, status, "out of memory for '%.100s'", t->path);
    t->text[*len] = '\0';
    return check(t, *len, err);
}
