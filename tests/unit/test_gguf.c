/*
 * test_gguf.c - the GGUF reader on good files: what it says of them, and how
 * it converts what they hold. Bad files: test_gguf_bad.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gguf_walk.h"
#include "tests/image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a good file -----------------------------------------------------------
 */

static void test_good_file(void **state)
{
    struct plan p;
    struct image m;
    struct infer_gguf *g;
    struct infer_gguf_str s;
    struct infer_gguf_array a;
    const struct infer_gguf_tensor *t;
    enum infer_gguf_type type;
    uint32_t u;

    (void)state;
    plan_good(&p);
    m = plan_build(&p, NULL);
    g = image_open(&m);
    assert_int_equal(infer_gguf_file_bytes(g), m.len);
    assert_int_equal(infer_gguf_n_keys(g), 4);
    assert_string_equal(infer_gguf_key(g, 1, &type), "a.text");
    assert_int_equal(type, INFER_GGUF_STRING);
    assert_null(infer_gguf_key(g, 4, NULL));
    assert_int_equal(infer_gguf_get_u32(g, "a.count", &u, NULL), 0);
    assert_int_equal(u, 7);
    assert_int_equal(infer_gguf_get_u32(g, "a.coun", &u, NULL), 1);
    assert_int_equal(infer_gguf_get_str(g, "a.text", &s, NULL), 0);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.data, "h\0llo", 5);
    assert_int_equal(infer_gguf_get_array(g, "a.strings", &a, NULL), 0);
    assert_int_equal(a.n, 3);
    assert_int_equal(a.type, INFER_GGUF_STRING);
    assert_memory_equal(a.strs[2].data, "three", a.strs[2].len);
    assert_int_equal(infer_gguf_get_array(g, "a.floats", &a, NULL), 0);
    assert_null(a.strs);
    assert_memory_equal(a.data, ((const float[2]){1.5f, -2.0f}), 8);

    assert_int_equal(infer_gguf_n_tensors(g), 2);
    t = infer_gguf_find(g, "second.weight");
    assert_ptr_equal(t, infer_gguf_tensor(g, 1));
    assert_null(infer_gguf_tensor(g, 2));
    assert_null(infer_gguf_find(g, "third.weight"));
    assert_string_equal(t->name, "second.weight");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->dims[3], 1);
    assert_int_equal(t->bytes, 48);
    assert_int_equal(*(const uint8_t *)t->data, 96 % 60);
    assert_int_equal(infer_gguf_tensor(g, 0)->bytes, 68);
    infer_gguf_close(g);
    image_free(&m);
    plan_free(&p);
}

static void expect_good(struct plan *p)
{
    struct image m = plan_build(p, NULL);
    struct infer_gguf *g = image_open(&m);

    walk_gguf(g);
    infer_gguf_close(g);
    image_free(&m);
    plan_free(p);
}

static void test_other_good_files(void **state)
{
    struct plan p;

    (void)state;
    plan_good(&p);
    p.version = 2;
    expect_good(&p);

    plan_good(&p); /* another alignment */
    plan_u32(&p, "general.alignment", 8);
    p.alignment = 8;
    p.tensors[1].offset = 72;
    expect_good(&p);

    memset(&p, 0, sizeof(p)); /* nothing at all */
    p.magic = "GGUF";
    p.version = 3;
    p.alignment = 1;
    expect_good(&p);

    plan_good(&p); /* bytes after the end */
    p.data_bytes = 1000;
    expect_good(&p);

    plan_good(&p); /* the data in another order */
    p.tensors[0].offset = 64;
    p.tensors[1].offset = 0;
    expect_good(&p);

    plan_good(&p); /* the second and last byte of what is needed */
    p.data_bytes = 96 + 48;
    expect_good(&p);
}

/* ---- conversions -----------------------------------------------------------
 */

static void check_number(uint32_t type, const void *value, size_t n,
                         int status_u32, uint32_t want_u32, int status_f32)
{
    struct infer_error err = {0};
    struct infer_gguf *g;
    struct image m;
    struct plan p;
    uint32_t u = 12345;
    float f = 0.0f;

    plan_good(&p);
    image_put(plan_key(&p, "k", type), value, n);
    m = plan_build(&p, NULL);
    g = image_open(&m);
    assert_int_equal(infer_gguf_get_u32(g, "k", &u, &err), status_u32);
    assert_int_equal(u, status_u32 ? 12345 : want_u32);
    if (status_u32)
        assert_non_null(strstr(err.text, "'k'"));
    assert_int_equal(infer_gguf_get_f32(g, "k", &f, &err), status_f32);
    infer_gguf_close(g);
    image_free(&m);
    plan_free(&p);
}

static void test_numbers_convert(void **state)
{
    const int bad = INFER_EFORMAT;

#define CHECK(type, ctype, value, status_u32, want, status_f32)                \
    check_number(type, &(ctype){value}, sizeof(ctype), status_u32, want,       \
                 status_f32)
    (void)state;
    CHECK(INFER_GGUF_U8, uint8_t, 255, 0, 255, bad);
    CHECK(INFER_GGUF_I8, int8_t, 127, 0, 127, bad);
    CHECK(INFER_GGUF_I8, int8_t, -1, bad, 0, bad);
    CHECK(INFER_GGUF_U16, uint16_t, 65535, 0, 65535, bad);
    CHECK(INFER_GGUF_I16, int16_t, -2, bad, 0, bad);
    CHECK(INFER_GGUF_U32, uint32_t, UINT32_MAX, 0, UINT32_MAX, bad);
    CHECK(INFER_GGUF_I32, int32_t, INT32_MAX, 0, INT32_MAX, bad);
    CHECK(INFER_GGUF_I32, int32_t, -1, bad, 0, bad);
    CHECK(INFER_GGUF_U64, uint64_t, UINT32_MAX, 0, UINT32_MAX, bad);
    CHECK(INFER_GGUF_U64, uint64_t, (uint64_t)1 << 32, bad, 0, bad);
    CHECK(INFER_GGUF_I64, int64_t, -1, bad, 0, bad);
    CHECK(INFER_GGUF_I64, int64_t, 9, 0, 9, bad);
    CHECK(INFER_GGUF_BOOL, uint8_t, 1, bad, 0, bad);
    CHECK(INFER_GGUF_F32, float, 1.0f, bad, 0, 0);
    CHECK(INFER_GGUF_F32, float, NAN, bad, 0, bad);
    CHECK(INFER_GGUF_F32, float, INFINITY, bad, 0, bad);
    CHECK(INFER_GGUF_F64, double, 0.5, bad, 0, 0);
    CHECK(INFER_GGUF_F64, double, 1e300, bad, 0, bad);
#undef CHECK
}

static void test_other_types_are_refused(void **state)
{
    struct infer_error err = {0};
    struct infer_gguf_array a;
    struct infer_gguf_str s;
    struct infer_gguf *g;
    struct image m;
    struct plan p;
    bool b = true;

    (void)state;
    plan_good(&p);
    image_put(plan_key(&p, "a.bool", INFER_GGUF_BOOL), "", 1);
    m = plan_build(&p, NULL);
    g = image_open(&m);
    assert_int_equal(infer_gguf_get_bool(g, "a.bool", &b, &err), 0);
    assert_false(b);
    assert_int_equal(infer_gguf_get_bool(g, "a.text", &b, &err), INFER_EFORMAT);
    assert_string_equal(err.text, "key 'a.text' of 'memory' is not a bool");
    assert_int_equal(infer_gguf_get_str(g, "a.bool", &s, &err), INFER_EFORMAT);
    assert_int_equal(infer_gguf_get_array(g, "a.count", &a, &err),
                     INFER_EFORMAT);
    assert_int_equal(infer_gguf_get_bool(g, "none", &b, &err), 1);
    assert_int_equal(infer_gguf_get_str(g, "none", &s, &err), 1);
    assert_int_equal(infer_gguf_get_array(g, "none", &a, &err), 1);
    assert_int_equal(infer_gguf_get_f32(g, "none", &(float){0}, &err), 1);
    infer_gguf_close(g);
    image_free(&m);
    plan_free(&p);
}

/* ---- many names, many strings ----------------------------------------------
 */

static void test_many_tensors(void **state)
{
    enum { N = 5000 };
    struct image m = {0};
    struct infer_gguf *g;
    char name[32];

    (void)state;
    image_put(&m, "GGUF", 4);
    image_u32(&m, 3);
    image_u64(&m, N);
    image_u64(&m, 0);
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "blk.%zu.weight", i);
        image_str(&m, name, strlen(name));
        image_u32(&m, 1);
        image_u64(&m, 8);
        image_u32(&m, INFER_F32);
        image_u64(&m, (N - 1 - i) * 32);
    }
    image_pad(&m, 32);
    for (size_t i = 0; i < N; i++)
        image_put(&m, (const uint8_t[32]){0}, 32);
    g = image_open(&m);
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "blk.%zu.weight", i);
        assert_ptr_equal(infer_gguf_find(g, name), infer_gguf_tensor(g, i));
    }
    assert_null(infer_gguf_find(g, "blk.5000.weight"));
    infer_gguf_close(g);
    image_free(&m);
}

/* ---- files -----------------------------------------------------------------
 */

static void expect_open(const char *path, int want, const char *says)
{
    struct infer_gguf *g = NULL;
    struct infer_error err = {0};
    const int status = infer_gguf_open(&g, path, &err);

    if (status != want || (says && !strstr(err.text, says)))
        fail_msg("'%s': status %d, '%s'", path, status, err.text);
    infer_gguf_close(g);
}

static void test_paths(void **state)
{
    char folder[] = "/tmp/test_gguf.XXXXXX", path[64], long_path[300];
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    expect_open(folder, INFER_EIO, "not a regular file");
    snprintf(path, sizeof(path), "%s/none", folder);
    expect_open(path, INFER_EIO, "No such file");
    snprintf(path, sizeof(path), "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_open(path, INFER_EIO, "not a regular file");
    unlink(path);
    snprintf(path, sizeof(path), "%s/empty", folder);
    f = fopen(path, "wb");
    assert_non_null(f);
    fclose(f);
    expect_open(path, INFER_EFORMAT, "empty");
    unlink(path);
    rmdir(folder);
    memset(long_path, 'p', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = '\0';
    expect_open(long_path, INFER_EIO, "ppp': File name too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_other_good_files),
        cmocka_unit_test(test_numbers_convert),
        cmocka_unit_test(test_other_types_are_refused),
        cmocka_unit_test(test_many_tensors),
        cmocka_unit_test(test_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
