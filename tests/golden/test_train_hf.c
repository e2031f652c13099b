/*
 * test_train_hf.c - models as Hugging Face checkpoints and back.
 *
 * A model exported means the same to an independent forward pass that knows
 * only the checkpoint's own layout (tests/hf_reference.c) as to the reference's
 * exact one; imported again it is the same file, bit for bit, and its tokenizer
 * makes the same ids. Checkpoints that are damaged or of a kind not supported
 * are refused with a sentence that names the culprit.
 */
#include "tests/hf_folder.h"
#include "tests/hf_reference.h"
#include "tests/image.h"
#include "tests/oracle.h"

#include "core/format/quant.h"
#include "core/format/safetensors.h"
#include "core/model/model.h"
#include "trainer/hf/convert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { V = 512, MAX_IDS = 1024, ROOM = 512 };

/* ---- the same model -------------------------------------------------------
 */

static const struct model {
    const char *name;
    double limit; /* of logits; the reference's GELU comes from a table */
} models[] = {
    {"llama-b32", 1e-4},   {"llama-ropefreqs", 1e-4},
    {"llama-yarn", 1e-4},  {"llama-linear", 1e-4},
    {"stories260K", 1e-4}, {"qwen2", 1e-4},
    {"qwen3", 1e-4},       {"gpt2", 1e-4},
};

static void check_meaning(const struct model *m)
{
    char path[ROOM];
    double logits[V], worst = 0.0;
    int32_t ids[MAX_IDS];
    const cJSON *prompt;
    size_t n_want, at = 0;
    float *want;
    cJSON *cases;

    snprintf(path, sizeof(path), ORACLE "/%s", m->name);
    cases = oracle_cases(path);
    snprintf(path, sizeof(path), ORACLE "/%s/F32.exact.f32", m->name);
    want = oracle_floats(path, &n_want);
    cJSON_ArrayForEach (prompt, cJSON_GetObjectItem(cases, "prompts")) {
        const size_t n = oracle_ids(prompt, "ids", ids, MAX_IDS);

        assert_true(at + V <= n_want);
        hf_reference_logits(hf_folder, ids, n, logits, V);
        for (size_t i = 0; i < V; i++)
            worst = fmax(worst, fabs(logits[i] - (double)want[at + i]));
        at += V;
    }
    if (worst > m->limit)
        fail_msg("%s: logits differ by %g", m->name, worst);
    assert_int_equal(at, n_want);
    free(want);
    cJSON_Delete(cases);
}

static void same_tensors(const struct infer_gguf *a, const struct infer_gguf *b)
{
    assert_int_equal(infer_gguf_n_tensors(a), infer_gguf_n_tensors(b));
    for (size_t i = 0; i < infer_gguf_n_tensors(a); i++) {
        const struct infer_gguf_tensor *x = infer_gguf_tensor(a, i);
        const struct infer_gguf_tensor *y = infer_gguf_find(b, x->name);

        if (!y || x->type != y->type || x->bytes != y->bytes ||
            memcmp(x->dims, y->dims, sizeof(x->dims)) != 0)
            fail_msg("tensor '%s' is not the same", x->name);
        if (strcmp(x->name, "rope_freqs.weight") == 0) {
            for (size_t k = 0; k < x->dims[0]; k++) /* computed anew */
                assert_true(fabsf(((const float *)x->data)[k] -
                                  ((const float *)y->data)[k]) <=
                            1e-6f * ((const float *)x->data)[k]);
            continue;
        }
        if (memcmp(x->data, y->data, (size_t)x->bytes) != 0)
            fail_msg("tensor '%s' has other values", x->name);
    }
}

static void same_hparams(const struct infer_gguf *a, const struct infer_gguf *b)
{
    struct infer_hparams x, y;
    struct infer_error err;

    assert_int_equal(infer_hparams_read(&x, a, &err), 0);
    assert_int_equal(infer_hparams_read(&y, b, &err), 0);
    assert_ptr_equal(x.arch, y.arch);
    assert_memory_equal(&x.n_ctx, &y.n_ctx, 7 * sizeof(uint32_t));
    assert_true(x.norm_eps == y.norm_eps);
    assert_true(x.rope.base == y.rope.base && x.rope.scale == y.rope.scale);
    assert_true(x.rope.n_rot == y.rope.n_rot && x.rope.yarn == y.rope.yarn);
    assert_true(!x.rope.yarn || (x.rope.orig_ctx == y.rope.orig_ctx &&
                                 x.rope.attn_factor == y.rope.attn_factor &&
                                 x.rope.beta_fast == y.rope.beta_fast &&
                                 x.rope.beta_slow == y.rope.beta_slow));
}

static void test_there_and_back(void **state)
{
    if (!oracle_present())
        skip();
    for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++) {
        struct infer_gguf *a, *b;
        struct hf_report r;
        struct infer_error err;
        char path[ROOM];

        snprintf(path, sizeof(path), "%s/model-F32.gguf", models[i].name);
        hf_export_oracle(path);
        check_meaning(&models[i]);
        if (hf_import(hf_folder, hf_back, -1, &r, &err))
            fail_msg("%s: %s", models[i].name, err.text);
        snprintf(path, sizeof(path), ORACLE "/%s/model-F32.gguf",
                 models[i].name);
        a = hf_open(path);
        b = hf_open(hf_back);
        assert_int_equal(r.n_tensors +
                             (infer_gguf_find(a, "rope_freqs.weight") != NULL),
                         infer_gguf_n_tensors(a));
        same_tensors(a, b);
        same_hparams(a, b);
        hf_same_vocab(a, b);
        hf_same_ids(models[i].name, b);
        infer_gguf_close(a);
        infer_gguf_close(b);
        hf_remove_folder(state);
        hf_make_folder(state);
    }
}

/* 16-bit weights stay what they are; quantized ones become their values. */
static void test_other_types(void **state)
{
    static const char *const types[] = {"F16", "BF16", "Q8_0"};

    (void)state;
    if (!oracle_present())
        skip();
    for (size_t i = 0; i < 3; i++) {
        const struct infer_gguf_tensor *x, *y;
        struct infer_gguf *a, *b;
        struct hf_report r;
        struct infer_error err;
        char path[ROOM];
        float *values;

        snprintf(path, sizeof(path), "llama-b32/model-%s.gguf", types[i]);
        hf_export_oracle(path);
        if (hf_import(hf_folder, hf_back, i == 2 ? INFER_Q8_0 : -1, &r, &err))
            fail_msg("%s", err.text);
        snprintf(path, sizeof(path), ORACLE "/llama-b32/model-%s.gguf",
                 types[i]);
        a = hf_open(path);
        b = hf_open(hf_back);
        x = infer_gguf_find(a, "blk.1.attn_q.weight");
        y = infer_gguf_find(b, "blk.1.attn_q.weight");
        assert_int_equal(x->type, y->type);
        if (i < 2)
            same_tensors(a, b);
        values = malloc(2 * V * sizeof(*values)); /* and quantized again */
        assert_non_null(values);
        infer_dequantize(x->type, x->data, values, V);
        infer_dequantize(y->type, y->data, values + V, V);
        for (size_t k = 0; k < V; k++)
            assert_true(fabsf(values[k] - values[V + k]) <=
                        (i < 2 ? 0.0f : 0.01f * fabsf(values[k]) + 1e-3f));
        free(values);
        infer_gguf_close(a);
        infer_gguf_close(b);
    }
}

/* ---- changed checkpoints --------------------------------------------------
 */

/* A field of config.json, and what is said when it has this value. */
static const struct bad_config {
    const char *key, *value; /* value: JSON */
    int status;
    const char *says;
} bad_configs[] = {
    {"model_type", "\"gemma2\"", INFER_EUNSUPPORTED, "'gemma2'"},
    {"model_type", "7", INFER_EFORMAT, "'model_type' is not a string"},
    {"vocab_size", "null", INFER_EFORMAT, "'vocab_size' is missing"},
    {"vocab_size", "0", INFER_EFORMAT, "'vocab_size' is not a number from 1"},
    {"vocab_size", "1e99", INFER_EFORMAT, "'vocab_size'"},
    {"vocab_size", "1.5", INFER_EFORMAT, "whole number"},
    {"vocab_size", "513", INFER_EFORMAT, "'model.embed_tokens.weight'"},
    {"hidden_size", "\"128\"", INFER_EFORMAT, "'hidden_size'"},
    {"hidden_size", "64", INFER_EFORMAT, "'model.embed_tokens.weight'"},
    {"num_hidden_layers", "3", INFER_EFORMAT,
     "'model.layers.2.input_layernorm.weight' is missing"},
    {"num_hidden_layers", "1", INFER_EUNSUPPORTED, "'model.layers.1."},
    {"num_key_value_heads", "3", INFER_EFORMAT, "does not divide"},
    {"num_key_value_heads", "8", INFER_EFORMAT, "k_proj.weight'"},
    {"head_dim", "7", INFER_EFORMAT, "'head_dim' is odd"},
    {"hidden_act", "\"gelu\"", INFER_EUNSUPPORTED, "'hidden_act'"},
    {"rms_norm_eps", "-1", INFER_EFORMAT, "'rms_norm_eps'"},
    {"attention_bias", "true", INFER_EFORMAT, "q_proj.bias' is missing"},
    {"attention_bias", "1", INFER_EFORMAT, "neither true nor false"},
    {"tie_word_embeddings", "null", INFER_OK, ""},
    {"sliding_window", "4096", INFER_EUNSUPPORTED, "'sliding_window'"},
    {"quantization_config", "{}", INFER_EUNSUPPORTED, "'quantization_config'"},
    {"partial_rotary_factor", "0.5", INFER_EUNSUPPORTED, "must be 1"},
    {"rope_scaling", "[]", INFER_EFORMAT, "'rope_scaling' is not an object"},
    {"rope_scaling", "{\"type\":\"dynamic\",\"factor\":2}", INFER_EUNSUPPORTED,
     "'rope_type'"},
    {"rope_scaling", "{\"type\":\"linear\"}", INFER_EFORMAT,
     "'factor' is missing"},
    {"rope_scaling",
     "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
     "\"high_freq_factor\":1}",
     INFER_EFORMAT, "'high_freq_factor'"},
    {"eos_token_id", "512", INFER_EFORMAT, "'eos_token_id'"},
    {"eos_token_id", "[2, 3, 4, 5]", INFER_EUNSUPPORTED, "more than 3"},
};

static void test_bad_configs(void **state)
{
    (void)state;
    if (!oracle_present())
        skip();
    hf_export_oracle("llama-b32/model-F32.gguf");
    unlink(hf_in("generation_config.json"));
    for (size_t i = 0; i < sizeof(bad_configs) / sizeof(*bad_configs); i++) {
        const struct bad_config *b = &bad_configs[i];
        cJSON *config = oracle_json(hf_in("config.json"));
        cJSON *good = cJSON_Duplicate(config, true);

        cJSON_DeleteItemFromObject(config, b->key);
        cJSON_AddItemToObject(config, b->key, cJSON_Parse(b->value));
        hf_write_json("config.json", config);
        if (b->status)
            hf_import_fails(b->status, b->says, b->key);
        hf_write_json("config.json", good);
    }
    hf_write(hf_in("config.json"), "{\"model_type\": \"llama\"} x", 25);
    hf_import_fails(INFER_EFORMAT, "not one JSON object", "garbage");
    hf_write(hf_in("config.json"), "{\"model_type\": ", 15);
    hf_import_fails(INFER_EFORMAT, "is not JSON", "cut");
    unlink(hf_in("config.json"));
    hf_import_fails(INFER_EIO, "has no config.json", "no config");
}

static void test_missing_files(void **state)
{
    (void)state;
    if (!oracle_present())
        skip();
    hf_export_oracle("llama-b32/model-F32.gguf");
    unlink(hf_in("tokenizer.model"));
    hf_import_fails(INFER_EIO, "has no tokenizer", "no tokenizer");
    unlink(hf_in("model.safetensors"));
    hf_write(hf_in("pytorch_model.bin"), "x", 1);
    hf_import_fails(INFER_EIO, "pytorch_model.bin is not read", "no weights");
}

/* The tensors of model.safetensors spread over two files, in F32 but for one
 * that has `odd` as its type. */
static void split(enum infer_st_dtype odd, const char *index_says)
{
    struct infer_safetensors_writer *w[2];
    struct infer_safetensors *s = NULL;
    struct infer_error err;
    cJSON *index = cJSON_CreateObject();
    cJSON *map = cJSON_AddObjectToObject(index, "weight_map");

    assert_int_equal(
        infer_safetensors_open(&s, hf_in("model.safetensors"), &err), 0);
    for (int k = 0; k < 2; k++)
        assert_int_equal(infer_safetensors_writer_create(&w[k], &err), 0);
    for (size_t i = 0; i < infer_safetensors_n(s); i++) {
        const struct infer_st_tensor *t = infer_safetensors_tensor(s, i);

        infer_safetensors_add(w[i % 2], t->name, i == 3 ? odd : t->dtype,
                              t->n_dims, t->dims, t->data);
        cJSON_AddStringToObject(map, t->name,
                                i == 4       ? index_says
                                : i % 2 == 0 ? "a.safetensors"
                                             : "b.safetensors");
    }
    assert_int_equal(infer_safetensors_save(w[0], hf_in("a.safetensors"), &err),
                     0);
    assert_int_equal(infer_safetensors_save(w[1], hf_in("b.safetensors"), &err),
                     0);
    infer_safetensors_writer_free(w[0]);
    infer_safetensors_writer_free(w[1]);
    infer_safetensors_close(s);
    hf_write_json("model.safetensors.index.json", index);
}

static void test_shards(void **state)
{
    static const char one[] =
        "{\"weight_map\":{\"lm_head.weight\":\"model.safetensors\"}}";
    struct infer_gguf *a, *b;
    struct hf_report r;
    struct infer_error err;

    (void)state;
    if (!oracle_present())
        skip();
    hf_export_oracle("llama-b32/model-F32.gguf");
    split(INFER_ST_F32, "a.safetensors");
    if (hf_import(hf_folder, hf_back, -1, &r, &err))
        fail_msg("%s", err.text);
    a = hf_open(ORACLE "/llama-b32/model-F32.gguf");
    b = hf_open(hf_back);
    same_tensors(a, b);
    infer_gguf_close(a);
    infer_gguf_close(b);
    split(INFER_ST_I32, "a.safetensors");
    hf_import_fails(INFER_EUNSUPPORTED, "is of type I32", "dtype");
    split(INFER_ST_F32, "b.safetensors");
    hf_import_fails(INFER_EFORMAT, "is not in 'b.safetensors'", "wrong file");
    split(INFER_ST_F32, "../a.safetensors");
    hf_import_fails(INFER_EFORMAT, "is no file of the folder", "outside");
    split(INFER_ST_F32, "c.safetensors");
    hf_import_fails(INFER_EIO, "c.safetensors", "absent");
    hf_write(hf_in("model.safetensors.index.json"), "{}", 2);
    hf_import_fails(INFER_EFORMAT, "'weight_map' is missing", "no map");
    hf_write(hf_in("model.safetensors.index.json"), one, strlen(one));
    hf_import_fails(INFER_EFORMAT, "names 1 tensors", "incomplete");
}

/* A weight that is not finite is the engine's to find. */
static void test_not_finite(void **state)
{
    struct image m;

    (void)state;
    if (!oracle_present())
        skip();
    hf_export_oracle("llama-b32/model-F32.gguf");
    m = image_read(hf_in("model.safetensors"));
    memcpy(m.data + m.len - 400, &(float){(float)NAN}, 4);
    hf_write(hf_in("model.safetensors"), m.data, m.len);
    image_free(&m);
    hf_import_fails(INFER_EFORMAT, "not finite", "NaN");
}

/* What config.json cannot say is not left out in silence. */
static void test_export_refuses(void **state)
{
    struct hf_report r;
    struct infer_error err = {0};

    (void)state;
    if (!oracle_present())
        skip();
    assert_int_equal(
        hf_export(ORACLE "/phi3/model-F32.gguf", hf_folder, &r, &err),
        INFER_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "phi3"));
    assert_int_equal(hf_export("/nowhere.gguf", hf_folder, &r, &err),
                     INFER_EIO);
    assert_int_equal(
        hf_export(ORACLE "/gpt2/model-F32.gguf", "/dev/null/x", &r, &err),
        INFER_EIO);
}

int main(void)
{
#define T(f)                                                                   \
    cmocka_unit_test_setup_teardown(f, hf_make_folder, hf_remove_folder)
    const struct CMUnitTest tests[] = {
        T(test_there_and_back), T(test_other_types), T(test_bad_configs),
        T(test_missing_files),  T(test_shards),      T(test_not_finite),
        T(test_export_refuses),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
