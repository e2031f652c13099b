/* merge.c - see merge.h. Tensor by tensor through f32, so that one output and
 * one row are in memory beside the mapped files. */
#include "trainer/enc/merge.h"

#include "core/base/error.h"
#include "core/format/gguf.h"
#include "core/format/quant.h"
#include "trainer/enc/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct merge {
    const struct train_list *files;
    const bool *take;
    enum enc_merge_kind kind;
    double decay;
    struct infer_gguf **g; /* [files->n]; NULL: not taken */
    size_t first;          /* the first that is taken */
    float **data;          /* [tensors] results */
    size_t n;
    struct infer_error *err;
};

static bool same_text(const struct infer_gguf *a, const struct infer_gguf *b,
                      const char *key)
{
    struct infer_gguf_str x = {0}, y = {0};

    return infer_gguf_get_str(a, key, &x, NULL) == 0 &&
           infer_gguf_get_str(b, key, &y, NULL) == 0 && x.len == y.len &&
           memcmp(x.data, y.data, x.len) == 0;
}

static bool same_list(const struct infer_gguf *a, const struct infer_gguf *b,
                      const char *key)
{
    struct infer_gguf_array x = {0}, y = {0};
    const int in_a = infer_gguf_get_array(a, key, &x, NULL);

    if (in_a != infer_gguf_get_array(b, key, &y, NULL))
        return false;
    if (in_a != 0)
        return true;
    if (x.n != y.n || !x.strs != !y.strs)
        return false;
    for (uint64_t i = 0; i < x.n && x.strs; i++)
        if (x.strs[i].len != y.strs[i].len ||
            memcmp(x.strs[i].data, y.strs[i].data, x.strs[i].len) != 0)
            return false;
    return true;
}

static int check_alike(const struct merge *m, size_t i)
{
    const struct infer_gguf *a = m->g[m->first], *b = m->g[i];
    const char *path = m->files->items[i];

    if (!same_text(a, b, "general.architecture"))
        return infer_fail(m->err, INFER_EFORMAT,
                          "'%.120s' has another architecture than '%.120s'",
                          path, m->files->items[m->first]);
    if (!same_list(a, b, "tokenizer.ggml.tokens"))
        return infer_fail(m->err, INFER_EFORMAT,
                          "'%.150s' has another vocabulary", path);
    if (!same_list(a, b, enc_labels_key(a)))
        return infer_fail(m->err, INFER_EFORMAT, "'%.150s' has other labels",
                          path);
    if (infer_gguf_n_tensors(a) != infer_gguf_n_tensors(b))
        return infer_fail(m->err, INFER_EFORMAT,
                          "'%.150s' has %zu tensors, not %zu", path,
                          infer_gguf_n_tensors(b), infer_gguf_n_tensors(a));
    for (size_t k = 0; k < infer_gguf_n_tensors(a); k++) {
        const struct infer_gguf_tensor *x = infer_gguf_tensor(a, k);
        const struct infer_gguf_tensor *y = infer_gguf_find(b, x->name);

        if (!y || memcmp(x->dims, y->dims, sizeof(x->dims)) != 0)
            return infer_fail(m->err, INFER_EFORMAT,
                              "'%.120s' has no tensor '%.60s' of the same "
                              "shape",
                              path, x->name);
    }
    return 0;
}

static int open_all(struct merge *m)
{
    int status = 0;

    m->first = m->files->n;
    for (size_t i = 0; i < m->files->n && status == 0; i++) {
        if (m->take && !m->take[i])
            continue;
        status = infer_gguf_open(&m->g[i], m->files->items[i], m->err);
        if (status != 0)
            break;
        if (m->first == m->files->n)
            m->first = i;
        status = check_alike(m, i);
    }
    if (status == 0 && m->first == m->files->n)
        status = infer_fail(m->err, INFER_EINVAL, "no model to merge");
    return status;
}

/* to = a to + b row, of one tensor's rows */
static void blend(const struct infer_gguf_tensor *t, float *to, float *row,
                  double a, double b)
{
    const size_t k = (size_t)t->dims[0], bytes = infer_qtype_bytes(t->type, k);
    const size_t n = (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);

    for (size_t i = 0; i < n; i++, to += k) {
        infer_dequantize(t->type, (const uint8_t *)t->data + i * bytes, row, k);
        for (size_t j = 0; j < k; j++)
            to[j] = (float)(a * (double)to[j] + b * (double)row[j]);
    }
}

static int average(struct merge *m, size_t tensor)
{
    const struct infer_gguf_tensor *t =
        infer_gguf_tensor(m->g[m->first], tensor);
    const size_t n =
        (size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]);
    float *to = calloc(n + 1, sizeof(*to));
    float *row = malloc(((size_t)t->dims[0] + 1) * sizeof(*row));
    double count = 0.0;

    m->data[tensor] = to;
    for (size_t i = 0; i < m->files->n && to && row; i++) {
        if (!m->g[i])
            continue;
        const double a = count == 0.0                   ? 0.0
                         : m->kind == ENC_MERGE_UNIFORM ? count / (count + 1.0)
                                                        : m->decay;

        blend(infer_gguf_find(m->g[i], t->name), to, row, a, 1.0 - a);
        count++;
    }
    free(row);
    for (size_t i = 0; i < n && to; i++)
        if (!isfinite(to[i]))
            return infer_fail(m->err, INFER_EFORMAT,
                              "tensor '%.80s' has a weight that is not finite",
                              t->name);
    return to && row ? 0 : infer_fail(m->err, INFER_ENOMEM, "out of memory");
}

static int write(struct merge *m, const char *out)
{
    const struct infer_gguf *g = m->g[m->first];
    struct infer_gguf_writer *w = NULL;
    int status = infer_gguf_writer_create(&w, m->err);

    if (status != 0)
        return status;
    infer_gguf_set_u32(w, "general.file_type", 0);
    infer_gguf_set_all(w, g);
    for (size_t k = 0; k < m->n; k++) {
        const struct infer_gguf_tensor *t = infer_gguf_tensor(g, k);

        infer_gguf_add_tensor(w, t->name, INFER_F32, t->n_dims, t->dims,
                              m->data[k]);
    }
    status = infer_gguf_save(w, out, m->err);
    infer_gguf_writer_free(w);
    return status;
}

int enc_merge(const char *out, const struct train_list *files, const bool *take,
              enum enc_merge_kind kind, double decay, struct infer_error *err)
{
    struct merge m = {
        .files = files, .take = take, .kind = kind, .decay = decay, .err = err};
    int status;

    m.g = calloc(files->n + 1, sizeof(struct infer_gguf *));
    if (!m.g)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = open_all(&m);
    if (status == 0) {
        m.n = infer_gguf_n_tensors(m.g[m.first]);
        m.data = calloc(m.n + 1, sizeof(float *));
        if (!m.data)
            status = infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    for (size_t k = 0; k < m.n && status == 0; k++)
        status = average(&m, k);
    if (status == 0)
        status = write(&m, out);
    for (size_t k = 0; k < m.n && m.data; k++)
        free(m.data[k]);
    for (size_t i = 0; i < files->n; i++)
        infer_gguf_close(m.g[i]);
    free(m.data);
    free(m.g);
    return status;
}
