/*
 * amxint8_gemm.c - integer products of many rows with AMX.
 *
 * tdpbssd multiplies 16 rows by a panel's 16 outputs over one block of inputs
 * in 16 cycles. The sums leave the tile through memory, which takes as long
 * again, and are scaled in vector registers in 32 cycles, in the order and with
 * the rounding of avx512_gemm.c, so that a row gets the same bits from either
 * file. The three overlap only in part (one core of a 4th-generation Xeon: 75
 * cycles in all, against 105 there), so what bounds the kernel is the scales:
 * kinds that have one per 16 inputs gain nothing and stay where they were.
 *
 * The zero point is taken out of the weights and 4 bits are widened beforehand,
 * once for all rows: up to STAGE_BLOCKS blocks of a panel are copied as signed
 * bytes into 16 KiB of stack, and the rows pass by them, 16 at a time; between
 * such pieces of K the float sums wait in y. Rows that make no full 16 are left
 * to avx512_gemm.c. Tiles are configured and released in each call, so that a
 * thread outside of one has no tiles for the system to save.
 */
#include "core/kernels/kernels.h"

#include "core/kernels/x86_64/panel512.h"
#include "core/kernels/x86_64/unroll.h"

enum { ROWS = 16, AHEAD = 3, STAGE_BLOCKS = 32 };

/* Tile registers; the instructions take literals. 0 to 3 hold sums, by turns.
 */
#define A_TILE 4
#define B_TILE 5

struct tile_config {
    uint8_t palette, start_row, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* What 16 rows by a panel read and write. */
struct group {
    float *y; /* [16][ldy] */
    size_t ldy;
    const uint8_t *x; /* the first row's block 0 */
    size_t x_stride;
    const uint8_t *panel;
    struct infer_panel_layout at;
    size_t b0, b1;        /* the piece of K; b0 > 0 goes on from y */
    const int8_t *staged; /* [b1 - b0][8][16][4] of the panel */
};

typedef int32_t dots[ROWS][INFER_PANEL]; /* what a tile leaves */

static void configure(void)
{
    struct tile_config c = {.palette = 1};

    for (int i = 0; i <= B_TILE; i++) {
        c.row_bytes[i] = i == A_TILE ? INFER_ACT_BLOCK : 64;
        c.rows[i] = i == B_TILE ? INFER_ACT_BLOCK / 4 : ROWS;
    }
    _tile_loadconfig(&c);
}

/* Blocks [b0, b1) of a panel as signed bytes. */
INLINE void stage(int8_t *out, const uint8_t *panel, size_t b0, size_t b1,
                  const struct shape h)
{
    const __m512i zero =
        _mm512_set1_epi8((char)(h.mins ? 0 : 1u << (h.bits - 1)));

    for (size_t b = b0; b < b1; b++)
        EACH (j, 8) {
            const __m512i w = quants(panel, h, b, j);

            _mm512_store_si512(out, h.mins ? w : _mm512_sub_epi8(w, zero));
            out += 64;
        }
}

static inline const uint8_t *row_at(const struct group *g, size_t b)
{
    return g->x + b * sizeof(struct infer_act_block);
}

/* Tile c = 16 rows of block b times the panel. */
#define MULTIPLY(c, g, b)                                                      \
    do {                                                                       \
        _tile_zero(c);                                                         \
        _tile_loadd(A_TILE, row_at(g, b), (g)->x_stride);                      \
        _tile_loadd(B_TILE, (g)->staged + ((b) - (g)->b0) * 512, 64);          \
        _tile_dpbssd(c, A_TILE, B_TILE);                                       \
    } while (0)
#define STORE(c, to) _tile_stored(c, to, INFER_PANEL * sizeof(int32_t))

INLINE void multiply(const struct group *g, size_t b)
{
    switch (b % 4) {
    case 0:
        MULTIPLY(0, g, b);
        break;
    case 1:
        MULTIPLY(1, g, b);
        break;
    case 2:
        MULTIPLY(2, g, b);
        break;
    default:
        MULTIPLY(3, g, b);
    }
}

INLINE void store(dots dot, size_t b)
{
    switch (b % 4) {
    case 0:
        STORE(0, dot);
        break;
    case 1:
        STORE(1, dot);
        break;
    case 2:
        STORE(2, dot);
        break;
    default:
        STORE(3, dot);
    }
}

/* sum += 16 rows' block b */
INLINE void scale(vf sum[ROWS], const struct group *g, dots dot, size_t b,
                  const struct shape h)
{
    const uint8_t *x = row_at(g, b);
    vf min = v_zero();
    const vf scales = scales_at(g->panel, g->at, b, 0, h, &min);

    EACH (m, ROWS) {
        sum[m] = add_scaled(sum[m], _mm512_load_si512(dot[m]), scales, min,
                            (const void *)x, 0, h);
        x += g->x_stride;
        /* else gcc keeps 16 addresses in vector registers and fetches them */
        __asm__("" : "+r"(x));
    }
}

/* 16 rows by one panel. A product takes 52 cycles, and a store that waits for
 * one holds up the tiles: it goes when three more are under way. */
INLINE void multiply_group(const struct group *g, const struct shape h)
{
    _Alignas(64) dots dot;
    vf sum[ROWS];

    EACH (m, ROWS)
        sum[m] = g->b0 ? v_load(g->y + (size_t)m * g->ldy) : v_zero();
    for (size_t b = g->b0; b < g->b0 + AHEAD && b < g->b1; b++)
        multiply(g, b);
    for (size_t b = g->b0; b < g->b1; b++) {
        if (b + AHEAD < g->b1)
            multiply(g, b + AHEAD);
        store(dot, b);
        scale(sum, g, dot, b, h);
    }
    EACH (m, ROWS)
        v_store(g->y + (size_t)m * g->ldy, sum[m]);
}

/* All rows, n of them, past the staged part of a panel. */
INLINE void pass(struct group g, size_t n, const struct shape h)
{
    for (size_t t = 0; t < n; t += ROWS) {
        multiply_group(&g, h);
        g.y += ROWS * g.ldy;
        g.x += ROWS * g.x_stride;
    }
}

INLINE void gemm(float *y, size_t ldy, const struct infer_packed *w,
                 const struct infer_act *x, size_t t0, size_t t1, size_t p0,
                 size_t p1, const struct shape h)
{
    _Alignas(64) int8_t staged[STAGE_BLOCKS * 512];
    const size_t n = (t1 - t0) / ROWS * ROWS;
    const size_t n_blocks = w->k / INFER_ACT_BLOCK;
    struct group g = {.ldy = ldy,
                      .x = x->data + t0 * x->stride,
                      .x_stride = x->stride,
                      .staged = staged,
                      .at = infer_pack_layout(w->kind, w->k)};

    if (n)
        configure();
    for (size_t p = p0; p < p1 && n; p++) {
        g.panel = w->data + p * w->panel_bytes;
        g.y = y + (p - p0) * INFER_PANEL;
        for (g.b0 = 0; g.b0 < n_blocks; g.b0 = g.b1) {
            g.b1 =
                n_blocks - g.b0 < STAGE_BLOCKS ? n_blocks : g.b0 + STAGE_BLOCKS;
            stage(staged, g.panel, g.b0, g.b1, h);
            pass(g, n, h);
        }
    }
    if (n)
        _tile_release();
    if (t0 + n < t1)
        infer_gemm_avx512(y + n * ldy, ldy, w, x, t0 + n, t1, p0, p1);
}

#define KERNEL(name, bits, mins, k)                                            \
    static void gemm_##name(                                                   \
        float *y, size_t ldy, const struct infer_packed *w,                    \
        const struct infer_act *x, size_t t0, size_t t1, size_t p0, size_t p1) \
    {                                                                          \
        gemm(y, ldy, w, x, t0, t1, p0, p1, (struct shape){bits, 1, mins, k});  \
    }

KERNEL(i8, 8, false, false)
KERNEL(i8_min, 8, true, false)
KERNEL(i4, 4, false, false)
KERNEL(i4_min, 4, true, false)
KERNEL(i4_k, 4, true, true)
KERNEL(i8_k, 8, true, true)

void infer_kernels_amxint8(struct infer_kernels *k)
{
    k->name = "amx";
    k->cpu |= INFER_CPU_AMXINT8;
    k->gemm[INFER_PACK_I8] = gemm_i8;
    k->gemm[INFER_PACK_I8_MIN] = gemm_i8_min;
    k->gemm[INFER_PACK_I4] = gemm_i4;
    k->gemm[INFER_PACK_I4_MIN] = gemm_i4_min;
    k->gemm[INFER_PACK_I4_K] = gemm_i4_k;
    k->gemm[INFER_PACK_I8_K] = gemm_i8_k;
}
