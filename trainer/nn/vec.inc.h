/*
 * vec.inc.h - vectors of `real`, as wide as the file that includes this may
 * use: GCC's vector types, which clang has too. The layers are written once on
 * top of them and compiled per instruction set, and for double in the tests,
 * where finite differences need the digits.
 */
#include "core/base/half.h"
#include "core/kernels/x86_64/unroll.h"
#include "trainer/gemm/bf16.h"
#include "trainer/nn/layers.h"

#include <math.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

typedef NN_REAL real;

#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX2__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif

enum { VW = VEC_BYTES / sizeof(real) }; /* values in a vector */

typedef real vr __attribute__((vector_size(VEC_BYTES)));
/* the same anywhere in memory */
typedef real vr_mem
    __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));

static inline vr v_set1(real a)
{
    return a - (vr){0};
}

static inline vr v_load(const real *p)
{
    return *(const vr_mem *)p;
}

static inline void v_store(real *p, vr a)
{
    *(vr_mem *)p = a;
}

/* The first n values, at most VW; the rest are zero and not touched. */
static inline vr v_load_n(const real *p, size_t n)
{
    vr a = {0};

    if (n >= VW)
        return v_load(p);
    memcpy(&a, p, n * sizeof(*p));
    return a;
}

static inline void v_store_n(real *p, vr a, size_t n)
{
    if (n >= VW)
        v_store(p, a);
    else
        memcpy(p, &a, n * sizeof(*p));
}

#if defined(__AVX512F__) && !defined(NN_DOUBLE)

static inline real v_sum(vr a)
{
    return _mm512_reduce_add_ps((__m512)a);
}

static inline real v_highest(vr a)
{
    return _mm512_reduce_max_ps((__m512)a);
}

#else

static inline real v_sum(vr a)
{
    real s = 0;

    EACH (i, VW)
        s += a[i];
    return s;
}

static inline real v_highest(vr a)
{
    real m = a[0];

    EACH (i, VW)
        m = a[i] > m ? a[i] : m;
    return m;
}

#endif

#if defined(NN_DOUBLE)

static inline vr v_fma(vr a, vr b, vr c)
{
    return a * b + c;
}

static inline vr v_max(vr a, vr b)
{
    EACH (i, VW)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}

static inline vr v_sqrt(vr x)
{
    EACH (i, VW)
        x[i] = sqrt(x[i]);
    return x;
}

static inline vr v_exp(vr x)
{
    EACH (i, VW)
        x[i] = exp(x[i]);
    return x;
}

#else

typedef int32_t vi __attribute__((vector_size(VEC_BYTES)));

#if defined(__AVX512F__)
static inline vr v_fma(vr a, vr b, vr c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vr v_max(vr a, vr b)
{
    return _mm512_max_ps(a, b);
}

static inline vr v_sqrt(vr x)
{
    return _mm512_sqrt_ps(x);
}
#elif defined(__AVX2__)
static inline vr v_fma(vr a, vr b, vr c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vr v_max(vr a, vr b)
{
    return _mm256_max_ps(a, b);
}

static inline vr v_sqrt(vr x)
{
    return _mm256_sqrt_ps(x);
}
#else
static inline vr v_fma(vr a, vr b, vr c)
{
    return a * b + c;
}

/* b where either is NaN, as the instruction does it */
static inline vr v_max(vr a, vr b)
{
    const vi m = a > b;

    return (vr)(((vi)a & m) | ((vi)b & ~m));
}

static inline vr v_sqrt(vr x)
{
    EACH (i, VW)
        x[i] = sqrtf(x[i]);
    return x;
}
#endif

/*
 * e^x within 2 ulp; 0 below -87, NaN stays. Adding 1.5 * 2^23 rounds x / ln 2
 * to an integer n and leaves it in the low bits; e^(x - n ln 2) is a Taylor
 * sum, |x - n ln 2| <= 0.35; and n goes into the exponent.
 */
static inline vr v_exp(vr x)
{
    const vr low = v_set1(-87.0f);
    const vr at = v_max(low, -v_max(v_set1(-88.0f), -x));
    const vr t = v_fma(at, v_set1(1.44269504f), v_set1(12582912.0f));
    const vr n = t - v_set1(12582912.0f);
    const vr r =
        v_fma(n, v_set1(2.12194440e-4f), v_fma(n, v_set1(-0.693359375f), at));
    vr p = v_set1(1.0f / 5040.0f);

    p = v_fma(p, r, v_set1(1.0f / 720.0f));
    p = v_fma(p, r, v_set1(1.0f / 120.0f));
    p = v_fma(p, r, v_set1(1.0f / 24.0f));
    p = v_fma(p, r, v_set1(1.0f / 6.0f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    const vi bits = (vi)p + ((vi)t << 23);

    return (vr)(bits & ~(vi)(x < low));
}

#endif
