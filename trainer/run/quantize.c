/*
 * quantize.c - see quantize.h. Tensor by tensor through f32, a row at a time,
 * so that only the new weights take memory (the old ones are mapped).
 */
#include "trainer/run/quantize.h"

#include "core/base/error.h"
#include "core/format/gguf.h"
#include "core/format/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The types that can be written, and llama.cpp's name for a file of them. */
static const struct {
    uint32_t type, file_type;
} types[] = {
    {INFER_F32, 0},   {INFER_F16, 1},   {INFER_BF16, 32}, {INFER_Q8_0, 7},
    {INFER_Q4_0, 2},  {INFER_Q4_1, 3},  {INFER_Q5_0, 8},  {INFER_Q5_1, 9},
    {INFER_Q4_K, 14}, {INFER_Q5_K, 16}, {INFER_Q6_K, 18},
};

enum { N_TYPES = sizeof(types) / sizeof(*types) };

static int find_type(uint32_t type)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == type)
            return i;
    return -1;
}

bool train_quantize_supports(uint32_t type)
{
    return find_type(type) >= 0;
}

uint32_t train_file_type(uint32_t type)
{
    return types[find_type(type)].file_type;
}

static uint32_t type_for(const struct infer_gguf_tensor *t, uint32_t type,
                         struct train_quantize_report *r)
{
    if (t->n_dims < 2 || strcmp(t->name, "position_embd.weight") == 0 ||
        strcmp(t->name, "token_types.weight") == 0)
        return INFER_F32;
    if (t->dims[0] % infer_qtype_info(type)->block == 0)
        return type;
    if (r->n_fallback++ == 0)
        snprintf(r->fallback, sizeof(r->fallback), "%s", t->name);
    return INFER_F16;
}

/*
 * Weights of the errors of one row: the importance of its columns, and, since
 * columns do correlate and the larger value carries more of what they share,
 * sqrt(mean square of the row + its own square), as llama.cpp weighs.
 */
static void weigh(float *out, const float *row, const float *importance,
                  size_t k)
{
    float mean = 0.0f;

    for (size_t i = 0; i < k; i++)
        mean += row[i] * row[i] / (float)k;
    for (size_t i = 0; i < k; i++)
        out[i] = importance[i] * sqrtf(mean + row[i] * row[i]);
}

/* The tensor's rows as blocks of `type`; *out is malloc'd. */
static int convert(const struct infer_gguf_tensor *t, uint32_t type,
                   const float *importance, void **out, struct infer_error *err)
{
    const size_t k = (size_t)t->dims[0];
    const size_t n_rows = (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);
    const size_t from = infer_qtype_bytes(t->type, k);
    const size_t to = infer_qtype_bytes(type, k);
    struct infer_error why = {0};
    float *row = malloc((k ? k : 1) * 2 * sizeof(*row)), *weights = row + k;
    uint8_t *blocks = malloc(n_rows * to + 1);
    int status = row && blocks ? 0 : INFER_ENOMEM;

    for (size_t i = 0; i < n_rows && status == 0; i++) {
        infer_dequantize(t->type, (const uint8_t *)t->data + i * from, row, k);
        if (importance)
            weigh(weights, row, importance, k);
        status = infer_quantize(type, row, blocks + i * to, k,
                                importance ? weights : NULL, &why);
    }
    free(row);
    if (status != 0) {
        free(blocks);
        return infer_fail(err, status, "tensor '%.80s': %.150s", t->name,
                          *why.text ? why.text : infer_status_text(status));
    }
    *out = blocks;
    return 0;
}

/* Importance of a tensor's columns or NULL. An embedding that is the head as
 * well is rounded for the head, where its errors meet large inputs. */
static const float *importance_of(const struct train_importance *imp,
                                  const struct infer_gguf *g,
                                  const struct infer_gguf_tensor *t)
{
    const bool head = strcmp(t->name, "token_embd.weight") == 0 &&
                      !infer_gguf_find(g, "output.weight");

    if (!imp)
        return NULL;
    return train_importance_of(imp, head ? "output.weight" : t->name,
                               (size_t)t->dims[0]);
}

/* Add every tensor to w; their data goes to data[], to be freed after save. */
static int add_tensors(const struct infer_gguf *g, uint32_t type,
                       const struct train_importance *imp, void **data,
                       struct infer_gguf_writer *w,
                       struct train_quantize_report *r, struct infer_error *err)
{
    int status = 0;

    for (size_t i = 0; i < infer_gguf_n_tensors(g) && status == 0; i++) {
        const struct infer_gguf_tensor *t = infer_gguf_tensor(g, i);
        const uint32_t as = type_for(t, type, r);
        const size_t n_rows = (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);

        const float *weight = importance_of(imp, g, t);

        status = convert(t, as, weight, &data[i], err);
        if (status != 0)
            break;
        infer_gguf_add_tensor(w, t->name, as, t->n_dims, t->dims, data[i]);
        r->n_tensors[as]++;
        r->n_weighed += weight != NULL;
        r->bytes[as] += n_rows * infer_qtype_bytes(as, (size_t)t->dims[0]);
    }
    return status;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

int train_quantize_file(const char *from, const char *to, uint32_t type,
                        const struct train_importance *imp,
                        struct train_quantize_report *report,
                        struct infer_error *err)
{
    const int which = find_type(type);
    struct infer_gguf *g = NULL;
    struct infer_gguf_writer *w = NULL;
    void **data = NULL;
    struct stat st;
    size_t n = 0;
    int status;

    *report = (struct train_quantize_report){0};
    if (which < 0)
        return infer_fail(err, INFER_EINVAL, "no such type of weights");
    if (same_file(from, to))
        return infer_fail(err, INFER_EINVAL,
                          "'%.150s' would replace the model it is made from; "
                          "name another file",
                          to);
    status = infer_gguf_open(&g, from, err);
    if (status == 0)
        status = infer_gguf_writer_create(&w, err);
    if (status != 0)
        goto out;
    n = infer_gguf_n_tensors(g);
    data = calloc(n + 1, sizeof(*data));
    if (!data) {
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
        goto out;
    }
    infer_gguf_set_u32(w, "general.file_type", types[which].file_type);
    infer_gguf_set_u32(w, "general.quantization_version", 2);
    infer_gguf_set_all(w, g);
    status = add_tensors(g, type, imp, data, w, report, err);
    if (status == 0)
        status = infer_gguf_save(w, to, err);
    report->bytes_before = infer_gguf_file_bytes(g);
    if (status == 0 && stat(to, &st) == 0)
        report->bytes_after = (uint64_t)st.st_size;
out:
    for (size_t i = 0; i < n && data; i++)
        free(data[i]);
    free(data);
    infer_gguf_writer_free(w);
    infer_gguf_close(g);
    return status;
}
