/* export.c - see export.h. */
#include "trainer/enc/export.h"

#include "core/base/error.h"
#include "core/format/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARCH "inferd-encoder."

static void set_shape(struct infer_gguf_writer *w, const struct net_shape *s)
{
    infer_gguf_set_u32(w, ARCH "vocab_size", s->n_vocab);
    infer_gguf_set_u32(w, ARCH "context_length", s->n_ctx);
    infer_gguf_set_u32(w, ARCH "embedding_length", s->d_model);
    infer_gguf_set_u32(w, ARCH "block_count", s->n_layers);
    infer_gguf_set_u32(w, ARCH "feed_forward_length", s->d_ff);
    infer_gguf_set_u32(w, ARCH "attention.head_count", s->n_heads);
    infer_gguf_set_u32(w, ARCH "attention.head_count_kv", s->n_kv_heads);
    infer_gguf_set_u32(w, ARCH "attention.key_length", s->d_head);
    infer_gguf_set_u32(w, ARCH "attention.value_length", s->d_head);
    infer_gguf_set_bool(w, ARCH "attention.causal", false);
    infer_gguf_set_f32(w, ARCH "attention.layer_norm_rms_epsilon", s->norm_eps);
    infer_gguf_set_u32(w, ARCH "rope.dimension_count", s->d_head);
    infer_gguf_set_f32(w, ARCH "rope.freq_base", s->rope_base);
    infer_gguf_set_u32(w, ARCH "pooling_type", s->pooling);
}

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

int enc_export(struct enc_model *m, const char *vocab, const char *name,
               const char *path, enc_keys_fn *keys, void *user,
               struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    struct infer_gguf_writer *w = NULL;
    const struct net_param *params;
    size_t n;
    int status = infer_gguf_open(&g, vocab, err);

    if (status == 0)
        status = infer_gguf_writer_create(&w, err);
    if (status != 0)
        goto out;
    infer_gguf_set_str(w, "general.architecture", "inferd-encoder");
    infer_gguf_set_str(w, "general.type", "model");
    infer_gguf_set_str(w, "general.name", name);
    infer_gguf_set_u32(w, "general.file_type", 0);
    set_shape(w, net_shape(m->net));
    if (keys)
        keys(user, w);
    params = net_param_table(m->net, &n);
    for (size_t i = 0; i < n; i++)
        infer_gguf_add_tensor(w, params[i].name, INFER_F32, params[i].n_dims,
                              params[i].dims,
                              net_params(m->net) + params[i].offset);
    set_ngrams(w, m);
    infer_gguf_set_all(w, g);
    status = infer_gguf_save(w, path, err);
out:
    infer_gguf_writer_free(w);
    infer_gguf_close(g);
    return status;
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
