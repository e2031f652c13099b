/*
 * hf_reference.c - see hf_reference.h. Written from the description of the
 * models in transformers: q and k turn halves, Conv1D is [in][out].
 */
#include "tests/hf_reference.h"

#include "core/format/safetensors.h"
#include "tests/oracle.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ref {
    struct infer_safetensors *st;
    cJSON *config;
    bool gpt2;
    size_t n, d, heads, kv_heads, k, f, layers; /* n: tokens */
    double eps;
    double *cs; /* [n][k/2][2] */
};

static double number(const cJSON *o, const char *key, double def)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);

    return cJSON_IsNumber(v) ? v->valuedouble : def;
}

/* A tensor's values; NULL where it may be absent. */
static const float *weight(const struct ref *r, bool required, const char *fmt,
                           ...) __attribute__((format(printf, 3, 4)));

static const float *weight(const struct ref *r, bool required, const char *fmt,
                           ...)
{
    const struct infer_st_tensor *t;
    char name[128];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof(name), fmt, ap);
    va_end(ap);
    t = infer_safetensors_find(r->st, name);
    if (!t && required)
        fail_msg("no tensor '%s'", name);
    if (t)
        assert_int_equal(t->dtype, INFER_ST_F32);
    return t ? t->data : NULL;
}

static double *zeros(size_t n)
{
    double *p = calloc(n, sizeof(*p));

    assert_non_null(p);
    return p;
}

/* y [rows][out] = x [rows][in] W^T + b; conv: W is [in][out] */
static void linear(double *y, const double *x, const float *w, const float *b,
                   size_t rows, size_t in, size_t out, bool conv)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            double sum = b ? (double)b[o] : 0.0;

            for (size_t i = 0; i < in; i++)
                sum += x[r * in + i] *
                       (double)(conv ? w[i * out + o] : w[o * in + i]);
            y[r * out + o] = sum;
        }
}

static void norm_row(double *y, const double *x, const float *w, const float *b,
                     size_t n, double eps)
{
    double mean = 0.0, var = 0.0;

    for (size_t i = 0; i < n && b; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / sqrt(var + eps) * (double)w[i] +
               (b ? (double)b[i] : 0.0);
}

static void norm(const struct ref *r, double *y, const double *x,
                 const float *w, const float *b)
{
    for (size_t t = 0; t < r->n; t++)
        norm_row(y + t * r->d, x + t * r->d, w, b, r->d, r->eps);
}

/* ---- rotary positions -----------------------------------------------------
 */

static double llama3(double freq, const cJSON *s)
{
    const double wave = 2.0 * M_PI / freq;
    const double orig = number(s, "original_max_position_embeddings", 0);
    const double low = number(s, "low_freq_factor", 0);
    const double high = number(s, "high_freq_factor", 0);
    const double factor = number(s, "factor", 0);
    const double smooth = (orig / wave - low) / (high - low);

    if (wave < orig / high)
        return freq;
    if (wave > orig / low)
        return freq / factor;
    return (1.0 - smooth) * freq / factor + smooth * freq;
}

static double yarn(double freq, size_t i, const struct ref *r, double base,
                   const cJSON *s)
{
    const double orig = number(s, "original_max_position_embeddings", 0);
    const double dim = (double)r->k, two = 2.0 * log(base);
    double low =
        floor(dim * log(orig / (number(s, "beta_fast", 32) * 2 * M_PI)) / two);
    double high =
        ceil(dim * log(orig / (number(s, "beta_slow", 1) * 2 * M_PI)) / two);
    double ramp;

    low = fmax(low, 0);
    high = fmin(high, dim - 1);
    ramp = fmin(1, fmax(0, ((double)i - low) / (high - low)));
    return freq / number(s, "factor", 1) * ramp + freq * (1 - ramp);
}

static void rotations(struct ref *r)
{
    const cJSON *s = cJSON_GetObjectItem(r->config, "rope_scaling");
    const char *type = cJSON_IsObject(s) ? oracle_str(s, "rope_type") : "";
    const double base = number(r->config, "rope_theta", 10000);
    const double length = strcmp(type, "yarn") == 0
                              ? 1.0 + 0.1 * log(number(s, "factor", 1))
                              : 1.0;

    r->cs = zeros(r->n * r->k);
    for (size_t i = 0; i < r->k / 2; i++) {
        double freq = pow(base, -2.0 * (double)i / (double)r->k);

        if (strcmp(type, "linear") == 0)
            freq /= number(s, "factor", 1);
        else if (strcmp(type, "llama3") == 0)
            freq = llama3(freq, s);
        else if (strcmp(type, "yarn") == 0)
            freq = yarn(freq, i, r, base, s);
        for (size_t t = 0; t < r->n; t++) {
            r->cs[t * r->k + 2 * i] = cos((double)t * freq) * length;
            r->cs[t * r->k + 2 * i + 1] = sin((double)t * freq) * length;
        }
    }
}

/* One head of each row: normed if asked for, then turned. */
static void turn(const struct ref *r, double *x, size_t heads, const float *w)
{
    const size_t half = r->k / 2;

    for (size_t t = 0; t < r->n; t++)
        for (size_t h = 0; h < heads; h++) {
            double *v = x + (t * heads + h) * r->k;

            if (w)
                norm_row(v, v, w, NULL, r->k, r->eps);
            for (size_t i = 0; i < half; i++) {
                const double c = r->cs[t * r->k + 2 * i];
                const double s = r->cs[t * r->k + 2 * i + 1];
                const double a = v[i], b = v[i + half];

                v[i] = a * c - b * s;
                v[i + half] = b * c + a * s;
            }
        }
}

/* ---- attention ------------------------------------------------------------
 */

/* Rows of q [n][H K], k and v [n][G K] that lie `stride` apart. */
static void attend(const struct ref *r, double *y, const double *q,
                   const double *k, const double *v, size_t sq, size_t skv)
{
    double *p = zeros(r->n);

    for (size_t t = 0; t < r->n; t++)
        for (size_t h = 0; h < r->heads; h++) {
            const size_t g = h / (r->heads / r->kv_heads);
            double max = -HUGE_VAL, sum = 0.0;

            for (size_t j = 0; j <= t; j++) {
                p[j] = 0.0;
                for (size_t i = 0; i < r->k; i++)
                    p[j] +=
                        q[t * sq + h * r->k + i] * k[j * skv + g * r->k + i];
                p[j] /= sqrt((double)r->k);
                max = fmax(max, p[j]);
            }
            for (size_t j = 0; j <= t; j++)
                sum += p[j] = exp(p[j] - max);
            for (size_t i = 0; i < r->k; i++) {
                double out = 0.0;

                for (size_t j = 0; j <= t; j++)
                    out += p[j] / sum * v[j * skv + g * r->k + i];
                y[(t * r->heads + h) * r->k + i] = out;
            }
        }
    free(p);
}

/* ---- layers ---------------------------------------------------------------
 */

#define L "model.layers.%zu."

static void llama_layer(const struct ref *r, double *x, size_t l)
{
    const size_t nq = r->heads * r->k, nk = r->kv_heads * r->k;
    double *h = zeros(r->n * r->d), *q = zeros(r->n * nq);
    double *k = zeros(r->n * nk), *v = zeros(r->n * nk);
    double *a = zeros(r->n * nq), *g = zeros(r->n * r->f);
    double *u = zeros(r->n * r->f);

    norm(r, h, x, weight(r, true, L "input_layernorm.weight", l), NULL);
    linear(q, h, weight(r, true, L "self_attn.q_proj.weight", l),
           weight(r, false, L "self_attn.q_proj.bias", l), r->n, r->d, nq,
           false);
    linear(k, h, weight(r, true, L "self_attn.k_proj.weight", l),
           weight(r, false, L "self_attn.k_proj.bias", l), r->n, r->d, nk,
           false);
    linear(v, h, weight(r, true, L "self_attn.v_proj.weight", l),
           weight(r, false, L "self_attn.v_proj.bias", l), r->n, r->d, nk,
           false);
    turn(r, q, r->heads, weight(r, false, L "self_attn.q_norm.weight", l));
    turn(r, k, r->kv_heads, weight(r, false, L "self_attn.k_norm.weight", l));
    attend(r, a, q, k, v, nq, nk);
    linear(h, a, weight(r, true, L "self_attn.o_proj.weight", l), NULL, r->n,
           nq, r->d, false);
    for (size_t i = 0; i < r->n * r->d; i++)
        x[i] += h[i];
    norm(r, h, x, weight(r, true, L "post_attention_layernorm.weight", l),
         NULL);
    linear(g, h, weight(r, true, L "mlp.gate_proj.weight", l), NULL, r->n, r->d,
           r->f, false);
    linear(u, h, weight(r, true, L "mlp.up_proj.weight", l), NULL, r->n, r->d,
           r->f, false);
    for (size_t i = 0; i < r->n * r->f; i++)
        u[i] *= g[i] / (1.0 + exp(-g[i]));
    linear(h, u, weight(r, true, L "mlp.down_proj.weight", l), NULL, r->n, r->f,
           r->d, false);
    for (size_t i = 0; i < r->n * r->d; i++)
        x[i] += h[i];
    free(h), free(q), free(k), free(v), free(a), free(g), free(u);
}

#undef L
#define L "transformer.h.%zu."

static void conv(const struct ref *r, double *y, const double *x, size_t in,
                 size_t out, const char *name, size_t l)
{
    linear(y, x, weight(r, true, L "%s.weight", l, name),
           weight(r, true, L "%s.bias", l, name), r->n, in, out, true);
}

static void gpt2_layer(const struct ref *r, double *x, size_t l)
{
    const size_t d = r->d;
    double *h = zeros(r->n * d), *qkv = zeros(r->n * 3 * d);
    double *a = zeros(r->n * d), *u = zeros(r->n * r->f);

    norm(r, h, x, weight(r, true, L "ln_1.weight", l),
         weight(r, true, L "ln_1.bias", l));
    conv(r, qkv, h, d, 3 * d, "attn.c_attn", l);
    attend(r, a, qkv, qkv + d, qkv + 2 * d, 3 * d, 3 * d);
    conv(r, h, a, d, d, "attn.c_proj", l);
    for (size_t i = 0; i < r->n * d; i++)
        x[i] += h[i];
    norm(r, h, x, weight(r, true, L "ln_2.weight", l),
         weight(r, true, L "ln_2.bias", l));
    conv(r, u, h, d, r->f, "mlp.c_fc", l);
    for (size_t i = 0; i < r->n * r->f; i++)
        u[i] = 0.5 * u[i] *
               (1.0 + tanh(sqrt(2.0 / M_PI) *
                           (u[i] + 0.044715 * u[i] * u[i] * u[i])));
    conv(r, h, u, r->f, d, "mlp.c_proj", l);
    for (size_t i = 0; i < r->n * d; i++)
        x[i] += h[i];
    free(h), free(qkv), free(a), free(u);
}

/* ---- the whole ------------------------------------------------------------
 */

static void read_shape(struct ref *r)
{
    const cJSON *c = r->config;

    r->gpt2 = strcmp(oracle_str(c, "model_type"), "gpt2") == 0;
    r->d = (size_t)number(c, r->gpt2 ? "n_embd" : "hidden_size", 0);
    r->heads = (size_t)number(c, r->gpt2 ? "n_head" : "num_attention_heads", 0);
    r->kv_heads = (size_t)number(c, "num_key_value_heads", (double)r->heads);
    r->k = (size_t)number(c, "head_dim", (double)(r->d / r->heads));
    r->f = (size_t)number(c, r->gpt2 ? "n_inner" : "intermediate_size", 0);
    r->layers = (size_t)number(c, r->gpt2 ? "n_layer" : "num_hidden_layers", 0);
    r->eps = number(c, r->gpt2 ? "layer_norm_epsilon" : "rms_norm_eps", 0);
}

static void run(struct ref *r, const int32_t *ids, double *logits,
                size_t n_vocab)
{
    const float *embd = weight(r, true, "%s",
                               r->gpt2 ? "transformer.wte.weight"
                                       : "model.embed_tokens.weight");
    const float *pos =
        r->gpt2 ? weight(r, true, "transformer.wpe.weight") : NULL;
    const float *head = weight(r, false, "lm_head.weight");
    const bool tied =
        cJSON_IsTrue(cJSON_GetObjectItem(r->config, "tie_word_embeddings"));
    double *x = zeros(r->n * r->d), *h = zeros(r->n * r->d);

    assert_int_equal(head == NULL, tied);
    for (size_t t = 0; t < r->n; t++)
        for (size_t i = 0; i < r->d; i++)
            x[t * r->d + i] = (double)embd[(size_t)ids[t] * r->d + i] +
                              (pos ? (double)pos[t * r->d + i] : 0.0);
    for (size_t l = 0; l < r->layers; l++)
        if (r->gpt2)
            gpt2_layer(r, x, l);
        else
            llama_layer(r, x, l);
    norm(r, h, x,
         weight(r, true, "%s",
                r->gpt2 ? "transformer.ln_f.weight" : "model.norm.weight"),
         r->gpt2 ? weight(r, true, "transformer.ln_f.bias") : NULL);
    linear(logits, h + (r->n - 1) * r->d, tied ? embd : head, NULL, 1, r->d,
           n_vocab, false);
    free(x), free(h);
}

void hf_reference_logits(const char *folder, const int32_t *ids, size_t n,
                         double *logits, size_t n_vocab)
{
    struct ref r = {.n = n};
    struct infer_error err;
    char path[512];

    snprintf(path, sizeof(path), "%s/config.json", folder);
    r.config = oracle_json(path);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    if (infer_safetensors_open(&r.st, path, &err))
        fail_msg("%s", err.text);
    read_shape(&r);
    rotations(&r);
    run(&r, ids, logits, n_vocab);
    free(r.cs);
    infer_safetensors_close(r.st);
    cJSON_Delete(r.config);
}
