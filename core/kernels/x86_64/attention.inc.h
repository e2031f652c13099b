/*
 * attention.inc.h - attention over the paged cache, on vectors of VW floats;
 * included by avx2.c and avx512.c after ops.inc.h.
 *
 * K lies transposed ([d][16 keys]), so 16 scores are one vector and no sum
 * runs across lanes; V lies by key, so the output is one vector too. R query
 * rows go together and share each load of K and V. What a row gets does not
 * depend on its neighbours: keys it may not see count as weight 0, exactly,
 * and slots nobody has written are never multiplied.
 */

enum {
    KV_VECS = INFER_KV_BLOCK / VW, /* vectors of one K row */
    CHUNK = INFER_ATTN_CHUNK
};

#define MASKED (-1e30f) /* a score that exp makes 0 */

/* Rows r0 .. r0 + R - 1 in progress. */
struct tile {
    float *scores; /* [R][CHUNK]; weights after softmax_chunk() */
    float *out;    /* [R][d16] */
    size_t d16;    /* d rounded up to 16 */
    float max[8], sum[8], shrink[16]; /* a vector's worth of the last */
};

static inline __attribute__((always_inline)) vf kv_load(const uint8_t *p,
                                                        size_t i, bool f32)
{
    return f32 ? v_load((const float *)(const void *)p + i)
               : v_load_half((const uint16_t *)(const void *)p + i);
}

static inline __attribute__((always_inline)) vf
kv_load_n(const uint8_t *p, size_t i, size_t n, bool f32)
{
    return f32 ? v_load_n((const float *)(const void *)p + i, n)
               : v_load_half_n((const uint16_t *)(const void *)p + i, n);
}

static inline const uint8_t *kv_block(const struct infer_attn *a, size_t key)
{
    return a->kv + a->blocks[key / INFER_KV_BLOCK] * a->block_stride;
}

/* Scores of R rows against NB whole blocks from `key` on. */
static inline __attribute__((always_inline)) void
score_blocks(const struct infer_attn *a, const struct tile *t,
             const float *const *q, size_t key, size_t at, const int R,
             const int NB, const bool f32)
{
    vf acc[8][4 * KV_VECS];
    const uint8_t *k[4];

    for (int b = 0; b < NB; b++)
        k[b] = kv_block(a, key + (size_t)b * INFER_KV_BLOCK);
    EACH (r, R)
        EACH (v, NB * KV_VECS)
            acc[r][v] = v_zero();
    for (size_t i = 0; i < a->d; i++) {
        vf kv[4 * KV_VECS];

        EACH (v, NB * KV_VECS)
            kv[v] =
                kv_load(k[v / KV_VECS],
                        i * INFER_KV_BLOCK + (size_t)(v % KV_VECS) * VW, f32);
        EACH (r, R) {
            const vf qi = v_set1(q[r][i]);

            /* not fused: rounded as the definition rounds */
            EACH (v, NB * KV_VECS)
                acc[r][v] = v_add(acc[r][v], v_mul(qi, kv[v]));
        }
    }
    EACH (r, R)
        EACH (v, NB * KV_VECS)
            v_store(t->scores + r * CHUNK + at + (size_t)v * VW,
                    v_mul(acc[r][v], v_set1(a->scale)));
}

static inline __attribute__((always_inline)) void
score_chunk(const struct infer_attn *a, const struct tile *t,
            const float *const *q, size_t c, size_t n_blocks, const int R,
            const bool f32)
{
    const int NB = R * KV_VECS <= 4 ? 4 : R * KV_VECS <= 8 ? 2 : 1;
    size_t b = 0;

    for (; b + (size_t)NB <= n_blocks; b += (size_t)NB)
        score_blocks(a, t, q, c + b * INFER_KV_BLOCK, b * INFER_KV_BLOCK, R, NB,
                     f32);
    for (; b < n_blocks; b++)
        score_blocks(a, t, q, c + b * INFER_KV_BLOCK, b * INFER_KV_BLOCK, R, 1,
                     f32);
}

/* The largest of the row's scores and its maximum so far; keys from n_seen to n
 * are not the row's. */
static inline float row_top(struct tile *t, int r, size_t n_seen, size_t n)
{
    float *s = t->scores + r * CHUNK;
    vf m = v_set1(t->max[r]);

    for (size_t i = n_seen; i < n; i++)
        s[i] = MASKED;
    for (size_t i = 0; i < n; i += VW)
        m = v_max(m, v_load(s + i));
    return v_hmax(m);
}

/* Scores of a row become weights; returns their sum. */
static inline float row_weights(float *s, size_t n, float top)
{
    vf sum = v_zero();

    for (size_t i = 0; i < n; i += VW) {
        const vf p = v_exp(v_sub(v_load(s + i), v_set1(top)));

        v_store(s + i, p);
        sum = v_add(sum, p);
    }
    return v_sum(sum);
}

/* Turn the chunk's scores into weights. A row that ended before it gets weights
 * of zero and keeps its sum. The shrinking of all rows is one exponential. */
static inline __attribute__((always_inline)) void
softmax_chunk(struct tile *t, const uint32_t *n_keys, size_t c, size_t n,
              const int R)
{
    float top[16], change[16] = {0};

    for (int r = 0; r < R; r++) {
        top[r] = n_keys[r] > c
                     ? row_top(t, r, n_keys[r] - c < n ? n_keys[r] - c : n, n)
                     : t->max[r];
        change[r] = t->max[r] - top[r];
        t->max[r] = top[r];
    }
    v_store(t->shrink, v_exp(v_load(change)));
    for (int r = 0; r < R; r++) {
        float *s = t->scores + r * CHUNK;

        if (n_keys[r] > c)
            t->sum[r] = t->sum[r] * t->shrink[r] + row_weights(s, n, top[r]);
        else
            for (size_t i = 0; i < n; i += VW)
                v_store(s + i, v_zero());
    }
}

/* out[R][i0 .. i0 + NV * VW) += weights times V of the chunk's n keys; n_last:
 * values in the last vector when it is not whole, else VW. */
static inline __attribute__((always_inline)) void
mix_columns(const struct infer_attn *a, const struct tile *t, size_t c,
            size_t n, size_t i0, const int R, const int NV, const size_t n_last,
            const bool f32)
{
    const size_t v0 = (size_t)a->d * INFER_KV_BLOCK + i0;
    vf acc[8][3];

    EACH (r, R)
        EACH (v, NV)
            acc[r][v] =
                v_mul(v_load(t->out + (size_t)r * t->d16 + i0 + (size_t)v * VW),
                      v_set1(t->shrink[r]));
    for (size_t j = 0; j < n; j++) {
        const uint8_t *block = kv_block(a, c + j);
        const size_t row = v0 + j % INFER_KV_BLOCK * a->d;
        vf kv[3];

        EACH (v, NV)
            kv[v] = v == NV - 1 && n_last < VW
                        ? kv_load_n(block, row + (size_t)v * VW, n_last, f32)
                        : kv_load(block, row + (size_t)v * VW, f32);
        EACH (r, R) {
            const vf p = v_set1((t->scores + r * CHUNK)[j]);

            EACH (v, NV)
                acc[r][v] = v_fma(p, kv[v], acc[r][v]);
        }
    }
    EACH (r, R)
        EACH (v, NV)
            v_store(t->out + (size_t)r * t->d16 + i0 + (size_t)v * VW,
                    acc[r][v]);
}

static inline __attribute__((always_inline)) void
mix_chunk(const struct infer_attn *a, const struct tile *t, size_t c, size_t n,
          const int R, const bool f32)
{
    const size_t odd = a->d / VW % 2; /* an odd number goes 3 at once */
    size_t i = 0;

    if (odd && a->d >= 3 * VW && R * 3 <= 3 * VW / 2) {
        mix_columns(a, t, c, n, i, R, 3, VW, f32);
        i = 3 * VW;
    }
    for (; i + 2 * VW <= a->d; i += 2 * VW)
        mix_columns(a, t, c, n, i, R, 2, VW, f32);
    for (; i + VW <= a->d; i += VW)
        mix_columns(a, t, c, n, i, R, 1, VW, f32);
    if (i < a->d)
        mix_columns(a, t, c, n, i, R, 1, a->d - i, f32);
}

static inline __attribute__((always_inline)) void
attend(const struct infer_attn *a, size_t r0, const int R, const bool f32)
{
    struct tile t = {.scores = a->scratch,
                     .out = a->scratch + (size_t)R * CHUNK,
                     .d16 = (a->d + 15u) / 16u * 16u};
    const uint32_t *n_keys = a->n_keys + r0;
    size_t n_max = 0;

    for (int r = 0; r < R; r++) {
        n_max = n_keys[r] > n_max ? n_keys[r] : n_max;
        t.max[r] = MASKED;
        t.sum[r] = 0.0f;
    }
    for (size_t i = 0; i < (size_t)R * t.d16; i += VW)
        v_store(t.out + i, v_zero());
    for (size_t c = 0; c < n_max; c += CHUNK) {
        const size_t n = n_max - c < CHUNK ? n_max - c : CHUNK;
        const size_t n_blocks = (n + INFER_KV_BLOCK - 1) / INFER_KV_BLOCK;

        score_chunk(a, &t, a->q + r0, c, n_blocks, R, f32);
        softmax_chunk(&t, n_keys, c, n_blocks * INFER_KV_BLOCK, R);
        mix_chunk(a, &t, c, n, R, f32);
    }
    for (int r = 0; r < R; r++)
        for (size_t i = 0; i < a->d; i++)
            a->out[r0 + (size_t)r][i] = t.out[(size_t)r * t.d16 + i] / t.sum[r];
}

#define ATTEND(R)                                                              \
    static void attend_##R(const struct infer_attn *a, size_t r)               \
    {                                                                          \
        if (a->f32)                                                            \
            attend(a, r, R, true);                                             \
        else                                                                   \
            attend(a, r, R, false);                                            \
    }

ATTEND(1)
ATTEND(2)
ATTEND(4)
#if defined(__AVX512F__)
ATTEND(8)
#endif

static void attention(const struct infer_attn *a)
{
    size_t r = 0;

#if defined(__AVX512F__)
    for (; r + 8 <= a->n_rows; r += 8)
        attend_8(a, r);
#endif
    for (; r + 4 <= a->n_rows; r += 4)
        attend_4(a, r);
    for (; r + 2 <= a->n_rows; r += 2)
        attend_2(a, r);
    for (; r < a->n_rows; r++)
        attend_1(a, r);
}

/* V goes in whole vectors; K, transposed, is scattered. Halves saturate, so
 * that the cache never holds an infinity. */
static void kv_store(uint8_t *block, const float *k, const float *v, uint32_t d,
                     uint32_t at, bool f32)
{
    const float limit = 65504.0f;
    const size_t v0 = (size_t)d * INFER_KV_BLOCK + (size_t)at * d;
    float *b32 = (void *)block;
    uint16_t *b16 = (void *)block;

    for (uint32_t i = 0; i < d && f32; i++) {
        b32[(size_t)i * INFER_KV_BLOCK + at] = k[i];
        b32[v0 + i] = v[i];
    }
    for (uint32_t i = 0; i < d && !f32; i += VW) {
        const size_t n = d - i < VW ? d - i : VW;
        uint16_t hk[VW], hv[VW];
        const vf kv = n < VW ? v_load_n(k + i, n) : v_load(k + i);
        const vf vv = n < VW ? v_load_n(v + i, n) : v_load(v + i);

        v_store_half(hk, v_max(v_min(kv, v_set1(limit)), v_set1(-limit)));
        v_store_half(hv, v_max(v_min(vv, v_set1(limit)), v_set1(-limit)));
        for (size_t j = 0; j < n; j++) {
            b16[(i + j) * INFER_KV_BLOCK + at] = hk[j];
            b16[v0 + i + j] = hv[j];
        }
    }
}
