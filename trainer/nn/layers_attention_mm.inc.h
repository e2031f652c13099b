/*
 * layers_attention_mm.inc.h - the products inside attention, on one thread.
 *
 * In f32 they are loops over registers here. In bf16 they are the trainer's
 * kernels (trainer/gemm/bf16.h): a right operand is packed when it is gathered,
 * a left one once for a tile of queries, or, if it was just computed, when it
 * is used. What a mask leaves out is computed there and not used.
 */
enum {
    TILE = 64,
#if defined(__AVX512F__)
    MR = 8, /* rows of a product held in registers */
#else
    MR = 4,
#endif
    NV = 2, /* and vectors of each */
    NR = NV * VW
};

/* c [MR][NR] (+)= A b; A(i, p) = a[i * ai + p * ap], b [k][ldb] */
static inline void mm_block(real *c, size_t ldc, const real *a, size_t ai,
                            size_t ap, const real *b, size_t ldb, size_t k,
                            bool add)
{
    vr s[MR][NV];

    EACH (i, MR)
        EACH (j, NV)
            s[i][j] = add ? v_load(c + (size_t)i * ldc + j * VW) : (vr){0};
    for (size_t p = 0; p < k; p++) {
        vr bp[NV];

        EACH (j, NV)
            bp[j] = v_load(b + p * ldb + j * VW);
        EACH (i, MR) {
            const vr x = v_set1(a[(size_t)i * ai + p * ap]);

            EACH (j, NV)
                s[i][j] = v_fma(x, bp[j], s[i][j]);
        }
    }
    EACH (i, MR)
        EACH (j, NV)
            v_store(c + (size_t)i * ldc + j * VW, s[i][j]);
}

/* What a tile on the diagonal leaves out; row i of the product has no use for
 */
enum part {
    WHOLE,
    LEFT,  /* columns after i */
    UP_TO, /* terms after i: zeros */
    FROM   /* terms before i: zeros */
};

/* How much of a product is wanted; m and n are rounded up to whole blocks,
 * whose surplus is computed of whatever is there. */
struct extent {
    size_t m, n, k;
};

/* c [m][ld] (+)= A [m][k] b [k][ld], n columns of it */
static void mm_f32(real *c, const real *a, size_t ai, size_t ap, const real *b,
                   size_t ld, struct extent e, bool add, enum part part)
{
    for (size_t j = 0; j < e.n; j += NR)
        for (size_t i = 0; i < e.m; i += MR) {
            const size_t from = part == FROM ? i : 0;
            const size_t to = part == UP_TO && i + MR < e.k ? i + MR : e.k;

            if ((part == LEFT && j >= i + MR) || from >= to)
                continue;
            mm_block(c + i * ld + j, ld, a + i * ai + from * ap, ai, ap,
                     b + from * ld + j, ld, to - from, add);
        }
}

/* A(i, p) = x[i * ai + p * ap], one of ai and ap being 1. */
struct left {
    const real *x;
    size_t ai, ap;
    const uint32_t *packed; /* NULL: not yet */
};

/* b is [k][ld], or with kernels its panels, packed with b_inputs inputs. */
static void mm(const struct bf16_kernels *mul, uint32_t *room, real *c,
               struct left a, const real *b, size_t b_inputs, size_t ld,
               struct extent e, bool add, enum part part)
{
#if !defined(NN_DOUBLE)
    if (mul) {
        if (!a.packed) {
            train_bf16_pack_a(mul, room, a.ap != 1, a.x,
                              a.ap != 1 ? a.ap : a.ai, e.m, e.k);
            a.packed = room;
        }
        train_bf16_block(mul, c, ld, e.m, e.n, e.k, a.packed,
                         (const uint32_t *)b, b_inputs, add);
        return;
    }
#endif
    (void)mul;
    (void)room;
    (void)b_inputs;
    mm_f32(c, a.x, a.ai, a.ap, b, ld, e, add, part);
}

/* [TILE][K'] to [K'][TILE] */
static void transpose(real *to, const real *from, size_t kp)
{
    for (size_t i = 0; i < kp; i++)
        for (size_t r = 0; r < TILE; r++)
            to[i * TILE + r] = from[r * kp + i];
}

/* The right operand whose columns are the rows of x [TILE][K']. */
static void right_turned(const struct bf16_kernels *mul, real *to,
                         const real *x, size_t kp)
{
#if !defined(NN_DOUBLE)
    if (mul) {
        train_bf16_pack_panels(mul, (uint32_t *)to, true, x, kp, TILE, kp);
        return;
    }
#endif
    (void)mul;
    transpose(to, x, kp);
}

/* With kernels only: the same whose rows are those of x. */
static void right_packed(const struct bf16_kernels *mul, uint32_t *to,
                         const real *x, size_t kp)
{
#if !defined(NN_DOUBLE)
    train_bf16_pack_panels(mul, to, false, x, kp, kp, TILE);
#else
    (void)mul;
    (void)to;
    (void)x;
    (void)kp;
#endif
}

/* With kernels only: `rows` rows of x as a left operand. */
static void left_packed(const struct bf16_kernels *mul, uint32_t *to,
                        const real *x, size_t kp, size_t rows)
{
#if !defined(NN_DOUBLE)
    train_bf16_pack_a(mul, to, false, x, kp, rows, kp);
#else
    (void)mul;
    (void)to;
    (void)x;
    (void)kp;
    (void)rows;
#endif
}

static void mm_begin(const struct bf16_kernels *mul)
{
    if (mul && mul->begin)
        mul->begin();
}

static void mm_end(const struct bf16_kernels *mul)
{
    if (mul && mul->end)
        mul->end();
}
