/*
 * config_gguf.c - struct hf_config from the keys of a GGUF file and back.
 *
 * llama3's scaling is a tensor of divisors in a GGUF file; its parameters are
 * found again by trying those that are in use and comparing.
 */
#include "trainer/hf/config.h"

#include "core/base/error.h"
#include "core/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Wu et al. 2024 (Llama 3.1): slow waves are slowed by the factor, fast ones
 * kept, those between interpolated. */
void hf_llama3_factors(const struct hf_config *c, float *factors)
{
    const double two_pi = 6.283185307179586;
    const double low = (double)c->low, high = (double)c->high;
    const double orig = (double)c->orig_ctx, factor = (double)c->factor;

    for (uint32_t i = 0; i < c->d_head / 2; i++) {
        const double wave =
            two_pi * pow((double)c->rope_base, 2.0 * i / c->d_head);

        if (wave < orig / high) {
            factors[i] = 1.0f;
        } else if (wave > orig / low) {
            factors[i] = c->factor;
        } else {
            const double smooth = (orig / wave - low) / (high - low);

            factors[i] = (float)(1.0 / ((1.0 - smooth) / factor + smooth));
        }
    }
}

/* ---- from GGUF ------------------------------------------------------------
 */

static bool equals(const struct hf_config *c, const float *want)
{
    float *have = malloc(c->d_head * sizeof(*have));
    bool same = have != NULL;

    if (have)
        hf_llama3_factors(c, have);
    for (uint32_t i = 0; same && i < c->d_head / 2; i++)
        same = fabsf(have[i] - want[i]) <= 1e-5f * fabsf(want[i]);
    free(have);
    return same;
}

static int find_llama3(struct hf_config *c, const struct infer_gguf_tensor *t,
                       struct infer_error *err)
{
    static const float origs[] = {8192, 4096, 2048,  1024,
                                  512,  256,  16384, 32768};
    static const float highs[] = {4, 2, 8, 16, 32};
    const float *want = t->data;

    if (t->type != INFER_F32 || t->dims[0] != c->d_head / 2)
        return infer_fail(err, INFER_EFORMAT,
                          "tensor 'rope_freqs.weight' is not [%u] of F32",
                          c->d_head / 2);
    c->scaling = HF_SCALE_LLAMA3;
    c->low = 1.0f;
    c->factor = 1.0f;
    for (uint32_t i = 0; i < c->d_head / 2; i++)
        c->factor = fmaxf(c->factor, want[i]);
    for (size_t i = 0; i < sizeof(origs) / sizeof(*origs); i++)
        for (size_t k = 0; k < sizeof(highs) / sizeof(*highs); k++) {
            c->orig_ctx = origs[i];
            c->high = highs[k];
            if (equals(c, want))
                return 0;
        }
    return infer_fail(err, INFER_EUNSUPPORTED,
                      "config.json cannot say the frequencies of tensor "
                      "'rope_freqs.weight': no llama3 scaling gives them");
}

static int read_scaling(struct hf_config *c, const struct infer_hparams *hp,
                        const struct infer_gguf *g, struct infer_error *err)
{
    const struct infer_gguf_tensor *freqs =
        infer_gguf_find(g, "rope_freqs.weight");
    const struct infer_rope *rope = &hp->rope;

    if (rope->n_rot != hp->d_head)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "config.json cannot say that %u of %u values of a "
                          "head are rotated",
                          rope->n_rot, hp->d_head);
    c->rope_base = rope->base;
    c->factor = 1.0f / rope->scale;
    c->orig_ctx = rope->orig_ctx;
    if (rope->yarn) {
        c->scaling = HF_SCALE_YARN;
        c->beta_fast = rope->beta_fast;
        c->beta_slow = rope->beta_slow;
        c->attn_factor = rope->attn_factor;
        if (rope->ext_factor != 1.0f)
            return infer_fail(err, INFER_EUNSUPPORTED,
                              "config.json cannot say yarn's ext_factor %g",
                              (double)rope->ext_factor);
    } else if (rope->scale != 1.0f) {
        c->scaling = HF_SCALE_LINEAR;
    }
    if (!freqs)
        return 0;
    if (c->scaling != HF_SCALE_NONE)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "config.json cannot say both rope_freqs.weight and "
                          "another scaling");
    return find_llama3(c, freqs, err);
}

static int read_id(const struct infer_gguf *g, const char *key,
                   uint32_t n_vocab, int32_t *id, struct infer_error *err)
{
    uint32_t v = 0;
    const int status = infer_gguf_get_u32(g, key, &v, err);

    if (status < 0)
        return status;
    if (status == 0 && v >= n_vocab)
        return infer_fail(err, INFER_EFORMAT, "key '%s' is %u of %u tokens",
                          key, v, n_vocab);
    *id = status == 0 ? (int32_t)v : -1;
    return 0;
}

static int read_ids(struct hf_config *c, const struct infer_gguf *g,
                    struct infer_error *err)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int status =
        read_id(g, "tokenizer.ggml.bos_token_id", c->n_vocab, &c->bos, err);
    int n = 0;

    for (int i = 0; i < HF_MAX_EOS && status == 0; i++) {
        int32_t id = -1;

        status = read_id(g, keys[i], c->n_vocab, &id, err);
        if (id >= 0 && (n == 0 || id != c->eos[0]))
            c->eos[n++] = id;
    }
    return status;
}

int hf_config_from_gguf(struct hf_config *c, const struct infer_gguf *g,
                        struct infer_error *err)
{
    const struct infer_gguf_tensor *embd =
        infer_gguf_find(g, "token_embd.weight");
    struct infer_hparams hp;
    int status = infer_hparams_read(&hp, g, err), arch = -1;

    if (status)
        return status;
    for (int i = 0; i <= HF_GPT2; i++)
        if (strcmp(hp.arch->name, hf_arch_name((enum hf_arch)i)) == 0)
            arch = i;
    if (arch < 0)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "architecture '%s' cannot be converted; llama, "
                          "qwen2, qwen3 and gpt2 can",
                          hp.arch->name);
    if (!embd || embd->n_dims != 2 || embd->dims[1] > INT32_MAX)
        return infer_fail(err, INFER_EFORMAT,
                          "tensor 'token_embd.weight' is missing");
    *c = (struct hf_config){
        .arch = (enum hf_arch)arch,
        .n_vocab = (uint32_t)embd->dims[1],
        .n_ctx = hp.n_ctx,
        .n_layers = hp.n_layers,
        .n_heads = hp.n_heads,
        .n_kv_heads = hp.n_kv_heads,
        .d_model = hp.d_model,
        .d_head = hp.d_head,
        .d_ff = hp.d_ff,
        .eps = hp.norm_eps,
        .tied = !infer_gguf_find(g, "output.weight"),
        .attn_bias = arch != HF_GPT2 && arch != HF_QWEN2 &&
                     infer_gguf_find(g, "blk.0.attn_q.bias"),
        .mlp_bias = arch != HF_GPT2 && infer_gguf_find(g, "blk.0.ffn_up.bias"),
        .attn_factor = 1.0f,
        .bos = -1,
        .eos = {-1, -1, -1}};
    if (arch != HF_GPT2)
        status = read_scaling(c, &hp, g, err);
    return status ? status : read_ids(c, g, err);
}

/* ---- to GGUF --------------------------------------------------------------
 */

struct setter {
    struct infer_gguf_writer *w;
    const char *arch;
};

static void set_u32(const struct setter *s, const char *name, uint32_t v)
{
    char key[96];

    snprintf(key, sizeof(key), "%s.%s", s->arch, name);
    infer_gguf_set_u32(s->w, key, v);
}

static void set_f32(const struct setter *s, const char *name, float v)
{
    char key[96];

    snprintf(key, sizeof(key), "%s.%s", s->arch, name);
    infer_gguf_set_f32(s->w, key, v);
}

static void set_scaling(const struct setter *s, const struct hf_config *c)
{
    char key[96];

    if (c->scaling == HF_SCALE_NONE || c->scaling == HF_SCALE_LLAMA3)
        return;
    snprintf(key, sizeof(key), "%s.rope.scaling.type", s->arch);
    infer_gguf_set_str(s->w, key,
                       c->scaling == HF_SCALE_YARN ? "yarn" : "linear");
    set_f32(s, "rope.scaling.factor", c->factor);
    if (c->scaling != HF_SCALE_YARN)
        return;
    set_u32(s, "rope.scaling.original_context_length", (uint32_t)c->orig_ctx);
    set_f32(s, "rope.scaling.attn_factor", c->attn_factor);
    set_f32(s, "rope.scaling.yarn_beta_fast", c->beta_fast);
    set_f32(s, "rope.scaling.yarn_beta_slow", c->beta_slow);
}

void hf_config_set(const struct hf_config *c, struct infer_gguf_writer *w)
{
    const struct setter s = {w, hf_arch_name(c->arch)};

    infer_gguf_set_str(w, "general.architecture", s.arch);
    infer_gguf_set_str(w, "general.type", "model");
    set_u32(&s, "vocab_size", c->n_vocab);
    set_u32(&s, "context_length", c->n_ctx);
    set_u32(&s, "embedding_length", c->d_model);
    set_u32(&s, "block_count", c->n_layers);
    set_u32(&s, "feed_forward_length", c->d_ff);
    set_u32(&s, "attention.head_count", c->n_heads);
    if (c->arch == HF_GPT2 || c->arch == HF_BERT)
        set_f32(&s, "attention.layer_norm_epsilon", c->eps);
    if (c->arch == HF_BERT) {
        infer_gguf_set_bool(w, "bert.attention.causal", false);
        set_u32(&s, "pooling_type", c->pooling);
    }
    if (c->arch == HF_GPT2 || c->arch == HF_BERT)
        return;
    set_u32(&s, "attention.head_count_kv", c->n_kv_heads);
    set_u32(&s, "attention.key_length", c->d_head);
    set_u32(&s, "attention.value_length", c->d_head);
    set_u32(&s, "rope.dimension_count", c->d_head);
    set_f32(&s, "rope.freq_base", c->rope_base);
    set_f32(&s, "attention.layer_norm_rms_epsilon", c->eps);
    set_scaling(&s, c);
}
