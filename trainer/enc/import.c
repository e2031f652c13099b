/* import.c - see import.h. */
#include "trainer/enc/import.h"

#include "core/base/error.h"
#include "core/format/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_LEN = 96 };

/* ---- values -----------------------------------------------------------------
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
    } all[] = {{"inferd-encoder.ngram.buckets", m->spec.buckets},
               {"inferd-encoder.ngram.min", m->spec.min},
               {"inferd-encoder.ngram.max", m->spec.max},
               {"inferd-encoder.ngram.char_min", m->spec.char_min},
               {"inferd-encoder.ngram.char_max", m->spec.char_max}};

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

static int take_all(struct enc_model *m, const struct infer_gguf *g,
                    const char *path, struct infer_error *err)
{
    const uint64_t d = net_shape(m->net)->d_model;
    const struct net_param *p;
    size_t n, taken = 0;

    p = net_param_table(m->net, &n);
    for (size_t i = 0; i < n; i++)
        taken += take(net_params(m->net) + p[i].offset, g, p[i].name,
                      p[i].dims[0], p[i].n_dims > 1 ? p[i].dims[1] : 1) &&
                 p[i].n_dims > 1;
    if (m->rows && same_ngrams(m, g))
        taken += take(nn_rows_data(m->rows), g, "ngram_embd.weight", d,
                      m->spec.buckets);
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

int enc_import(struct enc_model *m, const char *path, struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    int status = infer_gguf_open(&g, path, err);

    if (status == 0)
        status = take_all(m, g, path, err);
    infer_gguf_close(g);
    return status;
}

/* ---- whole files ------------------------------------------------------------
 */

struct reader {
    const struct infer_gguf *g;
    const char *path;
    const char *arch;
    int status;
    struct infer_error *err;
};

static bool is_arch(const struct infer_gguf *g, const char *name)
{
    struct infer_gguf_str s = {0};

    return infer_gguf_get_str(g, "general.architecture", &s, NULL) == 0 &&
           s.len == strlen(name) && memcmp(s.data, name, s.len) == 0;
}

/* Key ARCH.name; 0 if it is missing and not needed. */
static uint32_t read_u32(struct reader *r, const char *name, bool needed)
{
    char key[KEY_LEN];
    uint32_t v = 0;
    int found;

    snprintf(key, sizeof(key), "%s.%s", r->arch, name);
    found = r->status ? 1 : infer_gguf_get_u32(r->g, key, &v, r->err);
    if (found < 0)
        r->status = found;
    else if (found == 1 && needed && !r->status)
        r->status = infer_fail(r->err, INFER_EFORMAT,
                               "'%.120s' has no key '%s'", r->path, key);
    return v;
}

static float read_f32(struct reader *r, const char *name, float otherwise)
{
    char key[KEY_LEN];
    float v = otherwise;

    snprintf(key, sizeof(key), "%s.%s", r->arch, name);
    if (!r->status && infer_gguf_get_f32(r->g, key, &v, r->err) < 0)
        r->status = INFER_EFORMAT;
    return v;
}

static uint32_t rows_of(const struct infer_gguf *g, const char *tensor)
{
    const struct infer_gguf_tensor *t = infer_gguf_find(g, tensor);

    return t && t->dims[1] <= UINT32_MAX ? (uint32_t)t->dims[1] : 0;
}

static int no_tensor(const char *path, const char *name,
                     struct infer_error *err)
{
    return infer_fail(err, INFER_EFORMAT, "'%.120s' has no tensor '%s'", path,
                      name);
}

static uint32_t need_rows(struct reader *r, const char *tensor)
{
    if (r->status == 0 && !infer_gguf_find(r->g, tensor))
        r->status = no_tensor(r->path, tensor, r->err);
    return rows_of(r->g, tensor);
}

/* What both kinds of file have. */
static void read_common(struct reader *r, struct net_shape *s)
{
    *s = (struct net_shape){
        .encoder = true,
        .n_vocab = need_rows(r, "token_embd.weight"),
        .n_classes = rows_of(r->g, "cls.output.weight"),
        .dense = infer_gguf_find(r->g, "cls.weight") != NULL,
        .n_ctx = read_u32(r, "context_length", true),
        .d_model = read_u32(r, "embedding_length", true),
        .n_layers = read_u32(r, "block_count", true),
        .d_ff = read_u32(r, "feed_forward_length", true),
        .n_heads = read_u32(r, "attention.head_count", true)};
}

static void read_own(struct reader *r, struct net_shape *s,
                     struct infer_ngrams_spec *n)
{
    s->arch = NET_LLAMA;
    s->n_kv_heads = read_u32(r, "attention.head_count_kv", true);
    s->d_head = read_u32(r, "attention.key_length", true);
    s->rope_base = read_f32(r, "rope.freq_base", 10000.0f);
    s->norm_eps = read_f32(r, "attention.layer_norm_rms_epsilon", 1e-5f);
    s->pooling = (enum net_pooling)read_u32(r, "pooling_type", true);
    *n = (struct infer_ngrams_spec){
        .buckets = read_u32(r, "ngram.buckets", false),
        .min = read_u32(r, "ngram.min", false),
        .max = read_u32(r, "ngram.max", false),
        .char_min = read_u32(r, "ngram.char_min", false),
        .char_max = read_u32(r, "ngram.char_max", false)};
}

/* Pooled is the mean, or what the file says: the first token, also for a head.
 * Files for no or the last token's vector are trained as means. */
static void read_bert(struct reader *r, struct net_shape *s)
{
    const uint32_t pooling = read_u32(r, "pooling_type", false);

    s->arch = NET_BERT;
    s->n_ctx = need_rows(r, "position_embd.weight");
    s->n_types = need_rows(r, "token_types.weight");
    s->n_kv_heads = s->n_heads;
    s->d_head = s->n_heads ? s->d_model / s->n_heads : 0;
    s->norm_eps = read_f32(r, "attention.layer_norm_epsilon", 1e-12f);
    s->pooling = pooling == NET_POOL_FIRST || pooling == NET_POOL_RANK
                     ? NET_POOL_FIRST
                     : NET_POOL_MEAN;
}

static int read_shape(const struct infer_gguf *g, const char *path,
                      struct net_shape *shape, struct infer_ngrams_spec *spec,
                      struct infer_error *err)
{
    const bool bert = is_arch(g, "bert");
    struct reader r = {.g = g,
                       .path = path,
                       .arch = bert ? "bert" : "inferd-encoder",
                       .err = err};

    *spec = (struct infer_ngrams_spec){0};
    if (!is_arch(g, r.arch))
        return infer_fail(err, INFER_EFORMAT,
                          "'%.150s' is no encoder that can be trained: its "
                          "architecture is not bert or inferd-encoder",
                          path);
    read_common(&r, shape);
    if (bert)
        read_bert(&r, shape);
    else
        read_own(&r, shape, spec);
    return r.status;
}

int enc_import_bert(const char *path, struct net_shape *shape,
                    struct infer_error *err)
{
    struct infer_ngrams_spec none;
    struct infer_gguf *g = NULL;
    int status = 1;

    if (infer_gguf_open(&g, path, NULL) == 0 && is_arch(g, "bert"))
        status = read_shape(g, path, shape, &none, err);
    infer_gguf_close(g);
    return status;
}

/* Every tensor the shape asks for must be there, but a head's if it is new. */
static int check_tensors(const struct enc_model *m, const struct infer_gguf *g,
                         const char *path, bool head, struct infer_error *err)
{
    const struct net_param *p;
    size_t n;

    p = net_param_table(m->net, &n);
    for (size_t i = 0; i < n; i++) {
        const struct infer_gguf_tensor *t = infer_gguf_find(g, p[i].name);

        if (!head && strncmp(p[i].name, "cls.", 4) == 0)
            continue;
        if (!t)
            return no_tensor(path, p[i].name, err);
        if (t->dims[0] != p[i].dims[0] || t->dims[1] != p[i].dims[1] ||
            t->dims[2] != 1 || t->dims[3] != 1)
            return infer_fail(err, INFER_EFORMAT,
                              "'%.120s': tensor '%s' is not %llu x %llu", path,
                              p[i].name, (unsigned long long)p[i].dims[0],
                              (unsigned long long)p[i].dims[1]);
    }
    return 0;
}

int enc_import_whole(struct enc_model *m, const char *path,
                     struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    int status = infer_gguf_open(&g, path, err);

    if (status == 0)
        status = check_tensors(m, g, path, false, err);
    if (status == 0)
        status = take_all(m, g, path, err);
    infer_gguf_close(g);
    return status;
}

int enc_load(struct enc_model *m, const char *path, size_t max_batch,
             struct infer_team *team, struct infer_error *err)
{
    struct infer_tokenizer *t = NULL;
    struct infer_ngrams_spec spec;
    struct infer_gguf *g = NULL;
    struct net_shape shape;
    int status = infer_gguf_open(&g, path, err);

    if (status == 0)
        status = read_shape(g, path, &shape, &spec, err);
    if (status == 0)
        status = infer_tokenizer_create(&t, g, err);
    if (status == 0)
        status = enc_model_create(m, &shape, &spec, t, max_batch, shape.n_ctx,
                                  team, TRAIN_F32, 0, err);
    if (status == 0)
        status = check_tensors(m, g, path, true, err);
    if (status == 0)
        status = take_all(m, g, path, err);
    infer_gguf_close(g);
    return status;
}

const char *enc_labels_key(const struct infer_gguf *g)
{
    return is_arch(g, "bert") ? "bert.classifier.output_labels"
                              : "inferd-encoder.classifier.output_labels";
}

int enc_import_labels(const struct infer_gguf *g, struct infer_gguf_array *a,
                      struct infer_error *err)
{
    const int found = infer_gguf_get_array(g, enc_labels_key(g), a, err);

    if (found == 1 || (found == 0 && !a->strs))
        return infer_fail(err, INFER_EFORMAT, "the model has no labels");
    return found;
}
