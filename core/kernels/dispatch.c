/*
 * dispatch.c - pick kernels once, at load, never in a loop.
 *
 * The table starts all scalar and each instruction set found overwrites the
 * entries it improves, so that a missing variant needs no code at all. Also
 * here: what the packed kinds are, which no instruction set changes.
 */
#include "core/kernels/kernels.h"

const struct infer_pack_info infer_pack_info[INFER_PACK_COUNT] = {
    [INFER_PACK_F32] = {"f32", INFER_ACT_F32, 32, 0, false, false},
    [INFER_PACK_F16] = {"f16", INFER_ACT_F32, 16, 0, false, false},
    [INFER_PACK_BF16] = {"bf16", INFER_ACT_BF16, 16, 0, false, false},
    [INFER_PACK_I8] = {"i8", INFER_ACT_I8, 8, 32, false, false},
    [INFER_PACK_I8_MIN] = {"i8 min", INFER_ACT_I8, 8, 32, true, false},
    [INFER_PACK_I4] = {"i4", INFER_ACT_I8, 4, 32, false, false},
    [INFER_PACK_I4_MIN] = {"i4 min", INFER_ACT_I8, 4, 32, true, false},
    [INFER_PACK_I4_K] = {"i4 k", INFER_ACT_I8K, 4, 32, true, true},
    [INFER_PACK_I8_K] = {"i8 k", INFER_ACT_I8K, 8, 32, true, true},
    [INFER_PACK_I8_K16] = {"i8 k16", INFER_ACT_I8K, 8, 16, false, true},
    [INFER_PACK_I8_K16MIN] = {"i8 k16 min", INFER_ACT_I8K, 8, 16, true, true},
};

struct infer_panel_layout infer_pack_layout(enum infer_pack kind, size_t k)
{
    enum { HALVES = INFER_PANEL * sizeof(uint16_t) };
    const struct infer_pack_info *info = &infer_pack_info[kind];
    const size_t k_even = (k + 1) / 2 * 2; /* bf16 comes in pairs */
    const size_t parts = info->mins ? 2 : 1;
    struct infer_panel_layout at = {0};
    size_t scales = 0;

    at.scales =
        (kind == INFER_PACK_BF16 ? k_even : k) * INFER_PANEL * info->bits / 8;
    if (info->k) {
        at.k_bytes = parts * (HALVES + (size_t)INFER_K_BLOCK / info->block *
                                           INFER_PANEL);
        scales = k / INFER_K_BLOCK * at.k_bytes;
    } else if (info->block) {
        scales = k / info->block * HALVES;
        at.mins = at.scales + scales;
        scales *= parts;
    }
    at.bytes = (at.scales + scales + 63) / 64 * 64;
    return at;
}

size_t infer_attn_scratch(uint32_t d)
{
    enum { TILE = 8 }; /* query rows that variants take together, at most */

    return TILE * ((size_t)INFER_ATTN_CHUNK + (d + 15u) / 16u * 16u) + 64;
}

void infer_kernels_init(struct infer_kernels *k, unsigned cpu)
{
    *k = (struct infer_kernels){0};
    infer_kernels_scalar(k);
#if defined(__x86_64__)
    if (cpu & INFER_CPU_AVX2)
        infer_kernels_avx2(k);
    if (!(cpu & INFER_CPU_AVX2) || !(cpu & INFER_CPU_AVX512VNNI))
        return;
    infer_kernels_avx512(k);
    if (cpu & INFER_CPU_AVX512BF16)
        infer_kernels_avx512bf16(k);
#if !defined(INFER_NO_AMX)
    if (cpu & INFER_CPU_AMXINT8)
        infer_kernels_amxint8(k);
#endif
#else
    (void)cpu;
#endif
}
