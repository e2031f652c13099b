/* tensors.c - see tensors.h. One row says all about a tensor. */
#include "trainer/hf/tensors.h"

#include "core/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes, by what they are. */
enum size { ONE, D, V, CTX, F, NQ, NK, NQKV, HEAD };

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

#define ROWS(t) t, sizeof(t) / sizeof(*(t))

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
    }
    return 0;
}

static bool has_bias(const struct hf_config *c, const char *when)
{
    return when && ((c->arch == HF_GPT2 && strchr(when, 'g')) ||
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
    const bool gpt2 = c->arch == HF_GPT2;
    struct list l = {.c = c};

    l.items = calloc((size_t)c->n_layers * 24 + 8, sizeof(*l.items));
    if (!l.items)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    if (gpt2)
        add_all(&l, ROWS(gpt2_before), 0);
    else
        add_all(&l, ROWS(llama_before), 0);
    for (unsigned i = 0; i < c->n_layers; i++)
        if (gpt2)
            add_all(&l, ROWS(gpt2_layer), i);
        else
            add_all(&l, ROWS(llama_layer), i);
    if (gpt2)
        add_all(&l, ROWS(gpt2_after), 0);
    else
        add_all(&l, ROWS(llama_after), 0);
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
