/*
 * decoder.c - a GGUF decoder as an ONNX graph.
 *
 * The graph is the model as transformers compute it (q and k turn halves, so
 * their rows are those of a checkpoint), with matrices as [in][out] for MatMul.
 * The rotations of all positions are constants from the engine's own table, so
 * every kind of scaling is in them; a tied head is the embedding, transposed.
 */
#include "trainer/hf/convert.h"

#include "core/base/error.h"
#include "core/format/quant.h"
#include "core/model/model.h"
#include "trainer/hf/tensors.h"
#include "trainer/onnx/builder.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct onnx_value value;

struct decoder {
    struct onnx o;
    struct infer_gguf *g;
    struct hf_config c;
    struct infer_hparams hp;
    value positions, visible, cos, sin; /* [T]; [T][T]; [T][K/2] */
    value eps, lowest, scale;
    struct infer_error *err;
};

static const value none = {""};

/* ---- weights --------------------------------------------------------------
 */

static bool is_table(const struct hf_tensor *t)
{
    return strcmp(t->gguf, "token_embd.weight") == 0 ||
           strcmp(t->gguf, "position_embd.weight") == 0;
}

/* Floats in the order of the graph; malloc'd. */
static float *arrange(const struct hf_tensor *t,
                      const struct infer_gguf_tensor *g)
{
    const size_t n = (size_t)(t->rows * t->cols);
    float *plain = malloc(n * sizeof(*plain)), *out = NULL;
    struct hf_tensor flip = *t;

    if (!plain)
        return NULL;
    infer_dequantize(g->type, g->data, plain, n);
    if (t->change == HF_ROTATE) {
        out = malloc(n * sizeof(*out));
        if (out)
            hf_rearrange(t, false, sizeof(*out), plain, out);
        free(plain);
        plain = out;
    }
    if (t->n_dims == 1 || is_table(t) || !plain)
        return plain;
    flip.change = HF_TRANSPOSE;
    out = malloc(n * sizeof(*out));
    if (out)
        hf_rearrange(&flip, false, sizeof(*out), plain, out);
    free(plain);
    return out;
}

static int put_tensor(struct decoder *d, const struct hf_tensor *t)
{
    const struct infer_gguf_tensor *g = infer_gguf_find(d->g, t->gguf);
    const bool keep = t->n_dims == 1 || is_table(t);
    const uint64_t dims[2] = {keep ? t->rows : t->cols,
                              keep ? t->cols : t->rows};
    float *values;

    if (!g || g->n_dims != t->n_dims ||
        g->dims[0] != (t->n_dims == 1 ? t->rows : t->cols) ||
        (t->n_dims == 2 && g->dims[1] != t->rows))
        return infer_fail(
            d->err, INFER_EFORMAT, "tensor '%s' is missing or not [%llu][%llu]",
            t->gguf, (unsigned long long)t->rows, (unsigned long long)t->cols);
    values = arrange(t, g);
    if (!values)
        return infer_fail(d->err, INFER_ENOMEM, "out of memory");
    onnx_tensor(&d->o, t->hf, ONNX_F32, t->n_dims, dims, values,
                (size_t)(t->rows * t->cols) * sizeof(*values));
    free(values);
    return 0;
}

/* Cosines and sines of all positions, [n_ctx][K/2] each. */
static int put_rotations(struct decoder *d)
{
    const size_t half = d->c.d_head / 2, n = d->c.n_ctx * half;
    const struct infer_gguf_tensor *freqs =
        infer_gguf_find(d->g, "rope_freqs.weight");
    const uint64_t dims[2] = {d->c.n_ctx, half};
    float *cs, *part;

    if (d->c.arch == HF_GPT2)
        return 0;
    cs = malloc(2 * n * sizeof(*cs));
    part = malloc(n * sizeof(*part));
    if (cs && part) {
        infer_rope_table(cs, &d->hp.rope, freqs ? freqs->data : NULL,
                         d->c.n_ctx);
        for (int k = 0; k < 2; k++) {
            for (size_t i = 0; i < n; i++)
                part[i] = cs[2 * i + (size_t)k];
            onnx_tensor(&d->o, k ? "rope.sin" : "rope.cos", ONNX_F32, 2, dims,
                        part, n * sizeof(*part));
        }
    }
    free(cs);
    free(part);
    return cs && part ? 0 : infer_fail(d->err, INFER_ENOMEM, "out of memory");
}

static value named(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static value named(const char *fmt, ...)
{
    value v;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(v.name, sizeof(v.name), fmt, ap);
    va_end(ap);
    return v;
}

/* ---- pieces ---------------------------------------------------------------
 */

static value reshape(struct decoder *d, value x, size_t n, const int64_t *shape)
{
    return onnx_op2(&d->o, "Reshape", x, onnx_ints(&d->o, n, shape));
}

static value unsqueeze(struct decoder *d, value x, int64_t axis)
{
    return onnx_op2(&d->o, "Unsqueeze", x, onnx_ints(&d->o, 1, &axis));
}

static value rms_norm(struct decoder *d, value x, value w)
{
    const struct onnx_attr axes = {
        .name = "axes", .is_list = true, .n = 1, .ints = {-1}};
    value mean = onnx_op(&d->o, "ReduceMean", onnx_op2(&d->o, "Mul", x, x),
                         none, none, axes);
    value root = onnx_op1(&d->o, "Sqrt", onnx_op2(&d->o, "Add", mean, d->eps));

    return onnx_op2(&d->o, "Mul", onnx_op2(&d->o, "Div", x, root), w);
}

static value layer_norm(struct decoder *d, value x, const char *name)
{
    const struct onnx_attr eps = {
        .name = "epsilon", .is_float = true, .f = d->c.eps};

    return onnx_op(&d->o, "LayerNormalization", x, named("%s.weight", name),
                   named("%s.bias", name), eps);
}

/* x W, and the bias if the model has one. */
static value linear(struct decoder *d, value x, const char *name, bool bias)
{
    value y = onnx_op2(&d->o, "MatMul", x, named("%s.weight", name));

    return bias ? onnx_op2(&d->o, "Add", y, named("%s.bias", name)) : y;
}

/* [B][T][heads K] → [B][heads][T][K] */
static value to_heads(struct decoder *d, value x, uint32_t heads)
{
    const int64_t shape[] = {0, 0, heads, d->c.d_head};

    return onnx_transpose(&d->o, reshape(d, x, 4, shape), 4,
                          (const int64_t[]){0, 2, 1, 3});
}

static value rotate(struct decoder *d, value x)
{
    const struct onnx_attr axis = {.name = "axis", .ints = {-1}};
    struct onnx *o = &d->o;
    value h[2], a, b;

    onnx_halves(o, x, d->c.d_head / 2, h);
    a = onnx_op2(o, "Sub", onnx_op2(o, "Mul", h[0], d->cos),
                 onnx_op2(o, "Mul", h[1], d->sin));
    b = onnx_op2(o, "Add", onnx_op2(o, "Mul", h[1], d->cos),
                 onnx_op2(o, "Mul", h[0], d->sin));
    return onnx_op(o, "Concat", a, b, none, axis);
}

/* Each key and value head serves several heads: repeat it. */
static value repeat(struct decoder *d, value x)
{
    const int64_t times = d->c.n_heads / d->c.n_kv_heads;
    const int64_t wide[] = {1, 1, times, 1, 1};
    const int64_t flat[] = {0, d->c.n_heads, -1, d->c.d_head};
    value v;

    if (times == 1)
        return x;
    v = onnx_op2(&d->o, "Expand", unsqueeze(d, x, 2),
                 onnx_ints(&d->o, 5, wide));
    return reshape(d, v, 4, flat);
}

/* q, k, v [B][H][T][K] → [B][T][H K] */
static value attend(struct decoder *d, value q, value k, value v)
{
    const struct onnx_attr axis = {.name = "axis", .ints = {-1}};
    const int64_t swap[] = {0, 1, 3, 2}, back[] = {0, 2, 1, 3};
    const int64_t flat[] = {0, 0, (int64_t)d->c.n_heads * d->c.d_head};
    struct onnx *o = &d->o;
    value s = onnx_op2(o, "MatMul", q, onnx_transpose(o, k, 4, swap));

    s = onnx_op2(o, "Mul", s, d->scale);
    s = onnx_op(o, "Where", d->visible, s, d->lowest, (struct onnx_attr){0});
    s = onnx_op(o, "Softmax", s, none, none, axis);
    s = onnx_transpose(o, onnx_op2(o, "MatMul", s, v), 4, back);
    return reshape(d, s, 3, flat);
}

/* ---- layers ---------------------------------------------------------------
 */

static value llama_attention(struct decoder *d, value x, uint32_t l)
{
    const bool bias = d->c.attn_bias || d->c.arch == HF_QWEN2;
    value part[3];

    for (int i = 0; i < 3; i++) {
        char name[ONNX_NAME - 8];
        const char which = "qkv"[i];

        snprintf(name, sizeof(name), "model.layers.%u.self_attn.%c_proj", l,
                 which);
        part[i] = to_heads(d, linear(d, x, name, bias),
                           i ? d->c.n_kv_heads : d->c.n_heads);
        if (i < 2 && d->c.arch == HF_QWEN3)
            part[i] = rms_norm(
                d, part[i],
                named("model.layers.%u.self_attn.%c_norm.weight", l, which));
        if (i < 2)
            part[i] = rotate(d, part[i]);
        if (i > 0)
            part[i] = repeat(d, part[i]);
    }
    return attend(d, part[0], part[1], part[2]);
}

static value llama_layer(struct decoder *d, value x, uint32_t l)
{
    struct onnx *o = &d->o;
    char name[4][ONNX_NAME - 8];
    static const char *const parts[] = {"self_attn.o_proj", "mlp.gate_proj",
                                        "mlp.up_proj", "mlp.down_proj"};
    value h, gate, up;

    for (int i = 0; i < 4; i++)
        snprintf(name[i], sizeof(name[i]), "model.layers.%u.%s", l, parts[i]);
    h = rms_norm(d, x, named("model.layers.%u.input_layernorm.weight", l));
    h = linear(d, llama_attention(d, h, l), name[0], d->c.attn_bias);
    x = onnx_op2(o, "Add", x, h);
    h = rms_norm(d, x,
                 named("model.layers.%u.post_attention_layernorm.weight", l));
    gate = linear(d, h, name[1], d->c.mlp_bias);
    gate = onnx_op2(o, "Mul", gate, onnx_op1(o, "Sigmoid", gate));
    up = linear(d, h, name[2], d->c.mlp_bias);
    h = linear(d, onnx_op2(o, "Mul", gate, up), name[3], d->c.mlp_bias);
    return onnx_op2(o, "Add", x, h);
}

/* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
static value gelu(struct decoder *d, value x)
{
    struct onnx *o = &d->o;
    value cube = onnx_op2(o, "Mul", onnx_op2(o, "Mul", x, x), x);
    value in =
        onnx_op2(o, "Add", x, onnx_op2(o, "Mul", cube, onnx_f32(o, 0.044715f)));
    value t =
        onnx_op1(o, "Tanh", onnx_op2(o, "Mul", in, onnx_f32(o, 0.79788456f)));

    t = onnx_op2(o, "Add", t, onnx_f32(o, 1.0f));
    return onnx_op2(o, "Mul", onnx_op2(o, "Mul", x, onnx_f32(o, 0.5f)), t);
}

/* One of the three parts that c_attn makes. */
static value gpt2_part(struct decoder *d, value qkv, int64_t i)
{
    const int64_t from = i * d->c.d_model, to = from + d->c.d_model;
    value starts = onnx_ints(&d->o, 1, &from), ends = onnx_ints(&d->o, 1, &to);
    const value in[] = {qkv, starts, ends,
                        onnx_ints(&d->o, 1, (const int64_t[]){2})};

    return to_heads(d, onnx_slice(&d->o, in), d->c.n_heads);
}

static value gpt2_layer(struct decoder *d, value x, uint32_t l)
{
    static const char *const parts[] = {"ln_1", "attn.c_attn", "attn.c_proj",
                                        "ln_2", "mlp.c_fc",    "mlp.c_proj"};
    char name[6][ONNX_NAME - 8];
    value h, part[3];

    for (int i = 0; i < 6; i++)
        snprintf(name[i], sizeof(name[i]), "transformer.h.%u.%s", l, parts[i]);
    h = linear(d, layer_norm(d, x, name[0]), name[1], true);
    for (int i = 0; i < 3; i++)
        part[i] = gpt2_part(d, h, i);
    h = linear(d, attend(d, part[0], part[1], part[2]), name[2], true);
    x = onnx_op2(&d->o, "Add", x, h);
    h = linear(d, layer_norm(d, x, name[3]), name[4], true);
    h = linear(d, gelu(d, h), name[5], true);
    return onnx_op2(&d->o, "Add", x, h);
}

/* ---- the whole ------------------------------------------------------------
 */

/* Positions 0 .. T - 1, who sees whom, and the rotations of these positions. */
static void begin(struct decoder *d)
{
    struct onnx *o = &d->o;
    value shape = onnx_op1(o, "Shape", named("input_ids"));
    value n = onnx_op2(o, "Gather", shape, onnx_int(o, 1));

    d->lowest = onnx_f32(o, -3.4028235e38f);
    d->scale = onnx_f32(o, (float)(1.0 / sqrt((double)d->c.d_head)));
    d->positions = onnx_op(o, "Range", onnx_int(o, 0), n, onnx_int(o, 1),
                           (struct onnx_attr){0});
    d->visible = onnx_op2(o, "LessOrEqual", unsqueeze(d, d->positions, 0),
                          unsqueeze(d, d->positions, 1));
    if (d->c.arch == HF_GPT2)
        return;
    d->eps = onnx_f32(o, d->c.eps); /* of RMSNorm */
    d->cos = onnx_op2(o, "Gather", named("rope.cos"), d->positions);
    d->sin = onnx_op2(o, "Gather", named("rope.sin"), d->positions);
}

static value head(struct decoder *d, value x, const char *embd)
{
    value w = named("lm_head.weight");

    if (d->c.tied)
        w = onnx_transpose(&d->o, named("%s", embd), 2,
                           (const int64_t[]){1, 0});
    return onnx_op2(&d->o, "MatMul", x, w);
}

static void put_graph(struct decoder *d)
{
    static const char *const symbols[] = {"batch", "sequence", ""};
    const bool gpt2 = d->c.arch == HF_GPT2;
    const char *embd =
        gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight";
    const uint64_t dims[] = {0, 0, d->c.n_vocab};
    struct onnx *o = &d->o;
    value x;

    onnx_declare(o, false, "input_ids", ONNX_I64, 2, dims, symbols);
    begin(d);
    x = onnx_op2(o, "Gather", named("%s", embd), named("input_ids"));
    if (gpt2)
        x = onnx_op2(o, "Add", x,
                     onnx_op2(o, "Gather", named("transformer.wpe.weight"),
                              d->positions));
    for (uint32_t l = 0; l < d->c.n_layers; l++)
        x = gpt2 ? gpt2_layer(d, x, l) : llama_layer(d, x, l);
    x = gpt2 ? layer_norm(d, x, "transformer.ln_f")
             : rms_norm(d, x, named("model.norm.weight"));
    onnx_name(o, head(d, x, embd), "logits");
    onnx_declare(o, true, "logits", ONNX_F32, 3, dims, symbols);
}

int onnx_export(const char *from, const char *to, struct hf_report *report,
                struct infer_error *err)
{
    struct decoder d = {.err = err};
    struct hf_tensor *tensors = NULL;
    size_t n = 0;
    int status = infer_gguf_open(&d.g, from, err);

    if (status == 0)
        status = hf_config_from_gguf(&d.c, d.g, err);
    if (status == 0)
        status = infer_hparams_read(&d.hp, d.g, err);
    if (status == 0)
        status = hf_tensors(&d.c, &tensors, &n, err);
    if (status == 0)
        *report =
            (struct hf_report){.arch = hf_arch_name(d.c.arch), .n_tensors = n};
    for (size_t i = 0; i < n && status == 0; i++) {
        status = put_tensor(&d, &tensors[i]);
        report->n_values += tensors[i].rows * tensors[i].cols;
    }
    if (status == 0)
        status = put_rotations(&d);
    if (status == 0) {
        put_graph(&d);
        status = onnx_save(&d.o, to, err);
    }
    onnx_release(&d.o);
    free(tensors);
    infer_gguf_close(d.g);
    return status;
}
