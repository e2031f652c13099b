/* layers_act.inc.h - bfloat16, activations, biases, dropout, embedding,
 * rotation. */

static void widen(real *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (real)infer_bf16_to_f32(x[i]);
}

static void narrow(uint16_t *y, const real *x, size_t n)
{
    size_t i = 0;

#if defined(__AVX512F__) && !defined(NN_DOUBLE)
    for (; i + 16 <= n; i += 16) {
        const __m512 v = _mm512_loadu_ps(x + i);
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i odd =
            _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i up = _mm512_add_epi32(
            bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const __m512i quiet =
            _mm512_or_si512(bits, _mm512_set1_epi32(64 << 16));
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);

        _mm256_storeu_si256((__m256i *)(void *)(y + i),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(
                                _mm512_mask_mov_epi32(up, nan, quiet), 16)));
    }
#endif
    for (; i < n; i++)
        y[i] = infer_f32_to_bf16((float)x[i]);
}

static inline vr v_sigmoid(vr x)
{
    return (real)1 / ((real)1 + v_exp(-x));
}

static void swiglu(real *h, const real *gu, size_t rows, size_t f)
{
    for (size_t r = 0; r < rows; r++, h += f, gu += 2 * f)
        for (size_t i = 0; i < f; i += VW) {
            const vr g = v_load_n(gu + i, f - i);

            v_store_n(h + i, g * v_sigmoid(g) * v_load_n(gu + f + i, f - i),
                      f - i);
        }
}

static void swiglu_back(real *gu, real *dh, size_t rows, size_t f)
{
    for (size_t r = 0; r < rows; r++, dh += f, gu += 2 * f)
        for (size_t i = 0; i < f; i += VW) {
            const vr g = v_load_n(gu + i, f - i);
            const vr u = v_load_n(gu + f + i, f - i);
            const vr d = v_load_n(dh + i, f - i);
            const vr s = v_sigmoid(g), silu = g * s;

            v_store_n(gu + i, d * u * (s + silu * ((real)1 - s)), f - i);
            v_store_n(gu + f + i, d * silu, f - i);
            v_store_n(dh + i, silu * u, f - i);
        }
}

/* gelu(u) = u * sigmoid(2 c (u + 0.044715 u^3)), c = sqrt(2 / pi) */
#define GELU_2C   ((real)1.5957691216057308)
#define GELU_CUBE ((real)0.044715)

static void gelu(real *h, const real *u, size_t rows, size_t f)
{
    const size_t n = rows * f;

    for (size_t i = 0; i < n; i += VW) {
        const vr x = v_load_n(u + i, n - i);
        const vr z = GELU_2C * x * ((real)1 + GELU_CUBE * x * x);

        v_store_n(h + i, x * v_sigmoid(z), n - i);
    }
}

static void gelu_back(real *u, real *dh, size_t rows, size_t f)
{
    const size_t n = rows * f;

    for (size_t i = 0; i < n; i += VW) {
        const vr x = v_load_n(u + i, n - i), d = v_load_n(dh + i, n - i);
        const vr cube = GELU_CUBE * x * x;
        const vr s = v_sigmoid(GELU_2C * x * ((real)1 + cube));
        const vr dz = GELU_2C * ((real)1 + (real)3 * cube);

        v_store_n(u + i, d * (s + x * s * ((real)1 - s) * dz), n - i);
        v_store_n(dh + i, x * s, n - i);
    }
}

static void relu2(real *h, const real *u, size_t rows, size_t f)
{
    const size_t n = rows * f;

    for (size_t i = 0; i < n; i += VW) {
        const vr x = v_max((vr){0}, v_load_n(u + i, n - i));

        v_store_n(h + i, x * x, n - i);
    }
}

static void relu2_back(real *u, real *dh, size_t rows, size_t f)
{
    const size_t n = rows * f;

    for (size_t i = 0; i < n; i += VW) {
        const vr x = v_max((vr){0}, v_load_n(u + i, n - i));

        v_store_n(u + i, (real)2 * x * v_load_n(dh + i, n - i), n - i);
        v_store_n(dh + i, x * x, n - i);
    }
}

static void add_bias(real *x, const real *bias, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, x += n)
        for (size_t i = 0; i < n; i++)
            x[i] += bias[i];
}

static void add_bias_back(real *db, const real *dy, size_t rows, size_t n,
                          size_t c0, size_t c1)
{
    for (size_t r = 0; r < rows; r++, dy += n)
        for (size_t i = c0; i < c1; i++)
            db[i] += dy[i];
}

/* Scramble so that neighbours share nothing (MurmurHash3's finalizer). */
static inline uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

static inline real kept(const struct nn_dropout *drop, uint32_t at)
{
    return mix(mix(at + drop->key[0]) ^ drop->key[1]) < drop->threshold
               ? (real)0
               : drop->scale;
}

static void residual(real *out, const real *x, const real *y,
                     const struct nn_dropout *drop, size_t row0, size_t rows,
                     size_t d)
{
    const struct nn_dropout k = *drop;
    const uint32_t at = (uint32_t)(row0 * d);

    for (size_t i = 0; i < rows * d; i++)
        out[i] = x[i] + y[i] * kept(&k, at + (uint32_t)i);
}

static void dropout(real *y, const real *x, const struct nn_dropout *drop,
                    size_t row0, size_t rows, size_t d)
{
    const struct nn_dropout k = *drop;
    const uint32_t at = (uint32_t)(row0 * d);

    for (size_t i = 0; i < rows * d; i++)
        y[i] = x[i] * kept(&k, at + (uint32_t)i);
}

static void embed(real *x, const real *tok, const real *pos,
                  const int32_t *tokens, size_t row0, size_t rows,
                  size_t n_tokens, size_t d)
{
    for (size_t r = 0; r < rows; r++, x += d) {
        memcpy(x, tok + (size_t)tokens[r] * d, d * sizeof(*x));
        if (pos)
            add_bias(x, pos + (row0 + r) % n_tokens * d, 1, d);
    }
}

static void embed_back(real *dtok, real *dpos, const real *dx,
                       const int32_t *tokens, size_t rows, size_t n_tokens,
                       size_t d, size_t c0, size_t c1)
{
    for (size_t r = 0; r < rows; r++, dx += d) {
        add_bias_back(dtok + (size_t)tokens[r] * d, dx, 1, d, c0, c1);
        if (dpos)
            add_bias_back(dpos + r % n_tokens * d, dx, 1, d, c0, c1);
    }
}

/* sign 1 rotates, -1 rotates back: the transpose is the inverse. */
static void rotate(real *x, size_t ld, const real *cs, size_t rows, size_t k,
                   bool halves, real sign)
{
    const size_t half = k / 2;

    for (size_t r = 0; r < rows; r++, x += ld, cs += k) {
        for (size_t i = 0; i < half && halves; i++) {
            const real a = x[i], b = x[i + half];
            const real c = cs[2 * i], s = sign * cs[2 * i + 1];

            x[i] = a * c - b * s;
            x[i + half] = a * s + b * c;
        }
        for (size_t i = 0; i < half && !halves; i++) {
            const real a = x[2 * i], b = x[2 * i + 1];
            const real c = cs[2 * i], s = sign * cs[2 * i + 1];

            x[2 * i] = a * c - b * s;
            x[2 * i + 1] = a * s + b * c;
        }
    }
}

static void rope(real *x, size_t ld, const real *cs, size_t rows, size_t d_head,
                 bool halves)
{
    rotate(x, ld, cs, rows, d_head, halves, 1);
}

static void rope_back(real *x, size_t ld, const real *cs, size_t rows,
                      size_t d_head, bool halves)
{
    rotate(x, ld, cs, rows, d_head, halves, -1);
}
