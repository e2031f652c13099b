/*
 * import.c - a checkpoint as a GGUF file. The engine is the judge: what it
 * does not load is removed again and its complaint is the result.
 */
#include "trainer/hf/convert.h"

#include "core/base/error.h"
#include "core/format/quant.h"
#include "core/model/model.h"
#include "trainer/hf/checkpoint.h"
#include "trainer/hf/tensors.h"
#include "trainer/hf/vocab.h"
#include "trainer/run/quantize.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LEN = 4096, NAME_LEN = 128 };

struct importing {
    struct hf_checkpoint files;
    struct hf_config config;
    struct infer_gguf_writer *w;
    struct hf_tensor *tensors;              /* [n] */
    const struct infer_st_tensor **sources; /* [n] of the checkpoint */
    size_t n;
    void **data; /* [n] owned values, NULL where the file's are used */
    float *factors;
    int type;
    struct infer_error *err;
};

/* ---- one tensor -----------------------------------------------------------
 */

static int check(const struct importing *im, const struct hf_tensor *t,
                 const struct infer_st_tensor *s)
{
    const bool flip = t->change == HF_TRANSPOSE;
    const uint64_t rows = flip ? t->cols : t->rows;
    const uint64_t cols = flip ? t->rows : t->cols;

    if (!s)
        return infer_fail(im->err, INFER_EFORMAT, "tensor '%s' is missing",
                          t->hf);
    if (s->dtype != INFER_ST_F32 && s->dtype != INFER_ST_F16 &&
        s->dtype != INFER_ST_BF16)
        return infer_fail(im->err, INFER_EUNSUPPORTED,
                          "tensor '%s' is of type %s; F32, F16 and BF16 are "
                          "supported",
                          t->hf, infer_st_dtype_name(s->dtype));
    if (s->n_dims == t->n_dims && s->dims[0] == rows &&
        (t->n_dims == 1 || s->dims[1] == cols))
        return 0;
    return infer_fail(im->err, INFER_EFORMAT,
                      "tensor '%s' has %u dimensions [%llu][%llu], config.json "
                      "asks for %u: [%llu][%llu]",
                      t->hf, s->n_dims, (unsigned long long)s->dims[0],
                      (unsigned long long)s->dims[1], t->n_dims,
                      (unsigned long long)rows, (unsigned long long)cols);
}

static uint32_t type_of(const struct infer_st_tensor *s)
{
    return s->dtype == INFER_ST_F32   ? INFER_F32
           : s->dtype == INFER_ST_F16 ? INFER_F16
                                      : INFER_BF16;
}

static uint32_t target(const struct importing *im, const struct hf_tensor *t,
                       uint32_t from)
{
    const uint32_t type = im->type < 0 ? from : (uint32_t)im->type;

    if (t->n_dims == 1 || strcmp(t->gguf, "position_embd.weight") == 0 ||
        strcmp(t->gguf, "token_types.weight") == 0)
        return INFER_F32;
    return t->cols % infer_qtype_info(type)->block ? (uint32_t)INFER_F16 : type;
}

/* Rows of one type in another; *out is malloc'd. */
static int convert(const struct importing *im, const struct hf_tensor *t,
                   uint32_t from, const uint8_t *src, uint32_t to, void **out)
{
    const size_t n = (size_t)(t->n_dims == 1 ? t->rows : t->cols);
    const size_t rows = t->n_dims == 1 ? 1 : (size_t)t->rows;
    const size_t row_to = infer_qtype_bytes(to, n);
    const size_t row_from = infer_qtype_bytes(from, n);
    struct infer_error why = {0};
    float *row = malloc(n * sizeof(*row));
    uint8_t *blocks = malloc(rows * row_to);
    int status = row && blocks ? 0 : INFER_ENOMEM;

    for (size_t i = 0; i < rows && status == 0; i++) {
        infer_dequantize(from, src + i * row_from, row, n);
        status = infer_quantize(to, row, blocks + i * row_to, n, NULL, &why);
    }
    free(row);
    if (status == 0) {
        *out = blocks;
        return 0;
    }
    free(blocks);
    return infer_fail(im->err, status, "tensor '%.80s': %.150s", t->hf,
                      *why.text ? why.text : infer_status_text(status));
}

static int add_tensor(struct importing *im, size_t i)
{
    const struct hf_tensor *t = &im->tensors[i];
    const struct infer_st_tensor *s = im->sources[i];
    const uint64_t dims[2] = {t->n_dims == 1 ? t->rows : t->cols, t->rows};
    const void *data;
    uint32_t from, to;
    void *moved = NULL;
    int status = check(im, t, s);

    if (status != 0)
        return status;
    from = type_of(s);
    to = target(im, t, from);
    data = s->data;
    if (t->change != HF_SAME ||
        (uintptr_t)s->data % infer_st_dtype_bytes(s->dtype)) {
        moved = malloc((size_t)s->bytes);
        if (!moved)
            return infer_fail(im->err, INFER_ENOMEM, "out of memory");
        hf_rearrange(t, true, infer_st_dtype_bytes(s->dtype), s->data, moved);
        data = moved;
    }
    im->data[i] = moved;
    if (from != to) {
        status = convert(im, t, from, data, to, &im->data[i]);
        free(moved);
        if (status != 0) {
            im->data[i] = NULL;
            return status;
        }
        data = im->data[i];
    }
    infer_gguf_add_tensor(im->w, t->gguf, to, t->n_dims, dims, data);
    return 0;
}

/* Buffers that are no parameters: masks, and frequencies that follow from
 * config.json. */
static bool is_buffer(const char *name)
{
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias",
                                       ".rotary_emb.inv_freq",
                                       "embeddings.position_ids"};
    const size_t len = strlen(name);

    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        const size_t n = strlen(ends[i]);

        if (len >= n && strcmp(name + len - n, ends[i]) == 0)
            return true;
    }
    return false;
}

/* What BERT was pre-trained with and no service uses: the heads for masked
 * words and next sentences, and without classes the pooler. */
static bool is_left_out(const struct hf_config *c, const char *name)
{
    if (c->arch != HF_BERT)
        return false;
    return strncmp(name, "cls.predictions.", 16) == 0 ||
           strncmp(name, "cls.seq_relationship.", 21) == 0 ||
           (!c->n_classes && strncmp(name, "pooler.", 7) == 0);
}

/* The name that hf_tensors() knows a checkpoint's tensor by: gpt2's own leave
 * the first part out; a BERT below a head has one more, and old ones call a
 * norm's parts gamma and beta. */
static void usual_name(const struct hf_config *c, const char *name,
                       char out[NAME_LEN])
{
    const bool bare = c->arch == HF_GPT2 &&
                      strncmp(name, "transformer.", 12) != 0 &&
                      strncmp(name, "lm_head.", 8) != 0;
    const bool below = c->arch == HF_BERT && strncmp(name, "bert.", 5) == 0;
    char *part;

    snprintf(out, NAME_LEN, "%s%s", bare ? "transformer." : "",
             name + (below ? 5 : 0));
    part = c->arch == HF_BERT ? strstr(out, "LayerNorm.") : NULL;
    if (!part)
        return;
    part += strlen("LayerNorm.");
    if (strcmp(part, "gamma") == 0)
        snprintf(part, (size_t)(out + NAME_LEN - part), "weight");
    else if (strcmp(part, "beta") == 0)
        snprintf(part, (size_t)(out + NAME_LEN - part), "bias");
}

/* Nothing of the model may be left behind without a word. */
static int find_sources(struct importing *im)
{
    const struct hf_config *c = &im->config;
    const size_t n = hf_checkpoint_n(&im->files);

    for (size_t i = 0; i < n; i++) {
        const struct infer_st_tensor *t = hf_checkpoint_tensor(&im->files, i);
        char name[NAME_LEN];
        size_t k = 0;

        usual_name(c, t->name, name);
        while (k < im->n && strcmp(im->tensors[k].hf, name) != 0)
            k++;
        if (k < im->n && im->sources[k])
            return infer_fail(im->err, INFER_EFORMAT,
                              "tensors '%.80s' and '%.80s' are the same",
                              im->sources[k]->name, t->name);
        if (k < im->n)
            im->sources[k] = t;
        else if (!is_buffer(name) && !is_left_out(c, name) &&
                 !(c->tied && strcmp(name, "lm_head.weight") == 0))
            return infer_fail(im->err, INFER_EUNSUPPORTED,
                              "tensor '%.100s' is not known in a %s", t->name,
                              hf_arch_name(c->arch));
    }
    return 0;
}

/* ---- the whole ------------------------------------------------------------
 */

static int add_factors(struct importing *im)
{
    const uint64_t n = im->config.d_head / 2;

    if (im->config.scaling != HF_SCALE_LLAMA3)
        return 0;
    im->factors = malloc((size_t)n * sizeof(*im->factors));
    if (!im->factors)
        return infer_fail(im->err, INFER_ENOMEM, "out of memory");
    hf_llama3_factors(&im->config, im->factors);
    infer_gguf_add_tensor(im->w, "rope_freqs.weight", INFER_F32, 1, &n,
                          im->factors);
    return 0;
}

/* The last part of the folder's real path: "." says nothing. */
static const char *name_of(const char *folder, char *out, size_t room)
{
    char *real = realpath(folder, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;

    snprintf(out, room, "%s", slash && slash[1] ? slash + 1 : "model");
    free(real);
    return out;
}

static int build(struct importing *im)
{
    char name[256];
    uint32_t type;
    int status = hf_tensors(&im->config, &im->tensors, &im->n, im->err);

    im->data = calloc(im->n + 1, sizeof(*im->data));
    im->sources = calloc(im->n + 1, sizeof(*im->sources));
    if (status == 0 && (!im->data || !im->sources))
        status = infer_fail(im->err, INFER_ENOMEM, "out of memory");
    if (status == 0)
        status = find_sources(im);
    if (status != 0)
        return status;
    hf_config_set(&im->config, im->w);
    infer_gguf_set_str(im->w, "general.name",
                       name_of(im->files.folder, name, sizeof(name)));
    if (im->config.n_classes)
        status = hf_labels_set(&im->config, im->files.folder, im->w, im->err);
    if (status == 0)
        status = hf_vocab_read(&im->config, im->files.folder, im->w, im->err);
    for (size_t i = 0; i < im->n && status == 0; i++)
        status = add_tensor(im, i);
    if (status == 0)
        status = add_factors(im);
    if (status != 0)
        return status;
    type = im->type < 0 ? type_of(im->sources[0]) : (uint32_t)im->type;
    infer_gguf_set_u32(im->w, "general.file_type", train_file_type(type));
    return 0;
}

/* Save beside the place, let the engine load it, then move it there. */
static int save(const struct importing *im, const char *to)
{
    char path[PATH_LEN];
    struct infer_model *m = NULL;
    int status;

    if (snprintf(path, sizeof(path), "%s.unchecked", to) >= PATH_LEN)
        return infer_fail(im->err, INFER_EINVAL,
                          "'%.150s': the path is too long", to);
    status = infer_gguf_save(im->w, path, im->err);
    if (status != 0)
        return status;
    status = infer_model_load(&m, path, NULL, im->err);
    infer_model_free(m);
    if (status == 0 && rename(path, to) != 0)
        status = infer_fail(im->err, INFER_EIO, "cannot write '%.150s': %s", to,
                            strerror(errno));
    if (status != 0)
        unlink(path);
    return status;
}

static void fill_report(const struct importing *im, struct hf_report *report)
{
    *report = (struct hf_report){.arch = hf_arch_name(im->config.arch),
                                 .n_tensors = im->n};
    for (size_t i = 0; i < im->n; i++)
        report->n_values += im->tensors[i].rows * im->tensors[i].cols;
}

int hf_import(const char *from, const char *to, int type,
              struct hf_report *report, struct infer_error *err)
{
    struct importing im = {.type = type, .err = err};
    int status = hf_checkpoint_open(&im.files, from, err);

    if (status == 0)
        status = hf_config_read(&im.config, im.files.folder, err);
    if (status == 0)
        status = infer_gguf_writer_create(&im.w, err);
    if (status == 0)
        status = build(&im);
    if (status == 0)
        status = save(&im, to);
    if (status == 0)
        fill_report(&im, report);
    infer_gguf_writer_free(im.w);
    for (size_t i = 0; im.data && i < im.n; i++)
        free(im.data[i]);
    free(im.data);
    free(im.sources);
    free(im.factors);
    free(im.tensors);
    hf_checkpoint_close(&im.files);
    return status;
}
