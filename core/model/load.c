/*
 * load.c - bind a GGUF file's tensors to the places of a model.
 *
 * Types and shapes are compared with the hyper-parameters once, here, and
 * everything the forward pass touches is copied into one arena: matrices in
 * the layout it wants, embedding rows as they are. The arena is reserved for
 * the worst case and touched as needed. Afterwards the file is closed, so that
 * nothing that happens to it can reach a running model.
 */
#include "core/model/model.h"

#include "core/base/error.h"
#include "core/model/head.h"
#include "core/model/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, NAME_MAX_LEN = 96 };

struct loader {
    struct infer_model *m;
    struct infer_error *err;
    uint8_t *next, *end; /* of the arena */
    int layer;           /* prefix "blk.N."; -1: none */
    char name[NAME_MAX_LEN];
};

static uint8_t *take(struct loader *l, size_t bytes)
{
    uint8_t *p = l->next;

    l->next += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return l->next <= l->end ? p : NULL;
}

static const struct infer_gguf_tensor *find(struct loader *l, const char *name)
{
    if (l->layer >= 0)
        snprintf(l->name, sizeof(l->name), "blk.%d.%s", l->layer, name);
    else
        snprintf(l->name, sizeof(l->name), "%s", name);
    return infer_gguf_find(l->m->gguf, l->name);
}

static int missing(struct loader *l)
{
    return infer_fail(l->err, INFER_EFORMAT, "tensor '%s' is missing", l->name);
}

/* dims are [k] (n == 0) or [n][k]. */
static int check_shape(struct loader *l, const struct infer_gguf_tensor *t,
                       uint64_t n, uint64_t k)
{
    const uint64_t rows = n ? n : 1;

    if (t->dims[0] == k && t->dims[1] == rows && t->dims[2] == 1 &&
        t->dims[3] == 1)
        return INFER_OK;
    return infer_fail(
        l->err, INFER_EFORMAT, "tensor '%s' is [%llu][%llu], not [%llu][%llu]",
        t->name, (unsigned long long)t->dims[1], (unsigned long long)t->dims[0],
        (unsigned long long)rows, (unsigned long long)k);
}

/* Values [from, from + k) of a vector of `all`; k is padded to whole panels. */
static int load_part(struct loader *l, const char *name, size_t all,
                     size_t from, size_t k, bool required, const float **out)
{
    const struct infer_gguf_tensor *t = find(l, name);
    float *v;
    int status;

    if (!t)
        return required ? missing(l) : INFER_OK;
    status = check_shape(l, t, 0, all);
    if (status)
        return status;
    if (infer_qtype_info(t->type)->block != 1)
        return infer_fail(l->err, INFER_EUNSUPPORTED,
                          "tensor '%s' is of type %s: vectors are F32, F16 or "
                          "BF16",
                          t->name, infer_qtype_info(t->type)->name);
    if (!infer_quant_finite(t->type, t->data, all))
        return infer_fail(l->err, INFER_EFORMAT,
                          "tensor '%s': a value is not finite", t->name);
    v = (void *)take(l, (k + INFER_PANEL) * sizeof(*v));
    if (!v)
        return infer_fail(l->err, INFER_ENOMEM, "arena too small");
    infer_dequantize(
        t->type, (const uint8_t *)t->data + infer_qtype_bytes(t->type, from), v,
        k);
    *out = v;
    return INFER_OK;
}

static int load_vector(struct loader *l, const char *name, size_t k,
                       bool required, const float **out)
{
    return load_part(l, name, k, 0, k, required, out);
}

static int load_rows(struct loader *l, const struct infer_gguf_tensor *t,
                     size_t row0, size_t n, struct infer_packed *w)
{
    uint8_t *data = take(l, infer_pack_bytes(t->type, n, t->dims[0]));

    if (!data)
        return infer_fail(l->err, INFER_ENOMEM, "arena too small");
    return infer_pack_rows(w, data, t, row0, n, l->err);
}

/* "<base>.weight" [n][k] and, when asked for or there, "<base>.bias" [n]. */
static int load_linear(struct loader *l, const char *base, size_t n, size_t k,
                       bool bias, struct infer_linear *out)
{
    const struct infer_gguf_tensor *t;
    char name[48];
    int status;

    snprintf(name, sizeof(name), "%s.weight", base);
    t = find(l, name);
    if (!t)
        return missing(l);
    status = check_shape(l, t, n, k);
    if (!status)
        status = load_rows(l, t, 0, n, &out->w);
    snprintf(name, sizeof(name), "%s.bias", base);
    if (!status)
        status = load_vector(l, name, n, bias, &out->bias);
    return status;
}

/* One tensor of q, k and v rows (gpt2) as three. */
static int load_fused_qkv(struct loader *l, struct infer_layer *y)
{
    const struct infer_hparams *hp = &l->m->hp;
    const size_t nq = (size_t)hp->n_heads * hp->d_head;
    const size_t nk = (size_t)hp->n_kv_heads * hp->d_head;
    struct infer_linear *const parts[] = {&y->q, &y->k, &y->v};
    const size_t sizes[] = {nq, nk, nk};
    const struct infer_gguf_tensor *t = find(l, "attn_qkv.weight");
    size_t row = 0;
    int status;

    if (!t)
        return missing(l);
    status = check_shape(l, t, nq + 2 * nk, hp->d_model);
    for (int i = 0; i < 3 && !status; i++) {
        status = load_rows(l, t, row, sizes[i], &parts[i]->w);
        if (!status)
            status = load_part(l, "attn_qkv.bias", nq + 2 * nk, row, sizes[i],
                               hp->arch->qkv_bias, &parts[i]->bias);
        row += sizes[i];
    }
    return status;
}

static int load_norm(struct loader *l, const char *base, bool required,
                     const float **w, const float **bias)
{
    const struct infer_hparams *hp = &l->m->hp;
    char name[48];
    int status;

    snprintf(name, sizeof(name), "%s.weight", base);
    status = load_vector(l, name, hp->d_model, required, w);
    snprintf(name, sizeof(name), "%s.bias", base);
    if (!status && *w && hp->arch->norm == INFER_NORM_LAYER)
        status = load_vector(l, name, hp->d_model, true, bias);
    return status;
}

/* The norm before a layer's attention (struct infer_layer). */
static int load_first_norm(struct loader *l, struct infer_layer *y)
{
    const bool post = l->m->hp.arch->post_norm;
    const int layer = l->layer;
    const char *name = !post        ? "attn_norm"
                       : layer == 0 ? "token_embd_norm"
                                    : "layer_output_norm";
    int status;

    if (post)
        l->layer = layer - 1;
    status = load_norm(l, name, true, &y->attn_norm, &y->attn_norm_bias);
    l->layer = layer;
    return status;
}

static int load_attention(struct loader *l, struct infer_layer *y)
{
    const struct infer_hparams *hp = &l->m->hp;
    const struct infer_arch *arch = hp->arch;
    const size_t nq = (size_t)hp->n_heads * hp->d_head;
    const size_t nk = (size_t)hp->n_kv_heads * hp->d_head;
    int status = load_first_norm(l, y);

    if (!status && arch->fused_qkv) {
        status = load_fused_qkv(l, y);
    } else if (!status) {
        status =
            load_linear(l, "attn_q", nq, hp->d_model, arch->qkv_bias, &y->q);
        if (!status)
            status = load_linear(l, "attn_k", nk, hp->d_model, arch->qkv_bias,
                                 &y->k);
        if (!status)
            status = load_linear(l, "attn_v", nk, hp->d_model, arch->qkv_bias,
                                 &y->v);
    }
    if (!status && arch->qk_norm)
        status =
            load_vector(l, "attn_q_norm.weight", hp->d_head, true, &y->q_norm);
    if (!status && arch->qk_norm)
        status =
            load_vector(l, "attn_k_norm.weight", hp->d_head, true, &y->k_norm);
    if (!status)
        status = load_linear(l, "attn_output", hp->d_model, nq, arch->all_bias,
                             &y->out);
    return status;
}

static int load_ffn(struct loader *l, struct infer_layer *y)
{
    const struct infer_hparams *hp = &l->m->hp;
    const struct infer_arch *arch = hp->arch;
    int status = load_norm(l, arch->post_norm ? "attn_output_norm" : "ffn_norm",
                           true, &y->ffn_norm, &y->ffn_norm_bias);

    if (!status && arch->ffn == INFER_FFN_SILU_GATED)
        status = load_linear(l, "ffn_gate", hp->d_ff, hp->d_model,
                             arch->all_bias, &y->gate);
    if (!status)
        status = load_linear(l, "ffn_up", hp->d_ff, hp->d_model, arch->all_bias,
                             &y->up);
    if (!status)
        status = load_linear(l, "ffn_down", hp->d_model, hp->d_ff,
                             arch->all_bias, &y->down);
    return status;
}

/* Rows that are looked up stay in the file's format, but not in the file. */
static int keep_rows(struct loader *l, const char *name, size_t n,
                     struct infer_gguf_tensor *kept)
{
    const struct infer_gguf_tensor *t = find(l, name);
    void *data;
    int status;

    if (!t)
        return missing(l);
    status = check_shape(l, t, n, l->m->hp.d_model);
    if (status)
        return status;
    data = take(l, t->bytes);
    if (!data)
        return infer_fail(l->err, INFER_ENOMEM, "arena too small");
    memcpy(data, t->data, t->bytes);
    if (!infer_quant_finite(t->type, data, n * l->m->hp.d_model))
        return infer_fail(l->err, INFER_EFORMAT,
                          "tensor '%s': a value is not finite", t->name);
    *kept = *t;
    kept->data = data;
    kept->name = name;
    return INFER_OK;
}

static int load_embeddings(struct loader *l)
{
    struct infer_model *m = l->m;
    const struct infer_hparams *hp = &m->hp;
    int status = keep_rows(l, "token_embd.weight", hp->n_vocab, &m->tok_embd);

    if (!status && hp->arch->positions == INFER_POS_LEARNED)
        return keep_rows(l, "position_embd.weight", hp->n_ctx, &m->pos_embd);
    if (!status)
        status = load_vector(l, "rope_freqs.weight", hp->rope.n_rot / 2, false,
                             &m->rope_freqs);
    for (uint32_t i = 0; !status && m->rope_freqs && i < hp->rope.n_rot / 2;
         i++)
        if (!(m->rope_freqs[i] > 0.0f))
            status = infer_fail(l->err, INFER_EFORMAT,
                                "tensor 'rope_freqs.weight': divisor %u is %g",
                                i, (double)m->rope_freqs[i]);
    return status;
}

/* Row 0 of the token types, which all tokens are of. */
static int load_token_type(struct loader *l)
{
    const struct infer_gguf_tensor *t = find(l, "token_types.weight");
    const size_t d = l->m->hp.d_model;
    float *v;
    int status;

    if (!t)
        return INFER_OK;
    status = check_shape(l, t, t->dims[1], d);
    if (status)
        return status;
    if (!infer_quant_finite(t->type, t->data, d))
        return infer_fail(l->err, INFER_EFORMAT,
                          "tensor '%s': a value is not finite", t->name);
    v = (void *)take(l, d * sizeof(*v));
    if (!v)
        return infer_fail(l->err, INFER_ENOMEM, "arena too small");
    infer_dequantize(t->type, t->data, v, d);
    l->m->type_embd = v;
    return INFER_OK;
}

static int load_ngrams(struct loader *l)
{
    const uint32_t buckets = l->m->hp.ngrams.buckets;

    return buckets
               ? keep_rows(l, "ngram_embd.weight", buckets, &l->m->ngram_embd)
               : INFER_OK;
}

/* An encoder's last norm, n-grams and classes. */
static int load_results(struct loader *l)
{
    struct infer_model *m = l->m;
    const bool post = m->hp.arch->post_norm;
    const struct infer_gguf_tensor *out;
    uint32_t n_classes = 0;
    int status;

    l->layer = post ? (int)m->hp.n_layers - 1 : -1;
    status = load_norm(l, post ? "layer_output_norm" : "output_norm", true,
                       &m->out_norm, &m->out_norm_bias);
    l->layer = -1;
    if (!status)
        status = load_token_type(l);
    if (!status)
        status = load_ngrams(l);
    out = find(l, "cls.output.weight");
    if (!status && out) {
        n_classes = out->dims[1] < UINT32_MAX ? (uint32_t)out->dims[1] : 0;
        status = load_linear(l, "cls.output", n_classes, m->hp.d_model, false,
                             &m->cls_output);
    }
    if (!status && out && find(l, "cls.weight"))
        status = load_linear(l, "cls", m->hp.d_model, m->hp.d_model, false,
                             &m->cls_dense);
    return status ? status : infer_head_read(m, n_classes, l->err);
}

/* Final norm and head; without a tensor of its own the head is the embedding.
 */
static int load_head(struct loader *l)
{
    struct infer_model *m = l->m;
    const struct infer_hparams *hp = &m->hp;
    const struct infer_gguf_tensor *t;
    int status =
        load_norm(l, "output_norm", true, &m->out_norm, &m->out_norm_bias);

    if (status)
        return status;
    t = find(l, "output.weight");
    if (!t)
        t = &m->tok_embd;
    status = check_shape(l, t, hp->n_vocab, hp->d_model);
    return status ? status : load_rows(l, t, 0, hp->n_vocab, &m->head.w);
}

static int load_tensors(struct loader *l)
{
    struct infer_model *m = l->m;
    int status;

    m->layers = calloc(m->hp.n_layers + 1, sizeof(*m->layers));
    if (!m->layers)
        return infer_fail(l->err, INFER_ENOMEM, "out of memory");
    l->layer = -1;
    status = load_embeddings(l);
    for (uint32_t i = 0; i < m->hp.n_layers && !status; i++) {
        l->layer = (int)i;
        status = load_attention(l, &m->layers[i]);
        if (!status)
            status = load_ffn(l, &m->layers[i]);
    }
    l->layer = -1;
    if (status)
        return status;
    return m->hp.arch->encoder ? load_results(l) : load_head(l);
}

/* Worst case: every tensor is packed, the embedding (a tied head) too, and kept
 * as well; gpt2's fused tensor becomes three, each rounded up. */
static int reserve_arena(struct loader *l)
{
    struct infer_model *m = l->m;
    size_t bytes = 0;

    for (size_t i = 0; i < infer_gguf_n_tensors(m->gguf); i++) {
        const struct infer_gguf_tensor *t = infer_gguf_tensor(m->gguf, i);
        const size_t rows = (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);
        const size_t k = (size_t)t->dims[0];
        const size_t slack = 3 * ALIGN + 3 * INFER_PANEL * sizeof(float);

        bytes += infer_pack_bytes(t->type, rows + 3 * INFER_PANEL, k) + slack;
        bytes += t->bytes; /* rows that are kept as they are */
    }
    l->next = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->next == MAP_FAILED)
        return infer_fail(l->err, INFER_ENOMEM,
                          "out of memory for %zu bytes of weights", bytes);
    madvise(l->next, bytes, MADV_HUGEPAGE);
    l->end = l->next + bytes;
    m->arena = l->next;
    m->arena_bytes = bytes;
    return INFER_OK;
}

/* ---- what is told about a model ----------------------------------------- */

/* A key's text, malloc'd; NULL when there is none. */
static int copy_str(const struct infer_gguf *g, const char *key, char **out)
{
    struct infer_gguf_str s;

    if (infer_gguf_get_str(g, key, &s, NULL) != 0)
        return INFER_OK;
    *out = strndup(s.data, s.len);
    return *out ? INFER_OK : INFER_ENOMEM;
}

/* The type that most weights have, by bytes. */
static const char *main_type(const struct infer_gguf *g, uint64_t *n_params)
{
    uint64_t bytes[64] = {0};
    size_t best = 0;

    for (size_t i = 0; i < infer_gguf_n_tensors(g); i++) {
        const struct infer_gguf_tensor *t = infer_gguf_tensor(g, i);

        *n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        bytes[t->type % 64] += t->bytes;
    }
    for (size_t i = 1; i < 64; i++)
        if (bytes[i] > bytes[best])
            best = i;
    return infer_qtype_info((uint32_t)best)->name;
}

static int fill_info(struct infer_model *m, const char *path, uint64_t start,
                     const uint8_t *arena_end, struct infer_error *err)
{
    struct infer_model_info *i = &m->info;
    const struct infer_hparams *hp = &m->hp;
    const char *base = strrchr(path, '/');

    m->path = strdup(path);
    if (copy_str(m->gguf, "general.name", &m->name) == INFER_OK && !m->name)
        m->name = strdup(base ? base + 1 : path);
    if (!m->path || !m->name ||
        copy_str(m->gguf, "tokenizer.chat_template", &m->chat_template))
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    *i = (struct infer_model_info){
        .path = m->path,
        .arch = hp->arch->name,
        .name = m->name,
        .kernels = m->kern.name,
        .chat_template = m->chat_template,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->n_ctx,
        .n_layers = hp->n_layers,
        .n_heads = hp->n_heads,
        .n_kv_heads = hp->n_kv_heads,
        .d_model = hp->d_model,
        .d_head = hp->d_head,
        .d_ff = hp->d_ff,
        .file_bytes = infer_gguf_file_bytes(m->gguf),
        .weight_bytes = (uint64_t)(arena_end - (uint8_t *)m->arena),
        .bos_id = infer_tokenizer_bos(m->tokenizer),
        .eos_id = infer_tokenizer_eos(m->tokenizer),
    };
    if (hp->arch->encoder)
        infer_head_info(m);
    i->type = main_type(m->gguf, &i->n_params);
    i->load_seconds = (double)(infer_clock_ns() - start) * 1e-9;
    return INFER_OK;
}

static int load(struct infer_model *m, const char *path,
                const struct infer_model_params *params,
                struct infer_error *err)
{
    const unsigned allowed = params ? params->cpu : (unsigned)INFER_CPU_ALL;
    const uint64_t start = infer_clock_ns();
    struct loader l = {.m = m, .err = err};
    int status;

    infer_kernels_init(&m->kern, allowed & infer_cpu_detect());
    status = infer_gguf_open(&m->gguf, path, err);
    if (!status)
        status = infer_hparams_read(&m->hp, m->gguf, err);
    if (!status)
        status = infer_tokenizer_create(&m->tokenizer, m->gguf, err);
    if (status)
        return status;
    m->hp.n_vocab = infer_tokenizer_n_vocab(m->tokenizer);
    status = reserve_arena(&l);
    if (!status)
        status = load_tensors(&l);
    if (!status)
        status = fill_info(m, path, start, l.next, err);
    infer_gguf_close(m->gguf);
    m->gguf = NULL;
    return status;
}

/* "cannot load 'path': why" */
static int explain(struct infer_error *err, const char *path, int status)
{
    char why[sizeof(err->text)];

    if (!err || strstr(err->text, path))
        return status;
    snprintf(why, sizeof(why), "%s", err->text);
    return infer_fail(err, status, "cannot load '%.100s': %.140s", path, why);
}

int infer_model_load(struct infer_model **model, const char *path,
                     const struct infer_model_params *params,
                     struct infer_error *err)
{
    struct infer_model *m = calloc(1, sizeof(*m));
    int status;

    if (!m)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = load(m, path, params, err);
    if (status) {
        infer_model_free(m);
        return explain(err, path, status);
    }
    *model = m;
    return INFER_OK;
}

const struct infer_model_info *infer_model_info(const struct infer_model *m)
{
    return &m->info;
}

void infer_model_free(struct infer_model *m)
{
    if (!m)
        return;
    if (m->arena)
        munmap(m->arena, m->arena_bytes);
    infer_tokenizer_free(m->tokenizer);
    infer_gguf_close(m->gguf);
    free(m->layers);
    infer_head_release(&m->result);
    free(m->path);
    free(m->name);
    free(m->chat_template);
    free(m);
}
