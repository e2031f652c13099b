/*
 * protobuf.h - writes messages in protobuf's wire format, field by field, for
 * the files that are made of it (SentencePiece's models, ONNX).
 *
 * Fields are written in the order of the calls. Running out of memory sticks
 * in `failed`; later calls then do nothing.
 *
 * Spec  https://protobuf.dev/programming-guides/encoding/
 */
#ifndef INFER_FORMAT_PROTOBUF_H
#define INFER_FORMAT_PROTOBUF_H

#include "infer.h"

struct infer_pb {  /* zero it to start */
    uint8_t *data; /* [n], malloc'd */
    size_t n, cap;
    bool failed;
};

void infer_pb_int(struct infer_pb *pb, unsigned field, uint64_t v);
void infer_pb_f32(struct infer_pb *pb, unsigned field, float v);
void infer_pb_bytes(struct infer_pb *pb, unsigned field, const void *data,
                    size_t n);
void infer_pb_str(struct infer_pb *pb, unsigned field, const char *s);
/* A message inside; sub is emptied. */
void infer_pb_message(struct infer_pb *pb, unsigned field,
                      struct infer_pb *sub);
/* Begin a field of n bytes, which follow by infer_pb_raw() or otherwise. */
void infer_pb_head(struct infer_pb *pb, unsigned field, uint64_t n);
void infer_pb_raw(struct infer_pb *pb, const void *data, size_t n);
void infer_pb_release(struct infer_pb *pb);

#endif
