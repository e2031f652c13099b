/*
 * avx512bf16.c - bf16 weights against bf16 activations with vdpbf16ps.
 *
 * The instruction adds two products per lane into a float, rounding after
 * each; subnormals count as zero, which is inside the bound of kernels.h.
 */
#include "core/kernels/kernels.h"

#include "core/kernels/x86_64/unroll.h"
#include "core/kernels/x86_64/vec512.h"

enum { M_MAX = 6 };

static inline __m512bh pair_at(const uint8_t *x, size_t i)
{
    int32_t v;

    __builtin_memcpy(&v, x + i * 4, sizeof(v));
    return (__m512bh)_mm512_set1_epi32(v);
}

/* M tokens by two panels; w1 may equal w0 (then y1 is scratch). */
static inline __attribute__((always_inline)) void
tile(float *y, size_t ldy, const uint8_t *w0, const uint8_t *w1,
     const uint8_t *x, size_t x_stride, size_t n_pairs, bool both, const int M)
{
    vf a[M_MAX], b[M_MAX];

    EACH (m, M)
        a[m] = b[m] = v_zero();
    for (size_t i = 0; i < n_pairs; i++) {
        const __m512bh u = (__m512bh)_mm512_load_si512(w0 + i * 64);
        const __m512bh v = (__m512bh)_mm512_load_si512(w1 + i * 64);

        EACH (m, M) {
            const __m512bh p = pair_at(x + (size_t)m * x_stride, i);

            a[m] = _mm512_dpbf16_ps(a[m], u, p);
            b[m] = _mm512_dpbf16_ps(b[m], v, p);
        }
    }
    EACH (m, M) {
        v_store(y + (size_t)m * ldy, a[m]);
        if (both)
            v_store(y + (size_t)m * ldy + INFER_PANEL, b[m]);
    }
}

static void gemm_bf16(float *y, size_t ldy, const struct infer_packed *w,
                      const struct infer_act *x, size_t t0, size_t t1,
                      size_t p0, size_t p1)
{
    const size_t n_pairs = (w->k + 1u) / 2u;

    for (size_t p = p0; p < p1; p += 2) {
        const bool both = p + 1 < p1;
        const uint8_t *w0 = w->data + p * w->panel_bytes;
        const uint8_t *w1 = both ? w0 + w->panel_bytes : w0;
        float *yp = y + (p - p0) * INFER_PANEL;
        size_t t = t0;

        for (; t + M_MAX <= t1; t += M_MAX)
            tile(yp + (t - t0) * ldy, ldy, w0, w1, x->data + t * x->stride,
                 x->stride, n_pairs, both, M_MAX);
        for (; t < t1; t++)
            tile(yp + (t - t0) * ldy, ldy, w0, w1, x->data + t * x->stride,
                 x->stride, n_pairs, both, 1);
    }
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;

    for (; i + VW <= n; i += VW)
        _mm256_storeu_si256((void *)(y + i),
                            (__m256i)_mm512_cvtneps_pbh(v_load(x + i)));
    if (i < n)
        _mm256_mask_storeu_epi16(
            y + i, v_mask(n - i),
            (__m256i)_mm512_cvtneps_pbh(v_load_n(x + i, n - i)));
}

void infer_kernels_avx512bf16(struct infer_kernels *k)
{
    k->name = "avx512bf16";
    k->cpu |= INFER_CPU_AVX512BF16;
    k->gemm[INFER_PACK_BF16] = gemm_bf16;
    k->to_bf16 = to_bf16;
}
