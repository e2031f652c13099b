/* image.c - GGUF files built in memory, correct or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/image.h"

#include "core/format/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void image_put(struct image *m, const void *data, size_t n)
{
    if (m->len + n > m->cap) {
        m->cap = 2 * (m->len + n);
        m->data = realloc(m->data, m->cap);
        assert_non_null(m->data);
    }
    if (n)
        memcpy(m->data + m->len, data, n);
    m->len += n;
}

void image_u32(struct image *m, uint32_t v)
{
    image_put(m, &v, sizeof(v));
}

void image_u64(struct image *m, uint64_t v)
{
    image_put(m, &v, sizeof(v));
}

void image_str(struct image *m, const char *s, size_t len)
{
    image_u64(m, len);
    image_put(m, s, len);
}

void image_pad(struct image *m, size_t alignment)
{
    while (m->len % alignment)
        image_put(m, "", 1);
}

void image_free(struct image *m)
{
    free(m->data);
    *m = (struct image){0};
}

struct image image_read(const char *path)
{
    struct image m = {0};
    FILE *f = fopen(path, "rb");
    char part[1 << 16];
    size_t n;

    if (!f)
        return m;
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        image_put(&m, part, n);
    fclose(f);
    return m;
}

struct infer_gguf *image_open(const struct image *m)
{
    struct infer_gguf *g = NULL;
    struct infer_error err = {0};

    if (infer_gguf_open_memory(&g, m->data, m->len, &err))
        fail_msg("%s", err.text);
    return g;
}

struct image *plan_key(struct plan *p, const char *name, uint32_t type)
{
    struct planned_key *k = &p->keys[p->real_keys++];

    p->n_keys++;
    *k = (struct planned_key){name, strlen(name), type, {0}};
    return &k->value;
}

void plan_u32(struct plan *p, const char *name, uint32_t v)
{
    image_u32(plan_key(p, name, INFER_GGUF_U32), v);
}

void plan_tensor(struct plan *p, const char *name, uint32_t type, uint64_t d0,
                 uint64_t d1, uint64_t offset)
{
    struct planned_tensor *t = &p->tensors[p->real_tensors++];

    p->n_tensors++;
    *t = (struct planned_tensor){name, strlen(name), 2, {d0, d1, 1, 1, 1},
                                 type, offset};
}

void plan_good(struct plan *p)
{
    struct image *v;

    memset(p, 0, sizeof(*p));
    p->magic = "GGUF";
    p->version = 3;
    p->alignment = 32;
    p->data_bytes = 160;
    plan_u32(p, "a.count", 7);
    image_str(plan_key(p, "a.text", INFER_GGUF_STRING), "h\0llo", 5);
    v = plan_key(p, "a.floats", INFER_GGUF_ARRAY);
    image_u32(v, INFER_GGUF_F32);
    image_u64(v, 2);
    image_put(v, (const float[2]){1.5f, -2.0f}, 8);
    v = plan_key(p, "a.strings", INFER_GGUF_ARRAY);
    image_u32(v, INFER_GGUF_STRING);
    image_u64(v, 3);
    image_str(v, "one", 3);
    image_str(v, "", 0);
    image_str(v, "three", 5);
    plan_tensor(p, "first.weight", INFER_Q8_0, 32, 2, 0);
    plan_tensor(p, "second.weight", INFER_F32, 4, 3, 96);
}

void plan_free(struct plan *p)
{
    for (size_t i = 0; i < p->real_keys; i++)
        image_free(&p->keys[i].value);
}

static size_t build_header(const struct plan *p, struct image *m)
{
    image_put(m, p->magic, 4);
    image_u32(m, p->version);
    image_u64(m, p->n_tensors);
    image_u64(m, p->n_keys);
    for (size_t i = 0; i < p->real_keys; i++) {
        const struct planned_key *k = &p->keys[i];

        image_str(m, k->name, k->name_len);
        image_u32(m, k->type);
        image_put(m, k->value.data, k->value.len);
    }
    for (size_t i = 0; i < p->real_tensors; i++) {
        const struct planned_tensor *t = &p->tensors[i];

        image_str(m, t->name, t->name_len);
        image_u32(m, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims && d < 5; d++)
            image_u64(m, t->dims[d]);
        image_u32(m, t->type);
        image_u64(m, t->offset);
    }
    return m->len;
}

struct image plan_build(const struct plan *p, size_t *header)
{
    struct image m = {0};
    size_t end = build_header(p, &m);

    if (header)
        *header = end;
    image_pad(&m, p->alignment);
    for (size_t i = 0; i < p->data_bytes; i++)
        image_put(&m, &(uint8_t){(uint8_t)(i % 60)}, 1);
    return m;
}
