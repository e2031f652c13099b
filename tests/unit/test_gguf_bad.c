/*
 * test_gguf_bad.c - the GGUF reader on bad files: every kind is refused with a
 * sentence that names the culprit, and no file cut or changed anywhere makes
 * it crash.
 *
 * Images that are cut lie flush against an unreadable page, so that a read
 * past their end fails here without a sanitizer, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gguf_walk.h"
#include "tests/image.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ORACLE_FILE "../shared/oracle/stories260K/model-Q8_0.gguf"

/* ---- bad files -------------------------------------------------------------
 */

static void magic(struct plan *p)
{
    p->magic = "GGML";
}
static void version_1(struct plan *p)
{
    p->version = 1;
}
static void version_4(struct plan *p)
{
    p->version = 4;
}
static void version_0(struct plan *p)
{
    p->version = 0;
}
static void swapped(struct plan *p)
{
    p->version = 3u << 24;
}
static void many_keys(struct plan *p)
{
    p->n_keys = UINT64_MAX;
}
static void many_tensors(struct plan *p)
{
    p->n_tensors = (uint64_t)1 << 40;
}
static void one_key_more(struct plan *p)
{
    p->n_keys++;
}
static void empty_key(struct plan *p)
{
    p->keys[1].name_len = 0;
}
static void nul_in_key(struct plan *p)
{
    p->keys[1].name = "a\0text";
}
static void same_key(struct plan *p)
{
    p->keys[1].name = "a.count";
    p->keys[1].name_len = 7;
}
static void key_type(struct plan *p)
{
    p->keys[0].type = 13;
}
static void long_string(struct plan *p)
{
    memset(p->keys[1].value.data, 0xff, 8);
}
static void array_type(struct plan *p)
{
    p->keys[2].value.data[0] = 99;
}
static void array_of_arrays(struct plan *p)
{
    p->keys[2].value.data[0] = INFER_GGUF_ARRAY;
}
static void long_array(struct plan *p)
{
    memset(p->keys[2].value.data + 4, 0x7f, 8);
}
static void overflowing_array(struct plan *p)
{
    memset(p->keys[2].value.data + 4, 0, 8);
    p->keys[2].value.data[11] = 0x40; /* 2^62 floats are 0 bytes */
}
static void long_strings(struct plan *p)
{
    memset(p->keys[3].value.data + 4, 0xff, 8);
}
static void string_in_array(struct plan *p)
{
    memset(p->keys[3].value.data + 12, 0xff, 8);
}
static void odd_bool(struct plan *p)
{
    image_put(plan_key(p, "a.bool", INFER_GGUF_BOOL), "\2", 1);
}
static void odd_bools(struct plan *p)
{
    struct image *v = plan_key(p, "a.bools", INFER_GGUF_ARRAY);

    image_u32(v, INFER_GGUF_BOOL);
    image_u64(v, 2);
    image_put(v, "\1\5", 2);
}
static void alignment_12(struct plan *p)
{
    plan_u32(p, "general.alignment", 12);
}
static void alignment_4(struct plan *p)
{
    plan_u32(p, "general.alignment", 4);
}
static void alignment_0(struct plan *p)
{
    plan_u32(p, "general.alignment", 0);
}
static void alignment_text(struct plan *p)
{
    image_str(plan_key(p, "general.alignment", INFER_GGUF_STRING), "32", 2);
}
static void empty_name(struct plan *p)
{
    p->tensors[0].name_len = 0;
}
static void nul_in_name(struct plan *p)
{
    p->tensors[0].name = "first\0weight";
}
static void long_name(struct plan *p)
{
    static const char name[300] = "x";

    p->tensors[0].name = name;
    p->tensors[0].name_len = sizeof(name);
}
static void same_name(struct plan *p)
{
    p->tensors[1].name = p->tensors[0].name;
    p->tensors[1].name_len = p->tensors[0].name_len;
}
static void no_dims(struct plan *p)
{
    p->tensors[0].n_dims = 0;
}
static void five_dims(struct plan *p)
{
    p->tensors[0].n_dims = 5;
}
static void many_dims(struct plan *p)
{
    p->tensors[1].n_dims = UINT32_MAX;
}
static void dim_0(struct plan *p)
{
    p->tensors[1].dims[1] = 0;
}
static void dims_overflow(struct plan *p)
{
    p->tensors[1].dims[0] = (uint64_t)1 << 33;
    p->tensors[1].dims[1] = (uint64_t)1 << 33;
}
static void bytes_overflow(struct plan *p)
{
    p->tensors[1].dims[0] = (uint64_t)1 << 62; /* floats: 2^64 bytes */
    p->tensors[1].dims[1] = 1;
}
static void half_block(struct plan *p)
{
    p->tensors[0].dims[0] = 16;
    p->tensors[0].dims[1] = 4;
}
static void tensor_type(struct plan *p)
{
    p->tensors[0].type = 4; /* Q4_2, removed long ago */
}
static void huge_type(struct plan *p)
{
    p->tensors[0].type = UINT32_MAX;
}
static void odd_offset(struct plan *p)
{
    p->tensors[1].offset = 100;
}
static void far_offset(struct plan *p)
{
    p->tensors[1].offset = UINT64_MAX - 31;
}
static void past_the_end(struct plan *p)
{
    p->data_bytes = 96 + 47;
}
static void no_data(struct plan *p)
{
    p->data_bytes = 0;
}
static void overlap(struct plan *p)
{
    p->tensors[1].offset = 64;
}
static void same_data(struct plan *p)
{
    p->tensors[1].offset = 0;
}

static const struct bad_file {
    const char *name;
    void (*spoil)(struct plan *p);
    int status;
    const char *says;
} bad_files[] = {
    {"magic", magic, INFER_EFORMAT, "not a GGUF file"},
    {"version 0", version_0, INFER_EUNSUPPORTED, "version 0"},
    {"version 1", version_1, INFER_EUNSUPPORTED, "version 1"},
    {"version 4", version_4, INFER_EUNSUPPORTED, "version 4"},
    {"byte order", swapped, INFER_EUNSUPPORTED, "big-endian"},
    {"many keys", many_keys, INFER_EFORMAT, "keys are too many"},
    {"many tensors", many_tensors, INFER_EFORMAT, "tensors are too many"},
    {"one key more", one_key_more, INFER_EFORMAT, "tensor 0"},
    {"empty key", empty_key, INFER_EFORMAT, "key 1 "},
    {"NUL in a key", nul_in_key, INFER_EFORMAT, "key 1 "},
    {"same key", same_key, INFER_EFORMAT, "'a.count' is there twice"},
    {"key type", key_type, INFER_EFORMAT, "'a.count' has type 13"},
    {"long string", long_string, INFER_EFORMAT, "'a.text'"},
    {"array type", array_type, INFER_EFORMAT, "'a.floats' is an array of type"},
    {"nested array", array_of_arrays, INFER_EFORMAT, "'a.floats'"},
    {"long array", long_array, INFER_EFORMAT, "'a.floats'"},
    {"overflowing array", overflowing_array, INFER_EFORMAT, "'a.floats'"},
    {"long string array", long_strings, INFER_EFORMAT, "'a.strings'"},
    {"string in array", string_in_array, INFER_EFORMAT, "'a.strings'"},
    {"bool of 2", odd_bool, INFER_EFORMAT, "'a.bool'"},
    {"array with bool of 5", odd_bools, INFER_EFORMAT, "'a.bools'"},
    {"alignment 12", alignment_12, INFER_EFORMAT, "'general.alignment'"},
    {"alignment 4", alignment_4, INFER_EFORMAT, "'general.alignment'"},
    {"alignment 0", alignment_0, INFER_EFORMAT, "'general.alignment'"},
    {"text alignment", alignment_text, INFER_EFORMAT, "'general.alignment'"},
    {"empty name", empty_name, INFER_EFORMAT, "tensor 0 "},
    {"NUL in a name", nul_in_name, INFER_EFORMAT, "tensor 0 "},
    {"long name", long_name, INFER_EFORMAT, "tensor 0 "},
    {"same name", same_name, INFER_EFORMAT, "'first.weight' is there twice"},
    {"no dimensions", no_dims, INFER_EFORMAT, "'first.weight'"},
    {"five dimensions", five_dims, INFER_EFORMAT, "'first.weight'"},
    {"many dimensions", many_dims, INFER_EFORMAT, "'second.weight'"},
    {"empty dimension", dim_0, INFER_EFORMAT, "'second.weight'"},
    {"dimensions overflow", dims_overflow, INFER_EFORMAT, "'second.weight'"},
    {"bytes overflow", bytes_overflow, INFER_EFORMAT, "'second.weight'"},
    {"half a block", half_block, INFER_EFORMAT, "'first.weight'"},
    {"tensor type", tensor_type, INFER_EUNSUPPORTED, "'first.weight'"},
    {"huge tensor type", huge_type, INFER_EUNSUPPORTED, "'first.weight'"},
    {"odd offset", odd_offset, INFER_EFORMAT, "'second.weight'"},
    {"far offset", far_offset, INFER_EFORMAT, "'second.weight'"},
    {"past the end", past_the_end, INFER_EFORMAT, "'second.weight'"},
    {"no data", no_data, INFER_EFORMAT, "'first.weight'"},
    {"overlap", overlap, INFER_EFORMAT, "'first.weight' and 'second.weight'"},
    {"same data", same_data, INFER_EFORMAT, "overlap"},
};

static void test_bad_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
        const struct bad_file *f = &bad_files[i];
        struct infer_gguf *g = NULL;
        struct infer_error err = {0};
        struct image m;
        struct plan p;
        int status;

        plan_good(&p);
        f->spoil(&p);
        m = plan_build(&p, NULL);
        status = infer_gguf_open_memory(&g, m.data, m.len, &err);
        if (status != f->status || !strstr(err.text, f->says) ||
            err.status != status || g)
            fail_msg("%s: status %d, '%s'", f->name, status, err.text);
        assert_memory_equal(err.text, "cannot load 'memory': ", 22);
        image_free(&m);
        plan_free(&p);
    }
}

/* Names from a file cannot play tricks with the log they end up in. */
static void test_messages_are_clean(void **state)
{
    struct infer_error err = {0};
    struct infer_gguf *g = NULL;
    struct image m;
    struct plan p;

    (void)state;
    plan_good(&p);
    p.tensors[0].name = "a\xff\xc3";
    p.tensors[0].name_len = strlen(p.tensors[0].name);
    p.tensors[1].offset = 64;
    m = plan_build(&p, NULL);
    assert_int_equal(infer_gguf_open_memory(&g, m.data, m.len, &err),
                     INFER_EFORMAT);
    for (const char *c = err.text; *c; c++)
        assert_in_range(*c, ' ', '~');
    image_free(&m);
    plan_free(&p);
}

/* ---- cut and changed files -------------------------------------------------
 */

/* n bytes that end where an unreadable page begins. */
struct fence {
    uint8_t *map;
    size_t bytes, page;
};

static void fence_create(struct fence *f, size_t room)
{
    f->page = (size_t)sysconf(_SC_PAGESIZE);
    f->bytes = (room + f->page - 1) / f->page * f->page;
    f->map = mmap(NULL, f->bytes + f->page, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(f->map, MAP_FAILED);
    assert_int_equal(mprotect(f->map + f->bytes, f->page, PROT_NONE), 0);
}

static uint8_t *fence_put(struct fence *f, const void *data, size_t n)
{
    return memcpy(f->map + f->bytes - n, data, n);
}

static void fence_free(struct fence *f)
{
    munmap(f->map, f->bytes + f->page);
}

/* Open, walk if it opens; a refusal must have its sentence. */
static int survive(const void *data, size_t n, bool walk)
{
    struct infer_gguf *g = NULL;
    struct infer_error err = {0};
    const int status = infer_gguf_open_memory(&g, data, n, &err);

    if (status == 0) {
        if (walk)
            walk_gguf(g);
        infer_gguf_close(g);
    } else {
        assert_int_equal(err.status, status);
        assert_true(strlen(err.text) > 22);
        assert_true(status == INFER_EFORMAT || status == INFER_EUNSUPPORTED);
    }
    return status;
}

/* Cut after every byte: all of the header, and of a big file some data. The
 * last tensor ends at `needed`; what follows it is padding. */
static void cut_everywhere(const struct image *m, size_t header, size_t needed)
{
    const size_t step = m->len > 100000 ? 997 : 1;
    struct fence f;

    fence_create(&f, m->len);
    for (size_t n = 0; n < m->len; n += n < header + 64 ? 1 : step) {
        const uint8_t *data = fence_put(&f, m->data, n);
        const int status = survive(data, n, (uintptr_t)data % 32 == 0);

        if ((status == 0) != (n >= needed))
            fail_msg("cut after %zu of %zu bytes: status %d", n, m->len,
                     status);
    }
    fence_free(&f);
}

static void flip_everywhere(struct image *m, size_t header)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};

    for (size_t i = 0; i < header; i++)
        for (size_t k = 0; k < sizeof(flips); k++) {
            m->data[i] ^= flips[k];
            survive(m->data, m->len, m->len < 10000 || i % 16 == 0);
            m->data[i] ^= flips[k];
        }
}

static void test_own_file_cut_and_changed(void **state)
{
    struct image m;
    struct plan p;
    size_t header;

    (void)state;
    plan_good(&p);
    m = plan_build(&p, &header);
    cut_everywhere(&m, header, m.len - p.data_bytes + 96 + 48);
    flip_everywhere(&m, header);
    image_free(&m);
    plan_free(&p);
}

static void test_real_file_cut_and_changed(void **state)
{
    struct image m = image_read(ORACLE_FILE);
    struct infer_gguf *g;
    size_t header = SIZE_MAX, needed = 0;

    (void)state;
    if (!m.data) {
        printf("skipped: %s is not there\n", ORACLE_FILE);
        skip();
    }
    g = image_open(&m);
    for (size_t i = 0; i < infer_gguf_n_tensors(g); i++) {
        const struct infer_gguf_tensor *t = infer_gguf_tensor(g, i);
        const size_t at = (size_t)((const uint8_t *)t->data - m.data);

        header = at < header ? at : header;
        needed = at + t->bytes > needed ? at + (size_t)t->bytes : needed;
    }
    infer_gguf_close(g);
    cut_everywhere(&m, header, needed);
    flip_everywhere(&m, header);
    image_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_messages_are_clean),
        cmocka_unit_test(test_own_file_cut_and_changed),
        cmocka_unit_test(test_real_file_cut_and_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
