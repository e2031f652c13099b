/*
 * schema_text.c - strings of a schema, and the literals of enum and const.
 *
 * Strings are UTF-8 without overlong forms or surrogates; escapes are those of
 * RFC 8259, \u of a surrogate only in pairs, and never \u0000. One character
 * is one code point, however it is written, as minLength counts.
 */
#include "server/jsonout.h"
#include "server/schema_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- characters ---------------------------------------------------------- */

static uint32_t hex(struct compiler *c, const char *digits)
{
    uint8_t set[32] = {0};

    for (; *digits; digits++)
        set[(uint8_t)*digits / 8] |= (uint8_t)(1u << (uint8_t)*digits % 8);
    return infer_grammar_bytes(c->g, set);
}

static uint32_t four(struct compiler *c, uint32_t a, uint32_t b, uint32_t d,
                     uint32_t e)
{
    return infer_grammar_sequence(c->g, (uint32_t[]){a, b, d, e}, 4);
}

/* What follows \u: any unit that is neither zero nor a surrogate, or a pair. */
static uint32_t unit(struct compiler *c)
{
    const uint32_t any = hex(c, "0123456789abcdefABCDEF");
    const uint32_t positive = hex(c, "123456789abcdefABCDEF");
    const uint32_t zero = hex(c, "0"), d = hex(c, "dD");
    const uint32_t first = hex(c, "123456789abcefABCEF");
    const uint32_t parts[] = {
        four(c, first, any, any, any),
        four(c, d, hex(c, "01234567"), any, any),
        four(c, zero, positive, any, any),
        four(c, zero, zero, positive, any),
        four(c, zero, zero, zero, positive),
        infer_grammar_sequence(
            c->g,
            (uint32_t[]){four(c, d, hex(c, "89abAB"), any, any),
                         schema_word(c, "\\u"),
                         four(c, d, hex(c, "cdefCDEF"), any, any)},
            3),
    };

    return infer_grammar_choice(c->g, parts, sizeof(parts) / sizeof(parts[0]));
}

static uint32_t plain_ascii(struct compiler *c)
{
    uint8_t set[32] = {0};

    for (unsigned b = 0x20; b < 0x80; b++)
        if (b != '"' && b != '\\')
            set[b / 8] |= (uint8_t)(1u << b % 8);
    return infer_grammar_bytes(c->g, set);
}

uint32_t schema_character(struct compiler *c)
{
    if (!c->character) {
        const uint32_t tail = schema_range(c, 0x80, 0xbf);
        const uint32_t parts[] = {
            plain_ascii(c),
            schema_pair(c, schema_range(c, 0xc2, 0xdf), tail),
            infer_grammar_sequence(c->g,
                                   (uint32_t[]){schema_word(c, "\xe0"),
                                                schema_range(c, 0xa0, 0xbf),
                                                tail},
                                   3),
            infer_grammar_sequence(
                c->g, (uint32_t[]){schema_range(c, 0xe1, 0xec), tail, tail}, 3),
            infer_grammar_sequence(c->g,
                                   (uint32_t[]){schema_word(c, "\xed"),
                                                schema_range(c, 0x80, 0x9f),
                                                tail},
                                   3),
            infer_grammar_sequence(
                c->g, (uint32_t[]){schema_range(c, 0xee, 0xef), tail, tail}, 3),
            four(c, schema_word(c, "\xf0"), schema_range(c, 0x90, 0xbf), tail,
                 tail),
            four(c, schema_range(c, 0xf1, 0xf3), tail, tail, tail),
            four(c, schema_word(c, "\xf4"), schema_range(c, 0x80, 0x8f), tail,
                 tail),
            schema_pair(
                c, schema_word(c, "\\"),
                schema_either(c, hex(c, "\"\\/bfnrt"),
                              schema_pair(c, schema_word(c, "u"), unit(c)))),
        };

        c->character =
            infer_grammar_choice(c->g, parts, sizeof(parts) / sizeof(parts[0]));
    }
    return c->character;
}

static uint32_t quoted(struct compiler *c, uint32_t inside)
{
    const uint32_t quote = schema_word(c, "\"");

    return infer_grammar_sequence(c->g, (uint32_t[]){quote, inside, quote}, 3);
}

uint32_t schema_free_string(struct compiler *c)
{
    if (!c->free_string)
        c->free_string = quoted(
            c, infer_grammar_repeat(c->g, schema_character(c), 0, UINT32_MAX));
    return c->free_string;
}

/* ---- literals ------------------------------------------------------------ */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One of n sorted, different texts, of which the first `from` bytes are equal
 * and already written: a tree, so that a common beginning is one reading. */
static uint32_t tree(struct compiler *c, char **texts, size_t n, size_t from)
{
    uint32_t parts[257];
    size_t n_parts = 0, i = 0;

    if (n == 1)
        return schema_word(c, texts[0] + from);
    if (!texts[0][from]) { /* ends here, or goes on */
        parts[n_parts++] = infer_grammar_sequence(c->g, NULL, 0);
        i = 1;
    }
    while (i < n) {
        size_t end = i + 1, shared = from + 1;
        char **group = texts + i;

        while (end < n && texts[end][from] == group[0][from])
            end++;
        if (end > i + 1) /* sorted: the first and the last share least */
            while (group[0][shared] &&
                   group[0][shared] == texts[end - 1][shared])
                shared++;
        if (end == i + 1)
            parts[n_parts++] = schema_word(c, group[0] + from);
        else
            parts[n_parts++] = schema_pair(
                c, infer_grammar_text(c->g, group[0] + from, shared - from),
                tree(c, group, end - i, shared));
        i = end;
    }
    return infer_grammar_choice(c->g, parts, n_parts);
}

uint32_t schema_literals(struct compiler *c, char **texts, size_t n)
{
    size_t unique = 1;
    char **sorted = calloc(n, sizeof(*sorted));
    uint32_t part;

    if (!sorted)
        return schema_fail(c, NULL, INFER_ENOMEM, "out of memory");
    memcpy(sorted, texts, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_text);
    for (size_t i = 1; i < n; i++)
        if (strcmp(sorted[i], sorted[unique - 1]) != 0)
            sorted[unique++] = sorted[i];
    part = tree(c, sorted, unique, 0);
    free(sorted);
    return part;
}

/* As tree(), for all strings that are none of the names; then the quote. */
static uint32_t other(struct compiler *c, const char **names, size_t n,
                      size_t from, uint32_t rest)
{
    uint8_t set[32] = {0};
    uint32_t parts[130];
    size_t n_parts = 0, i = 0;

    for (unsigned b = 0x20; b < 0x7f; b++)
        if (b != '"' && b != '\\')
            set[b / 8] |= (uint8_t)(1u << b % 8);
    if (n > 0 && !names[0][from])
        i = 1; /* a name: must go on */
    else if (from > 0)
        parts[n_parts++] = schema_word(c, "\"");
    while (i < n) {
        const uint8_t b = (uint8_t)names[i][from];
        size_t end = i + 1;

        while (end < n && (uint8_t)names[end][from] == b)
            end++;
        if (b >= 0x20 && b < 0x7f && b != '"' && b != '\\') {
            set[b / 8] &= (uint8_t) ~(1u << b % 8);
            parts[n_parts++] =
                schema_pair(c, schema_range(c, b, b),
                            other(c, names + i, end - i, from + 1, rest));
        }
        i = end;
    }
    parts[n_parts++] = schema_pair(c, infer_grammar_bytes(c->g, set), rest);
    return infer_grammar_choice(c->g, parts, n_parts);
}

uint32_t schema_other_key(struct compiler *c, const char **names, size_t n)
{
    const uint32_t rest = schema_pair(
        c,
        infer_grammar_repeat(
            c->g,
            schema_either(c, schema_range(c, 0x23, 0x5b),
                          schema_either(c, schema_range(c, ' ', '!'),
                                        schema_range(c, ']', '~'))),
            0, UINT32_MAX),
        schema_word(c, "\""));
    size_t unique = 0;

    qsort(names, n, sizeof(*names), by_text);
    for (size_t i = 0; i < n; i++)
        if (unique == 0 || strcmp(names[i], names[unique - 1]) != 0)
            names[unique++] = names[i];
    return schema_pair(c, schema_word(c, "\""),
                       other(c, names, unique, 0, rest));
}

static bool print_value(struct compiler *c, struct json *j, const cJSON *v,
                        const struct place *at)
{
    const cJSON *item;

    if (cJSON_IsString(v)) {
        json_str(j, v->valuestring);
    } else if (cJSON_IsNumber(v)) {
        char text[32];

        if (!(v->valuedouble >= -9e15 && v->valuedouble <= 9e15)) {
            schema_fail(c, at, INFER_EUNSUPPORTED,
                        "a number of enum or const is beyond 9e15");
            return false;
        }
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof(text), "%.*g", digits, v->valuedouble);
            if (strtod(text, NULL) == v->valuedouble)
                break;
        }
        json_raw(j, text, strlen(text));
    } else if (cJSON_IsArray(v) || cJSON_IsObject(v)) {
        json_open(j, cJSON_IsArray(v) ? '[' : '{');
        cJSON_ArrayForEach (item, v) {
            if (cJSON_IsObject(v)) {
                json_key_text(j, item->string);
            }
            if (!print_value(c, j, item, at))
                return false;
        }
        json_close(j, cJSON_IsArray(v) ? ']' : '}');
    } else {
        const char *word = cJSON_IsNull(v)   ? "null"
                           : cJSON_IsTrue(v) ? "true"
                                             : "false";

        json_raw(j, word, strlen(word));
    }
    return true;
}

char *schema_print(struct compiler *c, const cJSON *v, const struct place *at)
{
    struct buf out = {0};
    struct json j = json_into(&out);
    const bool ok = print_value(c, &j, v, at);

    buf_char(&out, '\0');
    if (ok && !out.failed)
        return out.data;
    if (ok)
        schema_fail(c, at, INFER_ENOMEM, "out of memory");
    buf_release(&out);
    return NULL;
}

char *schema_quote(const char *text)
{
    struct buf out = {0};
    struct json j = json_into(&out);

    json_str(&j, text);
    buf_char(&out, '\0');
    if (!out.failed)
        return out.data;
    buf_release(&out);
    return NULL;
}

/* ---- keywords ------------------------------------------------------------ */

static const char *format_pattern(const char *name)
{
#define DATE "[0-9]{3}[1-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
#define TIME                                                                   \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"                 \
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    static const struct {
        const char *name, *pattern;
    } table[] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"uuid", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
        {"email", "^[a-z0-9]+([._+-][a-z0-9]+){0,4}@[a-z0-9]+(-[a-z0-9]+){0,4}"
                  "(\\.[a-z]{2,10}){1,3}$"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].pattern;
    return NULL;
}

uint32_t schema_string(struct compiler *c, const cJSON *s,
                       const struct place *at)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(s, "pattern");
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(s, "format");
    const char *text = NULL;
    uint32_t least = 0, most = UINT32_MAX;

    if (!schema_count(c, s, "minLength", at, &least) ||
        !schema_count(c, s, "maxLength", at, &most))
        return 0;
    if (least > most)
        return schema_fail(c, at, INFER_EINVAL, "minLength is above maxLength");
    if (pattern && !cJSON_IsString(pattern))
        return schema_fail(c, at, INFER_EINVAL, "pattern must be a string");
    if (format && !cJSON_IsString(format))
        return schema_fail(c, at, INFER_EINVAL, "format must be a string");
    if (!!pattern + !!format + (least > 0 || most != UINT32_MAX) > 1)
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "only one of pattern, format and a length is "
                           "supported; a pattern may count: {2,5}");
    if (pattern)
        text = pattern->valuestring;
    else if (format && !(text = format_pattern(format->valuestring)))
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "format '%.40s' is not supported; date, time, "
                           "date-time, uuid, ipv4 and email are",
                           format->valuestring);
    if (text)
        return quoted(c, schema_pattern(c, text, at));
    if (least == 0 && most == UINT32_MAX)
        return schema_free_string(c);
    return quoted(c,
                  infer_grammar_repeat(c->g, schema_character(c), least, most));
}
