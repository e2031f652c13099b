/*
 * bf16.c - products in bfloat16: blocks for the caches, units for the threads.
 *
 *   shared block of B   nc x kb, 8 MB: the third cache     (packed: all of B)
 *     unit              up to 224 rows, for one member       (AMX: 512)
 *       block of A      224 x 512, 230 KB: the second cache  (512 x 512)
 *         panel of B    512 x 32, 32 KB: the first cache     (the same)
 *           tile of C   14 x 32: registers                   (32 x 32)
 *
 * A is packed by whoever takes the unit, into its own second cache; B by all,
 * once. Members take units as they get to them, since on a busy machine equal
 * shares don't end together. Every element of C is summed in an order that only
 * k determines, so who does what, and how high a tile is, changes no bit.
 */
#include "trainer/gemm/bf16_parts.h"

#include "core/base/error.h"

#include <assert.h>
#include <stdlib.h>

enum {
    UNIT_ROWS_MIN = 48,   /* below, members share columns instead of rows */
    SHARED_K = 2048,      /* inputs of a shared block, if n is large */
    SHARED_N = 2048,      /* columns of it, if k is large */
    ALONE_N = 512,        /* columns of a block in a member's own work space */
    ALONE_K = 512,        /* inputs of it */
    BESIDE_ROWS = 256,    /* of a unit with work beside, at most */
    BESIDE_A = 256 << 10, /* words of its packed A, all inputs */
    BESIDE_GROUP = 128 << 10, /* words of the panels between two finishes */
    BESIDE_C = 256 << 10,     /* floats of a unit's rows of C */
    BESIDE_MADE = 128 << 10,  /* of a tile's rows of A before they are packed */
    ALONE_WORDS = ALONE_N * ALONE_K / 2,
    SHARED_WORDS = SHARED_N * SHARED_K / 2,
};

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
    const size_t a_words =
        kern->unit_words > BESIDE_A ? kern->unit_words : BESIDE_A;
    const size_t words = a_words + ALONE_WORDS + BESIDE_MADE + BESIDE_C;
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
        w->parts[i] = (struct bf16_scratch){
            .a = at,
            .b = at + a_words,
            .made = (float *)(at + a_words + ALONE_WORDS),
            .c = (float *)(at + a_words + ALONE_WORDS + BESIDE_MADE)};
    return INFER_OK;
}

void train_bf16_release(struct bf16_work *w)
{
    free(w->memory);
    free(w->parts);
    *w = (struct bf16_work){0};
}

/* Panels that a tile of A meets before the next does. */
static size_t group_panels(const struct bf16_kernels *kern, size_t k)
{
    const size_t n =
        kern->group_words / train_bf16_panel_words(kern, k ? k : 1);

    return n ? n : 1;
}

/* ---- multiplying --------------------------------------------------------- */

/* A block of B being multiplied: inputs [k0, k0 + k) of columns
 * [n0, n0 + n), of which a unit takes some rows and panels. */
struct block {
    const struct train_product *p;
    const uint32_t *b; /* packed; panels are `stride` words apart */
    size_t stride;
    size_t k0, k, n0, n;
    float *c; /* row 0, column c_col of C */
    size_t ldc, c_col;
    bool beside;     /* units do what p->beside says */
    size_t rows;     /* of a unit */
    size_t n_i, n_j; /* units: row blocks, column blocks */
};

/* Inputs of A packed at once. C is read and written once for each part, so of
 * wide ones there are fewer. */
static size_t part_inputs(const struct bf16_kernels *kern,
                          const struct block *x)
{
    const bool wide = x->p->ta && x->p->n > x->p->m;

    return even_part(kern, x->k ? x->k : 1,
                     wide ? 2 * kern->k_max : kern->k_max);
}

/* Rows of a unit, at most: those whose inputs fit a member's work space. */
static size_t unit_rows(const struct bf16_kernels *kern, const struct block *x)
{
    const size_t step = part_inputs(kern, x);
    const size_t fit = kern->unit_words / (step / 2);

    return min_size(kern->unit_rows, fit / kern->tile_rows * kern->tile_rows);
}

/* Rows of a unit whose inputs and results, all of them, fit beside: whole row
 * blocks, 0 if they don't fit. */
static size_t beside_rows(const struct bf16_kernels *kern, size_t n, size_t k)
{
    const size_t words = round_up(k, kern->k_unit) / 2;
    const size_t inputs = words ? BESIDE_A / words / kern->tile_rows : 0;
    const size_t results = n ? BESIDE_C / n : 0;
    const size_t rows = min_size(BESIDE_ROWS, inputs * kern->tile_rows);

    return min_size(rows, results) / TRAIN_ROW_BLOCK * TRAIN_ROW_BLOCK;
}

/* Columns that must be there at once. */
static size_t n_whole(const struct block *x)
{
    const struct train_beside *beside = x->p->beside;

    return beside->finish && beside->whole ? x->n : BF16_N;
}

static void set_beside_units(const struct bf16_kernels *kern, struct block *x,
                             int n_members)
{
    const size_t m = x->p->m, most = beside_rows(kern, n_whole(x), x->k);
    size_t n;

    assert(most > 0); /* train_gemm_fits() */
    n = round_up(ceil_div(m ? m : 1, most), (size_t)n_members);
    x->rows = round_up(ceil_div(m ? m : 1, n), TRAIN_ROW_BLOCK);
    x->n_i = ceil_div(m, x->rows); /* none of a batch of empty texts */
    x->n_j = 1;
}

/* Whether members share the columns: of a wide C whose rows fit one unit, so
 * that each reads its own part of B only. */
static bool by_columns(const struct block *x, size_t n_units, size_t members)
{
    return x->p->ta && n_units == 1 && x->p->n > x->p->m &&
           x->n >= members * UNIT_ROWS_MIN;
}

static void set_units(const struct bf16_kernels *kern, struct block *x,
                      int n_members)
{
    const size_t members = (size_t)n_members;
    const size_t m = x->p->m;
    const size_t panels = ceil_div(x->n, BF16_N);
    size_t n = ceil_div(m, unit_rows(kern, x));

    x->n_j = 1;
    if (m >= UNIT_ROWS_MIN * members && !by_columns(x, n, members))
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
                          size_t j, size_t k0, size_t k)
{
    const size_t col = j * BF16_N;

    tile->c = x->c + row * tile->ldc + x->n0 + col - x->c_col;
    tile->bias =
        x->p->bias && x->k0 + k0 == 0 ? x->p->bias + x->n0 + col : NULL;
    tile->cols = (int)min_size(BF16_N, x->n - col);
    kern->tile(tile, a, b + j * x->stride, round_up(k, kern->k_unit) / 2);
}

/* Rows [row, row + rows) of C, panels [first, last), with inputs
 * [k0, k0 + k) of A, packed, and of B. */
static void multiply_group(const struct bf16_kernels *kern,
                           const struct block *x, const uint32_t *a, size_t row,
                           size_t rows, size_t first, size_t last, size_t k0,
                           size_t k)
{
    const size_t tiles = ceil_div(rows, kern->tile_rows);
    const uint32_t *b = x->b + k0 / 2 * BF16_N;
    struct bf16_tile tile = {.ldc = x->ldc,
                             .alpha = x->p->alpha,
                             .beta = x->k0 + k0 ? 1.0f : x->p->beta};

    for (size_t t = 0; t < tiles; t++) {
        const size_t r = tile_row(kern, rows, t);
        const uint32_t *at = a + a_words(kern, r, k);

        tile.rows = (int)(tile_row(kern, rows, t + 1) - r);
        for (size_t j = first; j < last; j++)
            multiply_tile(kern, x, &tile, at, b, row + r, j, k0, k);
    }
}

static void multiply(const struct bf16_kernels *kern, const struct block *x,
                     const uint32_t *a, size_t row, size_t rows, size_t first,
                     size_t last, size_t k0, size_t k)
{
    const size_t group = group_panels(kern, k);

    for (size_t g = first; g < last; g += group)
        multiply_group(kern, x, a, row, rows, g, min_size(last, g + group), k0,
                       k);
}

void train_bf16_block(const struct bf16_kernels *kern, float *c, size_t ldc,
                      size_t rows, size_t n, size_t k, const uint32_t *a,
                      const uint32_t *b, size_t b_inputs, bool add)
{
    const struct train_product p = {.alpha = 1.0f, .beta = add ? 1.0f : 0.0f};
    const struct block x = {.p = &p,
                            .c = c,
                            .ldc = ldc,
                            .b = b,
                            .stride = train_bf16_panel_words(kern, b_inputs),
                            .n = n};

    multiply(kern, &x, a, 0, rows, 0, ceil_div(n, BF16_N), 0, k);
}

static struct bf16_source a_of(const struct train_product *p)
{
    return (struct bf16_source){p->a16 ? NULL : p->a, p->a16, p->lda};
}

static void run_unit(const struct bf16_kernels *kern, const struct block *x,
                     uint32_t *scratch, size_t unit)
{
    const struct train_product *p = x->p;
    const size_t panels = ceil_div(x->n, BF16_N);
    const size_t i = unit / x->n_j, j = unit % x->n_j;
    const size_t row = i * x->rows;
    const size_t rows = min_size(x->rows, p->m - row);
    const size_t step = part_inputs(kern, x);
    float *sums = p->a_sums && x->n0 == 0 && j == 0 ? p->a_sums + row : NULL;
    size_t at = 0;

    do {
        const size_t k = min_size(step, x->k - at);
        const size_t k0 = x->k0 + at;
        const struct bf16_source a =
            bf16_from(a_of(p), p->ta ? k0 * p->lda + row : row * p->lda + k0);

        bf16_pack_rows(kern, scratch, p->ta, a, rows, k, sums);
        multiply(kern, x, scratch, row, rows, panels * j / x->n_j,
                 panels * (j + 1) / x->n_j, at, k);
        at += step;
    } while (at < x->k);
}

/* ---- with work beside ---------------------------------------------------- */

/* Where inputs from `at` on of a unit's packed rows begin. */
static uint32_t *part(const struct bf16_kernels *kern, uint32_t *a, size_t rows,
                      size_t at)
{
    return a + round_up(rows, kern->tile_rows) * (at / 2);
}

/* All inputs of a unit's rows, made a tile at a time if that is asked for. */
static void pack_unit(const struct bf16_kernels *kern, const struct block *x,
                      const struct bf16_scratch *s, size_t row, size_t rows,
                      size_t step)
{
    const struct train_product *p = x->p;
    const struct train_beside *beside = p->beside;
    const struct bf16_source made = {s->made, NULL, p->lda}; /* lda is k */
    const size_t tiles = ceil_div(rows, kern->tile_rows);

    for (size_t t = 0; t < tiles; t++) {
        const size_t r = tile_row(kern, rows, t);
        const size_t m = tile_row(kern, rows, t + 1) - r;
        const struct bf16_source from =
            beside->make ? made : bf16_from(a_of(p), (row + r) * p->lda);

        if (beside->make)
            beside->make(beside->make_arg, s->made, row + r, m);
        for (size_t at = 0; at < x->k; at += step) {
            const size_t k = min_size(step, x->k - at);

            bf16_pack_rows(kern,
                           part(kern, s->a, rows, at) + a_words(kern, r, k),
                           false, bf16_from(from, at), m, k, NULL);
        }
    }
}

/* Panels between two finishes: what the second cache holds beside the rest. */
static size_t beside_panels(const struct bf16_kernels *kern,
                            const struct block *x, size_t panels)
{
    const size_t n = BESIDE_GROUP / train_bf16_panel_words(kern, x->k);
    const size_t fit = BESIDE_C / x->rows / BF16_N;

    if (x->p->beside->whole && x->p->beside->finish)
        return panels;
    return n == 0 ? 1 : min_size(n, fit);
}

/* Panels [first, last) of a unit's rows, to C or to finish. */
static void run_group(const struct bf16_kernels *kern, const struct block *x,
                      const struct bf16_scratch *s, size_t row, size_t rows,
                      size_t first, size_t last)
{
    const struct train_beside *beside = x->p->beside;
    const size_t step = even_part(kern, x->k, kern->k_max);
    const size_t c0 = first * BF16_N, c1 = min_size(x->n, last * BF16_N);
    struct block y = *x;

    if (beside->finish) {
        y.c = s->c;
        y.ldc = c1 - c0;
        y.c_col = c0;
    }
    for (size_t at = 0; at < x->k; at += step)
        multiply_group(kern, &y, part(kern, s->a, rows, at),
                       beside->finish ? 0 : row, rows, first, last, at,
                       min_size(step, x->k - at));
    if (beside->finish)
        beside->finish(beside->finish_arg, s->c, y.ldc, row, rows, c0, c1);
}

static void run_beside_unit(const struct bf16_kernels *kern,
                            const struct block *x, const struct bf16_scratch *s,
                            size_t unit)
{
    const size_t row = unit * x->rows, rows = min_size(x->rows, x->p->m - row);
    const size_t panels = ceil_div(x->n, BF16_N);
    const size_t group = beside_panels(kern, x, panels);

    pack_unit(kern, x, s, row, rows, even_part(kern, x->k, kern->k_max));
    for (size_t g = 0; g < panels; g += group)
        run_group(kern, x, s, row, rows, g, min_size(panels, g + group));
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

static struct bf16_source b_at(const struct train_product *p, size_t k,
                               size_t n)
{
    const struct bf16_source b = {p->b, NULL, p->ldb};

    return bf16_from(b, p->tb ? n * p->ldb + k : k * p->ldb + n);
}

/* One block of B, by all members; ends with a barrier. */
static void run_block(struct infer_member *me, const struct bf16_work *w,
                      struct block *x)
{
    const struct train_product *p = x->p;
    const struct bf16_scratch *s = &w->parts[me->id];
    int64_t unit;

    if (x->beside)
        set_beside_units(&w->kernels, x, me->n);
    else
        set_units(&w->kernels, x, me->n);
    if (!p->packed) {
        x->b = w->b;
        x->stride = train_bf16_panel_words(&w->kernels, x->k);
        train_bf16_pack_b(me, &w->kernels, w->b, p->tb, b_at(p, x->k0, x->n0),
                          x->n, x->k);
        infer_team_barrier(me);
    }
    begin(&w->kernels);
    while ((unit = infer_team_take(me, (int64_t)(x->n_i * x->n_j), 1)) >= 0)
        if (x->beside)
            run_beside_unit(&w->kernels, x, s, (size_t)unit);
        else
            run_unit(&w->kernels, x, s->a, (size_t)unit);
    end(&w->kernels);
    infer_team_barrier(me);
}

/* Inputs and columns of a block of B that members share. */
static void shared_block(const struct bf16_kernels *kern,
                         const struct train_product *p, size_t *k, size_t *n)
{
    const size_t n_words = ceil_div(p->n ? p->n : 1, BF16_N) * BF16_N / 2;
    size_t k_max = SHARED_WORDS / n_words / CHUNK * CHUNK;

    if (p->packed) {
        *k = p->k;
        *n = p->n;
        return;
    }
    if (k_max < SHARED_K)
        k_max = SHARED_K;
    *k = even_part(kern, p->k, k_max);
    *n = *k ? SHARED_WORDS * 2 / *k / BF16_N * BF16_N : p->n;
}

bool train_bf16_fits(const struct bf16_kernels *kern, size_t n, size_t k,
                     bool whole)
{
    const struct train_product p = {.n = n, .k = k};
    size_t kb, nb;

    shared_block(kern, &p, &kb, &nb);
    return n && k && kb >= k && nb >= n &&
           beside_rows(kern, whole ? n : BF16_N, k) != 0 &&
           kern->tile_rows * k <= BESIDE_MADE;
}

void train_bf16_phase(struct infer_member *me, const struct bf16_work *w,
                      const struct train_product *p)
{
    struct block x = {.p = p,
                      .c = p->c,
                      .ldc = p->ldc,
                      .beside = p->beside && (!p->a || !p->c)};
    size_t kb, nb;

    shared_block(&w->kernels, p, &kb, &nb);
    infer_team_barrier(me);
    if (p->packed) {
        x.b = p->packed->data;
        x.stride = train_bf16_panel_words(&w->kernels, p->packed->k);
    }
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
        bf16_pack_panels(&w->kernels, s->b, p->tb, b_at(p, x->k0, x->n0), x->n,
                         x->k, 0, ceil_div(x->n, BF16_N));
    }
    begin(&w->kernels);
    for (size_t unit = 0; unit < x->n_i * x->n_j; unit++)
        run_unit(&w->kernels, x, s->a, unit);
    end(&w->kernels);
}

void train_bf16_alone(const struct bf16_work *w, const struct bf16_scratch *s,
                      const struct train_product *p)
{
    struct block x = {.p = p, .c = p->c, .ldc = p->ldc, .k = p->k, .n = p->n};
    const size_t kb = even_part(&w->kernels, p->k, ALONE_K);

    if (p->packed) {
        x.b = p->packed->data;
        x.stride = train_bf16_panel_words(&w->kernels, p->packed->k);
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
