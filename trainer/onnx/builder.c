/* builder.c - see builder.h. */
#include "trainer/onnx/builder.h"

#include "core/base/error.h"
#include "core/format/replace.h"

#include <stdio.h>
#include <string.h>

/* Numbers of the messages' fields. */
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER,
    MODEL_VERSION,
    MODEL_GRAPH = 7,
    MODEL_OPSET
};
enum { OPSET_VERSION = 2 };
enum { GRAPH_NODE = 1, GRAPH_NAME, GRAPH_INIT = 5, GRAPH_IN = 11, GRAPH_OUT };
enum { NODE_IN = 1, NODE_OUT, NODE_NAME, NODE_OP, NODE_ATTR };
enum { ATTR_NAME = 1, ATTR_F, ATTR_I, ATTR_INTS = 8, ATTR_TYPE = 20 };
enum { ATTR_IS_F = 1, ATTR_IS_I = 2, ATTR_IS_INTS = 7 };
enum { TENSOR_DIMS = 1, TENSOR_TYPE, TENSOR_NAME = 8, TENSOR_RAW };
enum { VALUE_NAME = 1, VALUE_TYPE };
enum { TYPE_TENSOR = 1 };
enum { TTYPE_ELEM = 1, TTYPE_SHAPE };
enum { SHAPE_DIM = 1 };
enum { DIM_VALUE = 1, DIM_PARAM };

enum { MAX_BYTES = INT32_MAX - (1 << 16) }; /* protobuf's limit is 2 GiB */

static const struct onnx_value none = {""};

static struct onnx_value new_value(struct onnx *o)
{
    struct onnx_value v;

    snprintf(v.name, sizeof(v.name), "v%u", o->n_names++);
    return v;
}

/* ---- nodes ----------------------------------------------------------------
 */

static void put_attr(struct infer_pb *node, const struct onnx_attr *a)
{
    struct infer_pb pb = {0};

    infer_pb_str(&pb, ATTR_NAME, a->name);
    if (a->is_float)
        infer_pb_f32(&pb, ATTR_F, a->f);
    else if (!a->is_list)
        infer_pb_int(&pb, ATTR_I, (uint64_t)a->ints[0]);
    for (size_t i = 0; a->is_list && i < a->n; i++)
        infer_pb_int(&pb, ATTR_INTS, (uint64_t)a->ints[i]);
    infer_pb_int(&pb, ATTR_TYPE,
                 a->is_float  ? ATTR_IS_F
                 : a->is_list ? ATTR_IS_INTS
                              : ATTR_IS_I);
    infer_pb_message(node, NODE_ATTR, &pb);
}

static void put_node(struct onnx *o, const char *op,
                     const struct onnx_value *in, size_t n_in,
                     const struct onnx_value *out, size_t n_out,
                     const struct onnx_attr *attr)
{
    struct infer_pb node = {0};

    for (size_t i = 0; i < n_in && *in[i].name; i++)
        infer_pb_str(&node, NODE_IN, in[i].name);
    for (size_t i = 0; i < n_out; i++)
        infer_pb_str(&node, NODE_OUT, out[i].name);
    infer_pb_str(&node, NODE_NAME, out[0].name);
    infer_pb_str(&node, NODE_OP, op);
    if (attr->name)
        put_attr(&node, attr);
    infer_pb_message(&o->graph, GRAPH_NODE, &node);
}

struct onnx_value onnx_op(struct onnx *o, const char *op, struct onnx_value a,
                          struct onnx_value b, struct onnx_value c,
                          struct onnx_attr attr)
{
    const struct onnx_value in[] = {a, b, c}, out = new_value(o);

    put_node(o, op, in, 3, &out, 1, &attr);
    return out;
}

struct onnx_value onnx_op1(struct onnx *o, const char *op, struct onnx_value a)
{
    return onnx_op(o, op, a, none, none, (struct onnx_attr){0});
}

struct onnx_value onnx_op2(struct onnx *o, const char *op, struct onnx_value a,
                           struct onnx_value b)
{
    return onnx_op(o, op, a, b, none, (struct onnx_attr){0});
}

void onnx_halves(struct onnx *o, struct onnx_value x, int64_t half,
                 struct onnx_value out[2])
{
    const struct onnx_attr axis = {.name = "axis", .ints = {-1}};
    const struct onnx_value in[] = {
        x, onnx_ints(o, 2, (const int64_t[]){half, half})};

    out[0] = new_value(o);
    out[1] = new_value(o);
    put_node(o, "Split", in, 2, out, 2, &axis);
}

struct onnx_value onnx_slice(struct onnx *o, const struct onnx_value in[4])
{
    const struct onnx_value out = new_value(o);

    put_node(o, "Slice", in, 4, &out, 1, &(struct onnx_attr){0});
    return out;
}

struct onnx_value onnx_transpose(struct onnx *o, struct onnx_value x,
                                 size_t n_axes, const int64_t *axes)
{
    struct onnx_attr perm = {.name = "perm", .is_list = true, .n = n_axes};

    memcpy(perm.ints, axes, n_axes * sizeof(*axes));
    return onnx_op(o, "Transpose", x, none, none, perm);
}

/* ---- constants ------------------------------------------------------------
 */

static size_t varint_bytes(uint64_t v)
{
    size_t n = 1;

    while (v >>= 7)
        n++;
    return n;
}

/* The values are the last field, so that they are copied once. */
struct onnx_value onnx_tensor(struct onnx *o, const char *name,
                              enum onnx_type type, size_t n_dims,
                              const uint64_t *dims, const void *data,
                              size_t bytes)
{
    struct infer_pb t = {0};
    struct onnx_value v;

    snprintf(v.name, sizeof(v.name), "%s", name);
    for (size_t i = 0; i < n_dims; i++)
        infer_pb_int(&t, TENSOR_DIMS, dims[i]);
    infer_pb_int(&t, TENSOR_TYPE, type);
    infer_pb_str(&t, TENSOR_NAME, v.name);
    infer_pb_head(&o->graph, GRAPH_INIT, t.n + 1 + varint_bytes(bytes) + bytes);
    infer_pb_raw(&o->graph, t.data, t.n);
    infer_pb_head(&o->graph, TENSOR_RAW, bytes);
    infer_pb_raw(&o->graph, data, bytes);
    o->graph.failed = o->graph.failed || t.failed;
    infer_pb_release(&t);
    return v;
}

struct onnx_value onnx_f32(struct onnx *o, float f)
{
    return onnx_tensor(o, new_value(o).name, ONNX_F32, 0, NULL, &f, sizeof(f));
}

struct onnx_value onnx_ints(struct onnx *o, size_t n, const int64_t *v)
{
    const uint64_t dim = n;

    return onnx_tensor(o, new_value(o).name, ONNX_I64, 1, &dim, v,
                       n * sizeof(*v));
}

struct onnx_value onnx_int(struct onnx *o, int64_t v)
{
    return onnx_tensor(o, new_value(o).name, ONNX_I64, 0, NULL, &v, sizeof(v));
}

/* ---- the model ------------------------------------------------------------
 */

void onnx_name(struct onnx *o, struct onnx_value x, const char *name)
{
    struct onnx_value out;

    snprintf(out.name, sizeof(out.name), "%s", name);
    put_node(o, "Identity", &x, 1, &out, 1, &(struct onnx_attr){0});
}

void onnx_declare(struct onnx *o, bool output, const char *name,
                  enum onnx_type type, size_t n_dims, const uint64_t *dims,
                  const char *const *symbols)
{
    struct infer_pb shape = {0}, tensor = {0}, outer = {0}, value = {0};

    for (size_t i = 0; i < n_dims; i++) {
        struct infer_pb dim = {0};

        if (dims[i])
            infer_pb_int(&dim, DIM_VALUE, dims[i]);
        else
            infer_pb_str(&dim, DIM_PARAM, symbols[i]);
        infer_pb_message(&shape, SHAPE_DIM, &dim);
    }
    infer_pb_int(&tensor, TTYPE_ELEM, type);
    infer_pb_message(&tensor, TTYPE_SHAPE, &shape);
    infer_pb_message(&outer, TYPE_TENSOR, &tensor);
    infer_pb_str(&value, VALUE_NAME, name);
    infer_pb_message(&value, VALUE_TYPE, &outer);
    infer_pb_message(&o->graph, output ? GRAPH_OUT : GRAPH_IN, &value);
}

int onnx_save(struct onnx *o, const char *path, struct infer_error *err)
{
    struct infer_replace r = {.fd = -1};
    struct infer_pb model = {0}, opset = {0};
    int status = 0;

    infer_pb_str(&o->graph, GRAPH_NAME, "decoder");
    infer_pb_int(&model, MODEL_IR, ONNX_IR_VERSION);
    infer_pb_str(&model, MODEL_PRODUCER, "infer-train");
    infer_pb_str(&model, MODEL_VERSION, infer_version());
    infer_pb_int(&opset, OPSET_VERSION, ONNX_OPSET);
    infer_pb_message(&model, MODEL_OPSET, &opset);
    infer_pb_head(&model, MODEL_GRAPH, o->graph.n);
    if (o->graph.n > MAX_BYTES)
        status = infer_fail(err, INFER_EUNSUPPORTED,
                            "the model takes %zu bytes as ONNX, which cannot "
                            "hold more than 2 GB; export safetensors",
                            o->graph.n);
    else if (model.failed || o->graph.failed)
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    if (status == 0)
        status = infer_replace_begin(&r, path, err);
    if (status == 0)
        status = infer_replace_write(&r, model.data, model.n, err);
    if (status == 0)
        status = infer_replace_write(&r, o->graph.data, o->graph.n, err);
    if (status == 0)
        status = infer_replace_commit(&r, err);
    infer_replace_abort(&r);
    infer_pb_release(&model);
    onnx_release(o);
    return status;
}

void onnx_release(struct onnx *o)
{
    infer_pb_release(&o->graph);
}
