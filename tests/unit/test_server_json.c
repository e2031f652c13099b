/* test_server_json.c - the JSON scanner, the JSON writer, and histograms. */
#include "server/histogram.h"
#include "server/jsoncheck.h"
#include "server/jsonout.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_valid(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "-0.5e+10",
        "1e999",
        "\"\"",
        "null",
        " true\r\n",
        "[]",
        "{}",
        "[1,[2,{}]]",
        "{\"a\":1,\"b\":{\"a\":2}}",
        "\"\\u00e9\\n\\/\\\"\"",
        "\"\\ud83d\\ude00\"",
        "\"\xc3\xa9\xf0\x9f\x98\x80\"",
        "\t[ 1 , 2 ] ",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct infer_error err = {0};

        if (json_check(texts[i], strlen(texts[i]), &err))
            fail_msg("%s: %s", texts[i], err.text);
    }
}

static void test_invalid(void **state)
{
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "byte 0"},
        {" ", "byte 1"},
        {"01", "begin with 0"},
        {"-", "a digit"},
        {"1.", "a digit"},
        {".5", "a value"},
        {"1e", "a digit"},
        {"+1", "a value"},
        {"NaN", "a value"},
        {"nul", "not a JSON value"},
        {"1 2", "byte 2: something follows"},
        {"{} x", "something follows"},
        {"[1,]", "']' where a value"},
        {"[1", "the text ends"},
        {"{\"a\":1,}", "a string as key"},
        {"{a:1}", "a string as key"},
        {"{\"a\" 1}", "':'"},
        {"'a'", "a value"},
        {"\"abc", "byte 0: this string never ends"},
        {"\"a\nb\"", "control character 0x0a"},
        {"\"\\x\"", "an escape"},
        {"\"\\u12g4\"", "hexadecimal"},
        {"\"\\u0000\"", "\\u0000"},
        {"\"\\ud800\"", "lone surrogate"},
        {"\"\\udc00\"", "lone surrogate"},
        {"\"\\ud800\\u0041\"", "lone surrogate"},
        {"\"\xff\"", "not UTF-8"},
        {"\"\xc0\x80\"", "not UTF-8"},
        {"\"\xed\xa0\x80\"", "not UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "not UTF-8"},
        {"\"\xe2\x82\"", "not UTF-8"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "byte 13: the key \"a\" is there twice"},
        {"{\"a\":1,\"\\u0061\":2}", "twice"},
        {"{\"\xc3\xa9\":1,\"\\u00e9\":2}", "twice"},
        {"{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}", "twice"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const size_t len = strlen(cases[i].text);
        char *exact = malloc(len + 1); /* the sanitizer guards its end */
        struct infer_error err = {0};

        assert_non_null(exact);
        memcpy(exact, cases[i].text, len);
        assert_int_equal(json_check(exact, len, &err), INFER_EINVAL);
        if (!strstr(err.text, cases[i].word))
            fail_msg("%s: '%s' lacks '%s'", cases[i].text, err.text,
                     cases[i].word);
        free(exact);
    }
}

/* A NUL byte is no end of text. */
static void test_nul(void **state)
{
    struct infer_error err = {0};

    (void)state;
    assert_int_equal(json_check("{}\0", 3, &err), INFER_EINVAL);
    assert_int_equal(json_check("\"\0\"", 3, &err), INFER_EINVAL);
}

static void test_limits(void **state)
{
    const size_t n = JSON_MAX_VALUES;
    char *text = malloc(2 * n + 3);
    struct infer_error err = {0};

    (void)state;
    assert_non_null(text);
    memset(text, '[', JSON_MAX_DEPTH + 1);
    memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    assert_int_equal(json_check(text, 2 * JSON_MAX_DEPTH, &err), 0);
    memset(text, '[', 100000);
    assert_int_equal(json_check(text, 100000, &err), INFER_EINVAL);
    assert_non_null(strstr(err.text, "nested deeper"));
    text[0] = '[';
    for (size_t i = 0; i < n; i++)
        memcpy(text + 1 + 2 * i, "1,", 2);
    text[2 * n] = ']';
    assert_int_equal(json_check(text, 2 * n + 1, &err), INFER_EINVAL);
    assert_non_null(strstr(err.text, "values"));
    free(text);
}

/* Every prefix and every changed byte of a document: no crash, no read past
 * the end, and never a text that cJSON would not parse. */
static void test_mutations(void **state)
{
    static const char doc[] =
        "{\"prompt\":\"a\\u00e9\\ud83d\\ude00\xc3\xa9\",\"n\":[1,-2.5e3,"
        "true,null],\"o\":{\"k\":\"v\"}}";
    const size_t len = sizeof(doc) - 1;

    (void)state;
    for (size_t at = 0; at < len; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            char *text = malloc(len);

            assert_non_null(text);
            memcpy(text, doc, len);
            text[at] = (char)byte;
            if (json_check(text, len, NULL) == 0) {
                cJSON *root = cJSON_ParseWithLength(text, len);

                assert_non_null(root);
                cJSON_Delete(root);
            }
            free(text);
        }
        assert_int_not_equal(json_check(doc, at, NULL), 0);
    }
}

static void test_writer(void **state)
{
    struct buf out = {0};
    struct json j = json_into(&out);
    struct infer_error err = {0};
    static const char expected[] =
        "{\"s\":\"a\\\"\\\\\\n\\u0001\\u007f\xef\xbf\xbd\xc3\xa9\","
        "\"list\":[1,-2,0.5,null,true,null,{}],\"e\":\"\",\"ms\":1.500}";

    (void)state;
    json_open(&j, '{');
    json_key(&j, "s");
    json_text(&j, "a\"\\\n\x01\x7f\xff\xc3\xa9", 9);
    json_key(&j, "list");
    json_open(&j, '[');
    json_uint(&j, 1);
    json_int(&j, -2);
    json_float(&j, 0.5f);
    json_float(&j, NAN);
    json_bool(&j, true);
    json_null(&j);
    json_open(&j, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_key(&j, "e");
    json_text(&j, NULL, 0);
    json_key(&j, "ms");
    json_ms(&j, 1.5);
    json_close(&j, '}');
    assert_int_equal(out.len, sizeof(expected) - 1);
    assert_memory_equal(out.data, expected, out.len);
    assert_int_equal(json_check(out.data, out.len, &err), 0);
    buf_release(&out);
}

/* Whatever bytes are written, the result is JSON. */
static void test_writer_takes_any_bytes(void **state)
{
    char bytes[64];

    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        const size_t n = (size_t)rand() % sizeof(bytes);
        struct buf out = {0};
        struct json j = json_into(&out);
        struct infer_error err = {0};

        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(1 + rand() % 255); /* NUL: refused, not wrong */
        json_text(&j, bytes, n);
        if (json_check(out.data, out.len, &err))
            fail_msg("round %d: %s", round, err.text);
        buf_release(&out);
    }
}

static void test_histogram(void **state)
{
    static struct histogram h;
    struct buf out = {0};

    (void)state;
    histogram_init_seconds(&h);
    histogram_add(&h, 0.0004);
    histogram_add(&h, 0.0005); /* a bound belongs to its bucket */
    histogram_add(&h, 0.3);
    histogram_add(&h, 1e6);
    histogram_add(&h, -1); /* a clock that went back */
    histogram_print(&out, "x", "a=\"b\"", &h);
    buf_char(&out, '\0');
    assert_non_null(strstr(out.data, "x_bucket{a=\"b\",le=\"0.0005\"} 3\n"));
    assert_non_null(strstr(out.data, "x_bucket{a=\"b\",le=\"0.5\"} 4\n"));
    assert_non_null(strstr(out.data, "x_bucket{a=\"b\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(out.data, "x_count{a=\"b\"} 5\n"));
    assert_non_null(strstr(out.data, "x_sum{a=\"b\"} 1000000.3"));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_takes_any_bytes),
        cmocka_unit_test(test_histogram),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
