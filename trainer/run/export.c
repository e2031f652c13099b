/* export.c - see export.h. The net's table has the file's names and layouts, so
 * tensors are written from where they are. */
#include "trainer/run/export.h"

#include "core/format/quant.h"

#include <stdio.h>

static void set_u32(struct infer_gguf_writer *w, const char *arch,
                    const char *name, uint32_t v)
{
    char key[96];

    snprintf(key, sizeof(key), "%s.%s", arch, name);
    infer_gguf_set_u32(w, key, v);
}

static void set_f32(struct infer_gguf_writer *w, const char *arch,
                    const char *name, float v)
{
    char key[96];

    snprintf(key, sizeof(key), "%s.%s", arch, name);
    infer_gguf_set_f32(w, key, v);
}

const char *train_arch_name(const struct net_shape *s)
{
    if (s->arch == NET_BERT)
        return "bert";
    if (s->encoder)
        return "inferd-encoder";
    return s->arch == NET_GPT2 ? "gpt2" : "llama";
}

/* A head on the first token is llama.cpp's "rank". */
static void set_bert(struct infer_gguf_writer *w, const struct net_shape *s)
{
    const bool rank = s->pooling == NET_POOL_FIRST && s->n_classes;

    infer_gguf_set_bool(w, "bert.attention.causal", false);
    infer_gguf_set_u32(w, "bert.pooling_type",
                       rank ? NET_POOL_RANK : s->pooling);
}

static void set_shape(struct infer_gguf_writer *w, const struct net_shape *s)
{
    const char *arch = train_arch_name(s);

    infer_gguf_set_str(w, "general.architecture", arch);
    set_u32(w, arch, "vocab_size", s->n_vocab);
    set_u32(w, arch, "context_length", s->n_ctx);
    set_u32(w, arch, "embedding_length", s->d_model);
    set_u32(w, arch, "block_count", s->n_layers);
    set_u32(w, arch, "feed_forward_length", s->d_ff);
    set_u32(w, arch, "attention.head_count", s->n_heads);
    if (s->arch != NET_LLAMA)
        set_f32(w, arch, "attention.layer_norm_epsilon", s->norm_eps);
    if (s->arch == NET_BERT)
        set_bert(w, s);
    if (s->arch != NET_LLAMA)
        return;
    set_u32(w, arch, "attention.head_count_kv", s->n_kv_heads);
    set_u32(w, arch, "attention.key_length", s->d_head);
    set_u32(w, arch, "attention.value_length", s->d_head);
    set_u32(w, arch, "rope.dimension_count", s->d_head);
    set_f32(w, arch, "rope.freq_base", s->rope_base);
    set_f32(w, arch, "attention.layer_norm_rms_epsilon", s->norm_eps);
    if (s->encoder) {
        infer_gguf_set_bool(w, "inferd-encoder.attention.causal", false);
        set_u32(w, arch, "pooling_type", s->pooling);
    }
}

int train_export(struct net *net, const char *vocab, const char *name,
                 const char *path, train_export_fn *more, void *user,
                 struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    struct infer_gguf_writer *w = NULL;
    const struct net_param *params;
    size_t n;
    int status = infer_gguf_open(&g, vocab, err);

    if (status == 0)
        status = infer_gguf_writer_create(&w, err);
    if (status != 0)
        goto out;
    set_shape(w, net_shape(net));
    infer_gguf_set_str(w, "general.type", "model");
    infer_gguf_set_str(w, "general.name", name);
    infer_gguf_set_u32(w, "general.file_type", 0);
    if (more)
        more(user, w);
    infer_gguf_set_all(w, g);
    params = net_param_table(net, &n);
    for (size_t i = 0; i < n; i++)
        infer_gguf_add_tensor(w, params[i].name, INFER_F32, params[i].n_dims,
                              params[i].dims,
                              net_params(net) + params[i].offset);
    status = infer_gguf_save(w, path, err);
out:
    infer_gguf_writer_free(w);
    infer_gguf_close(g);
    return status;
}
