/*
 * test_gguf_write.c - the GGUF writer: what is written reads back equal, what
 * cannot be written leaves the old file alone, and files of other programs
 * come out byte for byte as they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/format/gguf.h"
#include "core/format/quant.h"
#include "tests/image.h"

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define ORACLE_FILES "../shared/oracle/*/model-*.gguf"

static char folder[] = "/tmp/test_gguf_write.XXXXXX";
static char path[64]; /* in the folder */

static int make_folder(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "%s", folder);
    if (!mkdtemp(path))
        return -1;
    memcpy(folder, path, sizeof(folder));
    snprintf(path, sizeof(path), "%s/model.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left */
}

static struct infer_gguf_writer *create(void)
{
    struct infer_gguf_writer *w = NULL;

    assert_int_equal(infer_gguf_writer_create(&w, NULL), 0);
    return w;
}

static void save(struct infer_gguf_writer *w)
{
    struct infer_error err = {0};

    if (infer_gguf_save(w, path, &err))
        fail_msg("%s", err.text);
    infer_gguf_writer_free(w);
}

static struct infer_gguf *open_saved(void)
{
    struct infer_gguf *g = NULL;
    struct infer_error err = {0};

    if (infer_gguf_open(&g, path, &err))
        fail_msg("%s", err.text);
    return g;
}

static void test_everything_reads_back(void **state)
{
    static const float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const struct infer_gguf_str words[2] = {{"ab", 2}, {"", 0}};
    const int32_t ids[3] = {-1, 0, 7};
    struct infer_gguf_writer *w = create();
    struct infer_gguf_array a;
    struct infer_gguf_str s;
    struct infer_gguf *g;
    uint32_t u = 0;
    float f = 0.0f;
    bool b = false;

    (void)state;
    infer_gguf_set_u32(w, "u", 5);
    infer_gguf_set_f32(w, "f", 0.25f);
    infer_gguf_set_bool(w, "b", true);
    infer_gguf_set_str(w, "s", "text");
    infer_gguf_set_array(w, "ids", INFER_GGUF_I32, ids, 3);
    infer_gguf_set_array(w, "none", INFER_GGUF_F64, NULL, 0);
    infer_gguf_set_strs(w, "words", words, 2);
    infer_gguf_add_tensor(w, "x", INFER_F32, 1, (uint64_t[]){5}, values);
    infer_gguf_add_tensor(w, "y", INFER_F16, 2, (uint64_t[]){2, 2}, values);
    save(w);

    g = open_saved();
    assert_int_equal(infer_gguf_get_u32(g, "u", &u, NULL), 0);
    assert_int_equal(infer_gguf_get_f32(g, "f", &f, NULL), 0);
    assert_int_equal(infer_gguf_get_bool(g, "b", &b, NULL), 0);
    assert_true(u == 5 && f == 0.25f && b);
    assert_int_equal(infer_gguf_get_str(g, "s", &s, NULL), 0);
    assert_memory_equal(s.data, "text", 4);
    assert_int_equal(infer_gguf_get_array(g, "ids", &a, NULL), 0);
    assert_int_equal(a.n, 3);
    assert_memory_equal(a.data, ids, sizeof(ids));
    assert_int_equal(infer_gguf_get_array(g, "none", &a, NULL), 0);
    assert_int_equal(a.n, 0);
    assert_int_equal(infer_gguf_get_array(g, "words", &a, NULL), 0);
    assert_int_equal(a.strs[0].len, 2);
    assert_memory_equal(infer_gguf_find(g, "x")->data, values, 20);
    assert_memory_equal(infer_gguf_find(g, "y")->data, values, 8);
    assert_int_equal((uintptr_t)infer_gguf_find(g, "y")->data % 32, 0);
    infer_gguf_close(g);
}

static void test_alignment_is_kept(void **state)
{
    struct infer_gguf_writer *w = create();
    struct infer_gguf *g;

    (void)state;
    infer_gguf_set_u32(w, "general.alignment", 4096);
    infer_gguf_add_tensor(w, "x", INFER_F16, 1, (uint64_t[]){1}, "ab");
    infer_gguf_add_tensor(w, "y", INFER_F16, 1, (uint64_t[]){1}, "cd");
    save(w);
    g = open_saved();
    assert_int_equal(infer_gguf_file_bytes(g), 3 * 4096);
    assert_memory_equal(infer_gguf_find(g, "y")->data, "cd", 2);
    assert_int_equal((uintptr_t)infer_gguf_find(g, "y")->data % 4096, 0);
    infer_gguf_close(g);
}

/* ---- what cannot be written ------------------------------------------------
 */

static void spoil_key_twice(struct infer_gguf_writer *w)
{
    infer_gguf_set_u32(w, "k", 1);
    infer_gguf_set_str(w, "k", "again");
}

static void spoil_empty_key(struct infer_gguf_writer *w)
{
    infer_gguf_set_bool(w, "", true);
}

static void spoil_alignment(struct infer_gguf_writer *w)
{
    infer_gguf_set_u32(w, "general.alignment", 33);
}

static void spoil_array(struct infer_gguf_writer *w)
{
    infer_gguf_set_array(w, "k", INFER_GGUF_STRING, "", 0);
}

static void add(struct infer_gguf_writer *w, const char *name, uint32_t type,
                uint32_t n_dims, uint64_t d0, const void *data)
{
    infer_gguf_add_tensor(w, name, type, n_dims, (uint64_t[5]){d0, 1, 1, 1, 1},
                          data);
}

static void spoil_tensor_twice(struct infer_gguf_writer *w)
{
    add(w, "k", INFER_F16, 1, 1, "ab");
    add(w, "k", INFER_F16, 1, 1, "ab");
}

static void spoil_type(struct infer_gguf_writer *w)
{
    add(w, "k", 99, 1, 1, "abcd");
}

static void spoil_dims(struct infer_gguf_writer *w)
{
    add(w, "k", INFER_F16, 5, 1, "ab");
}

static void spoil_empty(struct infer_gguf_writer *w)
{
    add(w, "k", INFER_F16, 1, 0, "ab");
}

static void spoil_block(struct infer_gguf_writer *w)
{
    add(w, "k", INFER_Q8_0, 1, 33, "ab");
}

static void spoil_overflow(struct infer_gguf_writer *w)
{
    add(w, "k", INFER_F32, 1, UINT64_MAX / 2, "ab");
}

static void spoil_data(struct infer_gguf_writer *w)
{
    add(w, "k", INFER_F16, 1, 1, NULL);
}

static void spoil_name(struct infer_gguf_writer *w)
{
    char name[400];

    memset(name, 'k', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    add(w, name, INFER_F16, 1, 1, "ab");
}

static void spoil_control(struct infer_gguf_writer *w)
{
    infer_gguf_set_u32(w, "a\nk", 1);
}

static void test_bad_calls_stick(void **state)
{
    static void (*const spoilers[])(struct infer_gguf_writer *) = {
        spoil_key_twice,    spoil_empty_key, spoil_alignment, spoil_array,
        spoil_tensor_twice, spoil_type,      spoil_dims,      spoil_empty,
        spoil_block,        spoil_overflow,  spoil_data,      spoil_name,
        spoil_control};

    (void)state;
    unlink(path);
    for (size_t i = 0; i < sizeof(spoilers) / sizeof(spoilers[0]); i++) {
        struct infer_gguf_writer *w = create();
        struct infer_error err = {0};

        infer_gguf_set_u32(w, "before", 1);
        spoilers[i](w);
        infer_gguf_set_u32(w, "after", 1);
        assert_int_equal(infer_gguf_save(w, path, &err), INFER_EINVAL);
        assert_non_null(strstr(err.text, "cannot save"));
        assert_int_equal(access(path, F_OK), -1);
        infer_gguf_writer_free(w);
    }
}

/* Files may not grow past `bytes`, as on a full disk. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_full_disk_keeps_the_old_file(void **state)
{
    static const uint8_t data[4096];
    struct infer_gguf_writer *w = create();
    struct infer_error err = {0};

    (void)state;
    add(w, "old", INFER_F16, 1, 1, "ab");
    save(w);
    w = create();
    add(w, "new", INFER_F32, 1, 1024, data);
    limit_files(1000);
    assert_int_equal(infer_gguf_save(w, path, &err), INFER_EIO);
    limit_files(RLIM_INFINITY);
    assert_non_null(strstr(err.text, "cannot write"));
    infer_gguf_writer_free(w);
    infer_gguf_close(open_saved());
}

static void test_failed_save_keeps_the_old_file(void **state)
{
    struct infer_gguf_writer *w = create();
    struct infer_error err = {0};
    char inside[96];

    (void)state;
    infer_gguf_set_u32(w, "k", 1);
    assert_int_equal(infer_gguf_save(w, path, &err), 0);
    snprintf(inside, sizeof(inside), "%s/none/model.gguf", folder);
    assert_int_equal(infer_gguf_save(w, inside, &err), INFER_EIO);
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(infer_gguf_save(w, folder, &err), INFER_EIO);
    assert_non_null(strstr(err.text, "cannot replace"));
    if (access("/dev/full", W_OK) == 0) /* not a folder: cannot create there */
        assert_int_equal(infer_gguf_save(w, "/dev/full/x", &err), INFER_EIO);
    infer_gguf_writer_free(w);
    infer_gguf_close(open_saved());
}

/* ---- files of other programs ------------------------------------------------
 */

static void copy(const struct infer_gguf *g)
{
    struct infer_gguf_writer *w = create();

    infer_gguf_set_all(w, g);
    for (size_t i = 0; i < infer_gguf_n_tensors(g); i++) {
        const struct infer_gguf_tensor *t = infer_gguf_tensor(g, i);

        infer_gguf_add_tensor(w, t->name, t->type, t->n_dims, t->dims, t->data);
    }
    save(w);
}

static void test_copies_are_equal(void **state)
{
    glob_t found = {0};

    (void)state;
    if (glob(ORACLE_FILES, 0, NULL, &found)) {
        printf("skipped: ../shared/oracle is not there\n");
        skip();
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct image old = image_read(found.gl_pathv[i]), new;
        struct infer_gguf *g = image_open(&old);

        copy(g);
        new = image_read(path);
        if (old.len != new.len || memcmp(old.data, new.data, old.len))
            fail_msg("the copy of '%s' differs", found.gl_pathv[i]);
        infer_gguf_close(g);
        image_free(&old);
        image_free(&new);
    }
    globfree(&found);
}

static void test_set_all_keeps_what_is_set(void **state)
{
    struct infer_gguf_writer *w = create();
    struct infer_gguf *g;
    struct image m;
    struct plan p;
    uint32_t u = 0;

    (void)state;
    plan_good(&p);
    m = plan_build(&p, NULL);
    g = image_open(&m);
    infer_gguf_set_u32(w, "a.count", 99);
    infer_gguf_set_all(w, g);
    infer_gguf_close(g);
    save(w);
    g = open_saved();
    assert_int_equal(infer_gguf_n_keys(g), 4);
    assert_int_equal(infer_gguf_get_u32(g, "a.count", &u, NULL), 0);
    assert_int_equal(u, 99);
    infer_gguf_close(g);
    image_free(&m);
    plan_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_reads_back),
        cmocka_unit_test(test_alignment_is_kept),
        cmocka_unit_test(test_bad_calls_stick),
        cmocka_unit_test(test_failed_save_keeps_the_old_file),
        cmocka_unit_test(test_full_disk_keeps_the_old_file),
        cmocka_unit_test(test_copies_are_equal),
        cmocka_unit_test(test_set_all_keeps_what_is_set),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
