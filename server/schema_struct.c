/* schema_struct.c - objects and arrays of a schema. */
#include "server/schema_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- objects ------------------------------------------------------------- */

struct property {
    const char *name;
    uint32_t pair; /* "name": value */
    bool required;
};

struct object {
    struct property *list; /* [n] in the order they are written */
    size_t n;
    const char **named; /* [n_named] names in properties, sorted */
    size_t n_named;
    const char **required; /* [n_required] sorted */
    size_t n_required;
    uint32_t other; /* a further pair; 0: none */
};

/* "key" : value, after whatever makes the key */
static uint32_t pair_of(struct compiler *c, uint32_t key, uint32_t value)
{
    const uint32_t parts[] = {key, schema_word(c, ":"), schema_space(c), value};

    return infer_grammar_sequence(c->g, parts, 4);
}

static uint32_t comma(struct compiler *c)
{
    return schema_pair(c, schema_word(c, ","), schema_space(c));
}

static bool add_property(struct compiler *c, struct object *o, const char *name,
                         uint32_t value, bool required, const struct place *at)
{
    char *key;

    if (strlen(name) > SCHEMA_MAX_NAME || !(key = schema_quote(name))) {
        schema_fail(c, at, INFER_ETOOLONG,
                    "a property's name has more than %d bytes",
                    SCHEMA_MAX_NAME);
        return false;
    }
    o->list[o->n++] = (struct property){
        name, pair_of(c, schema_word(c, key), value), required};
    free(key);
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool listed(const char **names, size_t n, const char *name)
{
    return n > 0 && bsearch(&name, names, n, sizeof(*names), by_text);
}

static bool read_required(struct compiler *c, const cJSON *s,
                          const struct place *at, struct object *o)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s, "required"), *v;
    size_t unique = 0;

    if (list && (!cJSON_IsArray(list) ||
                 cJSON_GetArraySize(list) > SCHEMA_MAX_PROPERTIES)) {
        schema_fail(c, at, INFER_EINVAL,
                    "required must be a list of at most %d names",
                    SCHEMA_MAX_PROPERTIES);
        return false;
    }
    cJSON_ArrayForEach (v, list) {
        if (!cJSON_IsString(v)) {
            schema_fail(c, at, INFER_EINVAL,
                        "required must be a list of names");
            return false;
        }
        o->required[o->n_required++] = v->valuestring;
    }
    qsort(o->required, o->n_required, sizeof(*o->required), by_text);
    for (size_t i = 0; i < o->n_required; i++)
        if (i == 0 || strcmp(o->required[unique - 1], o->required[i]) != 0)
            o->required[unique++] = o->required[i];
    o->n_required = unique;
    return true;
}

static bool read_properties(struct compiler *c, const cJSON *s,
                            const struct place *at, struct object *o)
{
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(s, "properties"), *v;
    const struct place here = {at, "properties", 0};

    if (all && (!cJSON_IsObject(all) ||
                cJSON_GetArraySize(all) > SCHEMA_MAX_PROPERTIES)) {
        schema_fail(c, at, INFER_EINVAL,
                    "properties must be an object of at most %d schemas",
                    SCHEMA_MAX_PROPERTIES);
        return false;
    }
    cJSON_ArrayForEach (v, all) {
        const struct place place = {&here, v->string, 0};
        const bool needed = listed(o->required, o->n_required, v->string);

        o->named[o->n_named++] = v->string;
        if (cJSON_IsFalse(v) && !needed)
            continue; /* must not be there: is not written */
        if (!add_property(c, o, v->string, schema_value(c, v, &place), needed,
                          &place))
            return false;
    }
    qsort(o->named, o->n_named, sizeof(*o->named), by_text);
    return true;
}

/* Required, but not among the properties. */
static bool is_unnamed(const struct object *o, size_t i)
{
    return !listed(o->named, o->n_named, o->required[i]);
}

/* What follows when the first i properties are decided; some: a pair was
 * written. after[0] is for none, after[1] for some, of i + 1. */
static uint32_t rest_from(struct compiler *c, const struct object *o, size_t i,
                          const uint32_t after[2], bool some)
{
    const struct property *p = &o->list[i];
    const uint32_t parts[] = {comma(c), p->pair, after[1]};
    const uint32_t with =
        infer_grammar_sequence(c->g, parts + !some, 3 - !some);

    return p->required ? with : schema_either(c, with, after[some]);
}

static uint32_t end_of_object(struct compiler *c, const struct object *o,
                              bool some)
{
    const uint32_t close = schema_pair(c, schema_space(c), schema_word(c, "}"));
    uint32_t more, first;

    if (!o->other)
        return some ? close : schema_word(c, "}");
    more = infer_grammar_repeat(c->g, schema_pair(c, comma(c), o->other), 0,
                                UINT32_MAX);
    if (some)
        return schema_pair(c, more, close);
    first =
        infer_grammar_sequence(c->g, (uint32_t[]){o->other, more, close}, 3);
    return schema_either(c, schema_word(c, "}"), first);
}

static uint32_t write_object(struct compiler *c, const struct object *o,
                             const struct place *at)
{
    uint32_t after[2] = {end_of_object(c, o, false), end_of_object(c, o, true)};
    const uint32_t open = schema_pair(c, schema_word(c, "{"), schema_space(c));
    size_t run = 0;

    for (size_t i = o->n; i-- > 0;) {
        const uint32_t some = rest_from(c, o, i, after, true);

        after[0] = rest_from(c, o, i, after, false);
        after[1] = some;
        run = o->list[i].required ? 0 : run + 1;
        if (run > SCHEMA_MAX_OPTIONAL)
            return schema_fail(c, at, INFER_EUNSUPPORTED,
                               "more than %d optional properties in a row",
                               SCHEMA_MAX_OPTIONAL);
    }
    return schema_pair(c, open, after[0]);
}

/* A pair that no property names. */
static uint32_t other_pair(struct compiler *c, const struct object *o,
                           uint32_t value)
{
    /* each list has at most SCHEMA_MAX_PROPERTIES */
    const char *names[2 * SCHEMA_MAX_PROPERTIES];
    size_t n = 0;

    for (size_t i = 0; i < o->n_named; i++)
        names[n++] = o->named[i];
    for (size_t i = 0; i < o->n_required; i++)
        if (is_unnamed(o, i))
            names[n++] = o->required[i];
    return pair_of(
        c, n > 0 ? schema_other_key(c, names, n) : schema_free_string(c),
        value);
}

/* What may stand beside the properties, and what must: required names of
 * which nothing else is said. */
static void add_others(struct compiler *c, const cJSON *s,
                       const struct place *at, struct object *o)
{
    const cJSON *extra =
        cJSON_GetObjectItemCaseSensitive(s, "additionalProperties");
    const struct place place = {at, "additionalProperties", 0};
    /* where properties are named and nothing is said, no others are
     * written */
    const bool open = extra ? !cJSON_IsFalse(extra) : o->n + o->n_required == 0;
    bool needed = open;
    uint32_t value;

    for (size_t i = 0; i < o->n_required; i++)
        needed = needed || is_unnamed(o, i);
    if (!needed)
        return;
    value = extra ? schema_value(c, extra, &place) : schema_any(c);
    for (size_t i = 0; i < o->n_required && !c->failed; i++)
        if (is_unnamed(o, i))
            add_property(c, o, o->required[i], value, true, at);
    if (open && !c->failed)
        o->other = other_pair(c, o, value);
}

/* Room for the items of a list, as many as are allowed. */
static size_t room_for(const cJSON *s, const char *key)
{
    const int n = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(s, key));

    return 1 + (size_t)(n < SCHEMA_MAX_PROPERTIES ? n : SCHEMA_MAX_PROPERTIES);
}

uint32_t schema_object(struct compiler *c, const cJSON *s,
                       const struct place *at)
{
    const size_t n_named = room_for(s, "properties");
    const size_t n_required = room_for(s, "required");
    struct object o = {
        .list = calloc(n_named + n_required, sizeof(*o.list)),
        .named = calloc(n_named, sizeof(*o.named)),
        .required = calloc(n_required, sizeof(*o.required)),
    };
    uint32_t part = 0;

    if (!o.list || !o.named || !o.required) {
        schema_fail(c, at, INFER_ENOMEM, "out of memory");
    } else if (read_required(c, s, at, &o) && read_properties(c, s, at, &o)) {
        add_others(c, s, at, &o);
        part = c->failed ? 0 : write_object(c, &o, at);
    }
    free(o.list);
    free(o.named);
    free(o.required);
    return part;
}

/* ---- arrays -------------------------------------------------------------- */

struct array {
    const cJSON *first; /* of prefixItems, or NULL */
    uint32_t n_first;
    uint32_t item; /* any after these; 0: none */
    uint32_t least, most;
};

static uint32_t repeat_more(struct compiler *c, uint32_t item, uint32_t least,
                            uint32_t most)
{
    return infer_grammar_repeat(c->g, schema_pair(c, comma(c), item), least,
                                most);
}

/* What follows i items, one at least: further ones, as far as they must or
 * may. Built from the end of prefixItems to its beginning. */
static uint32_t items_after(struct compiler *c, const struct array *a,
                            const uint32_t *first, uint32_t i)
{
    uint32_t part = infer_grammar_sequence(c->g, NULL, 0), more;
    uint32_t k = a->n_first < a->most ? a->n_first : a->most;

    if (k < i)
        k = i;
    if (a->item && a->most > k)
        part = repeat_more(c, a->item, a->least > k ? a->least - k : 0,
                           a->most == UINT32_MAX ? UINT32_MAX : a->most - k);
    while (k-- > i) {
        more = infer_grammar_sequence(
            c->g, (uint32_t[]){comma(c), first[k], part}, 3);
        part =
            k >= a->least
                ? schema_either(c, more, infer_grammar_sequence(c->g, NULL, 0))
                : more;
    }
    return part;
}

static uint32_t write_array(struct compiler *c, const struct array *a,
                            const uint32_t *first)
{
    const uint32_t open = schema_pair(c, schema_word(c, "["), schema_space(c));
    const uint32_t close = schema_pair(c, schema_space(c), schema_word(c, "]"));
    const uint32_t head = a->n_first > 0 ? first[0] : a->item;
    uint32_t some;

    if (a->most == 0 || !head)
        return schema_pair(c, open, schema_word(c, "]"));
    some = infer_grammar_sequence(
        c->g, (uint32_t[]){head, items_after(c, a, first, 1), close}, 3);
    if (a->least == 0)
        some = schema_either(c, schema_word(c, "]"), some);
    return schema_pair(c, open, some);
}

static bool read_prefix(struct compiler *c, const cJSON *s,
                        const struct place *at, struct array *a,
                        uint32_t *first)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s, "prefixItems"), *v;
    const struct place here = {at, "prefixItems", 0};
    struct place place = {&here, NULL, 0};
    const int n = cJSON_GetArraySize(list);

    if (list && (!cJSON_IsArray(list) || n == 0 || n > SCHEMA_MAX_BRANCHES)) {
        schema_fail(c, at, INFER_EINVAL,
                    "prefixItems must be a list of 1 to %d schemas",
                    SCHEMA_MAX_BRANCHES);
        return false;
    }
    cJSON_ArrayForEach (v, list) {
        first[a->n_first++] = schema_value(c, v, &place);
        place.index++;
    }
    return true;
}

uint32_t schema_array(struct compiler *c, const cJSON *s,
                      const struct place *at)
{
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(s, "items");
    const cJSON *unique = cJSON_GetObjectItemCaseSensitive(s, "uniqueItems");
    const struct place place = {at, "items", 0};
    struct array a = {.most = UINT32_MAX};
    uint32_t first[SCHEMA_MAX_BRANCHES];

    if (unique && !cJSON_IsFalse(unique))
        return schema_fail(c, at, INFER_EUNSUPPORTED,
                           "uniqueItems is not supported");
    if (!schema_count(c, s, "minItems", at, &a.least) ||
        !schema_count(c, s, "maxItems", at, &a.most) ||
        !read_prefix(c, s, at, &a, first))
        return 0;
    if (!cJSON_IsFalse(items))
        a.item = items ? schema_value(c, items, &place) : schema_any(c);
    if (c->failed)
        return 0;
    if (a.least > a.most || (!a.item && a.least > a.n_first))
        return schema_fail(c, at, INFER_EINVAL,
                           "no array has the length that minItems asks for");
    return write_array(c, &a, first);
}
