/*
 * schema_union.c - anyOf, oneOf, allOf.
 *
 * oneOf is kept only where its schemas are seen to exclude each other: by
 * their types, or by the const or enum of a property that both require. Each
 * is compared with each, so all of it is charged (schema_charge).
 */
#include "server/schema_parts.h"

#include <string.h>

/* ---- telling apart ------------------------------------------------------- */

enum { NUMBER = 1 << 1, OBJECT = 1 << 4, ANY = (1 << 6) - 1 };

static unsigned type_bit(const cJSON *name)
{
    static const char *const names[] = {"string", "number", "boolean",
                                        "null",   "object", "array"};

    if (cJSON_IsString(name) && strcmp(name->valuestring, "integer") == 0)
        return NUMBER;
    for (unsigned i = 0; cJSON_IsString(name) && i < 6; i++)
        if (strcmp(name->valuestring, names[i]) == 0)
            return 1u << i;
    return ANY;
}

/* Types that a value may have, at most: bits. */
static unsigned types_of(struct compiler *c, const cJSON *s,
                         const struct place *at)
{
    const cJSON *type = schema_member(c, s, "type", at), *v;
    unsigned bits = 0;

    if (!cJSON_IsArray(type))
        return type ? type_bit(type) : ANY;
    cJSON_ArrayForEach (v, type) {
        if (!schema_charge(c, at, 1))
            return ANY;
        bits |= type_bit(v);
    }
    return bits;
}

static bool same_value(struct compiler *c, const cJSON *x, const cJSON *y,
                       const struct place *at)
{
    size_t n = 0;

    if (cJSON_IsString(x) && cJSON_IsString(y)) {
        while (x->valuestring[n] && x->valuestring[n] == y->valuestring[n])
            n++;
        return !schema_charge(c, at, 1 + n / 16) ||
               x->valuestring[n] == y->valuestring[n];
    }
    return !schema_charge(c, at, 1) || cJSON_Compare(x, y, true);
}

/* The first of the values that const or enum lists; NULL: there are none. */
static const cJSON *first_value(struct compiler *c, const cJSON *s, bool *only,
                                const struct place *at)
{
    const cJSON *v = schema_member(c, s, "const", at);

    *only = v != NULL;
    if (v)
        return v;
    v = schema_member(c, s, "enum", at);
    return cJSON_IsArray(v) ? v->child : NULL;
}

/* Whether the values that const or enum lists differ: false, if unsure. */
static bool values_differ(struct compiler *c, const cJSON *a, const cJSON *b,
                          const struct place *at)
{
    bool one[2];
    const cJSON *first[2] = {first_value(c, a, &one[0], at),
                             first_value(c, b, &one[1], at)};

    if (!first[0] || !first[1])
        return false;
    for (const cJSON *x = first[0]; x; x = one[0] ? NULL : x->next)
        for (const cJSON *y = first[1]; y; y = one[1] ? NULL : y->next)
            if (cJSON_IsObject(x) || cJSON_IsArray(x) ||
                same_value(c, x, y, at))
                return false;
    return true;
}

static bool is_required(struct compiler *c, const cJSON *s, const char *name,
                        const struct place *at)
{
    const cJSON *list = schema_member(c, s, "required", at), *v;

    cJSON_ArrayForEach (v, list) {
        if (!schema_charge(c, at, 1))
            return false;
        if (cJSON_IsString(v) && strcmp(v->valuestring, name) == 0)
            return true;
    }
    return false;
}

/* No value satisfies both. */
static bool disjoint(struct compiler *c, const cJSON *a, const cJSON *b,
                     const struct place *at)
{
    const cJSON *p, *q, *mine, *others;

    a = schema_follow(c, a, at);
    b = schema_follow(c, b, at);
    if (!cJSON_IsObject(a) || !cJSON_IsObject(b))
        return false;
    if ((types_of(c, a, at) & types_of(c, b, at)) == 0 ||
        values_differ(c, a, b, at))
        return true;
    if (types_of(c, a, at) != OBJECT)
        return false;
    mine = schema_member(c, a, "properties", at);
    others = schema_member(c, b, "properties", at);
    cJSON_ArrayForEach (p, mine) {
        q = schema_member(c, others, p->string, at);
        if (q && is_required(c, a, p->string, at) &&
            is_required(c, b, p->string, at) &&
            values_differ(c, schema_follow(c, p, at), schema_follow(c, q, at),
                          at))
            return true;
        if (c->failed)
            return false;
    }
    return false;
}

static bool check_one_of(struct compiler *c, const cJSON *list,
                         const struct place *at)
{
    int i = 0, k;
    const cJSON *a, *b;

    cJSON_ArrayForEach (a, list) {
        k = i + 1;
        for (b = a->next; b; b = b->next, k++)
            if (!disjoint(c, a, b, at)) {
                schema_fail(c, at, INFER_EUNSUPPORTED,
                            "a value may satisfy both %d and %d of oneOf: "
                            "only types, or const of a required property, "
                            "tell them apart; use anyOf",
                            i, k);
                return false;
            }
        i++;
    }
    return true;
}

/* ---- unions -------------------------------------------------------------- */

static uint32_t branches(struct compiler *c, const char *name,
                         const cJSON *list, const struct place *at)
{
    const int n = cJSON_GetArraySize(list);
    uint32_t parts[SCHEMA_MAX_BRANCHES];
    struct place key = {at, name, 0}, place = {&key, NULL, 0};
    const cJSON *s;

    if (!cJSON_IsArray(list) || n == 0 || n > SCHEMA_MAX_BRANCHES)
        return schema_fail(c, at, INFER_EINVAL,
                           "%s must be a list of 1 to %d schemas", name,
                           SCHEMA_MAX_BRANCHES);
    if (strcmp(name, "allOf") == 0 && n > 1)
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "allOf of several schemas is not supported");
    if (strcmp(name, "oneOf") == 0 && !check_one_of(c, list, at))
        return 0;
    cJSON_ArrayForEach (s, list) {
        parts[place.index] = schema_value(c, s, &place);
        place.index++;
    }
    return infer_grammar_choice(c->g, parts, (size_t)n);
}

uint32_t schema_union(struct compiler *c, const cJSON *s,
                      const struct place *at)
{
    static const char *const names[] = {"anyOf", "oneOf", "allOf"};
    const cJSON *found = NULL;
    const char *name = NULL;

    if (cJSON_GetObjectItemCaseSensitive(s, "$ref"))
        name = "$ref";
    for (size_t i = 0; i < 3; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(s, names[i]);

        if (v && name)
            return schema_fail(c, at, INFER_EUNSUPPORTED,
                               "%s beside %s is not supported", names[i], name);
        if (v) {
            name = names[i];
            found = v;
        }
    }
    return found ? branches(c, name, found, at) : schema_reference(c, s, at);
}
