/* protobuf.c - see protobuf.h. */
#include "core/format/protobuf.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, BYTES = 2, FIXED32 = 5 }; /* wire types */

static void put(struct infer_pb *pb, const void *data, size_t n)
{
    if (pb->failed || n == 0)
        return;
    if (n > pb->cap - pb->n) {
        const size_t cap = 2 * (pb->n + n);
        uint8_t *p = realloc(pb->data, cap);

        if (!p) {
            pb->failed = true;
            return;
        }
        pb->data = p;
        pb->cap = cap;
    }
    memcpy(pb->data + pb->n, data, n);
    pb->n += n;
}

static void put_varint(struct infer_pb *pb, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    put(pb, bytes, n);
}

static void put_tag(struct infer_pb *pb, unsigned field, unsigned type)
{
    put_varint(pb, (uint64_t)field << 3 | type);
}

void infer_pb_int(struct infer_pb *pb, unsigned field, uint64_t v)
{
    put_tag(pb, field, VARINT);
    put_varint(pb, v);
}

void infer_pb_f32(struct infer_pb *pb, unsigned field, float v)
{
    put_tag(pb, field, FIXED32);
    put(pb, &v, sizeof(v)); /* little-endian, as this project's machines are */
}

void infer_pb_head(struct infer_pb *pb, unsigned field, uint64_t n)
{
    put_tag(pb, field, BYTES);
    put_varint(pb, n);
}

void infer_pb_bytes(struct infer_pb *pb, unsigned field, const void *data,
                    size_t n)
{
    infer_pb_head(pb, field, n);
    put(pb, data, n);
}

void infer_pb_raw(struct infer_pb *pb, const void *data, size_t n)
{
    put(pb, data, n);
}

void infer_pb_str(struct infer_pb *pb, unsigned field, const char *s)
{
    infer_pb_bytes(pb, field, s, strlen(s));
}

void infer_pb_message(struct infer_pb *pb, unsigned field, struct infer_pb *sub)
{
    pb->failed = pb->failed || sub->failed;
    infer_pb_bytes(pb, field, sub->data, sub->n);
    infer_pb_release(sub);
}

void infer_pb_release(struct infer_pb *pb)
{
    free(pb->data);
    *pb = (struct infer_pb){0};
}
