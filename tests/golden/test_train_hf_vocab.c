/*
 * test_train_hf_vocab.c - tokenizers of Hugging Face checkpoints: each way they
 * write a vocabulary gives the ids of the model that it came from, and one that
 * is damaged or of another kind is refused with a sentence that names why.
 */
#include "tests/hf_folder.h"
#include "tests/image.h"
#include "tests/oracle.h"

#include "core/format/safetensors.h"
#include "core/tokenizer/spm.h"
#include "trainer/hf/convert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { V = 512 };

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
    hf_export_oracle("stories260K/model-F32.gguf");
    a = hf_open(ORACLE "/stories260K/model-F32.gguf");
    unlink(hf_in("tokenizer.model"));
    unlink(hf_in("tokenizer_config.json"));
    root = pieces_json(a);
    good = cJSON_Duplicate(root, true);
    hf_write_json("tokenizer.json", root);
    if (hf_import(hf_folder, hf_back, -1, &r, &err))
        fail_msg("%s", err.text);
    b = hf_open(hf_back);
    hf_same_array(a, b, "tokenizer.ggml.tokens");
    hf_same_array(a, b, "tokenizer.ggml.token_type");
    hf_same_ids("stories260K", b);
    infer_gguf_close(a);
    infer_gguf_close(b);
    /* one merge fewer is not SentencePiece any more */
    cJSON_DeleteItemFromArray(
        cJSON_GetObjectItem(cJSON_GetObjectItem(good, "model"), "merges"), 40);
    hf_write_json("tokenizer.json", good);
    hf_import_fails(INFER_EUNSUPPORTED, "not those of a SentencePiece",
                    "merges");
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
    hf_export_oracle("stories260K/model-F32.gguf");
    a = hf_open(ORACLE "/stories260K/model-F32.gguf");
    assert_int_equal(infer_vocab_load(&v, a, &err), 0);
    if (infer_spm_file_save(&v, hf_in("tokenizer.model"), &err))
        fail_msg("%s", err.text);
    infer_vocab_release(&v);
    for (int round = 0; round < 2; round++) {
        if (hf_import(hf_folder, hf_back, -1, &r, &err))
            fail_msg("%s", err.text);
        b = hf_open(hf_back);
        assert_int_equal(
            infer_gguf_get_str(b, "tokenizer.ggml.model", &kind, &err), 0);
        assert_true(kind.len == 2 && memcmp(kind.data, "t5", 2) == 0);
        hf_same_vocab(a, b);
        unlink(hf_in("tokenizer.model"));
        if (hf_export(hf_back, hf_folder, &r, &err))
            fail_msg("%s", err.text);
        infer_gguf_close(b);
    }
    infer_gguf_close(a);
}

static void copy_file(const char *from, const char *name)
{
    struct image m = image_read(from);

    assert_non_null(m.data);
    hf_write(hf_in(name), m.data, m.len);
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
    if (infer_safetensors_save(w, hf_in("model.safetensors"), &err))
        fail_msg("%s", err.text);
    infer_safetensors_writer_free(w);
    free(values);
    n = snprintf(
        config, sizeof(config),
        "{\"model_type\":\"gpt2\",\"vocab_size\":%u,\"n_positions\":16,"
        "\"n_embd\":8,\"n_layer\":1,\"n_head\":2,\"bos_token_id\":50256,"
        "\"eos_token_id\":50256}",
        n_vocab);
    hf_write(hf_in("config.json"), config, (size_t)n);
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
    a = hf_open(GPT2_VOCAB);
    for (int round = 0; round < 2; round++) {
        if (hf_import(hf_folder, hf_back, -1, &r, &err))
            fail_msg("%s", err.text);
        b = hf_open(hf_back);
        hf_same_vocab(a, b);
        infer_gguf_close(b);
        unlink(hf_in("vocab.json"));
        unlink(hf_in("merges.txt"));
        if (hf_export(hf_back, hf_folder, &r, &err))
            fail_msg("%s", err.text);
        assert_int_equal(access(hf_in("tokenizer.json"), F_OK), 0);
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
    hf_export_oracle("gpt2/model-F32.gguf");
    for (size_t i = 0; i < sizeof(bads) / sizeof(*bads); i++) {
        cJSON *root = oracle_json(hf_in("tokenizer.json"));
        cJSON *good = cJSON_Duplicate(root, true);

        cJSON_DeleteItemFromObject(root, bads[i].path);
        cJSON_AddItemToObject(root, bads[i].path, cJSON_Parse(bads[i].value));
        hf_write_json("tokenizer.json", root);
        hf_import_fails(bads[i].status, bads[i].says, bads[i].value);
        hf_write_json("tokenizer.json", good);
    }
}

int main(void)
{
#define T(f)                                                                   \
    cmocka_unit_test_setup_teardown(f, hf_make_folder, hf_remove_folder)
    const struct CMUnitTest tests[] = {
        T(test_pieces_json), T(test_gpt2_vocabulary), T(test_bad_tokenizers),
        T(test_unigram_model)};
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
