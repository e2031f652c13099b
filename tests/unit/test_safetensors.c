/*
 * test_safetensors.c - .safetensors files: what is written reads back, every
 * kind of bad file is refused with a sentence that names the culprit, and no
 * file cut or changed anywhere makes the reader crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/format/safetensors.h"
#include "tests/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* header (a C string) and n bytes 0, 1, 2 ... behind it */
static struct image build(const char *header, size_t n)
{
    struct image m = {0};

    image_str(&m, header, strlen(header));
    for (size_t i = 0; i < n; i++)
        image_put(&m, &(uint8_t){(uint8_t)i}, 1);
    return m;
}

static int open_image(const struct image *m, struct infer_safetensors **s,
                      struct infer_error *err)
{
    *s = NULL;
    *err = (struct infer_error){0};
    return infer_safetensors_open_memory(s, m->data, m->len, err);
}

#define A       "\"a.w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B       "\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}"
#define GOOD    "{\"__metadata__\":{\"format\":\"p\\\"t\"}," B "," A "}  "
#define GOOD_N  26
#define T(rest) "{\"t\":{" rest "}}"

static void test_reads(void **state)
{
    struct image m = build(GOOD, GOOD_N);
    struct infer_safetensors *s;
    const struct infer_st_tensor *t;
    struct infer_error err;

    (void)state;
    if (open_image(&m, &s, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_safetensors_n(s), 2);
    t = infer_safetensors_find(s, "a.w");
    assert_ptr_equal(t, infer_safetensors_tensor(s, 0));
    assert_string_equal(t->name, "a.w");
    assert_int_equal(t->dtype, INFER_ST_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->dims[2], 1);
    assert_int_equal(t->bytes, 24);
    assert_int_equal(*(const uint8_t *)t->data, 0);
    t = infer_safetensors_find(s, "b");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->bytes, 2);
    assert_int_equal(*(const uint8_t *)t->data, 24);
    assert_null(infer_safetensors_find(s, "format"));
    infer_safetensors_close(s);
    image_free(&m);
}

static const struct accepted {
    const char *header;
    size_t n_data, n_tensors;
} accepted[] = {
    {"{}", 0, 0},
    {"{ \"__metadata__\" : { } }\n", 0, 0},
    {"{\"__metadata__\":{\"a\\u0041\\n\":\"b\\\\\"}}", 0, 0},
    {T("\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[0,0]"), 0, 1},
    {T("\"shape\":[ 3 ],\"data_offsets\": [0 , 3],\"dtype\":\"BOOL\""), 3, 1},
    {"{\"q\\\"\\\\\\/\":{\"dtype\":\"I8\",\"shape\":[1,1,1,1,1,1,1,1],"
     "\"data_offsets\":[0,1]}}",
     1, 1},
};

static void test_accepts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(*accepted); i++) {
        struct image m = build(accepted[i].header, accepted[i].n_data);
        struct infer_safetensors *s;
        struct infer_error err;

        if (open_image(&m, &s, &err))
            fail_msg("%s: %s", accepted[i].header, err.text);
        assert_int_equal(infer_safetensors_n(s), accepted[i].n_tensors);
        infer_safetensors_close(s);
        image_free(&m);
    }
}

static const struct bad {
    const char *header;
    size_t n_data;
    int status;
    const char *says;
} bads[] = {
    {"[]", 0, INFER_EFORMAT, "byte 0 of its header: expected '{'"},
    {" {}", 0, INFER_EFORMAT, "byte 0"},
    {"{} x", 0, INFER_EFORMAT, "byte 3 of its header: expected nothing more"},
    {"{" A ",}", 24, INFER_EFORMAT, "expected a string"},
    {"{" A, 24, INFER_EFORMAT, "',' or '}'"},
    {"{" A " " B "}", 26, INFER_EFORMAT, "',' or '}'"},
    {"{\"a\" 1}", 0, INFER_EFORMAT, "expected ':'"},
    {"{\"a\":1}", 0, INFER_EFORMAT, "expected '{'"},
    {"{\"a\":null}", 0, INFER_EFORMAT, "expected '{'"},
    {"{\"\":{}}", 0, INFER_EFORMAT, "not empty"},
    {"{\"a\nb\":{}}", 0, INFER_EFORMAT, "no control character"},
    {"{\"a\\n\":{}}", 0, INFER_EFORMAT, "an escape"},
    {"{\"a\\", 0, INFER_EFORMAT, "an escape"},
    {"{\"abc", 0, INFER_EFORMAT, "the end of a string"},
    {"{\"__metadata__\":[]}", 0, INFER_EFORMAT, "expected '{'"},
    {"{\"__metadata__\":{\"a\":1}}", 0, INFER_EFORMAT, "expected a string"},
    {"{\"__metadata__\":{\"a\"}}", 0, INFER_EFORMAT, "expected ':'"},
    {"{\"__metadata__\":{\"a\":\"b\\", 0, INFER_EFORMAT, "end of a string"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, INFER_EFORMAT, "twice"},
    {"{" A "," A "}", 24, INFER_EFORMAT, "overlaps"},
    {"{" A
     ",\"a.w\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}}",
     26, INFER_EFORMAT, "'a.w' is there twice"},
    {"{" A "}", 25, INFER_EFORMAT, "1 bytes at its end belong to no tensor"},
    {"{" A "}", 23, INFER_EFORMAT, "'a.w' ends past the end of the file"},
    {"{" B "}", 26, INFER_EFORMAT, "'b' does not follow"},
    {"{" A ",\"c\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[20,24]}}",
     24, INFER_EFORMAT, "'c' overlaps"},
    {T(""), 0, INFER_EFORMAT, "expected a string"},
    {T("\"dtype\":\"U8\",\"shape\":[1]"), 1, INFER_EFORMAT, "'t' lacks"},
    {T("\"dtype\":\"U8\",\"dtype\":\"U8\""), 1, INFER_EFORMAT, "twice"},
    {T("\"strides\":[1]"), 1, INFER_EFORMAT, "'strides' which is not known"},
    {T("\"dtype\":\"F33\""), 1, INFER_EUNSUPPORTED, "unknown dtype 'F33'"},
    {T("\"dtype\":7"), 1, INFER_EFORMAT, "expected a string"},
    {T("\"shape\":[-1]"), 1, INFER_EFORMAT, "expected a number"},
    {T("\"shape\":[1.5]"), 1, INFER_EFORMAT, "',' or ']'"},
    {T("\"shape\":[01]"), 1, INFER_EFORMAT, "leading zeros"},
    {T("\"shape\":[18446744073709551616]"), 1, INFER_EFORMAT, "smaller"},
    {T("\"shape\":[1,1,1,1,1,1,1,1,1]"), 1, INFER_EFORMAT, "fewer numbers"},
    {T("\"shape\":3"), 1, INFER_EFORMAT, "expected '['"},
    {T("\"data_offsets\":[0]"), 1, INFER_EFORMAT, "two data_offsets"},
    {T("\"data_offsets\":[0,1,2]"), 1, INFER_EFORMAT, "fewer numbers"},
    {T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
       "\"data_offsets\":[0,0]"),
     0, INFER_EFORMAT, "the shape of tensor 't' overflows"},
    {T("\"dtype\":\"F32\",\"shape\":[4611686018427387904],"
       "\"data_offsets\":[0,0]"),
     0, INFER_EFORMAT, "overflows"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]"), 1,
     INFER_EFORMAT, "past the end"},
    {T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]"), 1,
     INFER_EFORMAT, "has 1 bytes for a shape of 2"},
    {T("\"dtype\":\"U8\",\"shape\":[1],"
       "\"data_offsets\":[18446744073709551615,18446744073709551615]"),
     1, INFER_EFORMAT, "past the end"},
};

static void test_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bads) / sizeof(*bads); i++) {
        struct image m = build(bads[i].header, bads[i].n_data);
        struct infer_safetensors *s;
        struct infer_error err;
        const int status = open_image(&m, &s, &err);

        if (status != bads[i].status || !strstr(err.text, bads[i].says) ||
            err.status != status || s)
            fail_msg("%s: status %d, '%s'", bads[i].header, status, err.text);
        assert_memory_equal(err.text, "cannot load 'memory': ", 22);
        image_free(&m);
    }
}

static void test_refuses_lengths(void **state)
{
    static const uint64_t lengths[] = {
        0, 1, 27, 1u << 30, UINT64_MAX, UINT64_MAX - 7, INT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        struct image m = {0};
        struct infer_safetensors *s;
        struct infer_error err;

        image_u64(&m, lengths[i]);
        image_put(&m, "{}                        ", 26);
        assert_int_equal(open_image(&m, &s, &err), INFER_EFORMAT);
        assert_non_null(strstr(err.text, "not a safetensors file"));
        image_free(&m);
    }
}

/* Bytes flush against the end of their own allocation, for sanitizers. */
static int survive(const uint8_t *data, size_t n)
{
    struct infer_safetensors *s = NULL;
    struct infer_error err = {0};
    uint8_t *copy = malloc(n ? n : 1);
    volatile uint8_t sum = 0;
    int status;

    assert_non_null(copy);
    memcpy(copy, data, n);
    status = infer_safetensors_open_memory(&s, copy, n, &err);
    if (status == 0)
        for (size_t i = 0; i < infer_safetensors_n(s); i++) {
            const struct infer_st_tensor *t = infer_safetensors_tensor(s, i);
            const uint8_t *p = t->data;

            for (uint64_t k = 0; k < t->bytes; k++)
                sum = (uint8_t)(sum + p[k]);
        }
    else
        assert_true(err.text[0] != '\0');
    infer_safetensors_close(s);
    free(copy);
    return status;
}

static void test_cut_and_changed(void **state)
{
    struct image m = build(GOOD, GOOD_N);

    (void)state;
    for (size_t n = 0; n < m.len; n++)
        assert_int_not_equal(survive(m.data, n), 0);
    for (size_t i = 0; i < m.len - GOOD_N; i++)
        for (unsigned v = 0; v < 256; v++) {
            const uint8_t was = m.data[i];

            m.data[i] = (uint8_t)v;
            survive(m.data, m.len);
            m.data[i] = was;
        }
    assert_int_equal(survive(m.data, m.len), 0);
    image_free(&m);
}

static void test_writes(void **state)
{
    static const float w[6] = {0, 1, -2, 3.5f, 4, 5};
    static const uint16_t b[2] = {0x3f80, 0xc000};
    const uint64_t dims[2] = {2, 3};
    char path[] = "/tmp/infer-st-XXXXXX";
    struct infer_safetensors_writer *writer = NULL;
    struct infer_safetensors *s = NULL;
    const struct infer_st_tensor *t;
    struct infer_error err = {0};

    (void)state;
    close(mkstemp(path));
    assert_int_equal(infer_safetensors_writer_create(&writer, &err), 0);
    infer_safetensors_add(writer, "model.w", INFER_ST_F32, 2, dims, w);
    infer_safetensors_add(writer, "model.b", INFER_ST_BF16, 1, dims, b);
    infer_safetensors_add(writer, "scalar", INFER_ST_F32, 0, NULL, w + 3);
    if (infer_safetensors_save(writer, path, &err) ||
        infer_safetensors_open(&s, path, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_safetensors_n(s), 3);
    t = infer_safetensors_find(s, "model.w");
    assert_int_equal((uintptr_t)t->data % 8, 0);
    assert_int_equal(t->dims[1], 3);
    assert_memory_equal(t->data, w, sizeof(w));
    t = infer_safetensors_find(s, "model.b");
    assert_int_equal(t->dtype, INFER_ST_BF16);
    assert_memory_equal(t->data, b, sizeof(b));
    t = infer_safetensors_find(s, "scalar");
    assert_int_equal(t->n_dims, 0);
    assert_memory_equal(t->data, w + 3, 4);
    infer_safetensors_close(s);
    infer_safetensors_writer_free(writer);
    unlink(path);
}

static void test_write_refuses(void **state)
{
    static const char *const names[] = {"",     "a\"b", "a\\b",
                                        "a\nb", "ok",   "__metadata__"};
    const uint64_t dims[2] = {UINT64_MAX, 2};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct infer_safetensors_writer *w = NULL;
        struct infer_error err = {0};

        assert_int_equal(infer_safetensors_writer_create(&w, &err), 0);
        infer_safetensors_add(w, "ok", INFER_ST_U8, 0, NULL, "x");
        infer_safetensors_add(w, names[i], INFER_ST_U8, 0, NULL, "x");
        assert_int_equal(infer_safetensors_save(w, "/tmp/never", &err),
                         INFER_EINVAL);
        assert_non_null(strstr(err.text, names[i]));
        infer_safetensors_writer_free(w);
        assert_int_equal(infer_safetensors_writer_create(&w, &err), 0);
        infer_safetensors_add(w, "big", INFER_ST_F32, 2, dims, "x");
        assert_int_equal(infer_safetensors_save(w, "/tmp/never", &err),
                         INFER_EINVAL);
        infer_safetensors_writer_free(w);
    }
    assert_int_not_equal(access("/tmp/never", F_OK), 0);
}

static void test_open_fails(void **state)
{
    struct infer_safetensors *s = NULL;
    struct infer_error err = {0};

    (void)state;
    assert_int_equal(infer_safetensors_open(&s, "/nowhere/x", &err), INFER_EIO);
    assert_non_null(strstr(err.text, "/nowhere/x"));
    assert_int_equal(infer_safetensors_open(&s, "/tmp", &err), INFER_EIO);
    assert_int_equal(infer_safetensors_open(&s, "/dev/null", &err), INFER_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_refuses_lengths),
        cmocka_unit_test(test_cut_and_changed),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_write_refuses),
        cmocka_unit_test(test_open_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
