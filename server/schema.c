/*
 * schema.c - keywords, types and literals of a schema.
 *
 * The schema is a stranger's, and the event loop compiles it. It is walked
 * once, no deeper than the JSON parser allows; sizes are bounded by constants
 * of schema_parts.h, and the first part that the grammar has no room for ends
 * it. Whatever else could cost more than the schema's size is charged against
 * SCHEMA_MAX_WORK.
 */
#include "server/schema_parts.h"

#include "server/config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- failure ------------------------------------------------------------- */

static size_t write_place(const struct place *at, char *out, size_t size)
{
    size_t n;

    if (!at)
        return (size_t)snprintf(out, size, "#");
    n = write_place(at->up, out, size);
    if (n >= size)
        return n;
    return n + (size_t)(at->key
                            ? snprintf(out + n, size - n, "/%.40s", at->key)
                            : snprintf(out + n, size - n, "/%d", at->index));
}

uint32_t schema_fail(struct compiler *c, const struct place *at, int status,
                     const char *fmt, ...)
{
    char where[120], what[160];
    va_list ap;

    if (c->failed)
        return 0;
    c->failed = true;
    write_place(at, where, sizeof(where));
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    config_fail(c->err, status, "%s: %s", where, what);
    return 0;
}

bool schema_charge(struct compiler *c, const struct place *at, size_t steps)
{
    c->work += steps;
    if (c->work > SCHEMA_MAX_WORK)
        schema_fail(c, at, INFER_ETOOLONG,
                    "the schema takes too many steps: it has too many names "
                    "to look up, or values to compare");
    return !c->failed;
}

/* The grammar has no room or no memory for a part. */
static uint32_t part_failed(struct compiler *c, const struct place *at)
{
    struct infer_error why = {0};
    const int rc = infer_grammar_finish(c->g, 0, NULL, &why);

    return schema_fail(c, at, rc, "%s", why.text);
}

/* ---- small tools --------------------------------------------------------- */

uint32_t schema_word(struct compiler *c, const char *text)
{
    return infer_grammar_text(c->g, text, strlen(text));
}

uint32_t schema_range(struct compiler *c, unsigned lo, unsigned hi)
{
    uint8_t set[32] = {0};

    for (unsigned b = lo; b <= hi; b++)
        set[b / 8] |= (uint8_t)(1u << b % 8);
    return infer_grammar_bytes(c->g, set);
}

uint32_t schema_pair(struct compiler *c, uint32_t a, uint32_t b)
{
    const uint32_t parts[] = {a, b};

    return infer_grammar_sequence(c->g, parts, 2);
}

uint32_t schema_either(struct compiler *c, uint32_t a, uint32_t b)
{
    const uint32_t parts[] = {a, b};

    return infer_grammar_choice(c->g, parts, 2);
}

uint32_t schema_space(struct compiler *c)
{
    if (!c->space) {
        const uint32_t blank = schema_range(c, ' ', ' ');
        const uint32_t parts[] = {
            infer_grammar_sequence(c->g, NULL, 0),
            blank,
            schema_pair(c, schema_word(c, "\n"),
                        infer_grammar_repeat(c->g, blank, 0, 20)),
        };

        c->space = infer_grammar_choice(c->g, parts, 3);
    }
    return c->space;
}

uint32_t schema_any(struct compiler *c)
{
    if (!c->any) {
        c->any = infer_grammar_rule(c->g);
        if (!c->any) /* too large, or out of memory: ends here */
            return 0;
        const uint32_t parts[] = {
            schema_free_string(c),       schema_number(c, NULL, false, NULL),
            schema_word(c, "true"),      schema_word(c, "false"),
            schema_word(c, "null"),      schema_object(c, NULL, NULL),
            schema_array(c, NULL, NULL),
        };

        infer_grammar_define(
            c->g, c->any,
            infer_grammar_choice(c->g, parts,
                                 sizeof(parts) / sizeof(parts[0])));
    }
    return c->any;
}

const cJSON *schema_member(struct compiler *c, const cJSON *s, const char *name,
                           const struct place *at)
{
    const cJSON *v;

    if (!cJSON_IsObject(s))
        return NULL;
    cJSON_ArrayForEach (v, s) {
        if (!schema_charge(c, at, 1))
            return NULL;
        if (strcmp(v->string, name) == 0)
            return v;
    }
    return NULL;
}

bool schema_count(struct compiler *c, const cJSON *s, const char *key,
                  const struct place *at, uint32_t *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(s, key);
    const double x = cJSON_IsNumber(v) ? v->valuedouble : -1;

    if (!v)
        return true;
    if (!(x >= 0) || x != floor(x)) {
        schema_fail(c, at, INFER_EINVAL, "%s must be a whole number from 0",
                    key);
        return false;
    }
    /* more than any text has: no limit */
    *out = x < 1e9 ? (uint32_t)x : UINT32_MAX;
    return true;
}

/* ---- keywords ------------------------------------------------------------ */

enum keyword {
    KEY_NOTE, /* says nothing about the value */
    KEY_TYPE,
    KEY_ENUM,
    KEY_UNION, /* $ref, anyOf, oneOf, allOf: alone, but for notes */
    KEY_OBJECT,
    KEY_ARRAY,
    KEY_STRING,
    KEY_NUMBER,
    KEY_UNKNOWN
};

static enum keyword keyword_of(const char *name)
{
    static const struct {
        const char *name;
        enum keyword kind;
    } table[] = {
        {"$schema", KEY_NOTE},
        {"$id", KEY_NOTE},
        {"$comment", KEY_NOTE},
        {"$defs", KEY_NOTE},
        {"definitions", KEY_NOTE},
        {"title", KEY_NOTE},
        {"description", KEY_NOTE},
        {"default", KEY_NOTE},
        {"example", KEY_NOTE},
        {"examples", KEY_NOTE},
        {"deprecated", KEY_NOTE},
        {"readOnly", KEY_NOTE},
        {"writeOnly", KEY_NOTE},
        {"discriminator", KEY_NOTE},
        {"type", KEY_TYPE},
        {"enum", KEY_ENUM},
        {"const", KEY_ENUM},
        {"$ref", KEY_UNION},
        {"anyOf", KEY_UNION},
        {"oneOf", KEY_UNION},
        {"allOf", KEY_UNION},
        {"properties", KEY_OBJECT},
        {"required", KEY_OBJECT},
        {"additionalProperties", KEY_OBJECT},
        {"items", KEY_ARRAY},
        {"prefixItems", KEY_ARRAY},
        {"minItems", KEY_ARRAY},
        {"maxItems", KEY_ARRAY},
        {"uniqueItems", KEY_ARRAY},
        {"minLength", KEY_STRING},
        {"maxLength", KEY_STRING},
        {"pattern", KEY_STRING},
        {"format", KEY_STRING},
        {"minimum", KEY_NUMBER},
        {"maximum", KEY_NUMBER},
        {"exclusiveMinimum", KEY_NUMBER},
        {"exclusiveMaximum", KEY_NUMBER},
        {"multipleOf", KEY_NUMBER},
    };

    if (strncmp(name, "x-", 2) == 0)
        return KEY_NOTE;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].kind;
    return KEY_UNKNOWN;
}

/* Bits: 1 << enum keyword. */
static unsigned keywords(struct compiler *c, const cJSON *s,
                         const struct place *at)
{
    unsigned found = 0;
    const cJSON *v;

    cJSON_ArrayForEach (v, s) {
        const enum keyword k = keyword_of(v->string);

        if (k == KEY_UNKNOWN)
            schema_fail(c, at, INFER_EUNSUPPORTED,
                        "the keyword '%.40s' is not supported", v->string);
        found |= 1u << k;
    }
    return found & ~(1u << KEY_NOTE);
}

/* ---- literals ------------------------------------------------------------ */

static bool has_type(const cJSON *v, const char *name)
{
    if (strcmp(name, "integer") == 0)
        return cJSON_IsNumber(v) && v->valuedouble == floor(v->valuedouble);
    return (strcmp(name, "string") == 0 && cJSON_IsString(v)) ||
           (strcmp(name, "number") == 0 && cJSON_IsNumber(v)) ||
           (strcmp(name, "boolean") == 0 && cJSON_IsBool(v)) ||
           (strcmp(name, "null") == 0 && cJSON_IsNull(v)) ||
           (strcmp(name, "object") == 0 && cJSON_IsObject(v)) ||
           (strcmp(name, "array") == 0 && cJSON_IsArray(v));
}

/* type is absent, a name or a list of few names. */
static bool type_allows(const cJSON *type, const cJSON *v)
{
    const cJSON *name;

    if (cJSON_IsString(type))
        return has_type(v, type->valuestring);
    cJSON_ArrayForEach (name, type) {
        if (cJSON_IsString(name) && has_type(v, name->valuestring))
            return true;
    }
    return !type;
}

/* type: absent, a name or a list of different names. */
static bool check_type(struct compiler *c, const cJSON *type,
                       const struct place *at)
{
    const cJSON *a, *b;
    int n = 0;

    if (!type || cJSON_IsString(type))
        return true;
    cJSON_ArrayForEach (a, type) {
        if (!cJSON_IsString(a) || ++n > SCHEMA_MAX_TYPES)
            break;
        for (b = type->child; b != a; b = b->next)
            if (strcmp(a->valuestring, b->valuestring) == 0) {
                schema_fail(c, at, INFER_EINVAL, "type names '%.40s' twice",
                            a->valuestring);
                return false;
            }
    }
    if (cJSON_IsArray(type) && n > 0 && !a)
        return true;
    schema_fail(c, at, INFER_EINVAL,
                "type must be a name or a list of 1 to %d names",
                SCHEMA_MAX_TYPES);
    return false;
}

static uint32_t enumeration(struct compiler *c, const cJSON *s,
                            const struct place *at)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s, "enum");
    const cJSON *only = cJSON_GetObjectItemCaseSensitive(s, "const");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(s, "type"), *v;
    const int n = only ? 1 : cJSON_GetArraySize(list);
    uint32_t part = 0;
    char **texts;
    size_t count = 0;

    if (list && only)
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "enum beside const is not supported");
    if (!check_type(c, type, at))
        return 0;
    if (!only && (!cJSON_IsArray(list) || n == 0 || n > SCHEMA_MAX_ENUM))
        return schema_fail(c, at, INFER_EINVAL,
                           "enum must be a list of 1 to %d values",
                           SCHEMA_MAX_ENUM);
    texts = calloc((size_t)n, sizeof(*texts));
    if (!texts)
        return schema_fail(c, at, INFER_ENOMEM, "out of memory");
    for (v = only ? only : list->child; v; v = only ? NULL : v->next)
        if (type_allows(type, v)) {
            texts[count] = schema_print(c, v, at);
            count += texts[count] != NULL;
        }
    if (count > 0)
        part = schema_literals(c, texts, count);
    else
        schema_fail(c, at, INFER_EINVAL, "no value is of the type");
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
    return part;
}

/* ---- types --------------------------------------------------------------- */

static uint32_t of_type(struct compiler *c, const cJSON *s, const char *type,
                        const struct place *at)
{
    if (strcmp(type, "object") == 0)
        return schema_object(c, s, at);
    if (strcmp(type, "array") == 0)
        return schema_array(c, s, at);
    if (strcmp(type, "string") == 0)
        return schema_string(c, s, at);
    if (strcmp(type, "integer") == 0)
        return schema_number(c, s, true, at);
    if (strcmp(type, "number") == 0)
        return schema_number(c, s, false, at);
    if (strcmp(type, "boolean") == 0)
        return schema_either(c, schema_word(c, "true"),
                             schema_word(c, "false"));
    if (strcmp(type, "null") == 0)
        return schema_word(c, "null");
    return schema_fail(c, at, INFER_EINVAL, "there is no type '%.40s'", type);
}

static uint32_t of_types(struct compiler *c, const cJSON *s, const cJSON *type,
                         const struct place *at)
{
    uint32_t parts[SCHEMA_MAX_TYPES];
    size_t n = 0;
    const cJSON *v;

    if (!check_type(c, type, at))
        return 0;
    if (cJSON_IsString(type))
        return of_type(c, s, type->valuestring, at);
    cJSON_ArrayForEach (v, type)
        parts[n++] = of_type(c, s, v->valuestring, at);
    return infer_grammar_choice(c->g, parts, n);
}

/* Without a type: the one that the other keywords speak of. */
static uint32_t guess_type(struct compiler *c, const cJSON *s, unsigned found,
                           const struct place *at)
{
    switch (found) {
    case 0:
        return schema_any(c);
    case 1u << KEY_OBJECT:
        return schema_object(c, s, at);
    case 1u << KEY_ARRAY:
        return schema_array(c, s, at);
    case 1u << KEY_STRING:
        return schema_string(c, s, at);
    case 1u << KEY_NUMBER:
        return schema_number(c, s, false, at);
    default:
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "keywords of several types need a 'type'");
    }
}

static uint32_t value_of(struct compiler *c, const cJSON *s,
                         const struct place *at)
{
    unsigned found;

    if (cJSON_IsTrue(s))
        return schema_any(c);
    if (cJSON_IsFalse(s))
        return schema_fail(c, at, INFER_EINVAL, "nothing satisfies false");
    if (!cJSON_IsObject(s))
        return schema_fail(c, at, INFER_EINVAL,
                           "a schema must be an object or a boolean");
    found = keywords(c, s, at);
    if (c->failed)
        return 0;
    if (found & 1u << KEY_UNION) {
        if (found != 1u << KEY_UNION)
            return schema_fail(c, at, INFER_EUNSUPPORTED,
                               "$ref, anyOf, oneOf and allOf are not supported "
                               "beside other keywords");
        return schema_union(c, s, at);
    }
    if (found & 1u << KEY_ENUM) {
        if (found & ~(1u << KEY_ENUM | 1u << KEY_TYPE))
            return schema_fail(c, at, INFER_EUNSUPPORTED,
                               "enum and const are supported beside 'type' "
                               "only");
        return enumeration(c, s, at);
    }
    if (found & 1u << KEY_TYPE)
        return of_types(c, s, cJSON_GetObjectItemCaseSensitive(s, "type"), at);
    return guess_type(c, s, found, at);
}

uint32_t schema_value(struct compiler *c, const cJSON *s,
                      const struct place *at)
{
    uint32_t part;

    if (c->failed)
        return 0;
    part = value_of(c, s, at);
    return part || c->failed ? part : part_failed(c, at);
}

/* ---- the whole ----------------------------------------------------------- */

static int finish(struct compiler *c, uint32_t start)
{
    struct infer_error why = {0};
    uint32_t culprit = 0;
    int rc;

    if (c->failed)
        return c->err->status;
    rc = infer_grammar_finish(c->g, start, &culprit, &why);
    if (rc == 0 || rc == INFER_ENOMEM)
        return rc;
    for (size_t i = 0; i < c->n_refs; i++)
        if (c->refs[i].rule == culprit)
            return config_fail(c->err, rc, "the target of $ref '%.60s': %s",
                               c->refs[i].text, why.text);
    return config_fail(c->err, rc, "#: %s", why.text);
}

int schema_compile(struct infer_grammar **g, const cJSON *schema,
                   struct infer_error *err)
{
    struct compiler *c = calloc(1, sizeof(*c));
    uint32_t value;
    int rc;

    if (!c)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    c->root = schema;
    c->err = err;
    rc = infer_grammar_create(&c->g, err);
    if (rc == 0) {
        value = schema ? schema_value(c, schema, NULL)
                       : schema_object(c, NULL, NULL);
        schema_define_refs(c);
        rc = finish(c, schema_pair(c, schema_space(c), value));
    }
    if (rc == 0)
        *g = c->g;
    else
        infer_grammar_free(c->g);
    free(c);
    return rc;
}
