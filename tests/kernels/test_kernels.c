/*
 * test_kernels.c - every variant of every kernel against its scalar definition.
 *
 * Sizes run through all tails, a guard behind each output must survive, and
 * each row of a product or of attention must be the same bits alone as in
 * company. Integer dot products are exact, so what is left to differ is the
 * order of float additions, bounded relative to the sum of magnitudes.
 */
#include "core/kernels/kernels.h"

#include "core/base/half.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { N_SETS = 5, GUARD = 32, T_MAX = 35, P_MAX = 5, K_MAX = 1280 };

static const float guard = -1234.5f;
static uint64_t rng; /* printed, so that a failure replays */

static uint32_t rnd(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33);
}

static float uniform(void) /* -1 .. 1 */
{
    return (float)rnd() / 1073741824.0f - 1.0f;
}

static void fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = uniform() * scale;
}

/* The sets this machine has, scalar first. */
static size_t tables(struct infer_kernels k[N_SETS])
{
    const unsigned vnni = INFER_CPU_AVX2 | INFER_CPU_AVX512VNNI;
    const unsigned sets[N_SETS] = {0, INFER_CPU_AVX2, vnni,
                                   vnni | INFER_CPU_AVX512BF16,
                                   vnni | INFER_CPU_AMXINT8};
    const unsigned have = infer_cpu_detect();
    size_t n = 0;

    for (size_t i = 0; i < N_SETS; i++)
        if ((sets[i] & have) == sets[i])
            infer_kernels_init(&k[n++], sets[i]);
    return n;
}

static void check_near(const char *what, const char *set, size_t n, size_t i,
                       float got, float ref, float tol)
{
    if (!(fabsf(got - ref) <= tol)) /* also catches NaN */
        fail_msg("%s %s n=%zu [%zu]: %.9g, reference %.9g, tolerance %.3g", set,
                 what, n, i, (double)got, (double)ref, (double)tol);
}

/* ---- products ----------------------------------------------------------- */

static _Alignas(64) uint8_t panels[P_MAX * (K_MAX * 16 * 4 + 64)];
static _Alignas(64) uint8_t act_mem[T_MAX * (K_MAX * 4 + 64)];
static float floats[T_MAX][K_MAX];

/* d and dmin halves up to 2^-10, sub-scales and minima any up to 63. */
static void random_k_scales(uint8_t *panel, const struct infer_pack_info *info,
                            struct infer_panel_layout at, size_t k)
{
    const size_t halves = info->mins ? 64 : 32;

    for (size_t s = 0; s < k / INFER_K_BLOCK; s++) {
        uint8_t *p = panel + at.scales + s * at.k_bytes;

        for (size_t i = 0; i < halves; i += 2)
            *(uint16_t *)(void *)(p + i) =
                infer_f32_to_f16(uniform() / 1024.0f);
        for (size_t i = halves; i < at.k_bytes; i++)
            p[i] = (uint8_t)(rnd() % 64);
    }
}

/* Quants any, mins kinds up to 127; scales and mins halves of size 2^-6. */
static void random_panels(struct infer_packed *w, enum infer_pack kind,
                          size_t n_panels, size_t k)
{
    const struct infer_panel_layout at = infer_pack_layout(kind, k);
    const struct infer_pack_info *info = &infer_pack_info[kind];

    memset(panels, 0, sizeof(panels));
    *w = (struct infer_packed){.kind = kind,
                               .n = (uint32_t)n_panels * INFER_PANEL,
                               .k = (uint32_t)k,
                               .n_panels = (uint32_t)n_panels,
                               .panel_bytes = at.bytes,
                               .data = panels};
    for (size_t p = 0; p < n_panels; p++) {
        uint8_t *panel = panels + p * at.bytes;
        const size_t n_values = k * INFER_PANEL;

        for (size_t i = 0; i < at.scales && info->block; i++)
            panel[i] =
                (uint8_t)(info->mins && info->bits == 8 ? rnd() % 128 : rnd());
        for (size_t i = 0; i < n_values && !info->block; i++) {
            const float v = uniform();
            const size_t pair = i / 32 * 32 + i % 32;

            if (kind == INFER_PACK_F32)
                ((float *)(void *)panel)[i] = v;
            else if (kind == INFER_PACK_F16)
                ((uint16_t *)(void *)panel)[i] = infer_f32_to_f16(v);
            else
                ((uint16_t *)(void *)panel)[pair] = infer_f32_to_bf16(v);
        }
        if (info->k)
            random_k_scales(panel, info, at, k);
        else
            for (size_t i = at.scales; i < at.bytes && info->block; i += 2)
                *(uint16_t *)(void *)(panel + i) =
                    infer_f32_to_f16(uniform() / 64.0f);
    }
}

static void random_acts(struct infer_act *a, const struct infer_kernels *kern,
                        enum infer_act_kind kind, size_t k)
{
    const size_t k32 = (k + 31) / 32 * 32;

    memset(act_mem, 0, sizeof(act_mem));
    *a = (struct infer_act){.kind = kind, .data = act_mem};
    a->stride = kind == INFER_ACT_F32 ? k32 * 4
                : kind == INFER_ACT_BF16
                    ? k32 * 2
                    : k32 / 32 * sizeof(struct infer_act_block);
    for (size_t t = 0; t < T_MAX; t++) {
        uint8_t *row = act_mem + t * a->stride;

        fill(floats[t], k, 3.0f);
        if (kind == INFER_ACT_F32)
            memcpy(row, floats[t], k * 4);
        else if (kind == INFER_ACT_BF16)
            kern->to_bf16((uint16_t *)(void *)row, floats[t], k);
        else
            kern->quantize_act((struct infer_act_block *)(void *)row, floats[t],
                               k);
    }
}

/* sum |w| |x| of one output is at most K * max|w| * max|x|; the maxima are
 * known from how the weights were made. */
static float magnitude(enum infer_pack kind, size_t k)
{
    const struct infer_pack_info *info = &infer_pack_info[kind];
    const float w = !info->block ? 1.0f : info->bits == 4 ? 16.0f : 129.0f;

    const float scale = info->k ? 1.0f / 16.0f : 1.0f / 64.0f;

    return (float)k * (info->block ? w * scale + scale : w) * 3.05f;
}

static void check_gemm(const struct infer_kernels *kern,
                       const struct infer_kernels *scalar, enum infer_pack kind,
                       size_t n_panels, size_t k)
{
    enum { LD = P_MAX * INFER_PANEL + GUARD };
    static float ref[T_MAX][LD], got[T_MAX][LD], one[LD];
    const float tol = (float)(k + 8) * FLT_EPSILON * magnitude(kind, k) / 4.0f;
    struct infer_packed w;
    struct infer_act x;

    random_panels(&w, kind, n_panels, k);
    random_acts(&x, scalar, infer_pack_info[kind].act, k);
    scalar->gemm[kind](&ref[0][0], LD, &w, &x, 0, T_MAX, 0, n_panels);
    /* 1..8, 17, 26, 35: all tails of 6 rows, and full 16s with and without */
    for (size_t n = 1; n <= T_MAX; n += n < 8 ? 1 : 9) {
        for (size_t i = 0; i < T_MAX * LD; i++)
            (&got[0][0])[i] = guard;
        kern->gemm[kind](&got[0][0], LD, &w, &x, T_MAX - n, T_MAX, 0, n_panels);
        for (size_t t = 0; t < n; t++) {
            for (size_t i = 0; i < n_panels * INFER_PANEL; i++)
                check_near(infer_pack_info[kind].name, kern->name, k, i,
                           got[t][i], ref[T_MAX - n + t][i], tol);
            for (size_t i = n_panels * INFER_PANEL; i < LD; i++)
                assert_true(got[t][i] == guard);
            /* alone and from another panel on: the same bits */
            kern->gemm[kind](one, LD, &w, &x, T_MAX - n + t, T_MAX - n + t + 1,
                             n_panels - 1, n_panels);
            assert_memory_equal(one, &got[t][(n_panels - 1) * INFER_PANEL],
                                INFER_PANEL * sizeof(float));
        }
    }
}

static void test_gemm(void **state)
{
    struct infer_kernels k[N_SETS];
    const size_t n = tables(k);

    (void)state;
    for (size_t s = 0; s < n; s++)
        for (int kind = 0; kind < INFER_PACK_COUNT; kind++)
            for (size_t p = 1; p <= P_MAX; p++) {
                const struct infer_pack_info *info = &infer_pack_info[kind];
                const size_t unit = info->k       ? INFER_K_BLOCK
                                    : info->block ? 64
                                                  : 43;

                for (size_t i = 1; i <= (info->k ? 2 : 4); i++)
                    check_gemm(&k[s], &k[0], (enum infer_pack)kind, p,
                               unit * i);
                if (p == 2 && info->block) /* longer than a kernel's stage */
                    check_gemm(&k[s], &k[0], (enum infer_pack)kind, p, K_MAX);
            }
}

/* ---- rows --------------------------------------------------------------- */

static void check_guard(const float *y, size_t n)
{
    for (size_t i = n; i < n + GUARD; i++)
        assert_true(y[i] == guard);
}

static void check_rows(const struct infer_kernels *kern,
                       const struct infer_kernels *scalar, size_t n)
{
    float x[300], w[300], b[300], ref[300 + GUARD], got[300 + GUARD];

    fill(x, n, 8.0f);
    fill(w, n, 2.0f);
    fill(b, n, 2.0f);
    for (int op = 0; op < 6; op++) {
        static const char *const names[] = {"rmsnorm",  "layernorm", "add",
                                            "silu_mul", "gelu",      "exp"};
        const struct infer_kernels *const both[] = {scalar, kern};
        float *const out[] = {ref, got};

        for (int i = 0; i < 2; i++) {
            for (size_t j = 0; j < n + GUARD; j++)
                out[i][j] = j < n ? x[j] : guard;
            if (op == 0)
                both[i]->rmsnorm(out[i], out[i], w, n, 1e-5f);
            else if (op == 1)
                both[i]->layernorm(out[i], out[i], w, b, n, 1e-5f);
            else if (op == 2)
                both[i]->add(out[i], w, n);
            else if (op == 3)
                both[i]->silu_mul(out[i], w, n);
            else if (op == 4)
                both[i]->gelu(out[i], n);
            else
                both[i]->exp_sum(out[i], x, n, 8.0f);
        }
        for (size_t j = 0; j < n; j++)
            check_near(names[op], kern->name, n, j, got[j], ref[j],
                       2e-6f * (fabsf(ref[j]) + 1.0f) *
                           (op == 4 ? 512.0f : 2.0f));
        check_guard(got, n);
    }
    const float sum = kern->exp_sum(got, x, n, 8.0f);

    check_near("exp_sum", kern->name, n, 0, sum,
               scalar->exp_sum(ref, x, n, 8.0f), 1e-5f * sum);
    x[rnd() % n] = x[rnd() % n];
    assert_int_equal(kern->argmax(x, n), scalar->argmax(x, n));
}

static void test_rows(void **state)
{
    struct infer_kernels k[N_SETS];
    const size_t n = tables(k);

    (void)state;
    for (size_t s = 0; s < n; s++)
        for (size_t i = 1; i < 300; i += i < 70 ? 1 : 7)
            check_rows(&k[s], &k[0], i);
}

/* Extremes: far below zero the exponential is 0, ties go to the lowest. */
static void test_edges(void **state)
{
    struct infer_kernels k[N_SETS];
    const size_t n = tables(k);

    (void)state;
    for (size_t s = 0; s < n; s++) {
        float x[40], y[40];

        for (size_t i = 0; i < 40; i++)
            x[i] = i % 2 ? -1e30f : 0.0f;
        assert_true(k[s].exp_sum(y, x, 40, 0.0f) == 20.0f);
        assert_true(y[0] == 1.0f && y[1] == 0.0f);
        assert_int_equal(k[s].argmax(x, 40), 0);
        x[7] = x[33] = 5.0f;
        assert_int_equal(k[s].argmax(x, 40), 7);
        x[39] = 6.0f;
        assert_int_equal(k[s].argmax(x, 40), 39);
    }
}

static void test_quantize(void **state)
{
    struct infer_kernels k[N_SETS];
    const size_t n = tables(k);

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct infer_act_block ref[16], got[16];
        float x[512];

        fill(x, 512, powf(10.0f, uniform() * 6.0f));
        memset(x + 32 * (rnd() % 4), 0, 32 * sizeof(float));
        if (round % 3 == 0)
            memset(x + 256, 0, 256 * sizeof(float));
        for (size_t s = 1; s < n; s++) {
            k[0].quantize_act(ref, x, 512);
            k[s].quantize_act(got, x, 512);
            assert_memory_equal(got, ref, sizeof(ref));
            k[0].quantize_act_k(ref, x, 512);
            k[s].quantize_act_k(got, x, 512);
            assert_memory_equal(got, ref, sizeof(ref));
        }
        for (size_t s = 1; s < n; s++) {
            uint16_t a[128], b[128];

            k[0].to_bf16(a, x, 128);
            k[s].to_bf16(b, x, 128);
            assert_memory_equal(a, b, sizeof(a));
        }
    }
}

static void test_rope(void **state)
{
    struct infer_kernels k[N_SETS];
    const size_t n = tables(k);

    (void)state;
    for (size_t s = 0; s < n; s++)
        for (size_t rot = 2; rot <= 80; rot += 2)
            for (int halves = 0; halves < 2; halves++) {
                float cs[80], ref[3 * 84 + GUARD], got[3 * 84 + GUARD];
                const size_t d = rot + (rot % 3 == 0 ? 4 : 0);

                fill(cs, rot, 1.0f);
                fill(ref, 3 * d, 4.0f);
                for (size_t i = 3 * d; i < 3 * d + GUARD; i++)
                    ref[i] = guard;
                memcpy(got, ref, sizeof(ref));
                k[0].rope(ref, cs, 3, d, rot, halves);
                k[s].rope(got, cs, 3, d, rot, halves);
                for (size_t i = 0; i < 3 * d; i++)
                    check_near("rope", k[s].name, rot, i, got[i], ref[i],
                               2e-6f);
                check_guard(got, 3 * d);
            }
}

/* ---- attention ---------------------------------------------------------- */

enum { A_ROWS = 19, A_KEYS = 150, A_D = 80, A_BLOCKS = 16 };

static _Alignas(64) uint8_t cache[A_BLOCKS * 2 * A_D * INFER_KV_BLOCK * 4];
static float queries[A_ROWS][A_D];
static _Alignas(64) float scratch[8 * (64 + 256) + 64];

static void run_attention(const struct infer_kernels *k, float (*out)[A_D],
                          size_t r0, size_t n_rows, uint32_t n_keys0,
                          uint32_t d, bool f32)
{
    /* a sequence's blocks lie anywhere */
    static const uint32_t blocks[] = {7, 2, 11, 0, 5, 3, 14, 9, 1, 12};
    const float *q[A_ROWS];
    float *o[A_ROWS];
    uint32_t keys[A_ROWS];

    for (size_t r = 0; r < n_rows; r++) {
        q[r] = queries[r0 + r];
        o[r] = out[r0 + r];
        keys[r] = n_keys0 + (uint32_t)(r0 + r) / 2;
    }
    k->attention(&(struct infer_attn){.q = q,
                                      .out = o,
                                      .n_keys = keys,
                                      .n_rows = n_rows,
                                      .blocks = blocks,
                                      .kv = cache,
                                      .block_stride = 2 * d * INFER_KV_BLOCK *
                                                      (f32 ? 4u : 2u),
                                      .f32 = f32,
                                      .d = d,
                                      .scale = 1.0f / sqrtf((float)d),
                                      .scratch = scratch});
}

static void fill_cache(const struct infer_kernels *k, uint32_t d, bool f32)
{
    const size_t bytes = 2 * d * INFER_KV_BLOCK * (f32 ? 4u : 2u);

    memset(cache, 0, sizeof(cache));
    for (size_t b = 0; b < A_BLOCKS; b++)
        for (uint32_t i = 0; i < INFER_KV_BLOCK; i++) {
            float key[A_D], value[A_D];

            fill(key, d, 3.0f);
            fill(value, d, 3.0f);
            k->kv_store(cache + b * bytes, key, value, d, i, f32);
        }
}

static void check_attention(const struct infer_kernels *k,
                            const struct infer_kernels *scalar, uint32_t n_keys,
                            uint32_t d, bool f32)
{
    static float ref[A_ROWS][A_D], got[A_ROWS][A_D], one[A_ROWS][A_D];

    fill_cache(k, d, f32);
    fill(&queries[0][0], sizeof(queries) / sizeof(float), 3.0f);
    run_attention(scalar, ref, 0, A_ROWS, n_keys, d, f32);
    for (size_t i = 0; i < A_ROWS * A_D; i++)
        (&got[0][0])[i] = guard;
    run_attention(k, got, 0, A_ROWS, n_keys, d, f32);
    for (size_t r = 0; r < A_ROWS; r++) {
        run_attention(k, one, r, 1, n_keys, d, f32);
        assert_memory_equal(one[r], got[r], d * sizeof(float));
        for (uint32_t i = 0; i < d; i++)
            check_near("attention", k->name, n_keys, i, got[r][i], ref[r][i],
                       3e-5f);
        for (uint32_t i = d; i < A_D; i++)
            assert_true(got[r][i] == guard);
    }
}

static void test_attention(void **state)
{
    static const uint32_t widths[] = {4, 8, 20, 32, 48, 64, 80};
    struct infer_kernels k[N_SETS];
    const size_t n = tables(k);

    (void)state;
    for (size_t s = 0; s < n; s++)
        for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++)
            for (uint32_t keys = 1; keys <= A_KEYS; keys += 1 + keys / 4)
                for (int f32 = 0; f32 < 2; f32++)
                    check_attention(&k[s], &k[0], keys, widths[w], f32);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),  cmocka_unit_test(test_rows),
        cmocka_unit_test(test_edges), cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_rope),  cmocka_unit_test(test_attention),
    };

    rng = argc > 1 ? strtoull(argv[1], NULL, 10) : (unsigned long)time(NULL);
    print_message("seed %llu\n", (unsigned long long)rng);
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
