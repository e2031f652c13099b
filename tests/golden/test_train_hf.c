/*
 * test_train_hf.c - models as Hugging Face checkpoints and back.
 *
 * A model exported means the same to an independent forward pass that knows
 * only the checkpoint's own layout (tests/hf_reference.c) as to the reference's
 * exact one; imported again it is the same file, bit for bit, and its tokenizer
 * makes the same ids. Checkpoints that are damaged or of a kind not supported
 * are refused with a sentence that names the culprit.
 */
#include "tests/hf_reference.h"
#include "tests/image.h"
#include "tests/oracle.h"

#include "core/format/quant.h"
#include "core/format/safetensors.h"
#include "core/model/model.h"
#include "core/tokenizer/spm.h"
#include "trainer/hf/convert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { V = 512, MAX_IDS = 1024, ROOM = 512 };

static char folder[64]; /* of this test, emptied after it */
static char back[128];  /* the model that came back */

static const char *in(const char *name)
{
    static char path[2][ROOM];
    static int turn;

    turn = !turn;
    snprintf(path[turn], ROOM, "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/infer-hf-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(back, sizeof(back), "%s/back.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    DIR *dir = opendir(folder);
    const struct dirent *d;

    (void)state;
    while (dir && (d = readdir(dir)) != NULL)
        unlink(in(d->d_name));
    if (dir)
        closedir(dir);
    return rmdir(folder);
}

static void export_oracle(const char *name)
{
    char path[ROOM];
    struct hf_report r;
    struct infer_error err;

    snprintf(path, sizeof(path), ORACLE "/%s", name);
    if (hf_export(path, folder, &r, &err))
        fail_msg("%s: %s", name, err.text);
}

static struct infer_gguf *open_gguf(const char *path)
{
    struct infer_gguf *g = NULL;
    struct infer_error err;

    if (infer_gguf_open(&g, path, &err))
        fail_msg("%s", err.text);
    return g;
}

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
        hf_reference_logits(folder, ids, n, logits, V);
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

static void same_array(const struct infer_gguf *a, const struct infer_gguf *b,
                       const char *key)
{
    struct infer_gguf_array x, y;
    const int status = infer_gguf_get_array(a, key, &x, NULL);

    if (status == 1)
        return;
    assert_int_equal(infer_gguf_get_array(b, key, &y, NULL), 0);
    assert_int_equal(x.n, y.n);
    assert_int_equal(x.type, y.type);
    for (uint64_t i = 0; i < x.n && x.strs; i++)
        if (x.strs[i].len != y.strs[i].len ||
            memcmp(x.strs[i].data, y.strs[i].data, (size_t)x.strs[i].len) != 0)
            fail_msg("%s: element %llu differs", key, (unsigned long long)i);
    if (!x.strs)
        assert_memory_equal(x.data, y.data, (size_t)x.n * 4);
}

static void same_vocab(const struct infer_gguf *a, const struct infer_gguf *b)
{
    same_array(a, b, "tokenizer.ggml.tokens");
    same_array(a, b, "tokenizer.ggml.token_type");
    same_array(a, b, "tokenizer.ggml.scores");
    same_array(a, b, "tokenizer.ggml.merges");
}

/* Texts of the cases become the same ids. */
static void same_ids(const char *name, const struct infer_gguf *g)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err;
    const cJSON *prompt;
    char path[ROOM];
    size_t n_texts = 0;
    cJSON *cases;

    if (infer_tokenizer_create(&t, g, &err))
        fail_msg("%s: %s", name, err.text);
    snprintf(path, sizeof(path), ORACLE "/%s", name);
    cases = oracle_cases(path);
    cJSON_ArrayForEach (prompt, cJSON_GetObjectItem(cases, "prompts")) {
        const cJSON *text = cJSON_GetObjectItem(prompt, "text");
        struct infer_tokens got;
        int32_t ids[MAX_IDS];
        size_t n;

        if (!cJSON_IsString(text))
            continue;
        n = oracle_ids(prompt, "ids", ids, MAX_IDS);
        assert_int_equal(infer_tokenizer_encode(t, text->valuestring,
                                                strlen(text->valuestring), true,
                                                false, &got, &err),
                         0);
        assert_int_equal(got.n, n);
        assert_memory_equal(got.ids, ids, n * sizeof(*ids));
        infer_tokens_release(&got);
        n_texts++;
    }
    assert_true(n_texts > 0);
    infer_tokenizer_free(t);
    cJSON_Delete(cases);
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
        export_oracle(path);
        check_meaning(&models[i]);
        if (hf_import(folder, back, -1, &r, &err))
            fail_msg("%s: %s", models[i].name, err.text);
        snprintf(path, sizeof(path), ORACLE "/%s/model-F32.gguf",
                 models[i].name);
        a = open_gguf(path);
        b = open_gguf(back);
        assert_int_equal(r.n_tensors +
                             (infer_gguf_find(a, "rope_freqs.weight") != NULL),
                         infer_gguf_n_tensors(a));
        same_tensors(a, b);
        same_hparams(a, b);
        same_vocab(a, b);
        same_ids(models[i].name, b);
        infer_gguf_close(a);
        infer_gguf_close(b);
        remove_folder(state);
        make_folder(state);
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
        export_oracle(path);
        if (hf_import(folder, back, i == 2 ? INFER_Q8_0 : -1, &r, &err))
            fail_msg("%s", err.text);
        snprintf(path, sizeof(path), ORACLE "/llama-b32/model-%s.gguf",
                 types[i]);
        a = open_gguf(path);
        b = open_gguf(back);
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

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void write_json(const char *name, cJSON *root)
{
    char *text = cJSON_Print(root);

    assert_non_null(text);
    write_file(in(name), text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(root);
}

static void import_fails(int status, const char *says, const char *what)
{
    struct hf_report r;
    struct infer_error err = {0};
    const int got = hf_import(folder, in("never.gguf"), -1, &r, &err);

    if (got != status || !strstr(err.text, says))
        fail_msg("%s: status %d, '%s'", what, got, err.text);
    assert_int_not_equal(access(in("never.gguf"), F_OK), 0);
    assert_int_not_equal(access(in("never.gguf.unchecked"), F_OK), 0);
}

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
    export_oracle("llama-b32/model-F32.gguf");
    unlink(in("generation_config.json"));
    for (size_t i = 0; i < sizeof(bad_configs) / sizeof(*bad_configs); i++) {
        const struct bad_config *b = &bad_configs[i];
        cJSON *config = oracle_json(in("config.json"));
        cJSON *good = cJSON_Duplicate(config, true);

        cJSON_DeleteItemFromObject(config, b->key);
        cJSON_AddItemToObject(config, b->key, cJSON_Parse(b->value));
        write_json("config.json", config);
        if (b->status)
            import_fails(b->status, b->says, b->key);
        write_json("config.json", good);
    }
    write_file(in("config.json"), "{\"model_type\": \"llama\"} x", 25);
    import_fails(INFER_EFORMAT, "not one JSON object", "garbage");
    write_file(in("config.json"), "{\"model_type\": ", 15);
    import_fails(INFER_EFORMAT, "is not JSON", "cut");
    unlink(in("config.json"));
    import_fails(INFER_EIO, "has no config.json", "no config");
}

static void test_missing_files(void **state)
{
    (void)state;
    if (!oracle_present())
        skip();
    export_oracle("llama-b32/model-F32.gguf");
    unlink(in("tokenizer.model"));
    import_fails(INFER_EIO, "has no tokenizer", "no tokenizer");
    unlink(in("model.safetensors"));
    write_file(in("pytorch_model.bin"), "x", 1);
    import_fails(INFER_EIO, "pytorch_model.bin is not read", "no weights");
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

    assert_int_equal(infer_safetensors_open(&s, in("model.safetensors"), &err),
                     0);
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
    assert_int_equal(infer_safetensors_save(w[0], in("a.safetensors"), &err),
                     0);
    assert_int_equal(infer_safetensors_save(w[1], in("b.safetensors"), &err),
                     0);
    infer_safetensors_writer_free(w[0]);
    infer_safetensors_writer_free(w[1]);
    infer_safetensors_close(s);
    write_json("model.safetensors.index.json", index);
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
    export_oracle("llama-b32/model-F32.gguf");
    split(INFER_ST_F32, "a.safetensors");
    if (hf_import(folder, back, -1, &r, &err))
        fail_msg("%s", err.text);
    a = open_gguf(ORACLE "/llama-b32/model-F32.gguf");
    b = open_gguf(back);
    same_tensors(a, b);
    infer_gguf_close(a);
    infer_gguf_close(b);
    split(INFER_ST_I32, "a.safetensors");
    import_fails(INFER_EUNSUPPORTED, "is of type I32", "dtype");
    split(INFER_ST_F32, "b.safetensors");
    import_fails(INFER_EFORMAT, "is not in 'b.safetensors'", "wrong file");
    split(INFER_ST_F32, "../a.safetensors");
    import_fails(INFER_EFORMAT, "is no file of the folder", "outside");
    split(INFER_ST_F32, "c.safetensors");
    import_fails(INFER_EIO, "c.safetensors", "absent");
    write_file(in("model.safetensors.index.json"), "{}", 2);
    import_fails(INFER_EFORMAT, "'weight_map' is missing", "no map");
    write_file(in("model.safetensors.index.json"), one, strlen(one));
    import_fails(INFER_EFORMAT, "names 1 tensors", "incomplete");
}

/* A weight that is not finite is the engine's to find. */
static void test_not_finite(void **state)
{
    struct image m;

    (void)state;
    if (!oracle_present())
        skip();
    export_oracle("llama-b32/model-F32.gguf");
    m = image_read(in("model.safetensors"));
    memcpy(m.data + m.len - 400, &(float){(float)NAN}, 4);
    write_file(in("model.safetensors"), m.data, m.len);
    image_free(&m);
    import_fails(INFER_EFORMAT, "not finite", "NaN");
}

/* ---- tokenizers -----------------------------------------------------------
 */

struct merge {
    float score;
    char *text;
};

static int by_score(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;

    return (x->score < y->score) - (x->score > y->score);
}

static int32_t find_text(const struct infer_gguf_array *tokens, const char *s,
                         size_t len)
{
    for (uint64_t i = 3 + 256; i < tokens->n; i++)
        if (tokens->strs[i].len == len &&
            memcmp(tokens->strs[i].data, s, len) == 0)
            return (int32_t)i;
    return -1;
}

/* All pairs of pieces that make a piece, the best first; as JSON. */
static cJSON *all_merges(const struct infer_gguf_array *tokens,
                         const char *scores)
{
    struct merge *list = calloc(V * 64, sizeof(*list));
    cJSON *merges = cJSON_CreateArray();
    size_t n = 0;

    assert_non_null(list);
    for (uint64_t i = 3 + 256; i < tokens->n; i++) {
        const struct infer_gguf_str s = tokens->strs[i];

        for (size_t k = 1; k < s.len; k++)
            if (find_text(tokens, s.data, k) >= 0 &&
                find_text(tokens, s.data + k, (size_t)s.len - k) >= 0) {
                memcpy(&list[n].score, scores + 4 * i, 4); /* unaligned */
                assert_true(asprintf(&list[n++].text, "%.*s %.*s", (int)k,
                                     s.data, (int)(s.len - k), s.data + k) > 0);
            }
    }
    qsort(list, n, sizeof(*list), by_score);
    for (size_t i = 0; i < n; i++) {
        cJSON_AddItemToArray(merges, cJSON_CreateString(list[i].text));
        free(list[i].text);
    }
    free(list);
    return merges;
}

static const char spaces[] =
    "{\"type\":\"Sequence\",\"normalizers\":["
    "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}";
static const char template[] =
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
    "\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]}";

/* tokenizer.json as transformers write it for a SentencePiece model. */
static cJSON *pieces_json(const struct infer_gguf *g)
{
    cJSON *root = cJSON_CreateObject(), *model, *vocab, *added;
    struct infer_gguf_array tokens, scores;

    assert_int_equal(
        infer_gguf_get_array(g, "tokenizer.ggml.tokens", &tokens, NULL), 0);
    assert_int_equal(
        infer_gguf_get_array(g, "tokenizer.ggml.scores", &scores, NULL), 0);
    added = cJSON_AddArrayToObject(root, "added_tokens");
    model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddStringToObject(model, "unk_token", "<unk>");
    cJSON_AddTrueToObject(model, "byte_fallback");
    vocab = cJSON_AddObjectToObject(model, "vocab");
    for (uint64_t i = 0; i < tokens.n; i++) {
        char text[64];

        snprintf(text, sizeof(text), "%.*s", (int)tokens.strs[i].len,
                 tokens.strs[i].data);
        cJSON_AddNumberToObject(vocab, text, (double)i);
        if (i < 3) {
            cJSON *t = cJSON_CreateObject();

            cJSON_AddNumberToObject(t, "id", (double)i);
            cJSON_AddStringToObject(t, "content", text);
            cJSON_AddTrueToObject(t, "special");
            cJSON_AddItemToArray(added, t);
        }
    }
    cJSON_AddItemToObject(model, "merges", all_merges(&tokens, scores.data));
    cJSON_AddItemToObject(root, "normalizer", cJSON_Parse(spaces));
    cJSON_AddItemToObject(root, "post_processor", cJSON_Parse(template));
    return root;
}

static void test_pieces_json(void **state)
{
    struct infer_gguf *a, *b;
    struct hf_report r;
    struct infer_error err;
    cJSON *root, *good;

    (void)state;
    if (!oracle_present())
        skip();
    export_oracle("stories260K/model-F32.gguf");
    a = open_gguf(ORACLE "/stories260K/model-F32.gguf");
    unlink(in("tokenizer.model"));
    unlink(in("tokenizer_config.json"));
    root = pieces_json(a);
    good = cJSON_Duplicate(root, true);
    write_json("tokenizer.json", root);
    if (hf_import(folder, back, -1, &r, &err))
        fail_msg("%s", err.text);
    b = open_gguf(back);
    same_array(a, b, "tokenizer.ggml.tokens");
    same_array(a, b, "tokenizer.ggml.token_type");
    same_ids("stories260K", b);
    infer_gguf_close(a);
    infer_gguf_close(b);
    /* one merge fewer is not SentencePiece any more */
    cJSON_DeleteItemFromArray(
        cJSON_GetObjectItem(cJSON_GetObjectItem(good, "model"), "merges"), 40);
    write_json("tokenizer.json", good);
    import_fails(INFER_EUNSUPPORTED, "not those of a SentencePiece", "merges");
}

#define GPT2       "../shared/data/tokenizers/gpt2"
#define GPT2_VOCAB "../shared/data/tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf"

/* A unigram model is one on the other side, too, both ways. */
static void test_unigram_model(void **state)
{
    struct infer_vocab v = {
        .family = INFER_FAMILY_SPM, .unigram = true, .add_space_prefix = true};
    struct infer_gguf_str kind;
    struct infer_gguf *a, *b;
    struct hf_report r;
    struct infer_error err;

    (void)state;
    if (!oracle_present())
        skip();
    export_oracle("stories260K/model-F32.gguf");
    a = open_gguf(ORACLE "/stories260K/model-F32.gguf");
    assert_int_equal(infer_vocab_load(&v, a, &err), 0);
    if (infer_spm_file_save(&v, in("tokenizer.model"), &err))
        fail_msg("%s", err.text);
    infer_vocab_release(&v);
    for (int round = 0; round < 2; round++) {
        if (hf_import(folder, back, -1, &r, &err))
            fail_msg("%s", err.text);
        b = open_gguf(back);
        assert_int_equal(
            infer_gguf_get_str(b, "tokenizer.ggml.model", &kind, &err), 0);
        assert_true(kind.len == 2 && memcmp(kind.data, "t5", 2) == 0);
        same_vocab(a, b);
        unlink(in("tokenizer.model"));
        if (hf_export(back, folder, &r, &err))
            fail_msg("%s", err.text);
        infer_gguf_close(b);
    }
    infer_gguf_close(a);
}

static void copy_file(const char *from, const char *name)
{
    struct image m = image_read(from);

    assert_non_null(m.data);
    write_file(in(name), m.data, m.len);
    image_free(&m);
}

/* A gpt2 of one small layer with the real vocabulary. */
static void write_gpt2(uint32_t n_vocab)
{
    static const struct {
        const char *name;
        uint32_t n_dims;
        uint64_t dims[2];
    } tensors[] = {
        {"wte.weight", 2, {0, 8}},
        {"wpe.weight", 2, {16, 8}},
        {"h.0.ln_1.weight", 1, {8}},
        {"h.0.ln_1.bias", 1, {8}},
        {"h.0.attn.bias", 2, {16, 16}}, /* a mask */
        {"h.0.attn.c_attn.weight", 2, {8, 24}},
        {"h.0.attn.c_attn.bias", 1, {24}},
        {"h.0.attn.c_proj.weight", 2, {8, 8}},
        {"h.0.attn.c_proj.bias", 1, {8}},
        {"h.0.ln_2.weight", 1, {8}},
        {"h.0.ln_2.bias", 1, {8}},
        {"h.0.mlp.c_fc.weight", 2, {8, 32}},
        {"h.0.mlp.c_fc.bias", 1, {32}},
        {"h.0.mlp.c_proj.weight", 2, {32, 8}},
        {"h.0.mlp.c_proj.bias", 1, {8}},
        {"ln_f.weight", 1, {8}},
        {"ln_f.bias", 1, {8}},
    };
    struct infer_safetensors_writer *w = NULL;
    float *values = calloc((size_t)n_vocab * 8, sizeof(*values));
    struct infer_error err;
    char config[256];
    int n;

    assert_non_null(values);
    assert_int_equal(infer_safetensors_writer_create(&w, &err), 0);
    for (size_t i = 0; i < sizeof(tensors) / sizeof(*tensors); i++) {
        uint64_t dims[2] = {tensors[i].dims[0], tensors[i].dims[1]};

        dims[0] = i == 0 ? n_vocab : dims[0];
        infer_safetensors_add(w, tensors[i].name, INFER_ST_F32,
                              tensors[i].n_dims, dims, values);
    }
    if (infer_safetensors_save(w, in("model.safetensors"), &err))
        fail_msg("%s", err.text);
    infer_safetensors_writer_free(w);
    free(values);
    n = snprintf(
        config, sizeof(config),
        "{\"model_type\":\"gpt2\",\"vocab_size\":%u,\"n_positions\":16,"
        "\"n_embd\":8,\"n_layer\":1,\"n_head\":2,\"bos_token_id\":50256,"
        "\"eos_token_id\":50256}",
        n_vocab);
    write_file(in("config.json"), config, (size_t)n);
}

/* The published files of gpt2 become the vocabulary that the reference's own
 * converter made of them; written as tokenizer.json and read again, too. */
static void test_gpt2_vocabulary(void **state)
{
    struct infer_gguf *a, *b;
    struct hf_report r;
    struct infer_error err;

    (void)state;
    if (access(GPT2 "/encoder.json", R_OK) != 0) {
        print_message("skipped: " GPT2 " is not there\n");
        skip();
    }
    write_gpt2(50257);
    copy_file(GPT2 "/encoder.json", "vocab.json");
    copy_file(GPT2 "/vocab.bpe", "merges.txt");
    a = open_gguf(GPT2_VOCAB);
    for (int round = 0; round < 2; round++) {
        if (hf_import(folder, back, -1, &r, &err))
            fail_msg("%s", err.text);
        b = open_gguf(back);
        same_vocab(a, b);
        infer_gguf_close(b);
        unlink(in("vocab.json"));
        unlink(in("merges.txt"));
        if (hf_export(back, folder, &r, &err))
            fail_msg("%s", err.text);
        assert_int_equal(access(in("tokenizer.json"), F_OK), 0);
    }
    infer_gguf_close(a);
}

static void test_bad_tokenizers(void **state)
{
    static const struct {
        const char *path, *value;
        int status;
        const char *says;
    } bads[] = {
        {"model", "{\"type\":\"Unigram\"}", INFER_EUNSUPPORTED, "another type"},
        {"model", "{\"type\":\"BPE\"}", INFER_EFORMAT, "'vocab' is missing"},
        {"model", "{\"vocab\":{\"a\":0}}", INFER_EFORMAT, "'merges'"},
        {"model", "{\"vocab\":{\"a\":\"b\"}}", INFER_EFORMAT, "not a number"},
        {"model", "{\"vocab\":{\"a\":512},\"merges\":[]}", INFER_EFORMAT,
         "'a' has id 512, the model has 512"},
        {"model", "{\"vocab\":{\"a\":-1},\"merges\":[]}", INFER_EFORMAT,
         "'a' has id -1"},
        {"model", "{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}", INFER_EFORMAT,
         "both have id 0"},
        {"model", "{\"vocab\":{},\"merges\":[\"ab\"]}", INFER_EFORMAT,
         "not two pieces"},
        {"model", "{\"vocab\":{},\"merges\":[[\"a\"]]}", INFER_EFORMAT,
         "not two pieces"},
        {"added_tokens", "[{\"id\":1}]", INFER_EFORMAT, "no id or content"},
        {"normalizer", "{\"type\":\"Lowercase\"}", INFER_EUNSUPPORTED,
         "its normalizer"},
        {"pre_tokenizer", "{\"type\":\"Whitespace\"}", INFER_EUNSUPPORTED,
         "its pre_tokenizer"},
        {"pre_tokenizer", "null", INFER_EUNSUPPORTED, "its pre_tokenizer"},
    };

    (void)state;
    if (!oracle_present())
        skip();
    export_oracle("gpt2/model-F32.gguf");
    for (size_t i = 0; i < sizeof(bads) / sizeof(*bads); i++) {
        cJSON *root = oracle_json(in("tokenizer.json"));
        cJSON *good = cJSON_Duplicate(root, true);

        cJSON_DeleteItemFromObject(root, bads[i].path);
        cJSON_AddItemToObject(root, bads[i].path, cJSON_Parse(bads[i].value));
        write_json("tokenizer.json", root);
        import_fails(bads[i].status, bads[i].says, bads[i].value);
        write_json("tokenizer.json", good);
    }
}

/* What config.json cannot say is not left out in silence. */
static void test_export_refuses(void **state)
{
    struct hf_report r;
    struct infer_error err = {0};

    (void)state;
    if (!oracle_present())
        skip();
    assert_int_equal(hf_export(ORACLE "/phi3/model-F32.gguf", folder, &r, &err),
                     INFER_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "phi3"));
    assert_int_equal(hf_export("/nowhere.gguf", folder, &r, &err), INFER_EIO);
    assert_int_equal(
        hf_export(ORACLE "/gpt2/model-F32.gguf", "/dev/null/x", &r, &err),
        INFER_EIO);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        T(test_there_and_back), T(test_other_types),     T(test_bad_configs),
        T(test_missing_files),  T(test_shards),          T(test_not_finite),
        T(test_pieces_json),    T(test_gpt2_vocabulary), T(test_bad_tokenizers),
        T(test_unigram_model),  T(test_export_refuses),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
