/*
 * test_schema.c - what the compiler of schemas looks up, and what it costs.
 *
 * Cost is counted in steps and parts, not in time: a hostile schema must be
 * refused by name, before more is done than SCHEMA_MAX_WORK says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/engine/grammar.h"
#include "server/buf.h"
#include "server/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compile(const char *schema, struct infer_grammar **g,
                   struct infer_error *err)
{
    cJSON *root = cJSON_Parse(schema);
    int rc;

    assert_non_null(root);
    *g = NULL;
    rc = schema_compile(g, root, err);
    cJSON_Delete(root);
    return rc;
}

static void refused(const char *schema, int status, const char *word)
{
    struct infer_error err = {0};
    struct infer_grammar *g;

    assert_int_equal(compile(schema, &g, &err), status);
    if (!strstr(err.text, word))
        fail_msg("'%s' is not in: %s", word, err.text);
}

/* ---- references ---------------------------------------------------------- */

/* The schema compiles, and `word` is what it writes. */
static void leads_to(const char *schema, const char *word)
{
    struct infer_error err = {0};
    struct infer_grammar *g;

    if (compile(schema, &g, &err) != 0)
        fail_msg("%s: %s", schema, err.text);
    if (!memmem(g->text, g->n_text, word, strlen(word)))
        fail_msg("%s does not lead to %s", schema, word);
    infer_grammar_free(g);
}

static void test_pointers(void **state)
{
    static const char defs[] =
        "{\"$defs\":{\"a/b\":{\"const\":\"slash\"},\"~\":{\"const\":\"tilde\"},"
        "\"~1\":{\"const\":\"both\"},\"\":{\"const\":\"none\"},"
        "\"100%\":{\"const\":\"percent\"},\"l\":[0,{\"const\":\"item\"}],"
        "\"u \\u00e9\":{\"const\":\"utf8\"}},\"$ref\":\"%s\"}";
    static const char *const cases[][2] = {
        {"#/$defs/a~1b", "slash"},
        {"#/$defs/~0", "tilde"},
        {"#/$defs/~01", "both"},
        {"#/$defs/", "none"},
        {"#/$defs/100%", "percent"},
        {"#/$defs/100%25", "percent"},
        {"#/$defs/l/1", "item"},
        {"#/%24defs/a%7E1b", "slash"},
        {"#/$defs/u%20%C3%a9", "utf8"},
        {"#/$defs/l/2", NULL},
        {"#/$defs/l/+1", NULL},
        {"#/$defs/l/-1", NULL},
        {"#/$defs/l/4294967297", NULL},
        {"#/$defs/~2", NULL},
        {"#/$defs/~", NULL},
        {"#$defs", NULL},
        {"/$defs/~0", NULL},
        {"", NULL},
        {"#/$defs/100%/const/x", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *at = strstr(defs, "%s");
        struct buf s = {0};

        buf_add(&s, defs, (size_t)(at - defs));
        buf_str(&s, cases[i][0]);
        buf_str(&s, at + 2);
        buf_char(&s, '\0');
        if (cases[i][1])
            leads_to(s.data, cases[i][1]);
        else
            refused(s.data, INFER_EUNSUPPORTED, "no place in this schema");
        buf_release(&s);
    }
}

/* Names that are equal up to their 256th byte, and beyond. */
static void test_long_names(void **state)
{
    char x[301], schema[2000];

    (void)state;
    memset(x, 'x', 300);
    x[300] = '\0';
    snprintf(schema, sizeof(schema),
             "{\"$defs\":{\"%.256s\":{\"const\":\"short\"},"
             "\"%s\":{\"const\":\"long\"}},\"$ref\":\"#/$defs/%s\"}",
             x, x, x);
    leads_to(schema, "long");
    snprintf(schema, sizeof(schema),
             "{\"$defs\":{\"%.256s\":{}},\"$ref\":\"#/$defs/%s\"}", x, x);
    refused(schema, INFER_EUNSUPPORTED, "no place");
}

/* ---- cost ---------------------------------------------------------------- */

/* n texts made of a number, with commas. */
static void add_list(struct buf *b, const char *fmt, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (i > 0)
            buf_char(b, ',');
        for (const char *c = fmt; *c; c++) /* # is the number */
            if (*c == '#' && c[1] != '/')
                buf_printf(b, "%u", i);
            else
                buf_char(b, *c);
    }
}

static void refused_buf(struct buf *s, int status, const char *word)
{
    buf_char(s, '\0');
    assert_false(s->failed);
    refused(s->data, status, word);
    buf_release(s);
}

/* One look-up for each place, however often it is named; many places cost. */
static void test_references_cost(void **state)
{
    struct buf s = {0};

    (void)state;
    buf_str(&s, "{\"$defs\":{");
    add_list(&s, "\"a#\":{}", 1000);
    buf_str(&s, "},\"anyOf\":[");
    for (unsigned i = 0; i < 80; i++) { /* the last of them, 8000 times */
        buf_str(&s, i ? ",{\"properties\":{" : "{\"properties\":{");
        add_list(&s, "\"p#\":{\"$ref\":\"#/$defs/a999\"}", 100);
        buf_str(&s, "}}");
    }
    buf_str(&s, "]}");
    buf_char(&s, '\0');
    leads_to(s.data, "p99");
    buf_release(&s);

    buf_str(&s, "{\"$defs\":{");
    add_list(&s, "\"z#\":{}", 30000);
    for (unsigned i = 0; i < 200; i++)
        buf_printf(&s, ",\"a%u\":{\"const\":1}", i);
    buf_str(&s, "},\"anyOf\":[");
    add_list(&s, "{\"$ref\":\"#/$defs/a#\"}", 200);
    buf_str(&s, "]}");
    /* SCHEMA_MAX_WORK / 30000 = 139.8 */
    refused_buf(&s, INFER_ETOOLONG, "#/anyOf/139: the schema takes too many");
}

/* Each of a oneOf is compared with each. */
static void test_comparing_costs(void **state)
{
    struct buf s = {0};

    (void)state;
    buf_str(&s, "{\"properties\":{\"here\":{\"oneOf\":[");
    for (unsigned i = 0; i < 200; i++) {
        buf_printf(&s, "%s{\"enum\":[\"%u", i ? "," : "", i);
        buf_printf(&s, "\",\"%u", i);
        for (unsigned k = 0; k < 12; k++)
            buf_printf(&s, "\",\"a common beginning %u", 1000 * i + k);
        buf_str(&s, "\"]}");
    }
    buf_str(&s, "]}}}");
    refused_buf(&s, INFER_ETOOLONG, "#/properties/here: the schema takes");
}

/* A type that is named twice would compile what is inside twice: 7^9 times,
 * here. */
static void test_types_cost(void **state)
{
    struct buf s = {0};

    (void)state;
    for (unsigned i = 0; i < 9; i++)
        buf_str(&s, "{\"type\":[\"object\",\"object\",\"object\",\"object\","
                    "\"object\",\"object\",\"object\"],\"properties\":{\"a\":");
    buf_str(&s, "{}");
    for (unsigned i = 0; i < 9; i++)
        buf_str(&s, "}}");
    refused_buf(&s, INFER_EINVAL, "#: type names 'object' twice");
    refused("{\"type\":[\"null\",1],\"enum\":[null]}", INFER_EINVAL,
            "type must be");
    refused("{\"type\":[],\"enum\":[null]}", INFER_EINVAL, "type must be");
}

/* The first part that has no room ends it, and is named. */
static void test_full(void **state)
{
    struct buf s = {0};

    (void)state;
    buf_str(&s, "{\"anyOf\":[");
    for (unsigned i = 0; i < 20; i++) {
        buf_printf(&s, "%s{\"properties\":{\"in%u\":", i ? "," : "", i);
        buf_str(&s, "{\"enum\":[");
        for (unsigned k = 0; k < 4000; k++)
            buf_printf(&s, "%s\"%u\"", k ? "," : "", k * 7 + i);
        buf_str(&s, "]}}}");
    }
    /* what cannot be compiled is not reached */
    buf_str(&s, ",{\"type\":\"nonsense\"}]}");
    refused_buf(&s, INFER_ETOOLONG, "/properties/in");
}

/* ---- numbers ------------------------------------------------------------- */

static void test_large_numbers(void **state)
{
    (void)state;
    refused("{\"type\":\"integer\",\"const\":1e300}", INFER_EUNSUPPORTED,
            "9e15");
    refused("{\"type\":\"integer\",\"const\":-1e19}", INFER_EUNSUPPORTED,
            "9e15");
    refused("{\"type\":\"integer\",\"enum\":[1.5]}", INFER_EINVAL,
            "no value is of the type");
    refused("{\"type\":\"array\",\"minItems\":1e300,\"maxItems\":1}",
            INFER_EINVAL, "minItems");
    leads_to("{\"type\":\"array\",\"maxItems\":1e300,"
             "\"items\":{\"const\":\"far\"}}",
             "far");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_references_cost),
        cmocka_unit_test(test_comparing_costs),
        cmocka_unit_test(test_types_cost),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_large_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
