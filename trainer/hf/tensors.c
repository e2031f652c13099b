/* tensors.c - see tensors.h. One row says all about a tensor. */
#include "trainer/hf/tensors.h"

#include "core/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes, by what they are. */
enum size { ONE, D, V, CTX, F, NQ, NK, NQKV, HEAD, TYPES, CLASSES };

struct row {
    const char *gguf, *hf; /* %u: the layer */
    enum size rows, cols;  /* cols ONE: a vector */
    enum hf_change change;
    const char *bias; /* which files have one; a letter each: see has_bias() */
};

static const struct row llama_before[] = {
    {.gguf = "token_embd", .hf = "model.embed_tokens", .rows = V, .cols = D},
};
static const struct row llama_layer[] = {
    {.gguf = "blk.%u.attn_norm",
     .hf = "model.layers.%u.input_layernorm",
     .rows = D},
    {.gguf = "blk.%u.attn_q",
     .hf = "model.layers.%u.self_attn.q_proj",
     .rows = NQ,
     .cols = D,
     .change = HF_ROTATE,
     .bias = "qa"},
    {.gguf = "blk.%u.attn_k",
     .hf = "model.layers.%u.self_attn.k_proj",
     .rows = NK,
     .cols = D,
     .change = HF_ROTATE,
     .bias = "qa"},
    {.gguf = "blk.%u.attn_v",
     .hf = "model.layers.%u.self_attn.v_proj",
     .rows = NK,
     .cols = D,
     .bias = "qa"},
    {.gguf = "blk.%u.attn_q_norm",
     .hf = "model.layers.%u.self_attn.q_norm",
     .rows = HEAD},
    {.gguf = "blk.%u.attn_k_norm",
     .hf = "model.layers.%u.self_attn.k_norm",
     .rows = HEAD},
    {.gguf = "blk.%u.attn_output",
     .hf = "model.layers.%u.self_attn.o_proj",
     .rows = D,
     .cols = NQ,
     .bias = "a"},
    {.gguf = "blk.%u.ffn_norm",
     .hf = "model.layers.%u.post_attention_layernorm",
     .rows = D},
    {.gguf = "blk.%u.ffn_gate",
     .hf = "model.layers.%u.mlp.gate_proj",
     .rows = F,
     .cols = D,
     .bias = "m"},
    {.gguf = "blk.%u.ffn_up",
     .hf = "model.layers.%u.mlp.up_proj",
     .rows = F,
     .cols = D,
     .bias = "m"},
    {.gguf = "blk.%u.ffn_down",
     .hf = "model.layers.%u.mlp.down_proj",
     .rows = D,
     .cols = F,
     .bias = "m"},
};
static const struct row llama_after[] = {
    {.gguf = "output_norm", .hf = "model.norm", .rows = D},
    {.gguf = "output", .hf = "lm_head", .rows = V, .cols = D},
};
static const struct row gpt2_before[] = {
    {.gguf = "token_embd", .hf = "transformer.wte", .rows = V, .cols = D},
    {.gguf = "position_embd", .hf = "transformer.wpe", .rows = CTX, .cols = D},
};
static const struct row gpt2_layer[] = {
    {.gguf = "blk.%u.attn_norm",
     .hf = "transformer.h.%u.ln_1",
     .rows = D,
     .bias = "g"},
    {.gguf = "blk.%u.attn_qkv",
     .hf = "transformer.h.%u.attn.c_attn",
     .rows = NQKV,
     .cols = D,
     .change = HF_TRANSPOSE,
     .bias = "g"},
    {.gguf = "blk.%u.attn_output",
     .hf = "transformer.h.%u.attn.c_proj",
     .rows = D,
     .cols = D,
     .change = HF_TRANSPOSE,
     .bias = "g"},
    {.gguf = "blk.%u.ffn_norm",
     .hf = "transformer.h.%u.ln_2",
     .rows = D,
     .bias = "g"},
    {.gguf = "blk.%u.ffn_up",
     .hf = "transformer.h.%u.mlp.c_fc",
     .rows = F,
     .cols = D,
     .change = HF_TRANSPOSE,
     .bias = "g"},
    {.gguf = "blk.%u.ffn_down",
     .hf = "transformer.h.%u.mlp.c_proj",
     .rows = D,
     .cols = F,
     .change = HF_TRANSPOSE,
     .bias = "g"},
};
static const struct row gpt2_after[] = {
    {.gguf = "output_norm", .hf = "transformer.ln_f", .rows = D, .bias = "g"},
    {.gguf = "output", .hf = "lm_head", .rows = V, .cols = D},
};

static const struct row bert_before[] = {
    {.gguf = "token_embd",
     .hf = "embeddings.word_embeddings",
     .rows = V,
     .cols = D},
    {.gguf = "position_embd",
     .hf = "embeddings.position_embeddings",
     .rows = CTX,
     .cols = D},
    {.gguf = "token_types",
     .hf = "embeddings.token_type_embeddings",
     .rows = TYPES,
     .cols = D},
    {.gguf = "token_embd_norm",
     .hf = "embeddings.LayerNorm",
     .rows = D,
     .bias = "b"},
};
static const struct row bert_layer[] = {
    {.gguf = "blk.%u.attn_q",
     .hf = "encoder.layer.%u.attention.self.query",
     .rows = NQ,
     .cols = D,
     .bias = "b"},
    {.gguf = "blk.%u.attn_k",
     .hf = "encoder.layer.%u.attention.self.key",
     .rows = NK,
     .cols = D,
     .bias = "b"},
    {.gguf = "blk.%u.attn_v",
     .hf = "encoder.layer.%u.attention.self.value",
     .rows = NK,
     .cols = D,
     .bias = "b"},
    {.gguf = "blk.%u.attn_output",
     .hf = "encoder.layer.%u.attention.output.dense",
     .rows = D,
     .cols = NQ,
     .bias = "b"},
    {.gguf = "blk.%u.attn_output_norm",
     .hf = "encoder.layer.%u.attention.output.LayerNorm",
     .rows = D,
     .bias = "b"},
    {.gguf = "blk.%u.ffn_up",
     .hf = "encoder.layer.%u.intermediate.dense",
     .rows = F,
     .cols = D,
     .bias = "b"},
    {.gguf = "blk.%u.ffn_down",
     .hf = "encoder.layer.%u.output.dense",
     .rows = D,
     .cols = F,
     .bias = "b"},
    {.gguf = "blk.%u.layer_output_norm",
     .hf = "encoder.layer.%u.output.LayerNorm",
     .rows = D,
     .bias = "b"},
};
/* Only with classes: without, the pooler is not part of the model. */
static const struct row bert_after[] = {
    {.gguf = "cls", .hf = "pooler.dense", .rows = D, .cols = D, .bias = "b"},
    {.gguf = "cls.output",
     .hf = "classifier",
     .rows = CLASSES,
     .cols = D,
     .bias = "b"},
};

#define COUNT(t) sizeof(t) / sizeof(*(t))
#define KIND(t)                                                                \
    t##_before, t##_layer, t##_after, COUNT(t##_before), COUNT(t##_layer),     \
        COUNT(t##_after)

struct list {
    const struct hf_config *c;
    struct hf_tensor *items;
    size_t n;
};

static uint64_t size_of(const struct hf_config *c, enum size s)
{
    const uint64_t nq = (uint64_t)c->n_heads * c->d_head;
    const uint64_t nk = (uint64_t)c->n_kv_heads * c->d_head;

    switch (s) {
    case ONE:
        return 1;
    case D:
        return c->d_model;
    case V:
        return c->n_vocab;
    case CTX:
        return c->n_ctx;
    case F:
        return c->d_ff;
    case NQ:
        return nq;
    case NK:
        return nk;
    case NQKV:
        return nq + 2 * nk;
    case HEAD:
        return c->d_head;
    case TYPES:
        return c->n_types;
    case CLASSES:
        return c->n_classes;
    }
    return 0;
}

static bool has_bias(const struct hf_config *c, const char *when)
{
    return when && ((c->arch == HF_GPT2 && strchr(when, 'g')) ||
                    (c->arch == HF_BERT && strchr(when, 'b')) ||
                    (c->arch == HF_QWEN2 && strchr(when, 'q')) ||
                    (c->attn_bias && strchr(when, 'a')) ||
                    (c->mlp_bias && strchr(when, 'm')));
}

static void name_it(char *out, size_t room, const char *pattern, unsigned layer,
                    const char *part)
{
    const char *mark = strstr(pattern, "%u");
    const int before = mark ? (int)(mark - pattern) : (int)strlen(pattern);

    if (mark)
        snprintf(out, room, "%.*s%u%s.%s", before, pattern, layer, mark + 2,
                 part);
    else
        snprintf(out, room, "%s.%s", pattern, part);
}

static void add(struct list *l, const struct row *r, unsigned layer, bool bias)
{
    struct hf_tensor *t = &l->items[l->n++];
    const char *part = bias ? "bias" : "weight";
    /* qwen turns halves in both kinds of files */
    const bool same = (r->change == HF_ROTATE && l->c->arch != HF_LLAMA) ||
                      (r->change == HF_TRANSPOSE && bias);

    *t = (struct hf_tensor){.change = same ? HF_SAME : r->change,
                            .n_dims = bias || r->cols == ONE ? 1 : 2,
                            .rows = size_of(l->c, r->rows),
                            .cols = bias ? 1 : size_of(l->c, r->cols),
                            .d_head = l->c->d_head};
    name_it(t->gguf, sizeof(t->gguf), r->gguf, layer, part);
    name_it(t->hf, sizeof(t->hf), r->hf, layer, part);
}

static void add_all(struct list *l, const struct row *rows, size_t n,
                    unsigned layer)
{
    for (size_t i = 0; i < n; i++) {
        if ((rows[i].rows == HEAD && l->c->arch != HF_QWEN3) ||
            (l->c->tied && strcmp(rows[i].gguf, "output") == 0))
            continue;
        add(l, &rows[i], layer, false);
        if (has_bias(l->c, rows[i].bias))
            add(l, &rows[i], layer, true);
    }
}

int hf_tensors(const struct hf_config *c, struct hf_tensor **out, size_t *n,
               struct infer_error *err)
{
    static const struct {
        const struct row *before, *layer, *after;
        size_t n_before, n_layer, n_after;
    } kinds[] = {{KIND(llama)}, {KIND(gpt2)}, {KIND(bert)}};
    const int k = c->arch == HF_BERT ? 2 : c->arch == HF_GPT2;
    struct list l = {.c = c};

    l.items = calloc((size_t)c->n_layers * 24 + 16, sizeof(*l.items));
    if (!l.items)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    add_all(&l, kinds[k].before, kinds[k].n_before, 0);
    for (unsigned i = 0; i < c->n_layers; i++)
        add_all(&l, kinds[k].layer, kinds[k].n_layer, i);
    if (c->arch != HF_BERT || c->n_classes)
        add_all(&l, kinds[k].after, kinds[k].n_after, 0);
    *out = l.items;
    *n = l.n;
    return 0;
}

/* ---- values ---------------------------------------------------------------
 */

/* Where row r of a GGUF file is in a checkpoint. */
static uint64_t rotated(uint64_t r, uint32_t d_head)
{
    const uint64_t head = r / d_head, at = r % d_head;

    return head * d_head + at % 2 * (d_head / 2) + at / 2;
}

void hf_rearrange(const struct hf_tensor *t, bool to_gguf, size_t width,
                  const void *src, void *dst)
{
    const uint8_t *from = src;
    const size_t row_bytes = (size_t)t->cols * width;
    uint8_t *to = dst;

    if (t->change == HF_SAME) {
        memcpy(to, from, (size_t)t->rows * row_bytes);
        return;
    }
    for (uint64_t r = 0; r < t->rows; r++) {
        if (t->change == HF_ROTATE) {
            const uint64_t q = rotated(r, t->d_head);

            memcpy(to + (to_gguf ? r : q) * row_bytes,
                   from + (to_gguf ? q : r) * row_bytes, row_bytes);
            continue;
        }
        for (uint64_t c = 0; c < t->cols; c++) {
            const uint64_t here = r * t->cols + c, there = c * t->rows + r;

            memcpy(to + (to_gguf ? here : there) * width,
                   from + (to_gguf ? there : here) * width, width);
        }
    }
}
