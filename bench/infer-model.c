/*
 * infer-model.c - a model file of a given shape with random weights.
 *
 * Speed depends on shapes and types, not on what the weights say, so this makes
 * the models that benchmarks compare: the same file for us and for others, of
 * any size, without a download. Equal options give equal bytes.
 *
 * Weights are drawn so that activations keep a scale near 1 through all layers
 * (1/sqrt of the inputs, outputs of residual branches smaller by sqrt(2L)):
 * no overflow, no denormals, a distribution of next tokens that is not flat.
 * Matrices have one type throughout, vectors are F32.
 */
#include "bench/util.h"
#include "bench/vocab.h"
#include "core/base/error.h"
#include "core/format/quant.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 512, MAX_WIDTH = 65536 };
/* Everything is held until it is written. */
static const uint64_t max_bytes = (uint64_t)16 << 30;

struct shape {
    uint32_t d, layers, heads, kv_heads, ff;
};

struct preset {
    const char *name;
    struct shape shape;
    bool tied; /* the embedding is the output matrix too */
};

static const struct preset presets[] = {
    {"S15M", {288, 6, 6, 6, 768}, true},
    {"S110M", {768, 12, 12, 12, 2048}, true},
    {"S1B", {2048, 22, 32, 4, 5632}, false},
    {"GPT2", {768, 12, 12, 12, 3072}, true},
    {"MINILM", {384, 6, 12, 12, 1536}, true},
};

struct options {
    const char *arch, *vocab_from, *out, *type_name;
    struct shape shape;
    int tied; /* -1: as the preset says, else tied */
    uint32_t n_vocab, n_ctx;
    uint32_t type; /* an enum infer_qtype */
    uint64_t seed;
};

/* A model being made. */
struct maker {
    const struct options *opt;
    struct infer_gguf_writer *w;
    void **buffers; /* [n_buffers]: tensor data, borrowed by w until saved */
    size_t n_buffers, max_buffers;
    uint64_t bytes, n_params;
    struct infer_error err;
    int status; /* of the first failure; everything after it does nothing */
};

static const char usage_text[] =
    "usage: infer-model [options] -o FILE.gguf\n"
    "  --arch llama|gpt2|bert  architecture (llama)\n"
    "  --shape S            S15M, S110M, S1B, GPT2, MINILM, or D/L/H[/G]/F:\n"
    "                       width, layers, heads, KV heads, hidden width "
    "(S15M)\n"
    "  --vocab N            invent a vocabulary of N tokens (32000)\n"
    "  --vocab-from FILE    copy the tokenizer of a GGUF file\n"
    "  --ctx N              training context (2048; gpt2 1024; bert 512)\n"
    "  --type T             f32, f16, bf16, q8_0, q4_0, ... (q8_0)\n"
    "  --tied, --untied     share the embedding with the output, or not\n"
    "  --seed N             (1)\n"
    "  -o FILE              where to write\n";

/* ---- weights ------------------------------------------------------------ */

/* Irwin-Hall: a sum of four uniform 16-bit numbers is close enough to a normal
 * distribution for weights, and one 64-bit draw makes it. Variance of the sum:
 * 4 (2^32 - 1) / 12. */
static void fill_normal(float *v, size_t n, struct bench_rng *rng, float mean,
                        float std)
{
    const float scale = std / sqrtf(4.0f * 4294967295.0f / 12.0f);

    for (size_t i = 0; i < n; i++) {
        const uint64_t r = bench_rng_next(rng);
        const int32_t sum = (int32_t)((r & 0xffff) + (r >> 16 & 0xffff) +
                                      (r >> 32 & 0xffff) + (r >> 48));

        v[i] = mean + scale * (float)(sum - 131070);
    }
}

/* A stream per tensor: what one holds does not depend on the others. */
static struct bench_rng tensor_rng(const struct maker *mk)
{
    struct bench_rng rng = {mk->opt->seed};

    rng.state = bench_rng_next(&rng) + mk->n_buffers;
    rng.state = bench_rng_next(&rng);
    return rng;
}

static void *take_buffer(struct maker *mk, uint64_t bytes)
{
    void *p = NULL;

    mk->bytes += bytes;
    if (mk->status != INFER_OK)
        return NULL;
    if (mk->bytes > max_bytes) {
        mk->status = infer_fail(&mk->err, INFER_EINVAL,
                                "the model would be larger than %llu GiB",
                                (unsigned long long)(max_bytes >> 30));
        return NULL;
    }
    if (mk->n_buffers < mk->max_buffers)
        p = malloc(bytes);
    if (p == NULL)
        mk->status = infer_fail(&mk->err, INFER_ENOMEM,
                                "no memory for a tensor of %llu bytes",
                                (unsigned long long)bytes);
    else
        mk->buffers[mk->n_buffers++] = p;
    return p;
}

static void add_floats(struct maker *mk, const char *name, uint32_t n_dims,
                       uint64_t k, uint64_t n, float mean, float std)
{
    const uint64_t dims[INFER_GGUF_MAX_DIMS] = {k, n, 1, 1};
    struct bench_rng rng = tensor_rng(mk);
    float *v = take_buffer(mk, k * n * sizeof(*v));

    if (v == NULL)
        return;
    fill_normal(v, k * n, &rng, mean, std);
    mk->n_params += k * n;
    infer_gguf_add_tensor(mk->w, name, INFER_F32, n_dims, dims, v);
}

static void add_vector(struct maker *mk, const char *name, uint64_t n,
                       float mean, float std)
{
    add_floats(mk, name, 1, n, 1, mean, std);
}

/* w[n][k] of the chosen type, quantized row by row. */
static void add_matrix(struct maker *mk, const char *name, uint32_t k,
                       uint32_t n, float std)
{
    const uint32_t type = mk->opt->type;
    const struct infer_qtype_info *info = infer_qtype_info(type);
    const uint64_t dims[INFER_GGUF_MAX_DIMS] = {k, n, 1, 1};
    struct bench_rng rng = tensor_rng(mk);
    uint8_t *data;
    float *row;

    if (mk->status == INFER_OK && k % info->block != 0)
        mk->status = infer_fail(&mk->err, INFER_EINVAL,
                                "'%s': rows of %u are not whole %s blocks of "
                                "%u",
                                name, k, info->name, info->block);
    data = take_buffer(mk, (uint64_t)n * infer_qtype_bytes(type, k));
    row = malloc(k * sizeof(*row));
    if (data != NULL && row == NULL)
        mk->status = infer_fail(&mk->err, INFER_ENOMEM, "no memory for a row");
    for (uint32_t i = 0; i < n && mk->status == INFER_OK; i++) {
        fill_normal(row, k, &rng, 0.0f, std);
        mk->status =
            infer_quantize(type, row, data + i * infer_qtype_bytes(type, k), k,
                           NULL, &mk->err);
    }
    free(row);
    if (mk->status != INFER_OK)
        return;
    mk->n_params += (uint64_t)k * n;
    infer_gguf_add_tensor(mk->w, name, type, 2, dims, data);
}

/* ---- architectures ------------------------------------------------------ */

/* "blk.3.attn_q.weight" */
struct name {
    char text[64];
};

static struct name block_name(uint32_t layer, const char *what)
{
    struct name name;

    snprintf(name.text, sizeof(name.text), "blk.%u.%s", layer, what);
    return name;
}

static void add_block_matrix(struct maker *mk, uint32_t layer, const char *what,
                             uint32_t k, uint32_t n, float std)
{
    add_matrix(mk, block_name(layer, what).text, k, n, std);
}

static void add_block_vector(struct maker *mk, uint32_t layer, const char *what,
                             uint32_t n, float mean, float std)
{
    add_vector(mk, block_name(layer, what).text, n, mean, std);
}

static float inverse_sqrt(uint32_t n)
{
    return 1.0f / sqrtf((float)n);
}

static void add_llama_layer(struct maker *mk, uint32_t layer)
{
    const struct shape *s = &mk->opt->shape;
    const uint32_t kv = s->d / s->heads * s->kv_heads;
    const float in = inverse_sqrt(s->d);
    const float branch = inverse_sqrt(2 * s->layers);

    add_block_vector(mk, layer, "attn_norm.weight", s->d, 1.0f, 0.1f);
    add_block_matrix(mk, layer, "attn_q.weight", s->d, s->d, in);
    add_block_matrix(mk, layer, "attn_k.weight", s->d, kv, in);
    add_block_matrix(mk, layer, "attn_v.weight", s->d, kv, in);
    add_block_matrix(mk, layer, "attn_output.weight", s->d, s->d, in * branch);
    add_block_vector(mk, layer, "ffn_norm.weight", s->d, 1.0f, 0.1f);
    add_block_matrix(mk, layer, "ffn_gate.weight", s->d, s->ff, in);
    add_block_matrix(mk, layer, "ffn_up.weight", s->d, s->ff, in);
    add_block_matrix(mk, layer, "ffn_down.weight", s->ff, s->d,
                     inverse_sqrt(s->ff) * branch);
}

static void add_gpt2_layer(struct maker *mk, uint32_t layer)
{
    const struct shape *s = &mk->opt->shape;
    const float in = inverse_sqrt(s->d);
    const float branch = inverse_sqrt(2 * s->layers);
    const float small = 0.02f; /* biases */

    add_block_vector(mk, layer, "attn_norm.weight", s->d, 1.0f, 0.1f);
    add_block_vector(mk, layer, "attn_norm.bias", s->d, 0.0f, small);
    add_block_matrix(mk, layer, "attn_qkv.weight", s->d, 3 * s->d, in);
    add_block_vector(mk, layer, "attn_qkv.bias", 3 * s->d, 0.0f, small);
    add_block_matrix(mk, layer, "attn_output.weight", s->d, s->d, in * branch);
    add_block_vector(mk, layer, "attn_output.bias", s->d, 0.0f, small);
    add_block_vector(mk, layer, "ffn_norm.weight", s->d, 1.0f, 0.1f);
    add_block_vector(mk, layer, "ffn_norm.bias", s->d, 0.0f, small);
    add_block_matrix(mk, layer, "ffn_up.weight", s->d, s->ff, in);
    add_block_vector(mk, layer, "ffn_up.bias", s->ff, 0.0f, small);
    add_block_matrix(mk, layer, "ffn_down.weight", s->ff, s->d,
                     inverse_sqrt(s->ff) * branch);
    add_block_vector(mk, layer, "ffn_down.bias", s->d, 0.0f, small);
}

/* BERT: norms behind the additions, so nothing grows from layer to layer. */
static void add_bert_layer(struct maker *mk, uint32_t layer)
{
    static const char *const square[] = {"attn_q", "attn_k", "attn_v",
                                         "attn_output"};
    const struct shape *s = &mk->opt->shape;
    const float in = inverse_sqrt(s->d), small = 0.02f;
    char text[48];

    for (size_t i = 0; i < sizeof(square) / sizeof(square[0]); i++) {
        snprintf(text, sizeof(text), "%s.weight", square[i]);
        add_block_matrix(mk, layer, text, s->d, s->d, in);
        snprintf(text, sizeof(text), "%s.bias", square[i]);
        add_block_vector(mk, layer, text, s->d, 0.0f, small);
    }
    add_block_vector(mk, layer, "attn_output_norm.weight", s->d, 1.0f, 0.1f);
    add_block_vector(mk, layer, "attn_output_norm.bias", s->d, 0.0f, small);
    add_block_matrix(mk, layer, "ffn_up.weight", s->d, s->ff, in);
    add_block_vector(mk, layer, "ffn_up.bias", s->ff, 0.0f, small);
    add_block_matrix(mk, layer, "ffn_down.weight", s->ff, s->d,
                     inverse_sqrt(s->ff));
    add_block_vector(mk, layer, "ffn_down.bias", s->d, 0.0f, small);
    add_block_vector(mk, layer, "layer_output_norm.weight", s->d, 1.0f, 0.1f);
    add_block_vector(mk, layer, "layer_output_norm.bias", s->d, 0.0f, small);
}

static void add_bert_weights(struct maker *mk, uint32_t n_vocab)
{
    const struct options *opt = mk->opt;
    const uint32_t d = opt->shape.d;

    add_matrix(mk, "token_embd.weight", d, n_vocab, 1.0f);
    add_floats(mk, "position_embd.weight", 2, d, opt->n_ctx, 0.0f, 0.1f);
    add_floats(mk, "token_types.weight", 2, d, 2, 0.0f, 0.1f);
    add_vector(mk, "token_embd_norm.weight", d, 1.0f, 0.1f);
    add_vector(mk, "token_embd_norm.bias", d, 0.0f, 0.02f);
    for (uint32_t i = 0; i < opt->shape.layers; i++)
        add_bert_layer(mk, i);
}

static void add_weights(struct maker *mk, uint32_t n_vocab)
{
    const struct options *opt = mk->opt;
    const struct shape *s = &opt->shape;
    const bool llama = strcmp(opt->arch, "llama") == 0;
    /* rows of length 2.5: logits with a deviation near 2.5 */
    const float embedding = 2.5f * inverse_sqrt(s->d);

    add_matrix(mk, "token_embd.weight", s->d, n_vocab, embedding);
    if (!llama)
        add_floats(mk, "position_embd.weight", 2, s->d, opt->n_ctx, 0.0f,
                   0.1f * embedding);
    for (uint32_t i = 0; i < s->layers; i++) {
        if (llama)
            add_llama_layer(mk, i);
        else
            add_gpt2_layer(mk, i);
    }
    add_vector(mk, "output_norm.weight", s->d, 1.0f, 0.1f);
    if (!llama)
        add_vector(mk, "output_norm.bias", s->d, 0.0f, 0.02f);
    if (opt->tied == 0)
        add_matrix(mk, "output.weight", s->d, n_vocab, embedding);
}

/* ---- metadata ----------------------------------------------------------- */

/* What general.file_type says of "mostly this type". */
static uint32_t file_type(uint32_t type)
{
    static const uint8_t map[][2] = {
        {INFER_F32, 0},   {INFER_F16, 1},    {INFER_Q4_0, 2},  {INFER_Q4_1, 3},
        {INFER_Q8_0, 7},  {INFER_Q5_0, 8},   {INFER_Q5_1, 9},  {INFER_Q2_K, 10},
        {INFER_Q3_K, 11}, {INFER_Q4_K, 14},  {INFER_Q5_K, 16}, {INFER_Q6_K, 18},
        {INFER_BF16, 32}, {INFER_IQ4_NL, 25}};

    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        if (map[i][0] == type)
            return map[i][1];
    return 1024; /* "guessed", the format's word for unknown */
}

static void set_arch_u32(struct maker *mk, const char *key, uint32_t v)
{
    char text[96];

    snprintf(text, sizeof(text), "%s.%s", mk->opt->arch, key);
    infer_gguf_set_u32(mk->w, text, v);
}

static void add_metadata(struct maker *mk)
{
    const struct options *opt = mk->opt;
    const struct shape *s = &opt->shape;
    char name[128];

    snprintf(name, sizeof(name), "random-%s-%ux%u-%s", opt->arch, s->d,
             s->layers, opt->type_name);
    infer_gguf_set_str(mk->w, "general.architecture", opt->arch);
    infer_gguf_set_str(mk->w, "general.name", name);
    infer_gguf_set_str(mk->w, "general.description",
                       "random weights, for measuring speed");
    infer_gguf_set_u32(mk->w, "general.file_type", file_type(opt->type));
    infer_gguf_set_u32(mk->w, "general.quantization_version", 2);
    set_arch_u32(mk, "block_count", s->layers);
    set_arch_u32(mk, "context_length", opt->n_ctx);
    set_arch_u32(mk, "embedding_length", s->d);
    set_arch_u32(mk, "feed_forward_length", s->ff);
    set_arch_u32(mk, "attention.head_count", s->heads);
    if (strcmp(opt->arch, "llama") == 0) {
        set_arch_u32(mk, "attention.head_count_kv", s->kv_heads);
        set_arch_u32(mk, "rope.dimension_count", s->d / s->heads);
        infer_gguf_set_f32(mk->w, "llama.rope.freq_base", 10000.0f);
        infer_gguf_set_f32(mk->w, "llama.attention.layer_norm_rms_epsilon",
                           1e-5f);
    } else if (strcmp(opt->arch, "bert") == 0) {
        infer_gguf_set_f32(mk->w, "bert.attention.layer_norm_epsilon", 1e-12f);
        infer_gguf_set_bool(mk->w, "bert.attention.causal", false);
        set_arch_u32(mk, "pooling_type", 1);
    } else {
        infer_gguf_set_f32(mk->w, "gpt2.attention.layer_norm_epsilon", 1e-5f);
    }
}

static int add_vocab(struct maker *mk, uint32_t *n_vocab)
{
    const struct options *opt = mk->opt;
    int status;

    *n_vocab = opt->n_vocab;
    if (opt->vocab_from != NULL)
        status = bench_vocab_copy(mk->w, opt->vocab_from, n_vocab, &mk->err);
    else if (strcmp(opt->arch, "llama") == 0)
        status = bench_vocab_spm(mk->w, opt->n_vocab, &mk->err);
    else if (strcmp(opt->arch, "bert") == 0)
        status = bench_vocab_wpm(mk->w, opt->n_vocab, &mk->err);
    else
        status = bench_vocab_bpe(mk->w, opt->n_vocab, &mk->err);
    if (status == INFER_OK)
        set_arch_u32(mk, "vocab_size", *n_vocab);
    return status;
}

static int make_model(const struct options *opt)
{
    struct maker mk = {.opt = opt, .max_buffers = 8 + 16 * opt->shape.layers};
    uint32_t n_vocab;

    mk.buffers = calloc(mk.max_buffers, sizeof(mk.buffers[0]));
    if (mk.buffers == NULL)
        mk.status = infer_fail(&mk.err, INFER_ENOMEM, "out of memory");
    else
        mk.status = infer_gguf_writer_create(&mk.w, &mk.err);
    if (mk.status != INFER_OK)
        goto out;
    add_metadata(&mk);
    mk.status = add_vocab(&mk, &n_vocab);
    if (mk.status != INFER_OK)
        goto out;
    if (strcmp(opt->arch, "bert") == 0)
        add_bert_weights(&mk, n_vocab);
    else
        add_weights(&mk, n_vocab);
    if (mk.status == INFER_OK)
        mk.status = infer_gguf_save(mk.w, opt->out, &mk.err);
out:
    if (mk.status != INFER_OK)
        fprintf(stderr, "infer-model: %s\n", mk.err.text);
    else
        printf("%s: %s %s, %.2f M parameters, %.2f MiB, vocabulary %u\n",
               opt->out, opt->arch, opt->type_name, (double)mk.n_params / 1e6,
               (double)mk.bytes / 1048576.0, n_vocab);
    infer_gguf_writer_free(mk.w);
    for (size_t i = 0; i < mk.n_buffers; i++)
        free(mk.buffers[i]);
    free(mk.buffers);
    return mk.status;
}

/* ---- options ------------------------------------------------------------ */

static int check_shape(const char *text, const struct shape *s)
{
    const bool ok = s->d >= 1 && s->d <= MAX_WIDTH && s->ff >= 1 &&
                    s->ff <= 8 * MAX_WIDTH && s->layers >= 1 &&
                    s->layers <= MAX_LAYERS && s->heads >= 1 &&
                    s->heads <= s->d && s->kv_heads >= 1 &&
                    s->heads % s->kv_heads == 0 && s->d % s->heads == 0 &&
                    s->d / s->heads % 2 == 0;

    if (!ok)
        fprintf(stderr,
                "--shape: '%s' is no shape: D/L/H[/G]/F with D a multiple of "
                "2H, H of G, D at most %d, L at most %d\n",
                text, MAX_WIDTH, MAX_LAYERS);
    return ok ? 0 : -1;
}

static int parse_shape(const char *text, struct options *opt)
{
    struct shape *s = &opt->shape;
    uint32_t v[5];
    char rest;
    int n;

    for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
        if (strcmp(text, presets[i].name) == 0) {
            *s = presets[i].shape;
            if (opt->tied < 0)
                opt->tied = presets[i].tied;
            return 0;
        }
    }
    n = sscanf(text, "%9u/%9u/%9u/%9u/%9u%c", &v[0], &v[1], &v[2], &v[3], &v[4],
               &rest);
    *s = (struct shape){0};
    if (n == 5)
        *s = (struct shape){v[0], v[1], v[2], v[3], v[4]};
    else if (sscanf(text, "%9u/%9u/%9u/%9u%c", &v[0], &v[1], &v[2], &v[3],
                    &rest) == 4)
        *s = (struct shape){v[0], v[1], v[2], v[2], v[3]};
    return check_shape(text, s);
}

static int parse_type(const char *text, struct options *opt)
{
    const int type = infer_qtype_parse(text);

    if (type < 0) {
        fprintf(stderr, "--type: '%s' is not a type this engine knows\n", text);
        return -1;
    }
    opt->type = (uint32_t)type;
    opt->type_name = infer_qtype_info(opt->type)->name;
    return 0;
}

enum {
    OPT_ARCH = 256,
    OPT_SHAPE,
    OPT_VOCAB,
    OPT_FROM,
    OPT_CTX,
    OPT_TYPE,
    OPT_SEED,
    OPT_TIED,
    OPT_UNTIED
};

static const struct option long_options[] = {
    {"arch", required_argument, NULL, OPT_ARCH},
    {"shape", required_argument, NULL, OPT_SHAPE},
    {"vocab", required_argument, NULL, OPT_VOCAB},
    {"vocab-from", required_argument, NULL, OPT_FROM},
    {"ctx", required_argument, NULL, OPT_CTX},
    {"type", required_argument, NULL, OPT_TYPE},
    {"seed", required_argument, NULL, OPT_SEED},
    {"tied", no_argument, NULL, OPT_TIED},
    {"untied", no_argument, NULL, OPT_UNTIED},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

static int parse_option(int c, const char *value, struct options *opt,
                        const char **shape)
{
    switch (c) {
    case OPT_ARCH:
        opt->arch = value;
        return 0;
    case OPT_SHAPE:
        *shape = value;
        return 0;
    case OPT_VOCAB:
        return bench_parse_u32("--vocab", value, BENCH_VOCAB_MIN,
                               BENCH_VOCAB_MAX, &opt->n_vocab);
    case OPT_FROM:
        opt->vocab_from = value;
        return 0;
    case OPT_CTX:
        return bench_parse_u32("--ctx", value, 1, 1 << 20, &opt->n_ctx);
    case OPT_TYPE:
        return parse_type(value, opt);
    case OPT_SEED:
        return bench_parse_u64("--seed", value, 0, UINT64_MAX, &opt->seed);
    case OPT_TIED:
    case OPT_UNTIED:
        opt->tied = c == OPT_TIED;
        return 0;
    case 'o':
        opt->out = value;
        return 0;
    default:
        return -1;
    }
}

/* Defaults that depend on other options, and what only the whole shows. */
static int finish_options(struct options *opt, const char *shape)
{
    const bool llama = strcmp(opt->arch, "llama") == 0;

    const bool bert = strcmp(opt->arch, "bert") == 0;

    if (!llama && !bert && strcmp(opt->arch, "gpt2") != 0) {
        fprintf(stderr, "--arch: '%s' is not llama, gpt2 or bert\n", opt->arch);
        return -1;
    }
    if (opt->out == NULL) {
        fprintf(stderr, "-o FILE is missing\n");
        return -1;
    }
    if (parse_shape(shape, opt) != 0)
        return -1;
    if (opt->tied < 0)
        opt->tied = 1;
    if (opt->n_ctx == 0)
        opt->n_ctx = llama ? 2048 : bert ? 512 : 1024;
    if (!llama && opt->shape.kv_heads != opt->shape.heads) {
        fprintf(stderr, "--shape: %s has as many KV heads as heads\n",
                opt->arch);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options opt = {.arch = "llama",
                          .type = INFER_Q8_0,
                          .type_name = "Q8_0",
                          .n_vocab = 32000,
                          .tied = -1,
                          .seed = 1};
    const char *shape = "S15M";
    int c;

    while ((c = getopt_long(argc, argv, "o:h", long_options, NULL)) != -1) {
        if (c == 'h') {
            fputs(usage_text, stdout);
            return 0;
        }
        if (parse_option(c, optarg, &opt, &shape) != 0)
            break;
    }
    if (c != -1 || optind != argc || finish_options(&opt, shape) != 0) {
        fputs("infer-model --help lists the options\n", stderr);
        return 2;
    }
    return make_model(&opt) == INFER_OK ? 0 : 1;
}
