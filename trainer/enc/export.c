/* export.c - see export.h. */
#include "trainer/enc/export.h"

#include "core/base/error.h"
#include "core/format/quant.h"
#include "trainer/run/folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARCH "inferd-encoder."

enum { PATH_LEN = 4096 };

static void set_ngrams(struct infer_gguf_writer *w, struct enc_model *m)
{
    const uint64_t dims[2] = {net_shape(m->net)->d_model, m->spec.buckets};

    if (!m->rows)
        return;
    infer_gguf_set_u32(w, ARCH "ngram.buckets", m->spec.buckets);
    infer_gguf_set_u32(w, ARCH "ngram.min", m->spec.min);
    infer_gguf_set_u32(w, ARCH "ngram.max", m->spec.max);
    infer_gguf_set_u32(w, ARCH "ngram.char_min", m->spec.char_min);
    infer_gguf_set_u32(w, ARCH "ngram.char_max", m->spec.char_max);
    infer_gguf_add_tensor(w, "ngram_embd.weight", INFER_F32, 2, dims,
                          nn_rows_data(m->rows));
}

struct more {
    struct enc_model *m;
    train_export_fn *keys;
    void *user;
};

static void add_more(void *user, struct infer_gguf_writer *w)
{
    const struct more *more = user;

    if (more->keys)
        more->keys(more->user, w);
    set_ngrams(w, more->m);
}

int enc_export(struct enc_model *m, const char *run, const char *file,
               train_export_fn *keys, void *user, struct infer_error *err)
{
    struct more more = {m, keys, user};
    char vocab[PATH_LEN], path[PATH_LEN];

    snprintf(vocab, sizeof(vocab), "%s/tokenizer.gguf", run);
    snprintf(path, sizeof(path), "%s/%s", run, file);
    return train_export(m->net, vocab, train_folder_name(run), path, add_more,
                        &more, err);
}

/* ---- import -----------------------------------------------------------------
 */

static bool take(float *to, const struct infer_gguf *g, const char *name,
                 uint64_t cols, uint64_t rows)
{
    const struct infer_gguf_tensor *t = infer_gguf_find(g, name);
    size_t bytes;

    if (!t || t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 ||
        t->dims[3] != 1)
        return false;
    bytes = infer_qtype_bytes(t->type, (size_t)cols);
    for (uint64_t i = 0; i < rows; i++)
        infer_dequantize(t->type, (const uint8_t *)t->data + i * bytes,
                         to + i * cols, (size_t)cols);
    return true;
}

static bool same_ngrams(const struct enc_model *m, const struct infer_gguf *g)
{
    const struct {
        const char *key;
        uint32_t v;
    } all[] = {{ARCH "ngram.buckets", m->spec.buckets},
               {ARCH "ngram.min", m->spec.min},
               {ARCH "ngram.max", m->spec.max},
               {ARCH "ngram.char_min", m->spec.char_min},
               {ARCH "ngram.char_max", m->spec.char_max}};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        uint32_t v = 0;

        if (infer_gguf_get_u32(g, all[i].key, &v, NULL) != 0 || v != all[i].v)
            return false;
    }
    return true;
}

static bool all_finite(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

int enc_import(struct enc_model *m, const char *path, struct infer_error *err)
{
    const uint64_t d = net_shape(m->net)->d_model;
    struct infer_gguf *g = NULL;
    const struct net_param *p;
    size_t n, taken = 0;
    int status = infer_gguf_open(&g, path, err);

    if (status != 0)
        return status;
    p = net_param_table(m->net, &n);
    for (size_t i = 0; i < n; i++)
        taken += take(net_params(m->net) + p[i].offset, g, p[i].name,
                      p[i].dims[0], p[i].n_dims > 1 ? p[i].dims[1] : 1) &&
                 p[i].n_dims > 1;
    if (m->rows && same_ngrams(m, g))
        taken += take(nn_rows_data(m->rows), g, "ngram_embd.weight", d,
                      m->spec.buckets);
    infer_gguf_close(g);
    if (!all_finite(net_params(m->net), net_n_values(m->net)))
        return infer_fail(err, INFER_EFORMAT,
                          "'%.150s' has weights that are not finite", path);
    if (taken == 0)
        return infer_fail(err, INFER_EINVAL,
                          "no matrix of '%.120s' has the name and shape of one "
                          "of this model; --width is %llu here",
                          path, (unsigned long long)d);
    return 0;
}

/* ---- whole files ------------------------------------------------------------
 */

struct reader {
    const struct infer_gguf *g;
    const char *path;
    int status;
    struct infer_error *err;
};

static uint32_t read_u32(struct reader *r, const char *key, bool needed)
{
    uint32_t v = 0;
    const int found = r->status ? 1 : infer_gguf_get_u32(r->g, key, &v, r->err);

    if (found < 0)
        r->status = found;
    else if (found == 1 && needed && !r->status)
        r->status = infer_fail(r->err, INFER_EFORMAT,
                               "'%.120s' has no key '%s'", r->path, key);
    return v;
}

static float read_f32(struct reader *r, const char *key, float otherwise)
{
    float v = otherwise;

    if (!r->status && infer_gguf_get_f32(r->g, key, &v, r->err) < 0)
        r->status = INFER_EFORMAT;
    return v;
}

static uint32_t rows_of(const struct infer_gguf *g, const char *tensor)
{
    const struct infer_gguf_tensor *t = infer_gguf_find(g, tensor);

    return t && t->dims[1] <= UINT32_MAX ? (uint32_t)t->dims[1] : 0;
}

static void read_shape(struct reader *r, struct net_shape *s,
                       struct infer_ngrams_spec *n)
{
    *s = (struct net_shape){
        .arch = NET_LLAMA,
        .encoder = true,
        .n_vocab = rows_of(r->g, "token_embd.weight"),
        .n_classes = rows_of(r->g, "cls.output.weight"),
        .dense = infer_gguf_find(r->g, "cls.weight") != NULL,
        .n_ctx = read_u32(r, ARCH "context_length", true),
        .d_model = read_u32(r, ARCH "embedding_length", true),
        .n_layers = read_u32(r, ARCH "block_count", true),
        .d_ff = read_u32(r, ARCH "feed_forward_length", true),
        .n_heads = read_u32(r, ARCH "attention.head_count", true),
        .n_kv_heads = read_u32(r, ARCH "attention.head_count_kv", true),
        .d_head = read_u32(r, ARCH "attention.key_length", true),
        .rope_base = read_f32(r, ARCH "rope.freq_base", 10000.0f),
        .norm_eps = read_f32(r, ARCH "attention.layer_norm_rms_epsilon", 1e-5f),
        .pooling = (enum net_pooling)read_u32(r, ARCH "pooling_type", true)};
    *n = (struct infer_ngrams_spec){
        .buckets = read_u32(r, ARCH "ngram.buckets", false),
        .min = read_u32(r, ARCH "ngram.min", false),
        .max = read_u32(r, ARCH "ngram.max", false),
        .char_min = read_u32(r, ARCH "ngram.char_min", false),
        .char_max = read_u32(r, ARCH "ngram.char_max", false)};
}

/* Every tensor the shape asks for must be there. */
static int check_tensors(const struct enc_model *m, const struct infer_gguf *g,
                         const char *path, struct infer_error *err)
{
    const struct net_param *p;
    size_t n;

    p = net_param_table(m->net, &n);
    for (size_t i = 0; i < n; i++)
        if (!infer_gguf_find(g, p[i].name))
            return infer_fail(err, INFER_EFORMAT, "'%.120s' has no tensor '%s'",
                              path, p[i].name);
    return 0;
}

int enc_load(struct enc_model *m, const char *path, size_t max_batch,
             struct infer_team *team, struct infer_error *err)
{
    struct reader r = {.path = path, .err = err};
    struct infer_tokenizer *t = NULL;
    struct infer_ngrams_spec spec;
    struct infer_gguf *g = NULL;
    struct net_shape shape;

    r.status = infer_gguf_open(&g, path, err);
    if (r.status != 0)
        return r.status;
    r.g = g;
    read_shape(&r, &shape, &spec);
    if (r.status == 0)
        r.status = infer_tokenizer_create(&t, g, err);
    if (r.status == 0)
        r.status = enc_model_create(m, &shape, &spec, t, max_batch, team,
                                    TRAIN_F32, 0, err);
    if (r.status == 0)
        r.status = check_tensors(m, g, path, err);
    infer_gguf_close(g);
    return r.status == 0 ? enc_import(m, path, err) : r.status;
}
