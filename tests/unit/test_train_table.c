/*
 * test_train_table.c - CSV, TSV and JSONL: what is read, and what is said of
 * files that cannot be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/data/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/test_train_table.XXXXXX";
static char path[200];

static void put(const char *name, const void *data, size_t n)
{
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

struct want {
    const char *name;
    const char *data;
    size_t n; /* 0: strlen */
    struct train_table_options o;
    const char *columns[2];
    const char *text; /* cells as "a|b/c|d" with its line, or NULL */
    const char *error;
};

#define TL                                                                     \
    {                                                                          \
        "text", "label"                                                        \
    }
#define RAW(s) s, sizeof(s) - 1

static const struct want cases[] = {
    {"a.csv",
     "text,label\nhello,x\nbye,y\n",
     0,
     {0},
     TL,
     "2hello|x/3bye|y/",
     0},
    {"a.csv",
     "label,extra,text\r\nx,1,hello\r\n\r\ny,2,bye",
     0,
     {0},
     TL,
     "2hello|x/4bye|y/",
     0},
    {"a.csv",
     "text,label\n\"a, \"\"b\"\"\nc\",x\nd,\"\"\n",
     0,
     {0},
     TL,
     "2a, \"b\"\nc|x/4d|/",
     0},
    {"a.csv", "\xef\xbb\xbftext;label\n1,5;x\n", 0, {0}, TL, "21,5|x/", 0},
    {"a.csv", "t p,q\n,\n", 0, {0}, {"t p", "2"}, "2|/", 0},
    {"a.csv",
     "hello,x\nbye,y\n",
     0,
     {.no_header = true},
     {"1", "2"},
     "1hello|x/2bye|y/",
     0},
    {"a.csv", "text|label\na|b\n", 0, {0}, TL, "2a|b/", 0},
    {"a.csv", "text:label\na:b\n", 0, {.delimiter = ":"}, TL, "2a|b/", 0},
    {"a.tsv", "text\tlabel\nsay \"hi\tx\n", 0, {0}, TL, "2say \"hi|x/", 0},
    {"a.txt", "text\tlabel\na, b\tx\n", 0, {0}, TL, "2a, b|x/", 0},
    {"a.csv",
     "text,label\ncaf\xe9 \x80,x\n",
     0,
     {.encoding = TRAIN_ENCODING_CP1252},
     TL,
     "2caf\xc3\xa9 \xe2\x82\xac|x/",
     0},
    {"a.csv",
     RAW("\xff\xfet\0,\0u\0\n\0\xe9\0,\0\x3d\xd8\x00\xde\n\0"),
     {0},
     {"t", "u"},
     "2\xc3\xa9|\xf0\x9f\x98\x80/",
     0},
    {"a.csv",
     RAW("\xfe\xff\0t\0,\0u\0\n\0a\0,\0b\0\n"),
     {0},
     {"t", "u"},
     "2a|b/",
     0},
    {"a.jsonl",
     "{\"text\": \"a\\nb\", \"label\": \"x\"}\n\n"
     "{\"label\": 2.5, \"text\": true}\n",
     0,
     {0},
     TL,
     "1a\nb|x/3true|2.5/",
     0},
    {"a.jsonl",
     "{\"text\": \"a\", \"label\": [\"x\", \"y\"]}",
     0,
     {0},
     TL,
     "1a|x+y/",
     0},
    {"a.jsonl", "{\"text\": \"a\", \"label\": []}", 0, {0}, TL, "1a|/", 0},
    /* what cannot be read */
    {"a.csv", "", 0, {0}, TL, 0, "no rows"},
    {"a.csv", "text,label\n", 0, {0}, TL, 0, "no rows"},
    {"a.csv",
     "text,category\na,b\n",
     0,
     {0},
     TL,
     0,
     "no column 'label'; it has: text, category"},
    {"a.csv", "a,b\n", 0, {.no_header = true}, TL, 0, "named by number"},
    {"a.csv",
     "text,label\na,b\nc\n",
     0,
     {0},
     TL,
     0,
     "line 3: 1 fields, where the first row has 2"},
    {"a.csv",
     "text,label\na,b\n\"c,d\n",
     0,
     {0},
     TL,
     0,
     "line 3: a quote begins here and never ends"},
    {"a.csv",
     "text,label\n\"a\"b,c\n",
     0,
     {0},
     TL,
     0,
     "line 2: text behind a closing quote"},
    {"a.csv",
     "text,label\nok,x\ncaf\xe9,x\n",
     0,
     {0},
     TL,
     0,
     "line 3: byte 0xe9 is not UTF-8"},
    {"a.csv", RAW("text,label\na,\0\n"), {0}, TL, 0, "line 2: a NUL byte"},
    {"a.csv",
     "text,label\n",
     0,
     {.delimiter = "ab"},
     TL,
     0,
     "a delimiter is one character"},
    {"a.jsonl",
     "{\"text\": \"a\", \"label\": \"x\"}\n[1]\n",
     0,
     {0},
     TL,
     0,
     "line 2: not one JSON object"},
    {"a.jsonl",
     "{\"text\": \"a\", \"label\": \"x\"} x\n",
     0,
     {0},
     TL,
     0,
     "line 1: not one JSON object"},
    {"a.jsonl",
     "{\"text\": \"a\"}\n",
     0,
     {0},
     TL,
     0,
     "line 1: no field 'label'; it has: text"},
    {"a.jsonl",
     "{\"text\": \"a\", \"label\": {\"x\": 1}}\n",
     0,
     {0},
     TL,
     0,
     "line 1: field 'label' is not a string"},
    {"a.jsonl",
     "{\"text\": \"a\", \"label\": null}\n",
     0,
     {0},
     TL,
     0,
     "field 'label' is not a string"},
    {"a.jsonl",
     "{\"text\": \"a\\u0000b\", \"label\": \"x\"}\n",
     0,
     {0},
     TL,
     0,
     "\\u0000"},
};

static void show(const struct train_table *t, char *out)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        out += sprintf(out, "%d", (int)t->lines[r]);
        for (size_t c = 0; c < 2; c++) {
            const struct train_cell *cell = train_table_cell(t, r, c);

            for (size_t i = 0; i < cell->len; i++)
                *out++ = cell->text[i] ? cell->text[i] : '+';
            *out++ = c ? '/' : '|';
        }
    }
    *out = '\0';
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct want *w = &cases[i];
        struct train_table t = {0};
        struct infer_error err = {0};
        char got[400];

        put(w->name, w->data, w->n ? w->n : strlen(w->data));
        const int status =
            train_table_read(&t, path, &w->o, w->columns, 2, &err);

        if (w->error) {
            if (status >= 0 || !strstr(err.text, w->error))
                fail_msg("case %zu: '%s', not '%s'", i, err.text, w->error);
        } else {
            if (status != 0)
                fail_msg("case %zu: %s", i, err.text);
            show(&t, got);
            assert_string_equal(got, w->text);
        }
        train_table_release(&t);
    }
}

static void test_missing_file(void **state)
{
    static const char *const columns[] = {"text"};
    const struct train_table_options o = {0};
    struct train_table t = {0};
    struct infer_error err = {0};

    (void)state;
    assert_int_equal(
        train_table_read(&t, "/nowhere/x.csv", &o, columns, 1, &err),
        INFER_EIO);
    assert_non_null(strstr(err.text, "/nowhere/x.csv"));
    train_table_release(&t);
}

/* Every prefix of a file reads or is refused, never more. */
static void test_cut_short(void **state)
{
    static const char text[] =
        "text,label\n\"a \"\"quoted\"\" text\",x\r\nplain,y\n";
    static const char *const columns[] = TL;
    const struct train_table_options o = {0};

    (void)state;
    for (size_t n = 0; n < sizeof(text); n++) {
        struct train_table t = {0};

        put("cut.csv", text, n);
        train_table_read(&t, path, &o, columns, 2, NULL);
        assert_true(t.n_rows <= 2);
        train_table_release(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases),
                                       cmocka_unit_test(test_missing_file),
                                       cmocka_unit_test(test_cut_short)};

    return cmocka_run_group_tests_name("train table", tests, make_folder,
                                       remove_folder);
}
