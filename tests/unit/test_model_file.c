/*
 * test_model_file.c - from file to running model: what loads, what is refused
 * and why, and that nothing cut, changed or removed makes it crash.
 *
 * test_gguf_bad.c does the same for the container alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/tiny.h"

#include "core/model/model.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct tiny llama = {.arch = "llama", .type = INFER_Q8_0};
static const struct tiny gpt2 = {.arch = "gpt2", .type = INFER_Q4_0};

static int load(struct infer_model **m, struct infer_error *err)
{
    *err = (struct infer_error){0};
    return infer_model_load(m, tiny_path(), NULL, err);
}

/* Logits after two tokens; [n_vocab], malloc'd. */
static float *run(const struct infer_model *m)
{
    const struct infer_row rows[] = {{.token = 0},
                                     {.token = 1, .logits = true}};
    const uint32_t n_vocab = infer_model_info(m)->n_vocab;
    struct infer_session *s = NULL;
    struct infer_team *team = NULL;
    float *logits = malloc(n_vocab * sizeof(*logits));

    assert_non_null(logits);
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(
        infer_session_create(
            &s, m, team,
            &(struct infer_session_params){.n_ctx = 2, .max_rows = 2}, NULL),
        0);
    assert_int_equal(infer_session_eval(s, rows, 2, logits, NULL), 0);
    infer_session_free(s);
    infer_team_free(team);
    return logits;
}

static void expect_loads(const struct tiny *t, const char *what)
{
    struct infer_model *m = NULL;
    struct infer_error err;
    float *logits;

    tiny_write(tiny_path(), t);
    if (load(&m, &err))
        fail_msg("%s: %s", what, err.text);
    logits = run(m);
    for (uint32_t i = 0; i < infer_model_info(m)->n_vocab; i++)
        if (!isfinite(logits[i]))
            fail_msg("%s: logit %u is %g", what, i, (double)logits[i]);
    free(logits);
    infer_model_free(m);
}

/* ---- what loads ---------------------------------------------------------- */

static void test_types(void **state)
{
    static const uint32_t types[] = {INFER_F32,  INFER_F16,  INFER_BF16,
                                     INFER_Q8_0, INFER_Q4_0, INFER_Q4_1,
                                     INFER_Q5_0, INFER_Q5_1};

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct tiny t = llama;

        t.type = types[i];
        expect_loads(&t, infer_qtype_info(t.type)->name);
        t.untied = true;
        expect_loads(&t, "untied");
        t = gpt2;
        t.type = types[i];
        expect_loads(&t, infer_qtype_info(t.type)->name);
    }
}

static void more_keys(struct infer_gguf_writer *w)
{
    infer_gguf_set_u32(w, "llama.vocab_size", TINY_LLAMA_VOCAB);
    infer_gguf_set_u32(w, "llama.rope.dimension_count", 8); /* of 16 */
    infer_gguf_set_u32(w, "llama.expert_count", 0);
    infer_gguf_set_u32(w, "split.count", 1);
    infer_gguf_set_str(w, "general.unheard.of", "whatever");
    infer_gguf_set_f32(w, "llama.attention.scale", 0.125f);
    infer_gguf_set_bool(w, "tokenizer.ggml.add_bos_token", false);
    infer_gguf_set_bool(w, "tokenizer.ggml.add_space_prefix", false);
    tiny_tensor(w, "blk.0.attn_q.bias", INFER_F32, 0, TINY_D);
    tiny_tensor(w, "blk.0.attn_output.bias", INFER_F32, 0, TINY_D);
    tiny_tensor(w, "blk.0.ffn_up.bias", INFER_F32, 0, TINY_FF);
    tiny_tensor(w, "rope_freqs.weight", INFER_F32, 0, 4);
    tiny_tensor(w, "an.extra.tensor", INFER_F32, 3, 5);
}

/* Heads of 32 where width over heads is 16, and matrices of other types. */
static void wide_heads(struct infer_gguf_writer *w)
{
    infer_gguf_set_u32(w, "llama.attention.key_length", 32);
    infer_gguf_set_u32(w, "llama.attention.value_length", 32);
    infer_gguf_set_u32(w, "llama.attention.head_count", 2);
    infer_gguf_set_u32(w, "llama.attention.head_count_kv", 1);
    tiny_tensor(w, "blk.0.attn_norm.weight", INFER_F32, 0, TINY_D);
    tiny_tensor(w, "blk.0.attn_q.weight", INFER_Q8_0, 64, TINY_D);
    tiny_tensor(w, "blk.0.attn_k.weight", INFER_F32, 32, TINY_D);
    tiny_tensor(w, "blk.0.attn_v.weight", INFER_BF16, 32, TINY_D);
    tiny_tensor(w, "blk.0.attn_output.weight", INFER_Q4_0, TINY_D, 64);
}

static void test_variants(void **state)
{
    static const char *const optional[] = {"tokenizer.ggml.bos_token_id",
                                           "tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.unknown_token_id"};
    struct tiny t = llama;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        t.omit = optional[i];
        expect_loads(&t, t.omit);
    }
    t.omit = NULL;
    t.extra = more_keys;
    expect_loads(&t, "more keys");
    t = llama;
    t.omit = "*att*";
    t.extra = wide_heads;
    expect_loads(&t, "wide heads");
    t = llama;
    for (t.alignment = 8; t.alignment <= 4096; t.alignment *= 8)
        expect_loads(&t, "alignment");
    t = llama;
    t.vectors = INFER_F16;
    expect_loads(&t, "vectors of F16");
    t.vectors = INFER_BF16;
    expect_loads(&t, "vectors of BF16");
    t = gpt2;
    t.vectors = INFER_F16;
    expect_loads(&t, "vectors of gpt2");
}

/* Vectors of 16 bits are the same numbers. */
static void test_vector_types_agree(void **state)
{
    struct infer_model *m[2];
    struct infer_error err;
    struct tiny t = {.arch = "llama", .type = INFER_F32};
    float *logits[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        t.vectors = i ? INFER_F16 : INFER_F32;
        tiny_write(tiny_path(), &t);
        assert_int_equal(load(&m[i], &err), 0);
        logits[i] = run(m[i]);
    }
    for (int i = 0; i < TINY_LLAMA_VOCAB; i++)
        assert_true(fabsf(logits[0][i] - logits[1][i]) < 0.05f);
    for (int i = 0; i < 2; i++) {
        free(logits[i]);
        infer_model_free(m[i]);
    }
}

/* ---- what is refused ----------------------------------------------------- */

#define EXTRA(name, ...)                                                       \
    static void name(struct infer_gguf_writer *w)                              \
    {                                                                          \
        __VA_ARGS__;                                                           \
    }

EXTRA(part_2, infer_gguf_set_u32(w, "split.count", 3);
      infer_gguf_set_u32(w, "split.no", 1))
EXTRA(experts, infer_gguf_set_u32(w, "llama.expert_count", 8))
EXTRA(not_causal, infer_gguf_set_bool(w, "llama.attention.causal", false))
EXTRA(longrope, infer_gguf_set_str(w, "llama.rope.scaling.type", "longrope"))
EXTRA(no_heads, infer_gguf_set_u32(w, "llama.attention.head_count", 0))
EXTRA(three_kv, infer_gguf_set_u32(w, "llama.attention.head_count_kv", 3))
EXTRA(huge_d, infer_gguf_set_u32(w, "llama.embedding_length", 1u << 31))
EXTRA(odd_rope, infer_gguf_set_u32(w, "llama.rope.dimension_count", 7))
EXTRA(wide_rope, infer_gguf_set_u32(w, "llama.rope.dimension_count", 18))
EXTRA(narrow_v, infer_gguf_set_u32(w, "llama.attention.value_length", 8))
EXTRA(text_d, infer_gguf_set_str(w, "llama.embedding_length", "32"))
EXTRA(no_divisor, static const float zeros[8] = {0}; const uint64_t d = 8;
      infer_gguf_add_tensor(w, "rope_freqs.weight", INFER_F32, 1, &d, zeros))
EXTRA(nan_norm, static float v[TINY_D]; const uint64_t d = TINY_D; v[3] = NAN;
      infer_gguf_add_tensor(w, "output_norm.weight", INFER_F32, 1, &d, v))
EXTRA(q8_norm, tiny_tensor(w, "output_norm.weight", INFER_Q8_0, 0, TINY_D))
EXTRA(nan_embd, static float v[TINY_LLAMA_VOCAB * TINY_D];
      const uint64_t d[] = {TINY_D, TINY_LLAMA_VOCAB}; v[40] = NAN;
      infer_gguf_add_tensor(w, "token_embd.weight", INFER_F32, 2, d, v))
EXTRA(more_rows, tiny_tensor(w, "token_embd.weight", INFER_F32,
                             TINY_LLAMA_VOCAB + 1, TINY_D))
EXTRA(flat_q,
      tiny_tensor(w, "blk.0.attn_q.weight", INFER_F32, 0, TINY_D *TINY_D))
EXTRA(short_positions,
      tiny_tensor(w, "position_embd.weight", INFER_F32, 1, TINY_D))
EXTRA(long_context, infer_gguf_set_u32(w, "gpt2.context_length", 1u << 24))
EXTRA(klingon, infer_gguf_set_str(w, "tokenizer.ggml.pre", "klingon"))
EXTRA(far_bos, infer_gguf_set_u32(w, "tokenizer.ggml.bos_token_id", 10))

static const struct refused {
    const char *arch, *omit;
    void (*extra)(struct infer_gguf_writer *w);
    int status;
    const char *says;
} refused[] = {
    {"gemma2", NULL, NULL, INFER_EUNSUPPORTED, "architecture 'gemma2'"},
    {"phi3", NULL, NULL, INFER_EUNSUPPORTED, "architecture 'phi3'"},
    {"llama", "general.architecture", NULL, INFER_EFORMAT, "architecture"},
    {"llama", "llama.context_length", NULL, INFER_EFORMAT, "context_length"},
    {"llama", "llama.block_count", NULL, INFER_EFORMAT, "block_count"},
    {"llama", NULL, part_2, INFER_EUNSUPPORTED, "part 2 of 3"},
    {"llama", NULL, experts, INFER_EUNSUPPORTED, "experts"},
    {"llama", NULL, not_causal, INFER_EUNSUPPORTED, "attention.causal"},
    {"llama", NULL, longrope, INFER_EUNSUPPORTED, "longrope"},
    {"llama", "llama.attention.head_count", no_heads, INFER_EFORMAT,
     "head_count"},
    {"llama", "llama.attention.head_count_kv", three_kv, INFER_EFORMAT,
     "3 key/value heads"},
    {"llama", "llama.embedding_length", huge_d, INFER_EFORMAT,
     "embedding_length"},
    {"llama", "llama.embedding_length", text_d, INFER_EFORMAT,
     "embedding_length"},
    {"llama", NULL, odd_rope, INFER_EFORMAT, "dimension_count"},
    {"llama", NULL, wide_rope, INFER_EFORMAT, "dimension_count"},
    {"llama", NULL, narrow_v, INFER_EUNSUPPORTED, "value width 8"},
    {"llama", NULL, no_divisor, INFER_EFORMAT, "rope_freqs"},
    {"llama", "output_norm.weight", NULL, INFER_EFORMAT, "output_norm.weight"},
    {"llama", "output_norm.weight", nan_norm, INFER_EFORMAT, "output_norm"},
    {"llama", "output_norm.weight", q8_norm, INFER_EUNSUPPORTED, "Q8_0"},
    {"llama", "token_embd.weight", NULL, INFER_EFORMAT, "token_embd.weight"},
    {"llama", "token_embd.weight", nan_embd, INFER_EFORMAT, "token_embd"},
    {"llama", "token_embd.weight", more_rows, INFER_EFORMAT, "[11][32]"},
    {"llama", "blk.0.ffn_down.weight", NULL, INFER_EFORMAT, "blk.0.ffn_down"},
    {"llama", "blk.0.attn_q.weight", flat_q, INFER_EFORMAT, "blk.0.attn_q"},
    {"llama", "tokenizer.ggml.tokens", NULL, INFER_EFORMAT, "tokens"},
    {"llama", "tokenizer.ggml.bos_token_id", far_bos, INFER_EFORMAT,
     "bos_token_id"},
    {"gpt2", "position_embd.weight", NULL, INFER_EFORMAT, "position_embd"},
    {"gpt2", "position_embd.weight", short_positions, INFER_EFORMAT,
     "position_embd.weight' is [1][32], not [64][32]"},
    {"gpt2", "gpt2.context_length", long_context, INFER_EFORMAT,
     "position_embd"},
    {"gpt2", "blk.0.attn_qkv.bias", NULL, INFER_EFORMAT, "attn_qkv.bias"},
    {"gpt2", "tokenizer.ggml.merges", NULL, INFER_EFORMAT, "merges"},
    {"gpt2", "tokenizer.ggml.pre", klingon, INFER_EUNSUPPORTED, "klingon"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        const struct refused *r = &refused[i];
        const struct tiny t = {.arch = r->arch,
                               .type = INFER_Q8_0,
                               .omit = r->omit,
                               .extra = r->extra};
        struct infer_model *m = NULL;
        struct infer_error err;

        tiny_write(tiny_path(), &t);
        if (load(&m, &err) != r->status || !strstr(err.text, r->says) || m)
            fail_msg("%zu (%s): status %d, '%s'", i, r->says, err.status,
                     err.text);
        assert_non_null(strstr(err.text, "/m.gguf"));
    }
}

/* ---- damage -------------------------------------------------------------- */

/* Load; what loads must also run. */
static int survive(void)
{
    struct infer_model *m = NULL;
    struct infer_error err;
    const int status = load(&m, &err);

    if (status == 0)
        free(run(m));
    else if (err.status != status || !err.text[0])
        fail_msg("status %d without a reason", status);
    infer_model_free(m);
    return status;
}

/* Where the tensors' data begins. */
static size_t header_bytes(void)
{
    struct infer_gguf *g = NULL;
    size_t data = 0;

    assert_int_equal(infer_gguf_open(&g, tiny_path(), NULL), 0);
    for (size_t i = 0; i < infer_gguf_n_tensors(g); i++)
        data += (infer_gguf_tensor(g, i)->bytes + 31) / 32 * 32;
    data = (size_t)infer_gguf_file_bytes(g) - data;
    infer_gguf_close(g);
    return data;
}

static void flip_everywhere(const struct tiny *t)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    size_t header;
    int fd;

    tiny_write(tiny_path(), t);
    header = header_bytes();
    fd = open(tiny_path(), O_RDWR);
    assert_true(fd >= 0 && header > 500 && header < 10000);
    for (size_t i = 0; i < header; i++) {
        uint8_t byte, changed;

        assert_int_equal(pread(fd, &byte, 1, (off_t)i), 1);
        for (size_t k = 0; k < sizeof(flips); k++) {
            changed = byte ^ flips[k];
            assert_int_equal(pwrite(fd, &changed, 1, (off_t)i), 1);
            survive();
        }
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)i), 1);
    }
    close(fd);
    assert_int_equal(survive(), 0);
}

static void cut_everywhere(const struct tiny *t)
{
    struct stat st;

    tiny_write(tiny_path(), t);
    assert_int_equal(stat(tiny_path(), &st), 0);
    while (st.st_size-- > 0) {
        assert_int_equal(truncate(tiny_path(), st.st_size), 0);
        if (survive() == 0) /* padding of the last tensor */
            tiny_write(tiny_path(), t);
    }
}

static void test_every_header_byte_flipped(void **state)
{
    (void)state;
    flip_everywhere(&llama);
    flip_everywhere(&gpt2);
}

static void test_cut_after_every_byte(void **state)
{
    (void)state;
    cut_everywhere(&llama);
    cut_everywhere(&gpt2);
}

/* A loaded model owns all it needs: the file may be cut, even to nothing. */
static void test_file_cut_while_in_use(void **state)
{
    const struct tiny *const kinds[] = {&llama, &gpt2};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct infer_model *m = NULL;
        struct infer_error err;
        float *before, *after;

        tiny_write(tiny_path(), kinds[i]);
        assert_int_equal(load(&m, &err), 0);
        before = run(m);
        assert_int_equal(truncate(tiny_path(), 0), 0);
        after = run(m);
        assert_memory_equal(before, after,
                            infer_model_info(m)->n_vocab * sizeof(*before));
        free(before);
        free(after);
        infer_model_free(m);
    }
}

static int clean(void **state)
{
    (void)state;
    tiny_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_vector_types_agree),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_header_byte_flipped),
        cmocka_unit_test(test_cut_after_every_byte),
        cmocka_unit_test(test_file_cut_while_in_use),
    };

    return cmocka_run_group_tests_name("model file", tests, NULL, clean);
}
