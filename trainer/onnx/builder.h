/*
 * builder.h - an ONNX graph in the making: nodes and constants appended in the
 * order of computation, as the format demands.
 *
 * Spec  https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (field numbers),
 *       docs/Operators.md of opset 17
 */
#ifndef TRAINER_ONNX_BUILDER_H
#define TRAINER_ONNX_BUILDER_H

#include "core/format/protobuf.h"

enum { ONNX_OPSET = 17, ONNX_IR_VERSION = 8, ONNX_NAME = 96 };
enum onnx_type { ONNX_F32 = 1, ONNX_I64 = 7 }; /* of TensorProto */

struct onnx { /* zero it to start */
    struct infer_pb graph;
    unsigned n_names;
};

struct onnx_value {
    char name[ONNX_NAME]; /* "": absent */
};

struct onnx_attr {
    const char *name; /* NULL: none */
    bool is_list, is_float;
    int64_t ints[4]; /* [n] of a list; else the first */
    size_t n;
    float f;
};

/* The value that a node makes of up to three others. */
struct onnx_value onnx_op(struct onnx *o, const char *op, struct onnx_value a,
                          struct onnx_value b, struct onnx_value c,
                          struct onnx_attr attr);
struct onnx_value onnx_op1(struct onnx *o, const char *op, struct onnx_value a);
struct onnx_value onnx_op2(struct onnx *o, const char *op, struct onnx_value a,
                           struct onnx_value b);

/* The last axis in two halves. */
void onnx_halves(struct onnx *o, struct onnx_value x, int64_t half,
                 struct onnx_value out[2]);

/* x[..., from : to] along an axis: in is x, from, to, axis. */
struct onnx_value onnx_slice(struct onnx *o, const struct onnx_value in[4]);

struct onnx_value onnx_transpose(struct onnx *o, struct onnx_value x,
                                 size_t n_axes, const int64_t *axes);

/* Constants: a scalar, a list of integers, or values with a name. */
struct onnx_value onnx_f32(struct onnx *o, float v);
struct onnx_value onnx_ints(struct onnx *o, size_t n, const int64_t *v);
struct onnx_value onnx_int(struct onnx *o, int64_t v); /* a scalar */
struct onnx_value onnx_tensor(struct onnx *o, const char *name,
                              enum onnx_type type, size_t n_dims,
                              const uint64_t *dims, const void *data,
                              size_t bytes);

/* Give a value the name of an output. */
void onnx_name(struct onnx *o, struct onnx_value x, const char *name);
/* Declare an input or output; a dimension is a size, or a symbol where 0. */
void onnx_declare(struct onnx *o, bool output, const char *name,
                  enum onnx_type type, size_t n_dims, const uint64_t *dims,
                  const char *const *symbols);

/* Write the model atomically and empty o.
 * Errors  EIO, ENOMEM, EUNSUPPORTED (too large) */
int onnx_save(struct onnx *o, const char *path, struct infer_error *err);
void onnx_release(struct onnx *o);

#endif
