/*
 * test_train_onnx.c - the bytes of an exported ONNX file, parsed again by a
 * reader of their own: the framing is protobuf's, constants have as many values
 * as their shape, each node takes what is there already, and nothing is left
 * over. What the graph computes is checked by onnxruntime (make test-onnx).
 */
#include "tests/image.h"
#include "tests/oracle.h"

#include "trainer/hf/convert.h"
#include "trainer/onnx/builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_VALUES = 4096 };

struct span {
    const uint8_t *p, *end;
};

struct field {
    unsigned number, wire;
    uint64_t v; /* of a varint */
    struct span bytes;
};

static uint64_t varint(struct span *s)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        assert_true(s->p < s->end);
        v |= (uint64_t)(*s->p & 0x7f) << shift;
        if (!(*s->p++ & 0x80))
            return v;
    }
    fail_msg("an endless varint");
    return 0;
}

static bool next(struct span *s, struct field *f)
{
    uint64_t tag;

    if (s->p == s->end)
        return false;
    tag = varint(s);
    *f = (struct field){.number = (unsigned)(tag >> 3), .wire = tag & 7};
    if (f->wire == 0) {
        f->v = varint(s);
        return true;
    }
    assert_true(f->wire == 2 || f->wire == 5);
    f->v = f->wire == 5 ? 4 : varint(s);
    assert_true(f->v <= (uint64_t)(s->end - s->p));
    f->bytes = (struct span){s->p, s->p + f->v};
    s->p += f->v;
    return true;
}

/* ---- a graph ------------------------------------------------------------- */

struct seen {
    char name[ONNX_NAME];
    bool used;
};

struct graph {
    struct seen values[MAX_VALUES];
    size_t n, n_nodes, n_constants;
    bool input, output;
};

static struct seen *find(struct graph *g, struct span s)
{
    const size_t n = (size_t)(s.end - s.p);

    for (size_t i = 0; i < g->n; i++)
        if (strlen(g->values[i].name) == n &&
            memcmp(g->values[i].name, s.p, n) == 0)
            return &g->values[i];
    return NULL;
}

static void define(struct graph *g, struct span s)
{
    const size_t n = (size_t)(s.end - s.p);

    if (find(g, s))
        fail_msg("'%.*s' is defined twice", (int)n, (const char *)s.p);
    assert_true(g->n < MAX_VALUES && n > 0 && n < ONNX_NAME);
    memcpy(g->values[g->n++].name, s.p, n);
}

static void read_node(struct graph *g, struct span s, bool outputs)
{
    struct field f;

    while (next(&s, &f)) {
        struct seen *v = f.number == 1 ? find(g, f.bytes) : NULL;

        if (f.number == 2 && outputs)
            define(g, f.bytes);
        if (f.number != 1 || outputs)
            continue;
        if (!v)
            fail_msg("a node takes '%.*s', which is not there yet", (int)f.v,
                     (const char *)f.bytes.p);
        v->used = true;
    }
}

static void read_constant(struct graph *g, struct span s)
{
    struct span name = {NULL, NULL};
    uint64_t n = 1, type = 0, raw = UINT64_MAX;
    struct field f;

    while (next(&s, &f)) {
        if (f.number == 1)
            n *= f.v;
        else if (f.number == 2)
            type = f.v;
        else if (f.number == 8)
            name = f.bytes;
        else if (f.number == 9)
            raw = f.v;
    }
    assert_true(type == ONNX_F32 || type == ONNX_I64);
    assert_int_equal(raw, n * (type == ONNX_F32 ? 4 : 8));
    define(g, name);
    g->n_constants++;
}

static struct span name_of(struct span s)
{
    struct field f;

    assert_true(next(&s, &f) && f.number == 1);
    return f.bytes;
}

static void read_graph(struct graph *g, struct span s)
{
    struct span again = s;
    struct field f;

    while (next(&again, &f)) /* constants and inputs are there from the start */
        if (f.number == 5)
            read_constant(g, f.bytes);
        else if (f.number == 11)
            define(g, name_of(f.bytes));
    while (next(&s, &f)) {
        if (f.number == 1) {
            read_node(g, f.bytes, false);
            read_node(g, f.bytes, true);
            g->n_nodes++;
        } else if (f.number == 12) {
            assert_int_equal(f.bytes.end - f.bytes.p > 8, 1);
            assert_non_null(find(g, name_of(f.bytes)));
            find(g, name_of(f.bytes))->used = true;
            g->output = strcmp(find(g, name_of(f.bytes))->name, "logits") == 0;
        } else if (f.number == 11) {
            g->input =
                strcmp(find(g, name_of(f.bytes))->name, "input_ids") == 0;
        }
    }
}

static void check(const char *model, size_t n_tensors)
{
    char path[] = "/tmp/infer-onnx-XXXXXX", from[256];
    struct graph *g = calloc(1, sizeof(*g));
    struct hf_report r;
    struct infer_error err;
    struct image m;
    struct span s;
    struct field f;

    assert_non_null(g);
    close(mkstemp(path));
    snprintf(from, sizeof(from), ORACLE "/%s/model-F32.gguf", model);
    if (onnx_export(from, path, &r, &err))
        fail_msg("%s: %s", model, err.text);
    assert_int_equal(r.n_tensors, n_tensors);
    m = image_read(path);
    s = (struct span){m.data, m.data + m.len};
    while (next(&s, &f))
        if (f.number == 1)
            assert_int_equal(f.v, ONNX_IR_VERSION);
        else if (f.number == 7)
            read_graph(g, f.bytes);
    assert_true(g->input && g->output);
    assert_true(g->n_constants > n_tensors && g->n_nodes > 2 * n_tensors);
    for (size_t i = 0; i < g->n; i++)
        if (!g->values[i].used)
            fail_msg("%s: nobody uses '%s'", model, g->values[i].name);
    image_free(&m);
    unlink(path);
    free(g);
}

static void test_graphs(void **state)
{
    (void)state;
    if (!oracle_present())
        skip();
    check("llama-b32", 21);
    check("llama-ropefreqs", 20);
    check("qwen2", 38);
    check("qwen3", 25);
    check("gpt2", 40);
}

/* The bytes of a small graph, written out by hand. */
static void test_bytes(void **state)
{
    static const uint8_t want[] = {
        0x2a, 12,   0x08, 2,    0x10, 1,    0x42, 2,    'v',  '0',  0x4a, 8,
        0,    0,    0x80, 0x3f, 0,    0,    0,    0x40, 0x0a, 21,   0x0a, 1,
        'x',  0x12, 2,    'v',  '1',  0x1a, 2,    'v',  '1',  0x22, 8,
    };
    const uint64_t dims = 2;
    const float values[2] = {1.0f, 2.0f};
    struct onnx o = {0};
    struct onnx_value x = {"x"};

    (void)state;
    onnx_tensor(&o, "v0", ONNX_F32, 1, &dims, values, sizeof(values));
    o.n_names = 1;
    onnx_op1(&o, "Identity", x);
    assert_false(o.graph.failed);
    /* the constant: tag, length, dims, type, name, values */
    assert_int_equal(o.graph.data[0], 5 << 3 | 2);
    assert_int_equal(o.graph.data[1], 2 + 2 + 4 + 2 + 8);
    assert_memory_equal(o.graph.data + 2, want + 2, 18);
    assert_memory_equal(o.graph.data + 22, want + 22, sizeof(want) - 22);
    onnx_release(&o);
}

static void test_refuses(void **state)
{
    struct hf_report r;
    struct infer_error err = {0};

    (void)state;
    if (!oracle_present())
        skip();
    assert_int_equal(
        onnx_export(ORACLE "/phi3/model-F32.gguf", "/tmp/never", &r, &err),
        INFER_EUNSUPPORTED);
    assert_int_equal(onnx_export("/nowhere", "/tmp/never", &r, &err),
                     INFER_EIO);
    assert_int_not_equal(access("/tmp/never", F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
