/*
 * config.c - config.json and GGUF keys to struct hf_config and back. Whatever
 * would change the arithmetic and is not known here is refused by name.
 */
#include "trainer/hf/config.h"

#include "core/base/error.h"
#include "core/model/model.h"
#include "trainer/hf/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 1 << 17, MAX_COUNT = 1024, MAX_CTX = 1 << 24 };

static const struct {
    const char *type, *class;
    enum hf_arch arch;
} archs[] = {
    {"llama", "LlamaForCausalLM", HF_LLAMA},
    {"qwen2", "Qwen2ForCausalLM", HF_QWEN2},
    {"qwen3", "Qwen3ForCausalLM", HF_QWEN3},
    {"gpt2", "GPT2LMHeadModel", HF_GPT2},
    {"bert", "BertModel", HF_BERT},
    {"mistral", "MistralForCausalLM", HF_LLAMA}, /* the same without windows */
};

enum { N_ARCHS = sizeof(archs) / sizeof(*archs) };

const char *hf_arch_name(enum hf_arch arch)
{
    return archs[arch].type;
}

/* ---- from config.json -----------------------------------------------------
 */

static void read_arch(struct hf_reader *r, struct hf_config *c)
{
    const char *type = hf_text(r, "model_type", "");

    for (size_t i = 0; i < N_ARCHS; i++)
        if (strcmp(type, archs[i].type) == 0) {
            c->arch = archs[i].arch;
            return;
        }
    if (r->status == 0)
        r->status =
            infer_fail(r->err, INFER_EUNSUPPORTED,
                       "%s: model_type '%.40s' is not supported; "
                       "llama, mistral, qwen2, qwen3, gpt2 and bert are",
                       r->file, type);
}

/* A field that must have the one value that is supported. */
static void demand(struct hf_reader *r, const char *key, const char *only,
                   const char *also)
{
    const char *v = hf_text(r, key, only);

    if (strcmp(v, only) != 0 && strcmp(v, also) != 0)
        hf_refuse(r, INFER_EUNSUPPORTED, key,
                  "has a value that is not supported");
}

static void demand_not(struct hf_reader *r, const char *key)
{
    if (hf_bool(r, key, false))
        hf_refuse(r, INFER_EUNSUPPORTED, key, "is not supported");
}

static void demand_absent(struct hf_reader *r, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(r->object, key);

    if (v && !cJSON_IsNull(v))
        hf_refuse(r, INFER_EUNSUPPORTED, key, "is not supported");
}

static void read_gpt2(struct hf_reader *r, struct hf_config *c)
{
    c->n_vocab = hf_u32(r, "vocab_size", HF_REQUIRED, 1, 1 << 24);
    c->n_ctx = hf_u32(r, "n_positions", HF_REQUIRED, 1, MAX_CTX);
    c->d_model = hf_u32(r, "n_embd", HF_REQUIRED, 1, MAX_WIDTH);
    c->n_layers = hf_u32(r, "n_layer", HF_REQUIRED, 1, MAX_COUNT);
    c->n_heads = c->n_kv_heads = hf_u32(r, "n_head", HF_REQUIRED, 1, MAX_COUNT);
    c->d_ff = hf_u32(r, "n_inner", 4.0 * c->d_model, 1, MAX_WIDTH * 8);
    c->eps = hf_f32(r, "layer_norm_epsilon", 1e-5, 1e-12f, 1.0f);
    c->tied = hf_bool(r, "tie_word_embeddings", true);
    demand(r, "activation_function", "gelu_new", "gelu_pytorch_tanh");
    demand_not(r, "scale_attn_by_inverse_layer_idx");
    demand_not(r, "add_cross_attention");
    if (!hf_bool(r, "scale_attn_weights", true))
        hf_refuse(r, INFER_EUNSUPPORTED, "scale_attn_weights", "must be true");
    if (r->status == 0 && c->d_model % c->n_heads)
        hf_refuse(r, INFER_EFORMAT, "n_embd", "is no multiple of n_head");
    c->d_head = r->status ? 1 : c->d_model / c->n_heads;
}

/* A head for classes has as many as it has labels, two if none are named. */
static uint32_t read_n_classes(struct hf_reader *r)
{
    const cJSON *classes =
        cJSON_GetObjectItemCaseSensitive(r->object, "architectures");
    const cJSON *class = cJSON_GetArrayItem(classes, 0);
    const int named = cJSON_GetArraySize(hf_object(r, "id2label"));

    if (!cJSON_IsString(class) ||
        strcmp(class->valuestring, "BertForSequenceClassification") != 0)
        return 0;
    return hf_u32(r, "num_labels", named ? named : 2, 1, 1 << 24);
}

static void read_bert(struct hf_reader *r, struct hf_config *c)
{
    c->n_vocab = hf_u32(r, "vocab_size", HF_REQUIRED, 1, 1 << 24);
    c->n_ctx = hf_u32(r, "max_position_embeddings", HF_REQUIRED, 1, MAX_CTX);
    c->d_model = hf_u32(r, "hidden_size", HF_REQUIRED, 1, MAX_WIDTH);
    c->n_layers = hf_u32(r, "num_hidden_layers", HF_REQUIRED, 1, MAX_COUNT);
    c->n_heads = c->n_kv_heads =
        hf_u32(r, "num_attention_heads", HF_REQUIRED, 1, MAX_COUNT);
    c->d_ff = hf_u32(r, "intermediate_size", HF_REQUIRED, 1, MAX_WIDTH * 8);
    c->n_types = hf_u32(r, "type_vocab_size", 2.0, 1, 1 << 16);
    c->eps = hf_f32(r, "layer_norm_eps", 1e-12, 1e-30f, 1.0f);
    c->n_classes = read_n_classes(r);
    c->pooling = c->n_classes ? HF_POOL_RANK : HF_POOL_MEAN;
    if (strcmp(hf_text(r, "hidden_act", "gelu"), "gelu") != 0)
        demand(r, "hidden_act", "gelu_new", "gelu_pytorch_tanh");
    demand(r, "position_embedding_type", "absolute", "absolute");
    demand_not(r, "is_decoder");
    demand_not(r, "add_cross_attention");
    if (r->status == 0 && c->d_model % c->n_heads)
        hf_refuse(r, INFER_EFORMAT, "hidden_size",
                  "is no multiple of num_attention_heads");
    c->d_head = r->status ? 1 : c->d_model / c->n_heads;
}

/* What sentence-transformers pool, beside the checkpoint. */
static int read_pooling(struct hf_config *c, const char *folder,
                        struct infer_error *err)
{
    static const char *const others[] = {
        "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"};
    struct hf_reader r = {.file = "1_Pooling/config.json", .err = err};
    cJSON *root = NULL;
    bool first;
    int status = hf_json_open_in(&root, folder, r.file, err);

    if (status == 0 && hf_json_exists(folder, "2_Dense/config.json"))
        status = infer_fail(err, INFER_EUNSUPPORTED,
                            "2_Dense: a layer behind the pooling is not "
                            "supported");
    if (status != 0 || !root || c->n_classes) {
        cJSON_Delete(root);
        return status;
    }
    r.object = root;
    first = hf_bool(&r, "pooling_mode_cls_token", false);
    if (first == hf_bool(&r, "pooling_mode_mean_tokens", !first))
        hf_refuse(&r, INFER_EUNSUPPORTED, "pooling_mode_mean_tokens",
                  "or pooling_mode_cls_token must be true, not both");
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        demand_not(&r, others[i]); /* several are put one behind the other */
    if (first)
        c->pooling = HF_POOL_FIRST;
    cJSON_Delete(root);
    return r.status;
}

static void read_scaling(struct hf_reader *r, struct hf_config *c)
{
    struct hf_reader s = {
        .object = hf_object(r, "rope_scaling"), .file = r->file, .err = r->err};
    const char *type;

    if (!s.object)
        s.object = hf_object(r, "rope_parameters"); /* newer files */
    if (r->status || !s.object)
        return;
    c->rope_base = hf_f32(&s, "rope_theta", (double)c->rope_base, 1.0f, 1e12f);
    type = hf_text(&s, "rope_type", hf_text(&s, "type", "default"));
    if (strcmp(type, "default") == 0) {
        r->status = s.status;
        return;
    }
    c->factor = hf_f32(&s, "factor", HF_REQUIRED, 1e-3f, 1e6f);
    c->orig_ctx = hf_f32(&s, "original_max_position_embeddings", c->n_ctx, 1.0f,
                         (float)MAX_CTX);
    if (strcmp(type, "linear") == 0) {
        c->scaling = HF_SCALE_LINEAR;
    } else if (strcmp(type, "llama3") == 0) {
        c->scaling = HF_SCALE_LLAMA3;
        c->low = hf_f32(&s, "low_freq_factor", HF_REQUIRED, 1e-6f, 1e6f);
        c->high = hf_f32(&s, "high_freq_factor", HF_REQUIRED, 1e-6f, 1e6f);
        if (s.status == 0 && c->high <= c->low)
            hf_refuse(&s, INFER_EFORMAT, "high_freq_factor",
                      "is not above low_freq_factor");
    } else if (strcmp(type, "yarn") == 0) {
        const double own =
            c->factor > 1.0f ? 1.0 + 0.1 * log((double)c->factor) : 1.0;

        c->scaling = HF_SCALE_YARN;
        c->beta_fast = hf_f32(&s, "beta_fast", 32.0, 1e-3f, 1e6f);
        c->beta_slow = hf_f32(&s, "beta_slow", 1.0, 1e-3f, 1e6f);
        c->attn_factor =
            (float)((double)hf_f32(&s, "attention_factor", own, 1e-3f, 1e3f) /
                    own);
        demand_absent(&s, "mscale");
        demand_absent(&s, "mscale_all_dim");
        if (!hf_bool(&s, "truncate", true))
            hf_refuse(&s, INFER_EUNSUPPORTED, "truncate", "must be true");
    } else {
        hf_refuse(&s, INFER_EUNSUPPORTED, "rope_type",
                  "is none of linear, llama3 and yarn");
    }
    r->status = s.status;
}

static void read_llama(struct hf_reader *r, struct hf_config *c)
{
    c->n_vocab = hf_u32(r, "vocab_size", HF_REQUIRED, 1, 1 << 24);
    c->n_ctx = hf_u32(r, "max_position_embeddings", HF_REQUIRED, 1, MAX_CTX);
    c->d_model = hf_u32(r, "hidden_size", HF_REQUIRED, 1, MAX_WIDTH);
    c->n_layers = hf_u32(r, "num_hidden_layers", HF_REQUIRED, 1, MAX_COUNT);
    c->n_heads = hf_u32(r, "num_attention_heads", HF_REQUIRED, 1, MAX_COUNT);
    c->n_kv_heads = hf_u32(r, "num_key_value_heads", c->n_heads, 1, MAX_COUNT);
    c->d_ff = hf_u32(r, "intermediate_size", HF_REQUIRED, 1, MAX_WIDTH * 8);
    c->d_head = hf_u32(r, "head_dim",
                       r->status             ? 1.0
                       : c->arch == HF_QWEN3 ? 128.0
                                             : c->d_model / c->n_heads,
                       1, INFER_MAX_HEAD);
    c->eps = hf_f32(r, "rms_norm_eps", 1e-6, 1e-12f, 1.0f);
    c->rope_base = hf_f32(r, "rope_theta", 10000.0, 1.0f, 1e12f);
    c->tied = hf_bool(r, "tie_word_embeddings", false);
    c->attn_bias = hf_bool(r, "attention_bias", false);
    c->mlp_bias = hf_bool(r, "mlp_bias", false);
    demand(r, "hidden_act", "silu", "swish");
    demand_not(r, "use_sliding_window");
    if (c->arch == HF_LLAMA)
        demand_absent(r, "sliding_window");
    if (hf_f32(r, "partial_rotary_factor", 1.0, 0.0f, 1.0f) != 1.0f)
        hf_refuse(r, INFER_EUNSUPPORTED, "partial_rotary_factor", "must be 1");
    read_scaling(r, c);
    if (r->status == 0 && c->d_head % 2)
        hf_refuse(r, INFER_EFORMAT, "head_dim", "is odd");
    if (r->status == 0 && c->n_heads % c->n_kv_heads)
        hf_refuse(r, INFER_EFORMAT, "num_key_value_heads",
                  "does not divide num_attention_heads");
}

static int32_t id_of(struct hf_reader *r, const char *key, const cJSON *v,
                     uint32_t n_vocab)
{
    if (cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < n_vocab &&
        v->valuedouble == floor(v->valuedouble))
        return (int32_t)v->valuedouble;
    hf_refuse(r, INFER_EFORMAT, key, "is not the id of a token");
    return -1;
}

/* Ids that are there replace those found before. */
static void read_ids(struct hf_reader *r, struct hf_config *c)
{
    const cJSON *bos =
        cJSON_GetObjectItemCaseSensitive(r->object, "bos_token_id");
    const cJSON *eos =
        cJSON_GetObjectItemCaseSensitive(r->object, "eos_token_id");
    const cJSON *v;
    int n = 0;

    if (r->status)
        return;
    if (bos && !cJSON_IsNull(bos))
        c->bos = id_of(r, "bos_token_id", bos, c->n_vocab);
    if (!eos || cJSON_IsNull(eos))
        return;
    for (int i = 0; i < HF_MAX_EOS; i++)
        c->eos[i] = -1;
    if (!cJSON_IsArray(eos)) {
        c->eos[0] = id_of(r, "eos_token_id", eos, c->n_vocab);
        return;
    }
    cJSON_ArrayForEach (v, eos) {
        if (n == HF_MAX_EOS) {
            hf_refuse(r, INFER_EUNSUPPORTED, "eos_token_id",
                      "has more than 3 ids");
            return;
        }
        c->eos[n++] = id_of(r, "eos_token_id", v, c->n_vocab);
    }
}

int hf_config_read(struct hf_config *c, const char *folder,
                   struct infer_error *err)
{
    struct hf_reader r = {.file = "config.json", .err = err};
    cJSON *root = NULL, *more = NULL;

    *c = (struct hf_config){.bos = -1, .eos = {-1, -1, -1}, .attn_factor = 1};
    if (!hf_json_exists(folder, "config.json"))
        return infer_fail(err, INFER_EIO,
                          "'%.150s' has no config.json: the folder of a "
                          "checkpoint is wanted",
                          folder);
    r.status = hf_json_open_in(&root, folder, "config.json", err);
    if (r.status)
        return r.status;
    r.object = root;
    read_arch(&r, c);
    demand_absent(&r, "quantization_config");
    if (r.status == 0 && c->arch == HF_GPT2)
        read_gpt2(&r, c);
    else if (r.status == 0 && c->arch == HF_BERT)
        read_bert(&r, c);
    else if (r.status == 0)
        read_llama(&r, c);
    read_ids(&r, c);
    if (r.status == 0)
        r.status =
            hf_json_open_in(&more, folder, "generation_config.json", err);
    if (more) {
        r.object = more;
        r.file = "generation_config.json";
        read_ids(&r, c);
    }
    cJSON_Delete(more);
    cJSON_Delete(root);
    if (r.status == 0 && c->arch == HF_BERT)
        return read_pooling(c, folder, err);
    return r.status;
}

/* ---- to config.json -------------------------------------------------------
 */

/* The shortest decimal that is this float: 1e-05, not 9.99999974737875e-06 */
static double shortest(float v)
{
    char text[32];

    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            return strtod(text, NULL);
    }
    return (double)v;
}

static void add_float(cJSON *o, const char *key, float v)
{
    cJSON_AddNumberToObject(o, key, shortest(v));
}

static void add_ids(cJSON *o, const struct hf_config *c)
{
    if (c->bos >= 0)
        cJSON_AddNumberToObject(o, "bos_token_id", c->bos);
    if (c->eos[0] >= 0 && c->eos[1] < 0) {
        cJSON_AddNumberToObject(o, "eos_token_id", c->eos[0]);
    } else if (c->eos[0] >= 0) {
        cJSON *list = cJSON_AddArrayToObject(o, "eos_token_id");

        for (int i = 0; i < HF_MAX_EOS && c->eos[i] >= 0; i++)
            cJSON_AddItemToArray(list, cJSON_CreateNumber(c->eos[i]));
    }
}

static void add_scaling(cJSON *o, const struct hf_config *c)
{
    static const char *const types[] = {"default", "linear", "llama3", "yarn"};
    cJSON *s;

    if (c->scaling == HF_SCALE_NONE) {
        cJSON_AddNullToObject(o, "rope_scaling");
        return;
    }
    s = cJSON_AddObjectToObject(o, "rope_scaling");
    cJSON_AddStringToObject(s, "rope_type", types[c->scaling]);
    add_float(s, "factor", c->factor);
    if (c->scaling != HF_SCALE_LINEAR)
        cJSON_AddNumberToObject(s, "original_max_position_embeddings",
                                (double)c->orig_ctx);
    if (c->scaling == HF_SCALE_LLAMA3) {
        add_float(s, "low_freq_factor", c->low);
        add_float(s, "high_freq_factor", c->high);
    } else if (c->scaling == HF_SCALE_YARN) {
        const double own = 1.0 + 0.1 * log((double)c->factor);

        add_float(s, "beta_fast", c->beta_fast);
        add_float(s, "beta_slow", c->beta_slow);
        if (c->attn_factor != 1.0f)
            cJSON_AddNumberToObject(s, "attention_factor",
                                    own * (double)c->attn_factor);
    }
}

static void add_gpt2(cJSON *o, const struct hf_config *c)
{
    cJSON_AddNumberToObject(o, "n_positions", c->n_ctx);
    cJSON_AddNumberToObject(o, "n_ctx", c->n_ctx);
    cJSON_AddNumberToObject(o, "n_embd", c->d_model);
    cJSON_AddNumberToObject(o, "n_layer", c->n_layers);
    cJSON_AddNumberToObject(o, "n_head", c->n_heads);
    cJSON_AddNumberToObject(o, "n_inner", c->d_ff);
    add_float(o, "layer_norm_epsilon", c->eps);
    cJSON_AddStringToObject(o, "activation_function", "gelu_new");
}

static void add_llama(cJSON *o, const struct hf_config *c)
{
    cJSON_AddNumberToObject(o, "max_position_embeddings", c->n_ctx);
    cJSON_AddNumberToObject(o, "hidden_size", c->d_model);
    cJSON_AddNumberToObject(o, "intermediate_size", c->d_ff);
    cJSON_AddNumberToObject(o, "num_hidden_layers", c->n_layers);
    cJSON_AddNumberToObject(o, "num_attention_heads", c->n_heads);
    cJSON_AddNumberToObject(o, "num_key_value_heads", c->n_kv_heads);
    cJSON_AddNumberToObject(o, "head_dim", c->d_head);
    add_float(o, "rms_norm_eps", c->eps);
    add_float(o, "rope_theta", c->rope_base);
    add_scaling(o, c);
    cJSON_AddStringToObject(o, "hidden_act", "silu");
    if (c->arch != HF_QWEN2)
        cJSON_AddBoolToObject(o, "attention_bias", c->attn_bias);
    if (c->arch == HF_LLAMA)
        cJSON_AddBoolToObject(o, "mlp_bias", c->mlp_bias);
}

int hf_config_write(const struct hf_config *c, const char *folder,
                    const char *torch_dtype, struct infer_error *err)
{
    cJSON *o = cJSON_CreateObject(), *g = cJSON_CreateObject();
    cJSON *classes = cJSON_AddArrayToObject(o, "architectures");
    int status;

    cJSON_AddItemToArray(classes, cJSON_CreateString(archs[c->arch].class));
    cJSON_AddStringToObject(o, "model_type", archs[c->arch].type);
    cJSON_AddNumberToObject(o, "vocab_size", c->n_vocab);
    if (c->arch == HF_GPT2)
        add_gpt2(o, c);
    else
        add_llama(o, c);
    cJSON_AddBoolToObject(o, "tie_word_embeddings", c->tied);
    cJSON_AddStringToObject(o, "torch_dtype", torch_dtype);
    add_ids(o, c);
    add_ids(g, c);
    status = hf_json_save(o, folder, "config.json", err);
    if (status == 0)
        status = hf_json_save(g, folder, "generation_config.json", err);
    cJSON_Delete(o);
    cJSON_Delete(g);
    return status;
}
