/*
 * schema_ref.c - $ref: JSON pointers (RFC 6901) into the schema, as fragments
 * of a URI, so %XX stands for a byte.
 *
 * A pointer walks lists as long as the client likes, so each text is resolved
 * once and kept in a hash table, and the walk is charged. A place becomes a
 * rule, compiled once and after all else: recursion costs nothing here.
 */
#include "server/schema_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- pointers ------------------------------------------------------------ */

static bool is_hex(char ch)
{
    return ch && strchr("0123456789abcdefABCDEF", ch);
}

/* A copy with %XX as bytes; NULL: out of memory. The caller frees it. */
static char *without_percent(const char *text)
{
    char *copy = malloc(strlen(text) + 1), *to = copy;

    if (!copy)
        return NULL;
    for (; *text; text++) {
        if (*text == '%' && is_hex(text[1]) && is_hex(text[2])) {
            const char digits[3] = {text[1], text[2], '\0'};

            *to++ = (char)strtoul(digits, NULL, 16);
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
    return copy;
}

/* One step's name in place: ~1 is a slash, ~0 a tilde. false: it is none. */
static bool unescape(char *name)
{
    char *to = name;

    for (; *name; name++) {
        if (*name != '~')
            *to++ = *name;
        else if (*++name == '0' || *name == '1')
            *to++ = *name == '0' ? '~' : '/';
        else
            return false;
    }
    *to = '\0';
    return true;
}

/* A member by its name, an item by its number; NULL: there is none. */
static const cJSON *child(struct compiler *c, const cJSON *v, const char *name,
                          const struct place *at)
{
    const bool array = cJSON_IsArray(v);
    const size_t digits = strspn(name, "0123456789");
    const cJSON *at_step = v->child;
    const size_t len = strlen(name);
    unsigned long left = 0;

    if (array && (digits == 0 || name[digits] || digits > 7))
        return NULL;
    if (array)
        left = strtoul(name, NULL, 10);
    for (; at_step; at_step = at_step->next) {
        /* a comparison may run through the whole name */
        if (!schema_charge(c, at, array ? 1 : 1 + len / 16))
            return NULL;
        if (array ? left-- == 0 : strcmp(at_step->string, name) == 0)
            break;
    }
    return at_step;
}

static const cJSON *walk(struct compiler *c, const char *ref,
                         const struct place *at)
{
    char *text = without_percent(ref), *rest = text;
    const cJSON *v = c->root;

    if (!text) {
        schema_fail(c, at, INFER_ENOMEM, "out of memory");
        return NULL;
    }
    if (*rest != '#' || (rest[1] && rest[1] != '/'))
        v = NULL;
    for (strsep(&rest, "/"); v && rest;) {
        char *name = strsep(&rest, "/");

        v = unescape(name) ? child(c, v, name, at) : NULL;
    }
    free(text);
    return v;
}

/* ---- places that are known ----------------------------------------------- */

static size_t hash_of(const char *text)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */

    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 1099511628211u;
    return (size_t)(h ^ h >> 32) % SCHEMA_REF_SLOTS;
}

/* The entry of a text, with its target; NULL: failed, or no such place. */
static struct pointer *find(struct compiler *c, const char *ref,
                            const struct place *at)
{
    size_t i = hash_of(ref);
    struct pointer *p;

    if (!schema_charge(c, at, 1 + strlen(ref) / 16))
        return NULL;
    for (; c->pointers[i].text; i = (i + 1) % SCHEMA_REF_SLOTS) {
        if (strcmp(c->pointers[i].text, ref) == 0)
            return &c->pointers[i];
        if (!schema_charge(c, at, 1))
            return NULL;
    }
    if (c->n_pointers == SCHEMA_MAX_REFS) {
        schema_fail(c, at, INFER_ETOOLONG, "more than %d different $ref",
                    SCHEMA_MAX_REFS);
        return NULL;
    }
    p = &c->pointers[i];
    p->target = walk(c, ref, at);
    if (!p->target) {
        schema_fail(c, at, INFER_EUNSUPPORTED,
                    "$ref '%.60s' is no place in this schema", ref);
        return NULL;
    }
    p->text = ref;
    c->n_pointers++;
    return p;
}

const cJSON *schema_follow(struct compiler *c, const cJSON *s,
                           const struct place *at)
{
    for (int i = 0; i < 16 && cJSON_IsObject(s); i++) {
        const cJSON *ref = schema_member(c, s, "$ref", at);
        const struct pointer *p;

        if (!cJSON_IsString(ref))
            return c->failed ? NULL : s;
        p = find(c, ref->valuestring, at);
        if (!p)
            return NULL;
        s = p->target;
    }
    return NULL;
}

/* ---- rules --------------------------------------------------------------- */

/* Two texts may name one place. */
static uint32_t rule_of(struct compiler *c, const struct pointer *p)
{
    for (size_t i = 0; i < c->n_refs; i++)
        if (c->refs[i].target == p->target)
            return c->refs[i].rule;
    c->refs[c->n_refs] =
        (struct reference){p->text, p->target, infer_grammar_rule(c->g)};
    return c->refs[c->n_refs++].rule;
}

uint32_t schema_reference(struct compiler *c, const cJSON *s,
                          const struct place *at)
{
    const cJSON *ref = cJSON_GetObjectItemCaseSensitive(s, "$ref");
    struct pointer *p;

    if (!cJSON_IsString(ref))
        return schema_fail(c, at, INFER_EINVAL, "$ref must be a string");
    p = find(c, ref->valuestring, at);
    if (!p)
        return 0;
    if (!p->rule)
        p->rule = rule_of(c, p);
    return p->rule;
}

void schema_define_refs(struct compiler *c)
{
    for (size_t i = 0; i < c->n_refs && !c->failed; i++) {
        const struct reference *r = &c->refs[i];
        const struct place at = {NULL, r->text + strspn(r->text, "#/"), 0};
        const uint32_t part = schema_value(c, r->target, &at);

        if (!c->failed)
            infer_grammar_define(c->g, r->rule, part);
    }
}
