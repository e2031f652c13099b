/*
 * hparams.c - what a GGUF file says about its model, as checked numbers.
 *
 * An architecture is a row of `archs`; its name is also the prefix of its
 * keys. Every number is bounded here, so that later products of them fit.
 */
#include "core/model/model.h"

#include "core/base/error.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct infer_arch archs[] = {
    {.name = "llama",
     .norm = INFER_NORM_RMS,
     .positions = INFER_POS_ROPE_PAIRS,
     .ffn = INFER_FFN_SILU_GATED},
    {.name = "qwen2",
     .norm = INFER_NORM_RMS,
     .positions = INFER_POS_ROPE_HALVES,
     .ffn = INFER_FFN_SILU_GATED,
     .qkv_bias = true},
    {.name = "qwen3",
     .norm = INFER_NORM_RMS,
     .positions = INFER_POS_ROPE_HALVES,
     .ffn = INFER_FFN_SILU_GATED,
     .qk_norm = true},
    {.name = "gpt2",
     .norm = INFER_NORM_LAYER,
     .positions = INFER_POS_LEARNED,
     .ffn = INFER_FFN_GELU,
     .qkv_bias = true,
     .all_bias = true,
     .fused_qkv = true},
    {.name = "bert",
     .norm = INFER_NORM_LAYER,
     .positions = INFER_POS_LEARNED,
     .ffn = INFER_FFN_GELU,
     .qkv_bias = true,
     .all_bias = true,
     .encoder = true,
     .post_norm = true},
    {.name = "nomic-bert",
     .norm = INFER_NORM_LAYER,
     .positions = INFER_POS_ROPE_HALVES,
     .ffn = INFER_FFN_SILU_GATED,
     .fused_qkv = true,
     .encoder = true,
     .post_norm = true},
    {.name = "inferd-encoder",
     .norm = INFER_NORM_RMS,
     .positions = INFER_POS_ROPE_PAIRS,
     .ffn = INFER_FFN_SILU_GATED,
     .encoder = true},
};

enum { KEY_MAX = 96 };

/* Bounds that no model of this kind reaches. */
enum {
    MAX_LAYERS = 1024,
    MAX_HEADS = 1024,
    MAX_WIDTH = 1 << 17,
    MAX_CTX = 1 << 24
};

/* Reads "<arch>.<name>" and remembers the first failure. */
struct reader {
    const struct infer_gguf *g;
    const char *arch;
    struct infer_error *err;
    int status;
    char key[KEY_MAX];
};

static const char *key_of(struct reader *r, const char *name)
{
    snprintf(r->key, sizeof(r->key), "%s.%s", r->arch, name);
    return r->key;
}

/* min 0 and absent: def. */
static uint32_t read_u32(struct reader *r, const char *name, uint32_t def,
                         uint32_t min, uint32_t max)
{
    uint32_t v = def;

    if (r->status)
        return min;
    const int found = infer_gguf_get_u32(r->g, key_of(r, name), &v, r->err);

    if (found < 0)
        r->status = found;
    else if (found == 1 && def == 0 && min > 0)
        r->status =
            infer_fail(r->err, INFER_EFORMAT, "key '%s' is missing", r->key);
    else if (v < min || v > max)
        r->status =
            infer_fail(r->err, INFER_EFORMAT, "key '%s' is %u, not in %u..%u",
                       r->key, v, min, max);
    return r->status ? min : v;
}

static float read_f32(struct reader *r, const char *name, float def, float min,
                      float max)
{
    float v = def;

    if (r->status)
        return def;
    const int found = infer_gguf_get_f32(r->g, key_of(r, name), &v, r->err);

    if (found < 0)
        r->status = found;
    else if (!(v >= min && v <= max)) /* also a NaN */
        r->status =
            infer_fail(r->err, INFER_EFORMAT, "key '%s' is %g, not in %g..%g",
                       r->key, (double)v, (double)min, (double)max);
    return v;
}

static bool str_is(struct infer_gguf_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static int find_arch(struct infer_hparams *hp, const struct infer_gguf *g,
                     struct infer_error *err)
{
    struct infer_gguf_str name;
    const int found = infer_gguf_get_str(g, "general.architecture", &name, err);

    if (found < 0)
        return found;
    if (found == 1)
        return infer_fail(err, INFER_EFORMAT,
                          "key 'general.architecture' is missing");
    for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]); i++)
        if (str_is(name, archs[i].name))
            hp->arch = &archs[i];
    if (!hp->arch)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "architecture '%.*s' is not supported",
                          (int)(name.len < 40 ? name.len : 40), name.data);
    return INFER_OK;
}

static void read_scaling(struct reader *r, struct infer_hparams *hp)
{
    struct infer_rope *rope = &hp->rope;
    struct infer_gguf_str type = {"none", 4};
    const int found =
        infer_gguf_get_str(r->g, key_of(r, "rope.scaling.type"), &type, r->err);

    if (found < 0)
        r->status = found;
    /* the key before there were several kinds of scaling */
    const float old = read_f32(r, "rope.scale_linear", 1.0f, 1e-3f, 1e6f);
    const float factor = read_f32(r, "rope.scaling.factor", old, 1e-3f, 1e6f);

    rope->scale = 1.0f;
    rope->attn_factor =
        read_f32(r, "rope.scaling.attn_factor", 1.0f, 1e-3f, 1e3f);
    rope->beta_fast =
        read_f32(r, "rope.scaling.yarn_beta_fast", 32.0f, 0.0f, 1e6f);
    rope->beta_slow =
        read_f32(r, "rope.scaling.yarn_beta_slow", 1.0f, 0.0f, 1e6f);
    rope->ext_factor =
        read_f32(r, "rope.scaling.yarn_ext_factor", 1.0f, 0.0f, 1e3f);
    rope->orig_ctx = (float)read_u32(r, "rope.scaling.original_context_length",
                                     hp->n_ctx, 1, MAX_CTX);
    if (r->status)
        return;
    if (str_is(type, "linear") || (found == 1 && factor != 1.0f)) {
        rope->scale = 1.0f / factor;
    } else if (str_is(type, "yarn")) {
        rope->scale = 1.0f / factor;
        rope->yarn = true;
    } else if (!str_is(type, "none")) {
        r->status = infer_fail(r->err, INFER_EUNSUPPORTED,
                               "key '%s': '%.*s' is not supported",
                               key_of(r, "rope.scaling.type"),
                               (int)(type.len < 40 ? type.len : 40), type.data);
    }
}

/* Our encoders may have none. */
static uint32_t read_layers(struct reader *r, const struct infer_arch *arch)
{
    const bool none = arch->encoder && !arch->post_norm;

    return read_u32(r, "block_count", 0, none ? 0 : 1, MAX_LAYERS);
}

/* The n-gram table of our encoders; docs/model-format.md. */
static void read_ngrams(struct reader *r, struct infer_ngrams_spec *n)
{
    struct infer_error why = {0};

    n->buckets = read_u32(r, "ngram.buckets", 0, 0, INT32_MAX);
    if (r->status || n->buckets == 0)
        return;
    n->min = read_u32(r, "ngram.min", 0, 0, UINT32_MAX);
    n->max = read_u32(r, "ngram.max", 0, 0, UINT32_MAX);
    n->char_min = read_u32(r, "ngram.char_min", 0, 0, UINT32_MAX);
    n->char_max = read_u32(r, "ngram.char_max", 0, 0, UINT32_MAX);
    if (!r->status && infer_ngrams_check(n, &why) != 0)
        r->status = infer_fail(r->err, INFER_EFORMAT, "keys '%s.ngram.*': %s",
                               r->arch, why.text);
}

static void read_shape(struct reader *r, struct infer_hparams *hp)
{
    const bool rope = hp->arch->positions != INFER_POS_LEARNED;

    hp->n_ctx = read_u32(r, "context_length", 0, 1, MAX_CTX);
    hp->d_model = read_u32(r, "embedding_length", 0, 1, MAX_WIDTH);
    hp->n_layers = read_layers(r, hp->arch);
    hp->d_ff = read_u32(r, "feed_forward_length", 0, 1, MAX_WIDTH * 8);
    hp->n_heads = read_u32(r, "attention.head_count", 0, 1, MAX_HEADS);
    hp->n_kv_heads =
        read_u32(r, "attention.head_count_kv", hp->n_heads, 1, MAX_HEADS);
    hp->d_head = read_u32(r, "attention.key_length", hp->d_model / hp->n_heads,
                          1, INFER_MAX_HEAD);
    const uint32_t v =
        read_u32(r, "attention.value_length", hp->d_head, 1, INFER_MAX_HEAD);

    hp->norm_eps = read_f32(r,
                            hp->arch->norm == INFER_NORM_RMS
                                ? "attention.layer_norm_rms_epsilon"
                                : "attention.layer_norm_epsilon",
                            1e-5f, 0.0f, 1.0f);
    if (!r->status && hp->n_heads % hp->n_kv_heads)
        r->status = infer_fail(r->err, INFER_EFORMAT,
                               "%u heads do not share %u key/value heads",
                               hp->n_heads, hp->n_kv_heads);
    if (!r->status && v != hp->d_head)
        r->status = infer_fail(r->err, INFER_EUNSUPPORTED,
                               "key width %u differs from value width %u",
                               hp->d_head, v);
    if (!rope)
        return;
    hp->rope.n_rot =
        read_u32(r, "rope.dimension_count", hp->d_head, 2, hp->d_head);
    hp->rope.base = read_f32(r, "rope.freq_base", 10000.0f, 1.0f, 1e12f);
    if (!r->status && hp->rope.n_rot % 2)
        r->status =
            infer_fail(r->err, INFER_EFORMAT, "key '%s' is odd: %u",
                       key_of(r, "rope.dimension_count"), hp->rope.n_rot);
    read_scaling(r, hp);
}

/* A part of a model that was split over several files has all the keys, or none
 * but these; its tensors are elsewhere. */
static int refuse_parts(const struct infer_gguf *g, struct infer_error *err)
{
    uint32_t n = 0, i = 0;
    int status = infer_gguf_get_u32(g, "split.count", &n, err);

    if (status >= 0)
        status = infer_gguf_get_u32(g, "split.no", &i, err);
    if (status < 0 || n < 2)
        return status < 0 ? status : INFER_OK;
    return infer_fail(err, INFER_EUNSUPPORTED,
                      "it is part %u of %u: merge the parts into one file",
                      i + 1, n);
}

/* Switches that would change every result: refused rather than ignored. */
static void read_switches(struct reader *r, struct infer_hparams *hp)
{
    const bool encoder = hp->arch->encoder;
    bool causal = !encoder;
    int status;

    if (!r->status && read_u32(r, "expert_count", 0, 0, UINT32_MAX))
        r->status = infer_fail(r->err, INFER_EUNSUPPORTED,
                               "mixtures of experts are not supported");
    hp->score_scale = read_f32(r, "attention.scale", 0.0f, 0.0f, 1e6f);
    if (r->status)
        return;
    status = infer_gguf_get_bool(r->g, key_of(r, "attention.causal"), &causal,
                                 r->err);
    if (status < 0)
        r->status = status;
    else if (causal == encoder)
        r->status = infer_fail(r->err, INFER_EUNSUPPORTED,
                               encoder ? "key '%s' is true: not an encoder"
                                       : "key '%s' is false: not a text "
                                         "generator",
                               r->key);
}

int infer_hparams_read(struct infer_hparams *hp, const struct infer_gguf *g,
                       struct infer_error *err)
{
    struct reader r = {.g = g, .err = err};

    *hp = (struct infer_hparams){0};
    r.status = refuse_parts(g, err);
    if (!r.status)
        r.status = find_arch(hp, g, err);
    if (r.status)
        return r.status;
    r.arch = hp->arch->name;
    read_shape(&r, hp);
    read_switches(&r, hp);
    if (hp->arch->encoder)
        read_ngrams(&r, &hp->ngrams);
    return r.status;
}

/* ---- rotary positions --------------------------------------------------- */

/* The frequency index at which a wave turns `rotations` times within the
 * original context. */
static double yarn_index(const struct infer_rope *r, double rotations)
{
    const double two_pi = 6.283185307179586, ctx = (double)r->orig_ctx,
                 base = (double)r->base;

    return r->n_rot * log(ctx / (rotations * two_pi)) / (2.0 * log(base));
}

/* Share of the unscaled angle at frequency i: 1 for fast waves, 0 for slow. */
static double yarn_ramp(const struct infer_rope *r, uint32_t i)
{
    const double low = fmax(0.0, floor(yarn_index(r, (double)r->beta_fast)));
    const double high =
        fmin(r->n_rot - 1.0, ceil(yarn_index(r, (double)r->beta_slow)));
    const double at = (i - low) / fmax(0.001, high - low);

    return 1.0 - fmin(1.0, fmax(0.0, at));
}

void infer_rope_table(float *cs, const struct infer_rope *r,
                      const float *factors, uint32_t n_ctx)
{
    const uint32_t half = r->n_rot / 2;
    const double scale = (double)r->scale, ext = (double)r->ext_factor;
    const double base = (double)r->base;
    const double length = (double)r->attn_factor *
                          (r->yarn && ext > 0.0 ? 1.0 - 0.1 * log(scale) : 1.0);

    for (uint32_t i = 0; i < half; i++) {
        const double freq = pow(base, -2.0 * i / r->n_rot) /
                            (factors ? (double)factors[i] : 1.0);
        const double keep = r->yarn ? yarn_ramp(r, i) * ext : 0.0;
        const double step = freq * (scale * (1.0 - keep) + keep);

        for (uint32_t p = 0; p < n_ctx; p++) {
            float *at = cs + ((size_t)p * half + i) * 2;

            at[0] = (float)(cos(p * step) * length);
            at[1] = (float)(sin(p * step) * length);
        }
    }
}
