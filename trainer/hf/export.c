/* export.c - a GGUF file as a checkpoint; see convert.h. */
#include "trainer/hf/convert.h"

#include "core/base/error.h"
#include "core/format/quant.h"
#include "core/format/safetensors.h"
#include "trainer/hf/tensors.h"
#include "trainer/hf/vocab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_LEN = 4096 };

struct exporting {
    struct infer_gguf *g;
    struct hf_config config;
    struct hf_tensor *tensors; /* [n] */
    size_t n;
    void **data; /* [n] owned values, NULL where the file's are used */
    struct infer_safetensors_writer *w;
    struct infer_error *err;
};

static int check(const struct exporting *ex, const struct hf_tensor *t,
                 const struct infer_gguf_tensor *g)
{
    const uint64_t cols = t->n_dims == 1 ? t->rows : t->cols;
    const uint64_t rows = t->n_dims == 1 ? 1 : t->rows;

    if (!g)
        return infer_fail(ex->err, INFER_EFORMAT, "tensor '%s' is missing",
                          t->gguf);
    if (g->n_dims == t->n_dims && g->dims[0] == cols && g->dims[1] == rows)
        return 0;
    return infer_fail(
        ex->err, INFER_EFORMAT, "tensor '%s' is [%llu][%llu], not [%llu][%llu]",
        t->gguf, (unsigned long long)g->dims[1], (unsigned long long)g->dims[0],
        (unsigned long long)rows, (unsigned long long)cols);
}

/* The values as floats of a type that checkpoints have. *dtype says which,
 * *owned is to be freed if it isn't NULL. */
static const void *plain(const struct infer_gguf_tensor *g,
                         enum infer_st_dtype *dtype, void **owned)
{
    const size_t n =
        (size_t)(g->dims[0] * g->dims[1] * g->dims[2] * g->dims[3]);

    *owned = NULL;
    *dtype = g->type == INFER_F16    ? INFER_ST_F16
             : g->type == INFER_BF16 ? INFER_ST_BF16
                                     : INFER_ST_F32;
    if (g->type == INFER_F32 || g->type == INFER_F16 || g->type == INFER_BF16)
        return g->data;
    *owned = malloc(n * sizeof(float));
    if (*owned)
        infer_dequantize(g->type, g->data, *owned, n);
    return *owned;
}

static int add_tensor(struct exporting *ex, size_t i)
{
    const struct hf_tensor *t = &ex->tensors[i];
    const struct infer_gguf_tensor *g = infer_gguf_find(ex->g, t->gguf);
    const bool flip = t->change == HF_TRANSPOSE;
    const uint64_t dims[2] = {flip ? t->cols : t->rows,
                              flip ? t->rows : t->cols};
    enum infer_st_dtype dtype;
    const void *data;
    void *owned, *moved;
    int status = check(ex, t, g);

    if (status != 0)
        return status;
    data = plain(g, &dtype, &owned);
    if (data && t->change != HF_SAME) {
        const size_t width = infer_st_dtype_bytes(dtype);

        moved = malloc((size_t)(t->rows * t->cols) * width);
        if (moved)
            hf_rearrange(t, false, width, data, moved);
        free(owned);
        data = owned = moved;
    }
    if (!data)
        return infer_fail(ex->err, INFER_ENOMEM, "out of memory");
    ex->data[i] = owned;
    infer_safetensors_add(ex->w, t->hf, dtype, t->n_dims, dims, data);
    return 0;
}

/* Tensors that no checkpoint of this kind has would be lost. */
static int check_unknown(const struct exporting *ex)
{
    for (size_t i = 0; i < infer_gguf_n_tensors(ex->g); i++) {
        const char *name = infer_gguf_tensor(ex->g, i)->name;
        bool known = strcmp(name, "rope_freqs.weight") == 0;

        for (size_t k = 0; k < ex->n && !known; k++)
            known = strcmp(ex->tensors[k].gguf, name) == 0;
        if (!known)
            return infer_fail(ex->err, INFER_EUNSUPPORTED,
                              "tensor '%.100s' has no place in a %s checkpoint",
                              name, hf_arch_name(ex->config.arch));
    }
    return 0;
}

static const char *dtype_of(const struct infer_gguf *g)
{
    const uint32_t type = infer_gguf_find(g, "token_embd.weight")->type;

    return type == INFER_F16    ? "float16"
           : type == INFER_BF16 ? "bfloat16"
                                : "float32";
}

static int write_all(struct exporting *ex, const char *folder)
{
    char path[PATH_LEN];
    int status;

    if (snprintf(path, sizeof(path), "%s/model.safetensors", folder) >=
        PATH_LEN - 64)
        return infer_fail(ex->err, INFER_EINVAL,
                          "'%.150s': the path is too long", folder);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return infer_fail(ex->err, INFER_EIO, "cannot make folder '%.150s': %s",
                          folder, strerror(errno));
    status = hf_vocab_write(&ex->config, ex->g, folder, ex->err);
    if (status == 0)
        status = hf_config_write(&ex->config, folder, dtype_of(ex->g), ex->err);
    if (status == 0)
        status = infer_safetensors_save(ex->w, path, ex->err);
    return status;
}

int hf_export(const char *from, const char *folder, struct hf_report *report,
              struct infer_error *err)
{
    struct exporting ex = {.err = err};
    int status = infer_gguf_open(&ex.g, from, err);

    if (status == 0)
        status = hf_config_from_gguf(&ex.config, ex.g, err);
    if (status == 0)
        status = hf_tensors(&ex.config, &ex.tensors, &ex.n, err);
    if (status == 0)
        status = check_unknown(&ex);
    if (status == 0)
        status = infer_safetensors_writer_create(&ex.w, err);
    ex.data = calloc(ex.n + 1, sizeof(*ex.data));
    if (status == 0 && !ex.data)
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < ex.n && status == 0; i++)
        status = add_tensor(&ex, i);
    if (status == 0)
        status = write_all(&ex, folder);
    if (status == 0) {
        *report = (struct hf_report){.arch = hf_arch_name(ex.config.arch),
                                     .n_tensors = ex.n};
        for (size_t i = 0; i < ex.n; i++)
            report->n_values += ex.tensors[i].rows * ex.tensors[i].cols;
    }
    infer_safetensors_writer_free(ex.w);
    for (size_t i = 0; ex.data && i < ex.n; i++)
        free(ex.data[i]);
    free(ex.data);
    free(ex.tensors);
    infer_gguf_close(ex.g);
    return status;
}
