/*
 * scalar.c - the definition of every row operation, in plain C.
 *
 * What a variant for an instruction set computes is held to these functions by
 * tests/kernels. They are also what runs where no variant exists.
 */
#include "core/kernels/kernels.h"

#include "core/base/half.h"

#include <float.h>
#include <math.h>

static float max_abs(const float *x, size_t n)
{
    float max = 0.0f;

    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    return max;
}

/* q, zero and sums of 32 values times inv; returns the whole sum. */
static float quantize_block(struct infer_act_block *y, const float *x,
                            float inv)
{
    int32_t sum[2] = {0, 0};

    for (size_t i = 0; i < INFER_ACT_BLOCK; i++) {
        y->q[i] = (int8_t)lrintf(x[i] * inv);
        sum[i / 16] += y->q[i];
    }
    y->zero = -128 * (sum[0] + sum[1]);
    y->sum[0] = (int16_t)sum[0];
    y->sum[1] = (int16_t)sum[1];
    return (float)(sum[0] + sum[1]);
}

static void quantize_act(struct infer_act_block *y, const float *x, size_t k)
{
    for (; k > 0; k -= INFER_ACT_BLOCK, x += INFER_ACT_BLOCK, y++) {
        const float s = max_abs(x, INFER_ACT_BLOCK) / 127.0f;
        const float sum = quantize_block(y, x, s >= FLT_MIN ? 1.0f / s : 0.0f);

        y->scale = infer_f16_to_f32(infer_f32_to_f16(s));
        y->wsum = infer_f16_to_f32(infer_f32_to_f16(s * sum));
    }
}

static void quantize_act_k(struct infer_act_block *y, const float *x, size_t k)
{
    for (size_t i = 0; i < k; i += INFER_ACT_BLOCK, y++) {
        const float *x0 = x + i / INFER_K_BLOCK * INFER_K_BLOCK;
        const float max = max_abs(x0, INFER_K_BLOCK);
        const float r = max >= FLT_MIN * 127.0f ? 127.0f / max : 0.0f;
        const float sum = quantize_block(y, x + i, r);

        y->scale = r > 0.0f ? 1.0f / r : 0.0f;
        y->wsum = y->scale * sum;
    }
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = infer_f32_to_bf16(x[i]);
}

/* Sums of norms are in double, so that no variant's order of additions moves a
 * value across a rounding boundary of the activations that follow. */
static void rmsnorm(float *y, const float *x, const float *w, size_t n,
                    float eps)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    const float r = 1.0f / sqrtf((float)(sum / (double)n) + eps);

    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
}

static void layernorm(float *y, const float *x, const float *w, const float *b,
                      size_t n, float eps)
{
    double sum = 0.0, square = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    const float mean = (float)(sum / (double)n);

    for (size_t i = 0; i < n; i++)
        square += (double)((x[i] - mean) * (x[i] - mean));
    const float r = 1.0f / sqrtf((float)(square / (double)n) + eps);

    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * r * w[i] + b[i];
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void silu_mul(float *y, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] / (1.0f + expf(-y[i])) * up[i];
}

/*
 * x * sigmoid(2u) = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3).
 *
 * Argument and value are rounded to halves, and the tails are cut, because the
 * reference looks them up in a table of halves: only so do quantized gpt2
 * models give the reference's text.
 */
static void gelu(float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float x = infer_f16_to_f32(infer_f32_to_f16(y[i]));
        const float u = 0.7978845608f * (x + 0.044715f * x * x * x);

        if (y[i] <= -10.0f)
            y[i] = 0.0f;
        else if (y[i] < 10.0f)
            y[i] = infer_f16_to_f32(
                infer_f32_to_f16(x / (1.0f + expf(-2.0f * u))));
    }
}

static void rope(float *x, const float *cs, size_t n_heads, size_t d,
                 size_t n_rot, bool halves)
{
    const size_t apart = halves ? n_rot / 2 : 1; /* between a pair's values */
    const size_t step = halves ? 1 : 2;

    for (size_t h = 0; h < n_heads; h++) {
        float *p = x + h * d;

        for (size_t i = 0; i < n_rot / 2; i++) {
            const float c = cs[2 * i], s = cs[2 * i + 1];
            const float a = p[i * step], b = p[i * step + apart];

            p[i * step] = a * c - b * s;
            p[i * step + apart] = a * s + b * c;
        }
    }
}

/* Halves saturate, so that the cache never holds an infinity. */
static uint16_t to_half(float x)
{
    return infer_f32_to_f16(fmaxf(fminf(x, 65504.0f), -65504.0f));
}

static void kv_store(uint8_t *block, const float *k, const float *v, uint32_t d,
                     uint32_t at, bool f32)
{
    for (uint32_t i = 0; i < d; i++) {
        const size_t ki = (size_t)i * INFER_KV_BLOCK + at;
        const size_t vi = (size_t)d * INFER_KV_BLOCK + (size_t)at * d + i;

        if (f32) {
            ((float *)(void *)block)[ki] = k[i];
            ((float *)(void *)block)[vi] = v[i];
        } else {
            ((uint16_t *)(void *)block)[ki] = to_half(k[i]);
            ((uint16_t *)(void *)block)[vi] = to_half(v[i]);
        }
    }
}

static float exp_sum(float *y, const float *x, size_t n, float max)
{
    float sum = 0.0f;

    for (size_t i = 0; i < n; i++)
        sum += y[i] = expf(x[i] - max);
    return sum;
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* ---- attention ---------------------------------------------------------- */

static float kv_at(const struct infer_attn *a, uint32_t key, size_t i)
{
    const uint8_t *block =
        a->kv + a->blocks[key / INFER_KV_BLOCK] * a->block_stride;

    return a->f32
               ? ((const float *)(const void *)block)[i]
               : infer_f16_to_f32(((const uint16_t *)(const void *)block)[i]);
}

static float score(const struct infer_attn *a, const float *q, uint32_t key)
{
    float s = 0.0f;

    for (uint32_t i = 0; i < a->d; i++)
        s += q[i] *
             kv_at(a, key, (size_t)i * INFER_KV_BLOCK + key % INFER_KV_BLOCK);
    return s * a->scale;
}

static void attend_row(const struct infer_attn *a, const float *q,
                       uint32_t n_keys, float *out)
{
    float s[INFER_ATTN_CHUNK];
    float max = -INFINITY, sum = 0.0f;

    for (uint32_t i = 0; i < a->d; i++)
        out[i] = 0.0f;
    for (uint32_t c = 0; c < n_keys; c += INFER_ATTN_CHUNK) {
        const uint32_t n =
            n_keys - c < INFER_ATTN_CHUNK ? n_keys - c : INFER_ATTN_CHUNK;
        float top = max;

        for (uint32_t j = 0; j < n; j++) {
            s[j] = score(a, q, c + j);
            top = fmaxf(top, s[j]);
        }
        const float shrink = expf(max - top);

        max = top;
        sum *= shrink;
        for (uint32_t i = 0; i < a->d; i++)
            out[i] *= shrink;
        for (uint32_t j = 0; j < n; j++) {
            const size_t v = (size_t)a->d * INFER_KV_BLOCK +
                             (size_t)((c + j) % INFER_KV_BLOCK) * a->d;
            const float p = expf(s[j] - max);

            sum += p;
            for (uint32_t i = 0; i < a->d; i++)
                out[i] += p * kv_at(a, c + j, v + i);
        }
    }
    for (uint32_t i = 0; i < a->d; i++)
        out[i] /= sum;
}

static void attention(const struct infer_attn *a)
{
    for (size_t r = 0; r < a->n_rows; r++)
        attend_row(a, a->q[r], a->n_keys[r], a->out[r]);
}

void infer_kernels_scalar(struct infer_kernels *k)
{
    k->name = "scalar";
    k->cpu = 0;
    infer_kernels_scalar_gemm(k);
    k->quantize_act = quantize_act;
    k->quantize_act_k = quantize_act_k;
    k->to_bf16 = to_bf16;
    k->rmsnorm = rmsnorm;
    k->layernorm = layernorm;
    k->add = add;
    k->silu_mul = silu_mul;
    k->gelu = gelu;
    k->rope = rope;
    k->kv_store = kv_store;
    k->attention = attention;
    k->exp_sum = exp_sum;
    k->argmax = argmax;
}
