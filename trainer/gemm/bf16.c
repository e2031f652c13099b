/*
 * bf16.c - products in bfloat16: blocks for the caches, units for the threads.
 *
 *   shared block of B   nc x kb, 8 MB: the third cache     (packed: all of B)
 *     unit              up to 224 rows, for one member       (AMX: 128)
 *       block of A      224 x 512, 230 KB: the second cache  (128 x 2048)
 *         panel of B    512 x 32, 32 KB: the first cache     (2048 x 32)
 *           tile of C   14 x 32: registers                   (32 x 32)
 *
 * A is packed by whoever takes the unit, into its own second cache; B by all,
 * once. Members take units as they get to them, since on a busy machine equal
 * shares don't end together. Every element of C is summed in an order that only
 * k determines, so who does what, and how high a tile is, changes no bit.
 */
#include "trainer/gemm/bf16.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

enum {
    UNIT_ROWS_MIN = 48, /* below, members share columns instead of rows */
    SHARED_K = 2048,    /* inputs of a shared block, if n is large */
    SHARED_N = 2048,    /* columns of it, if k is large */
    ALONE_N = 512,      /* columns of a block in a member's own work space */
    ALONE_K = 512,      /* inputs of it */
    CHUNK = 32,         /* inputs packed before the next tile */
    PACK_GRAIN = 4,     /* panels packed by whom takes them */
    ALONE_WORDS = ALONE_N * ALONE_K / 2,
    SHARED_WORDS = SHARED_N * SHARED_K / 2,
    ALIGN_WORDS = 16,
};

static size_t ceil_div(size_t n, size_t unit)
{
    return (n + unit - 1) / unit;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t n, size_t unit)
{
    return ceil_div(n, unit) * unit;
}

size_t train_bf16_panel_words(const struct bf16_kernels *k, size_t n_inputs)
{
    return round_up(n_inputs, k->k_unit) / 2 * BF16_N;
}

bool train_bf16_kernels(struct bf16_kernels *k, unsigned cpu)
{
#if defined(__x86_64__)
    if (!(cpu & INFER_CPU_AVX512BF16))
        return false;
    train_bf16_avx512(k);
#if !defined(INFER_NO_AMX)
    if (cpu & INFER_CPU_AMXBF16)
        train_bf16_amx(k);
#endif
    return true;
#else
    (void)k;
    (void)cpu;
    return false;
#endif
}

/* The most even split of k into parts of whole units up to max. */
static size_t even_part(const struct bf16_kernels *kern, size_t k, size_t max)
{
    const size_t parts = k ? ceil_div(k, max) : 1;

    return round_up(ceil_div(k, parts), kern->k_unit);
}

int train_bf16_create(struct bf16_work *w, const struct bf16_kernels *kern,
                      int n_members, struct infer_error *err)
{
    const size_t a_words = kern->unit_words;
    const size_t words = a_words + ALONE_WORDS;
    const size_t total = SHARED_WORDS + (size_t)n_members * words;
    uint32_t *at;

    *w = (struct bf16_work){.kernels = *kern, .n_members = n_members};
    w->memory = aligned_alloc(64, total * sizeof(uint32_t));
    w->parts = calloc((size_t)n_members, sizeof(*w->parts));
    if (!w->memory || !w->parts) {
        train_bf16_release(w);
        return infer_fail(err, INFER_ENOMEM, "out of memory for products");
    }
    at = w->memory;
    w->b = at;
    at += SHARED_WORDS;
    for (int i = 0; i < n_members; i++, at += words)
        w->parts[i] = (struct bf16_scratch){at, at + a_words};
    return INFER_OK;
}

void train_bf16_release(struct bf16_work *w)
{
    free(w->memory);
    free(w->parts);
    *w = (struct bf16_work){0};
}

/* ---- packing ------------------------------------------------------------- */

/* The inputs between k and the unit, which every panel holds as zeros. */
static void zero_tail(const struct bf16_kernels *kern, uint32_t *dst, size_t k,
                      size_t first, size_t last)
{
    const size_t stride = train_bf16_panel_words(kern, k);
    const size_t used = ceil_div(k, 2) * BF16_N;

    for (size_t j = first; j < last && used < stride; j++)
        memset(dst + j * stride + used, 0, (stride - used) * sizeof(*dst));
}

/* Panels [first, last) of op(B) [k][n]. Inputs outside, panels inside: rows of
 * B are read in runs, not one piece of each. */
static void pack_panels(const struct bf16_kernels *kern, uint32_t *dst, bool tb,
                        const float *b, size_t ldb, size_t n, size_t k,
                        size_t first, size_t last)
{
    const size_t stride = train_bf16_panel_words(kern, k);
    const size_t step = tb ? k : CHUNK;
    size_t i = 0;

    do {
        const size_t len = min_size(step, k - i);

        for (size_t col = first * BF16_N; col < last * BF16_N;
             col += BF16_LANES) {
            uint32_t *to =
                dst + col / BF16_N * stride + i / 2 * BF16_N + col % BF16_N;
            const size_t width = col < n ? min_size(BF16_LANES, n - col) : 0;

            if (tb)
                kern->along(to, BF16_N, BF16_LANES, b + (width ? col * ldb : 0),
                            ldb, (int)width, len);
            else
                kern->across(to, BF16_N, BF16_LANES,
                             b + i * ldb + (width ? col : 0), ldb, (int)width,
                             len);
        }
        i += step;
    } while (i < k);
    zero_tail(kern, dst, k, first, last);
}

void train_bf16_pack_panels(const struct bf16_kernels *kern, uint32_t *dst,
                            bool tb, const float *b, size_t ldb, size_t n,
                            size_t k)
{
    pack_panels(kern, dst, tb, b, ldb, n, k, 0, ceil_div(n, BF16_N));
}

void train_bf16_pack_b(struct infer_member *me, const struct bf16_kernels *kern,
                       uint32_t *dst, bool tb, const float *b, size_t ldb,
                       size_t n, size_t k)
{
    const size_t panels = ceil_div(n, BF16_N);
    int64_t at;

    while ((at = infer_team_take(me, (int64_t)panels, PACK_GRAIN)) >= 0)
        pack_panels(kern, dst, tb, b, ldb, n, k, (size_t)at,
                    min_size(panels, (size_t)at + PACK_GRAIN));
}

/* Where tile t of a unit's tiles begins. */
static size_t tile_row(const struct bf16_kernels *kern, size_t rows, size_t t)
{
    if (kern->even)
        return rows * t / ceil_div(rows, kern->tile_rows);
    return min_size(rows, t * kern->tile_rows);
}

/* Panels that a tile of A meets before the next does. */
static size_t group_panels(const struct bf16_kernels *kern, size_t k)
{
    const size_t n =
        kern->group_words / train_bf16_panel_words(kern, k ? k : 1);

    return n ? n : 1;
}

/* Words of packed A before row `row`, which begins a tile. */
static size_t a_words(const struct bf16_kernels *kern, size_t row, size_t k)
{
    return row * (round_up(k, kern->k_unit) / 2);
}

void train_bf16_pack_a(const struct bf16_kernels *kern, uint32_t *dst, bool ta,
                       const float *a, size_t lda, size_t rows, size_t k)
{
    const size_t tiles = ceil_div(rows, kern->tile_rows);
    const size_t step = ta ? CHUNK : k;
    size_t i = 0;

    do {
        const size_t len = min_size(step, k - i);

        for (size_t t = 0; t < tiles; t++) {
            const size_t row = tile_row(kern, rows, t);
            const size_t m = tile_row(kern, rows, t + 1) - row;
            uint32_t *to = dst + a_words(kern, row, k) +
                           i / 2 * round_up(m, kern->row_unit);

            if (ta)
                kern->a_across(to, a + i * lda + row, lda, (int)m, len);
            else
                kern->a_along(to, a + row * lda, lda, (int)m, len);
        }
        i += step;
    } while (i < k);
}

/* ---- multiplying --------------------------------------------------------- */

/* A block of B being multiplied: inputs [k0, k0 + k) of columns
 * [n0, n0 + n), of which a unit takes some rows and panels. */
struct block {
    const struct train_product *p;
    const uint32_t *b; /* packed; panels are `stride` words apart */
    size_t stride;
    size_t k0, k, n0, n;
    size_t rows;     /* of a unit */
    size_t n_i, n_j; /* units: row blocks, column blocks */
};

/* Rows of a unit, at most: those whose inputs fit a member's work space. */
static size_t unit_rows(const struct bf16_kernels *kern, size_t k)
{
    const size_t step = even_part(kern, k ? k : 1, kern->k_max);
    const size_t fit = kern->unit_words / (step / 2);

    return min_size(kern->unit_rows, fit / kern->tile_rows * kern->tile_rows);
}

static void set_units(const struct bf16_kernels *kern, struct block *x,
                      int n_members)
{
    const size_t members = (size_t)n_members;
    const size_t m = x->p->m;
    const size_t panels = ceil_div(x->n, BF16_N);
    size_t n = ceil_div(m, unit_rows(kern, x->k));

    x->n_j = 1;
    if (m >= UNIT_ROWS_MIN * members)
        n = ceil_div(n, members) * members;
    else
        x->n_j = min_size(panels, members);
    x->rows = kern->even ? ceil_div(m, n ? n : 1)
                         : round_up(ceil_div(m, n ? n : 1), kern->tile_rows);
    x->n_i = x->rows ? ceil_div(m, x->rows) : 0;
}

/* A tile of C: rows [r, ...) of the unit at `row`, panel j. */
static void multiply_tile(const struct bf16_kernels *kern,
                          const struct block *x, struct bf16_tile *tile,
                          const uint32_t *a, const uint32_t *b, size_t row,
                          size_t j, size_t k)
{
    const size_t col = j * BF16_N;

    tile->c = x->p->c + row * x->p->ldc + x->n0 + col;
    tile->cols = (int)min_size(BF16_N, x->n - col);
    kern->tile(tile, a, b + j * x->stride, round_up(k, kern->k_unit) / 2);
}

/* Rows [row, row + rows) of C, panels [first, last), with inputs
 * [k0, k0 + k) of A, packed, and of B. */
static void multiply(const struct bf16_kernels *kern, const struct block *x,
                     const uint32_t *a, size_t row, size_t rows, size_t first,
                     size_t last, size_t k0, size_t k)
{
    const size_t tiles = ceil_div(rows, kern->tile_rows);
    const size_t group = group_panels(kern, k);
    const uint32_t *b = x->b + k0 / 2 * BF16_N;
    struct bf16_tile tile = {.ldc = x->p->ldc,
                             .alpha = x->p->alpha,
                             .beta = x->k0 + k0 ? 1.0f : x->p->beta};

    for (size_t g = first; g < last; g += group)
        for (size_t t = 0; t < tiles; t++) {
            const size_t r = tile_row(kern, rows, t);
            const uint32_t *at = a + a_words(kern, r, k);

            tile.rows = (int)(tile_row(kern, rows, t + 1) - r);
            for (size_t j = g; j < last && j < g + group; j++)
                multiply_tile(kern, x, &tile, at, b, row + r, j, k);
        }
}

void train_bf16_block(const struct bf16_kernels *kern, float *c, size_t ldc,
                      size_t rows, size_t n, size_t k, const uint32_t *a,
                      const uint32_t *b, size_t b_inputs, bool add)
{
    const struct train_product p = {
        .alpha = 1.0f, .beta = add ? 1.0f : 0.0f, .c = c, .ldc = ldc};
    const struct block x = {.p = &p,
                            .b = b,
                            .stride = train_bf16_panel_words(kern, b_inputs),
                            .n = n};

    multiply(kern, &x, a, 0, rows, 0, ceil_div(n, BF16_N), 0, k);
}

static void run_unit(const struct bf16_kernels *kern, const struct block *x,
                     uint32_t *scratch, size_t unit)
{
    const struct train_product *p = x->p;
    const size_t panels = ceil_div(x->n, BF16_N);
    const size_t i = unit / x->n_j, j = unit % x->n_j;
    const size_t row = i * x->rows;
    const size_t rows = min_size(x->rows, p->m - row);
    const size_t step = even_part(kern, x->k, kern->k_max);
    size_t at = 0;

    do {
        const size_t k = min_size(step, x->k - at);
        const size_t k0 = x->k0 + at;
        const float *a = p->a + (p->ta ? k0 * p->lda + row : row * p->lda + k0);

        train_bf16_pack_a(kern, scratch, p->ta, a, p->lda, rows, k);
        multiply(kern, x, scratch, row, rows, panels * j / x->n_j,
                 panels * (j + 1) / x->n_j, at, k);
        at += step;
    } while (at < x->k);
}

static void begin(const struct bf16_kernels *kern)
{
    if (kern->begin)
        kern->begin();
}

static void end(const struct bf16_kernels *kern)
{
    if (kern->end)
        kern->end();
}

static const float *b_at(const struct train_product *p, size_t k, size_t n)
{
    return p->b + (p->tb ? n * p->ldb + k : k * p->ldb + n);
}

/* One block of B, by all members; ends with a barrier. */
static void run_block(struct infer_member *me, const struct bf16_work *w,
                      struct block *x)
{
    const struct train_product *p = x->p;
    int64_t unit;

    set_units(&w->kernels, x, me->n);
    if (!p->packed) {
        x->b = w->b;
        x->stride = train_bf16_panel_words(&w->kernels, x->k);
        train_bf16_pack_b(me, &w->kernels, w->b, p->tb, b_at(p, x->k0, x->n0),
                          p->ldb, x->n, x->k);
        infer_team_barrier(me);
    }
    begin(&w->kernels);
    while ((unit = infer_team_take(me, (int64_t)(x->n_i * x->n_j), 1)) >= 0)
        run_unit(&w->kernels, x, w->parts[me->id].a, (size_t)unit);
    end(&w->kernels);
    infer_team_barrier(me);
}

void train_bf16_phase(struct infer_member *me, const struct bf16_work *w,
                      const struct train_product *p)
{
    struct block x = {.p = p, .k = p->k, .n = p->n};
    const size_t n_words = ceil_div(p->n ? p->n : 1, BF16_N) * BF16_N / 2;
    size_t k_max = SHARED_WORDS / n_words / CHUNK * CHUNK;

    infer_team_barrier(me);
    if (p->packed) {
        x.b = p->packed->data;
        x.stride = train_bf16_panel_words(&w->kernels, p->k);
        run_block(me, w, &x);
        return;
    }
    if (k_max < SHARED_K)
        k_max = SHARED_K;
    const size_t kb = even_part(&w->kernels, p->k, k_max);
    const size_t nb = kb ? SHARED_WORDS * 2 / kb / BF16_N * BF16_N : p->n;

    for (x.n0 = 0; x.n0 < p->n; x.n0 += nb) {
        x.n = min_size(nb, p->n - x.n0);
        x.k0 = 0;
        do {
            x.k = min_size(kb, p->k - x.k0);
            run_block(me, w, &x);
            x.k0 += kb;
        } while (x.k0 < p->k);
    }
}

static void alone_block(const struct bf16_work *w, const struct bf16_scratch *s,
                        struct block *x)
{
    const struct train_product *p = x->p;

    set_units(&w->kernels, x, 1);
    if (!p->packed) {
        x->b = s->b;
        x->stride = train_bf16_panel_words(&w->kernels, x->k);
        pack_panels(&w->kernels, s->b, p->tb, b_at(p, x->k0, x->n0), p->ldb,
                    x->n, x->k, 0, ceil_div(x->n, BF16_N));
    }
    begin(&w->kernels);
    for (size_t unit = 0; unit < x->n_i * x->n_j; unit++)
        run_unit(&w->kernels, x, s->a, unit);
    end(&w->kernels);
}

void train_bf16_alone(const struct bf16_work *w, const struct bf16_scratch *s,
                      const struct train_product *p)
{
    struct block x = {.p = p, .k = p->k, .n = p->n};
    const size_t kb = even_part(&w->kernels, p->k, ALONE_K);

    if (p->packed) {
        x.b = p->packed->data;
        x.stride = train_bf16_panel_words(&w->kernels, p->k);
        alone_block(w, s, &x);
        return;
    }
    for (x.n0 = 0; x.n0 < p->n; x.n0 += ALONE_N) {
        x.n = min_size(ALONE_N, p->n - x.n0);
        x.k0 = 0;
        do {
            x.k = min_size(kb, p->k - x.k0);
            alone_block(w, s, &x);
            x.k0 += kb;
        } while (x.k0 < p->k);
    }
}
