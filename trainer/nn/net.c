/*
 * net.c - a net's memory, initial values and runs.
 *
 * A pass is one run of the team: members share rows, heads, columns or parts of
 * products, and meet at barriers (net_forward.c, net_backward.c). Everything is
 * allocated here, once, for the largest batch.
 */
#include "trainer/nn/net_parts.h"

#include "core/base/error.h"
#include "core/model/model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGN = 64,
    LOGITS_FLOATS = 16 << 20, /* of a block of rows of the head, */
    MIN_HEAD_ROWS = 64,       /* but at least so many rows */
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 17,
    MAX_VOCAB = 1 << 24,
    MAX_CTX = 1 << 20
};

/* ---- shape ----------------------------------------------------------------
 */

static int check_range(const char *what, uint64_t v, uint64_t max,
                       struct infer_error *err)
{
    if (v >= 1 && v <= max)
        return INFER_OK;
    return infer_fail(err, INFER_EINVAL, "%s is %llu, not in 1..%llu", what,
                      (unsigned long long)v, (unsigned long long)max);
}

static int check_sizes(const struct net_shape *s, struct infer_error *err)
{
    const struct {
        const char *what;
        uint64_t v, max;
    } sizes[] = {{"vocabulary", s->n_vocab, MAX_VOCAB},
                 {"context", s->n_ctx, MAX_CTX},
                 {"number of layers", s->n_layers + s->encoder, MAX_LAYERS},
                 {"number of heads", s->n_heads, MAX_LAYERS},
                 {"number of key/value heads", s->n_kv_heads, MAX_LAYERS},
                 {"width", s->d_model, MAX_WIDTH},
                 {"head width", s->d_head, INFER_MAX_HEAD},
                 {"feed-forward width", s->d_ff, (uint64_t)MAX_WIDTH * 8}};
    int status = INFER_OK;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && !status; i++)
        status = check_range(sizes[i].what, sizes[i].v, sizes[i].max, err);
    return status;
}

int net_shape_check(const struct net_shape *s, struct infer_error *err)
{
    const int status = check_sizes(s, err);

    if (status)
        return status;
    if (s->encoder &&
        (s->arch == NET_GPT2 || s->n_classes > MAX_VOCAB ||
         (s->pooling != NET_POOL_MEAN && s->pooling != NET_POOL_FIRST)))
        return infer_fail(err, INFER_EINVAL,
                          "an encoder is built as llama or bert, pools and has "
                          "up to %d classes",
                          MAX_VOCAB);
    if (!s->encoder && (s->n_classes || s->arch == NET_BERT))
        return infer_fail(err, INFER_EINVAL,
                          "a decoder has no classes and is no bert");
    if (s->arch == NET_BERT && !(s->n_types >= 1 && s->n_types <= MAX_CTX))
        return infer_fail(err, INFER_EINVAL, "%u token types", s->n_types);
    if (s->n_heads % s->n_kv_heads)
        return infer_fail(err, INFER_EINVAL,
                          "%u heads do not share %u key/value heads",
                          s->n_heads, s->n_kv_heads);
    if (s->arch == NET_LLAMA && s->d_head % 2)
        return infer_fail(err, INFER_EINVAL,
                          "head width %u is odd and cannot be rotated",
                          s->d_head);
    if (net_biased(s) &&
        (s->n_kv_heads != s->n_heads || net_nq(s) != s->d_model))
        return infer_fail(err, INFER_EINVAL,
                          "%s has as many key/value heads as heads, and heads "
                          "times head width is its width",
                          s->arch == NET_GPT2 ? "gpt2" : "bert");
    if (!(s->dropout >= 0 && s->dropout < 1))
        return infer_fail(err, INFER_EINVAL, "dropout is %g, not in 0..1",
                          (double)s->dropout);
    if (!(s->label_smoothing >= 0 && s->label_smoothing < 1))
        return infer_fail(err, INFER_EINVAL,
                          "label smoothing is %g, not in 0..1",
                          (double)s->label_smoothing);
    if (!(s->norm_eps > 0 && s->norm_eps < 1))
        return infer_fail(err, INFER_EINVAL, "norm epsilon is %g, not in 0..1",
                          (double)s->norm_eps);
    if (s->arch == NET_LLAMA && !(s->rope_base >= 1 && s->rope_base <= 1e12f))
        return infer_fail(err, INFER_EINVAL, "rope base is %g, not in 1..1e12",
                          (double)s->rope_base);
    return INFER_OK;
}

/* ---- memory ---------------------------------------------------------------
 */

/* Hands out an arena front to back; with base NULL it only measures. */
struct carver {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carver *c, size_t n, size_t size)
{
    void *p = c->base ? c->base + c->used : NULL;

    c->used += (n * size + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static float *carve_f(struct carver *c, size_t rows, size_t n)
{
    return carve(c, rows * n, sizeof(float));
}

static struct net_kept carve_kept(const struct net *net, struct carver *c,
                                  size_t rows, size_t n)
{
    if (net->half)
        return (struct net_kept){.bf16 = carve(c, rows * n, sizeof(uint16_t))};
    return (struct net_kept){.f32 = carve_f(c, rows, n)};
}

static void carve_layer(struct net *net, struct carver *c, struct net_layer *y)
{
    const struct net_shape *s = &net->shape;
    const size_t rows = net->max_rows;

    y->x = carve_f(c, rows, s->d_model);
    y->x_mid = carve_f(c, rows, s->d_model);
    y->stat1 = carve_f(c, rows, 2);
    y->stat2 = carve_f(c, rows, 2);
    y->qkv = carve_kept(net, c, rows, net_nqkv(s));
    y->att = carve_f(c, rows, net_nq(s));
    y->lse = carve_f(c, rows, s->n_heads);
    y->up_out = carve_kept(net, c, rows, net_up_width(s));
}

static void carve_logits(struct net *net, struct carver *c)
{
    const struct net_shape *s = &net->shape;
    const size_t rows = net->max_rows;

    net->head_rows = LOGITS_FLOATS / s->n_vocab / MIN_HEAD_ROWS * MIN_HEAD_ROWS;
    if (net->head_rows < MIN_HEAD_ROWS)
        net->head_rows = MIN_HEAD_ROWS;
    if (net->head_rows > rows)
        net->head_rows = rows;
    net->logits = carve_f(c, net->head_rows, s->n_vocab);
    net->loss = carve_f(c, rows, 1);
    net->nll = carve_f(c, rows, 1);
}

static void carve_shared(struct net *net, struct carver *c, int n_threads)
{
    const struct net_shape *s = &net->shape;
    const size_t rows = net->max_rows, d = s->d_model, nq = net_nq(s);
    const size_t n = (size_t)n_threads;
    const size_t attn = net->ops->attention_scratch(net->max_tokens, s->d_head);

    net->x_out = carve_f(c, rows, d);
    net->stat_out = carve_f(c, rows, 2);
    net->h = carve_f(c, rows, d);
    net->dx = carve_f(c, rows, d);
    net->wide = carve_f(c, rows, nq > d ? nq : d);
    net->drop = s->dropout > 0 ? carve_f(c, rows, d) : NULL;
    if (!net->half) {
        net->act.f32 = carve_f(c, rows, s->d_ff);
        net->normed.f32 = net->wide;
    }
    if (s->encoder)
        net->pooled = carve_f(c, net->max_batch, d);
    else
        carve_logits(net, c);
    net->cs = carve_f(c, net->max_tokens, s->d_head);
    net->scratch = carve(c, n, sizeof(*net->scratch));
    net->partial =
        carve_f(c, (rows + TRAIN_ROW_BLOCK - 1) / TRAIN_ROW_BLOCK, 2 * d);
    for (size_t i = 0; i < n; i++) {
        float *scratch = carve_f(c, attn, 1);

        if (c->base)
            net->scratch[i] = scratch;
    }
}

static void carve_all(struct net *net, struct carver *c, int n_threads)
{
    net->params = carve_f(c, net->n_values, 1);
    net->grads = carve_f(c, net->n_values, 1);
    for (uint32_t i = 0; i < net->shape.n_layers; i++)
        carve_layer(net, c, &net->layers[i]);
    carve_shared(net, c, n_threads);
}

uint64_t net_bytes(const struct net_shape *shape, size_t max_batch,
                   size_t max_tokens, int n_threads)
{
    struct net net = {.shape = *shape,
                      .ops = nn_layers(),
                      .max_rows = max_batch * max_tokens,
                      .max_batch = max_batch,
                      .max_tokens = max_tokens};
    struct carver c = {0};

    if (net_build_table(&net, NULL) == INFER_OK)
        carve_all(&net, &c, n_threads);
    free(net.layers);
    free(net.table);
    return c.used;
}

static int reserve(struct net *net, struct infer_error *err)
{
    const int n_threads = infer_team_size(net->team);
    struct carver c = {0};
    int status = INFER_OK;

    if (net->half)
        status = train_packed_create(&net->act.packed, net->gemm, net->max_rows,
                                     net->shape.d_ff, err);
    if (net->half && !status)
        status = train_packed_create(&net->normed.packed, net->gemm,
                                     net->max_rows, net->shape.d_model, err);
    if (status)
        return status;
    carve_all(net, &c, n_threads);
    net->arena = mmap(NULL, c.used, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (net->arena == MAP_FAILED) {
        net->arena = NULL;
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for a net of %zu bytes", c.used);
    }
    madvise(net->arena, c.used, MADV_HUGEPAGE);
    net->arena_bytes = c.used;
    c = (struct carver){.base = net->arena};
    carve_all(net, &c, n_threads);
    return INFER_OK;
}

/* Whether all products that read or write a struct net_kept do it beside. */
static bool may_keep_half(const struct net *net)
{
    const struct net_shape *s = &net->shape;
    const size_t d = s->d_model, f = s->d_ff;
    const struct {
        size_t n, k;
        bool whole;
    } products[] = {{net_nqkv(s), d, false},
                    {net_up_width(s), d, false},
                    {d, f, true},
                    {d, net_nq(s), true},
                    {f, d, false},
                    {d, net_up_width(s), true},
                    {d, net_nqkv(s), true}};
    bool all = s->n_layers > 0;

    for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++)
        all = all && train_gemm_fits(net->gemm, products[i].n, products[i].k,
                                     products[i].whole);
    return all;
}

int net_create(struct net **out, const struct net_shape *shape,
               size_t max_batch, size_t max_tokens, struct infer_team *team,
               enum train_precision precision, struct infer_error *err)
{
    struct net *net = NULL;
    int status = net_shape_check(shape, err);

    if (status)
        return status;
    if (max_tokens < 1 || max_tokens > shape->n_ctx)
        return infer_fail(err, INFER_EINVAL,
                          "%zu tokens do not fit a context of %u", max_tokens,
                          shape->n_ctx);
    status = check_range("batch", max_batch, MAX_CTX, err);
    if (status)
        return status;
    net = calloc(1, sizeof(*net));
    if (!net)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    net->shape = *shape;
    net->team = team;
    net->ops = nn_layers();
    net->max_rows = max_batch * max_tokens;
    net->max_tokens = max_tokens;
    net->max_batch = max_batch;
    status = net_build_table(net, err);
    if (!status)
        status = train_gemm_create(&net->gemm, precision, team,
                                   (unsigned)INFER_CPU_ALL, err);
    if (status)
        goto out;
    net->half = may_keep_half(net);
    status = reserve(net, err);
    if (status)
        goto out;
    if (shape->arch == NET_LLAMA)
        infer_rope_table(net->cs,
                         &(struct infer_rope){.n_rot = shape->d_head,
                                              .base = shape->rope_base,
                                              .scale = 1.0f,
                                              .attn_factor = 1.0f},
                         NULL, (uint32_t)max_tokens);
    *out = net;
    net = NULL;
out:
    net_free(net);
    return status;
}

void net_free(struct net *net)
{
    if (!net)
        return;
    train_packed_free(net->act.packed);
    train_packed_free(net->normed.packed);
    train_gemm_free(net->gemm);
    if (net->arena)
        munmap(net->arena, net->arena_bytes);
    free(net->table);
    free(net->layers);
    free(net);
}

/* ---- what it tells --------------------------------------------------------
 */

const struct net_shape *net_shape(const struct net *net)
{
    return &net->shape;
}

struct infer_team *net_team(const struct net *net)
{
    return net->team;
}

const struct train_gemm_ctx *net_gemm(const struct net *net)
{
    return net->gemm;
}

size_t net_n_values(const struct net *net)
{
    return net->n_values;
}

float *net_params(struct net *net)
{
    return net->params;
}

float *net_grads(struct net *net)
{
    return net->grads;
}

const struct net_param *net_param_table(const struct net *net, size_t *n)
{
    *n = net->n_table;
    return net->table;
}

size_t net_n_params(const struct net *net)
{
    size_t n = 0;

    for (size_t i = 0; i < net->n_table; i++)
        n += net->table[i].n;
    return n;
}

const struct net_param *net_param_find(const struct net *net, const char *name)
{
    for (size_t i = 0; i < net->n_table; i++)
        if (strcmp(net->table[i].name, name) == 0)
            return &net->table[i];
    return NULL;
}

/* A product costs 2 forward and 4 backward per weight; attention 2 products
 * forward, 5 backward, half of each masked. */
double net_flops_per_token(const struct net *net, size_t n_tokens)
{
    const struct net_shape *s = &net->shape;
    double weights = s->encoder ? 0.0 : (double)s->n_vocab * s->d_model;

    for (size_t i = 0; i < net->n_table; i++)
        if (net->table[i].kind == NET_MATRIX)
            weights += (double)net->table[i].n;
    return 6.0 * weights +
           7.0 * (double)n_tokens * (double)net_nq(s) * s->n_layers;
}

/* ---- initial values -------------------------------------------------------
 */

struct init_run {
    struct net *net;
    uint64_t seed;
};

/* Value i of a stream of normals (Box & Muller 1958). */
static float normal(uint64_t seed, uint64_t i)
{
    const double unit = 1.0 / 9007199254740992.0, two_pi = 6.283185307179586;
    const uint64_t a = net_mix(seed + 2 * i), b = net_mix(seed + 2 * i + 1);
    const double u = ((double)(a >> 11) + 0.5) * unit;

    return (float)(sqrt(-2.0 * log(u)) *
                   cos(two_pi * (double)(b >> 11) * unit));
}

static bool joins_stream(const struct net_param *p)
{
    return strstr(p->name, "attn_output.weight") ||
           strstr(p->name, "ffn_down.weight");
}

static void init_member(struct infer_member *me, void *arg)
{
    const struct init_run *run = arg;
    struct net *net = run->net;
    const float joined = 0.02f / sqrtf(2.0f * (float)net->shape.n_layers);

    for (size_t k = 0; k < net->n_table; k++) {
        const struct net_param *p = &net->table[k];
        const uint64_t seed = net_mix(net_mix(run->seed) + k);
        const float deviation = joins_stream(p) ? joined : 0.02f;
        const float flat = strstr(p->name, "norm.weight") ? 1.0f : 0.0f;
        float *v = net->params + p->offset;
        size_t begin, end;

        infer_team_share(me, p->n, 1, &begin, &end);
        for (size_t i = begin; i < end; i++)
            v[i] = p->kind == NET_VECTOR ? flat : deviation * normal(seed, i);
    }
}

void net_init(struct net *net, uint64_t seed)
{
    infer_team_run(net->team, init_member,
                   &(struct init_run){.net = net, .seed = seed});
}

void net_zero_grads(struct net *net)
{
    memset(net->grads, 0, net->n_values * sizeof(*net->grads));
}

/* ---- runs -----------------------------------------------------------------
 */

struct nn_dropout net_dropout(const struct net *net, uint32_t site)
{
    const uint64_t key = net_mix(net->dropout_seed ^ net_mix(site));
    const double share = net->dropping ? (double)net->shape.dropout : 0.0;

    return (struct nn_dropout){.key = {(uint32_t)key, (uint32_t)(key >> 32)},
                               .threshold = (uint32_t)(share * 4294967296.0),
                               .scale = (float)(1.0 / (1.0 - share))};
}

static void run_member(struct infer_member *me, void *arg)
{
    struct net *net = arg;

    net_forward(me, net);
    net_head(me, net);
    if (net->train)
        net_backward(me, net);
}

static void run(struct net *net, const int32_t *tokens, const int32_t *targets,
                size_t n_seqs, size_t n_tokens)
{
    net->tokens = tokens;
    net->targets = targets;
    net->n_rows = n_seqs * n_tokens;
    net->n_tokens = n_tokens;
    net->n_seqs = n_seqs;
    net->starts = NULL;
    assert(n_tokens <= net->max_tokens && net->n_rows <= net->max_rows);
    infer_team_run(net->team, run_member, net);
}

double net_train(struct net *net, const int32_t *tokens, const int32_t *targets,
                 size_t n_seqs, size_t n_tokens, float grad_scale,
                 uint64_t dropout_seed)
{
    double sum = 0.0;

    net->train = true;
    net->grad_scale = grad_scale;
    net->smoothing = net->shape.label_smoothing;
    net->dropout_seed = dropout_seed;
    net->dropping = net->shape.dropout > 0;
    run(net, tokens, targets, n_seqs, n_tokens);
    for (size_t r = 0; r < net->n_rows; r++)
        sum += (double)net->loss[r];
    return sum;
}

void net_set_first_row(struct net *net, size_t row)
{
    net->first_row = row;
}

double net_eval(struct net *net, const int32_t *tokens, const int32_t *targets,
                size_t n_seqs, size_t n_tokens, size_t *n_counted)
{
    double sum = 0.0;

    net->train = net->dropping = false;
    net->smoothing = 0.0f;
    run(net, tokens, targets, n_seqs, n_tokens);
    *n_counted = 0;
    for (size_t r = 0; r < net->n_rows; r++) {
        sum += (double)net->nll[r];
        *n_counted += targets[r] >= 0;
    }
    return sum;
}

/* ---- encoders -------------------------------------------------------------
 */

static void encode_member(struct infer_member *me, void *arg)
{
    net_forward(me, arg);
    net_pool(me, arg);
}

float *net_encode(struct net *net, const struct net_texts *texts, bool train,
                  uint64_t dropout_seed)
{
    net->tokens = texts->tokens;
    net->starts = texts->starts;
    net->n_seqs = texts->n;
    net->n_rows = texts->starts[texts->n];
    net->n_tokens = 1; /* lengths are in starts */
    net->train = train;
    net->dropout_seed = dropout_seed;
    net->dropping = train && net->shape.dropout > 0;
    assert(net->shape.encoder && net->n_rows <= net->max_rows &&
           texts->n <= net->max_batch);
    infer_team_run(net->team, encode_member, net);
    return net->pooled;
}

static void encode_back_member(struct infer_member *me, void *arg)
{
    net_pool_back(me, arg);
    net_backward(me, arg);
}

void net_encode_back(struct net *net, const float *dpooled)
{
    assert(net->train);
    net->dpooled = dpooled;
    infer_team_run(net->team, encode_back_member, net);
}
