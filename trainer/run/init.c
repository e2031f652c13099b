/* init.c - see init.h. */
#include "trainer/run/init.h"

#include "core/base/error.h"
#include "core/format/quant.h"
#include "trainer/hf/checkpoint.h"
#include "trainer/hf/config.h"
#include "trainer/hf/convert.h"
#include "trainer/run/quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096, WINDOW = 1024 }; /* longest by default */

static void copy_path(const char *run, char path[PATH_LEN])
{
    snprintf(path, PATH_LEN, "%.4000s/init.gguf", run);
}

/* ---- the shape ------------------------------------------------------------
 */

static int read_config(struct hf_config *c, const char *path,
                       struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    char folder[PATH_LEN];
    const char *slash = strrchr(path, '/');
    int status;

    if (hf_checkpoint_is(path)) {
        snprintf(folder, sizeof(folder), "%.*s",
                 hf_checkpoint_is_folder(path) ? 4000
                 : slash                       ? (int)(slash - path)
                                               : 1,
                 hf_checkpoint_is_folder(path) || slash ? path : ".");
        return hf_config_read(c, folder, err);
    }
    status = infer_gguf_open(&g, path, err);
    if (status == 0)
        status = hf_config_from_gguf(c, g, err);
    infer_gguf_close(g);
    return status;
}

static int check_trainable(const struct hf_config *c, struct infer_error *err)
{
    const char *what = NULL;

    if (c->arch != HF_LLAMA && c->arch != HF_GPT2)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "--init is a %s; only llama and gpt2 can be trained",
                          hf_arch_name(c->arch));
    if (c->scaling != HF_SCALE_NONE)
        what = "scaled rotary positions";
    else if (c->attn_bias || c->mlp_bias)
        what = "biases";
    return what ? infer_fail(err, INFER_EUNSUPPORTED,
                             "--init has %s, which cannot be trained", what)
                : 0;
}

/* Take the model's value; a value that was given must be the same. */
static int take(uint64_t *option, const char *name, uint64_t is,
                struct infer_error *err)
{
    if (*option && *option != is)
        return infer_fail(err, INFER_EINVAL,
                          "--%s %llu contradicts --init, which has %llu; leave "
                          "it out",
                          name, (unsigned long long)*option,
                          (unsigned long long)is);
    *option = is;
    return 0;
}

static int take_sizes(struct train_lm *o, const struct hf_config *c,
                      struct infer_error *err)
{
    const struct {
        uint64_t *option;
        const char *name;
        uint64_t is;
    } sizes[] = {{&o->layers, "layers", c->n_layers},
                 {&o->heads, "heads", c->n_heads},
                 {&o->kv_heads, "kv-heads", c->n_kv_heads},
                 {&o->width, "width", c->d_model},
                 {&o->ffn, "ffn", c->d_ff}};
    int status = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes) && status == 0; i++)
        status = take(sizes[i].option, sizes[i].name, sizes[i].is, err);
    if (status == 0 && o->context > c->n_ctx)
        status = infer_fail(err, INFER_EINVAL,
                            "--context %llu contradicts --init, which has %u; "
                            "it may only be less",
                            (unsigned long long)o->context, c->n_ctx);
    if (status == 0 && !o->context)
        o->context = c->n_ctx < WINDOW ? c->n_ctx : WINDOW;
    o->model_context = c->n_ctx;
    o->head = c->d_head;
    return status;
}

static int contradicts(const char *option, struct infer_error *err)
{
    return infer_fail(err, INFER_EINVAL,
                      "%s contradicts --init, which says that itself; leave it "
                      "out",
                      option);
}

int train_init_shape(struct train_lm *o, struct infer_error *err)
{
    struct hf_config c;
    char path[PATH_LEN];
    int arch, status;

    copy_path(o->out, path);
    status = read_config(&c, o->resumed ? path : o->init, err);
    if (status == 0)
        status = check_trainable(&c, err);
    if (status == 0)
        status = take_sizes(o, &c, err);
    if (status != 0)
        return status;
    arch = c.arch == HF_GPT2 ? NET_GPT2 : NET_LLAMA;
    if (o->arch >= 0 && o->arch != arch)
        return contradicts("--arch", err);
    if (o->untied && c.tied)
        return contradicts("--untied", err);
    if (o->tokenizer)
        return contradicts("--tokenizer", err);
    if (arch == NET_LLAMA && o->rope_base > 0.0 &&
        (float)o->rope_base != c.rope_base)
        return contradicts("--rope-base", err);
    o->arch = arch;
    o->untied = !c.tied;
    o->rope_base = (double)c.rope_base;
    o->norm_eps = (double)c.eps;
    return 0;
}

/* ---- the copy -------------------------------------------------------------
 */

int train_init_copy(const struct train_lm *o, struct infer_error *err)
{
    struct train_quantize_report quantized;
    struct hf_report imported;
    char path[PATH_LEN];

    copy_path(o->out, path);
    return hf_checkpoint_is(o->init)
               ? hf_import(o->init, path, INFER_F32, &imported, err)
               : train_quantize_file(o->init, path, INFER_F32, NULL, &quantized,
                                     err);
}

int train_init_load(struct net *net, const char *run, struct infer_error *err)
{
    struct infer_gguf *g = NULL;
    const struct net_param *params;
    char path[PATH_LEN];
    size_t n;
    int status;

    copy_path(run, path);
    status = infer_gguf_open(&g, path, err);
    params = net_param_table(net, &n);
    for (size_t i = 0; i < n && status == 0; i++) {
        const struct net_param *p = &params[i];
        const struct infer_gguf_tensor *t = infer_gguf_find(g, p->name);

        if (!t || t->type != INFER_F32 || t->dims[0] != p->dims[0] ||
            t->dims[1] != p->dims[1] || t->dims[2] != 1 || t->dims[3] != 1)
            status = infer_fail(err, INFER_EFORMAT,
                                "--init: tensor '%s' is missing or not "
                                "[%llu][%llu]",
                                p->name, (unsigned long long)p->dims[1],
                                (unsigned long long)p->dims[0]);
        else if (!infer_quant_finite(INFER_F32, t->data, p->n))
            status = infer_fail(err, INFER_EFORMAT,
                                "--init: a value of tensor '%s' is not finite",
                                p->name);
        else
            memcpy(net_params(net) + p->offset, t->data, p->n * sizeof(float));
    }
    infer_gguf_close(g);
    return status;
}
