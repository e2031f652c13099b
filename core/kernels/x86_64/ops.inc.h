/*
 * ops.inc.h - row operations on vectors of VW floats; included by avx2.c and
 * avx512.c after their vec*.h, so that both run one text.
 *
 * A loop takes whole vectors and then one masked rest, so nothing past n is
 * read or written.
 */

/* e^x for -104 <= x <= 88; below that 0, above e^88. Relative error below
 * 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor polynomial of degree 7. */
static inline vf v_exp(vf x)
{
    x = v_min(v_max(x, v_set1(-104.0f)), v_set1(88.0f));
    const vf n = v_round(v_mul(x, v_set1(1.44269504f)));
    const vf r =
        v_fnma(n, v_set1(-2.12194440e-4f), v_fnma(n, v_set1(0.693359375f), x));
    vf p = v_set1(1.0f / 5040.0f);

    p = v_fma(p, r, v_set1(1.0f / 720.0f));
    p = v_fma(p, r, v_set1(1.0f / 120.0f));
    p = v_fma(p, r, v_set1(1.0f / 24.0f));
    p = v_fma(p, r, v_set1(1.0f / 6.0f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_ldexp(p, n);
}

static inline float max_abs(const float *x, size_t n)
{
    vf m = v_abs(v_load(x));

    for (size_t i = VW; i < n; i += VW)
        m = v_max(m, v_abs(v_load(x + i)));
    return v_hmax(m);
}

static inline float round_to_half(float x)
{
    return _cvtsh_ss(_cvtss_sh(x, 0));
}

/* q, zero and sums of 32 values times inv; returns the whole sum. */
static inline float quantize_block(struct infer_act_block *y, const float *x,
                                   float inv)
{
    int32_t sum[2];

    v_quantize32(y->q, x, inv, sum);
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

        y->scale = round_to_half(s);
        y->wsum = round_to_half(s * sum);
    }
}

static void quantize_act_k(struct infer_act_block *y, const float *x, size_t k)
{
    for (; k > 0; k -= INFER_K_BLOCK) {
        const float max = max_abs(x, INFER_K_BLOCK);
        const float r = max >= FLT_MIN * 127.0f ? 127.0f / max : 0.0f;
        const float scale = r > 0.0f ? 1.0f / r : 0.0f;

        for (size_t i = 0; i < INFER_K_BLOCK;
             i += INFER_ACT_BLOCK, x += INFER_ACT_BLOCK, y++) {
            y->wsum = scale * quantize_block(y, x, r);
            y->scale = scale;
        }
    }
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n,
                    float eps)
{
    const size_t whole = n / VW * VW;
    vd sum = v_dzero();

    for (size_t i = 0; i < whole; i += VW)
        sum = v_dfma(v_load(x + i), v_load(x + i), sum);
    if (whole < n) {
        const vf v = v_load_n(x + whole, n - whole);

        sum = v_dfma(v, v, sum);
    }
    const float mean = (float)(v_dsum(sum) / (double)n);
    const vf r = v_set1(1.0f / sqrtf(mean + eps));

    for (size_t i = 0; i < whole; i += VW)
        v_store(y + i, v_mul(v_mul(v_load(x + i), r), v_load(w + i)));
    if (whole < n)
        v_store_n(y + whole,
                  v_mul(v_mul(v_load_n(x + whole, n - whole), r),
                        v_load_n(w + whole, n - whole)),
                  n - whole);
}

static void layernorm(float *y, const float *x, const float *w, const float *b,
                      size_t n, float eps)
{
    const size_t whole = n / VW * VW;
    vd sum = v_dzero(), square = v_dzero();
    double rest = 0.0;

    for (size_t i = 0; i < whole; i += VW)
        sum = v_dfma(v_load(x + i), v_set1(1.0f), sum);
    for (size_t i = whole; i < n; i++)
        rest += (double)x[i];
    const float mean = (float)((v_dsum(sum) + rest) / (double)n);

    for (size_t i = 0; i < whole; i += VW) {
        const vf d = v_sub(v_load(x + i), v_set1(mean));

        square = v_dfma(d, d, square);
    }
    rest = 0.0;
    for (size_t i = whole; i < n; i++)
        rest += (double)((x[i] - mean) * (x[i] - mean));
    const float var = (float)((v_dsum(square) + rest) / (double)n);
    const float r = 1.0f / sqrtf(var + eps);

    for (size_t i = 0; i < whole; i += VW) {
        const vf d = v_mul(v_sub(v_load(x + i), v_set1(mean)), v_set1(r));

        v_store(y + i, v_add(v_mul(d, v_load(w + i)), v_load(b + i)));
    }
    for (size_t i = whole; i < n; i++)
        y[i] = (x[i] - mean) * r * w[i] + b[i];
}

static void add(float *y, const float *x, size_t n)
{
    const size_t whole = n / VW * VW;

    for (size_t i = 0; i < whole; i += VW)
        v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
    if (whole < n)
        v_store_n(y + whole,
                  v_add(v_load_n(y + whole, n - whole),
                        v_load_n(x + whole, n - whole)),
                  n - whole);
}

static inline vf v_sigmoid(vf x)
{
    const vf one = v_set1(1.0f);

    return v_div(one, v_add(one, v_exp(v_sub(v_zero(), x))));
}

static inline vf v_silu_mul(vf x, vf up)
{
    return v_mul(v_mul(x, v_sigmoid(x)), up);
}

static void silu_mul(float *y, const float *up, size_t n)
{
    const size_t whole = n / VW * VW;

    for (size_t i = 0; i < whole; i += VW)
        v_store(y + i, v_silu_mul(v_load(y + i), v_load(up + i)));
    if (whole < n)
        v_store_n(y + whole,
                  v_silu_mul(v_load_n(y + whole, n - whole),
                             v_load_n(up + whole, n - whole)),
                  n - whole);
}

/* Through halves, as the definition says why; beyond 10 it is 0 or x. */
static inline vf v_gelu(vf given)
{
    const vf x = v_round_half(given);
    const vf x3 = v_mul(v_mul(x, x), x);
    const vf u = v_mul(v_set1(0.7978845608f), v_fma(v_set1(0.044715f), x3, x));
    const vf y = v_round_half(v_mul(x, v_sigmoid(v_add(u, u))));

    return v_select_le(given, v_set1(-10.0f), v_zero(),
                       v_select_le(v_set1(10.0f), given, given, y));
}

static void gelu(float *y, size_t n)
{
    const size_t whole = n / VW * VW;

    for (size_t i = 0; i < whole; i += VW)
        v_store(y + i, v_gelu(v_load(y + i)));
    if (whole < n)
        v_store_n(y + whole, v_gelu(v_load_n(y + whole, n - whole)), n - whole);
}

static void rope_pairs(float *x, const float *cs, size_t n_rot)
{
    const size_t whole = n_rot / VW * VW;

    for (size_t i = 0; i < whole; i += VW)
        v_store(x + i, v_rotate_pairs(v_load(x + i), v_load(cs + i)));
    if (whole < n_rot)
        v_store_n(x + whole,
                  v_rotate_pairs(v_load_n(x + whole, n_rot - whole),
                                 v_load_n(cs + whole, n_rot - whole)),
                  n_rot - whole);
}

static void rope_halves(float *x, const float *cs, size_t half)
{
    size_t i = 0;

    for (; i + VW <= half; i += VW) {
        const vf a = v_load(x + i), b = v_load(x + half + i);
        vf c, s;

        v_load_cs(cs + 2 * i, &c, &s);
        v_store(x + i, v_sub(v_mul(a, c), v_mul(b, s)));
        v_store(x + half + i, v_add(v_mul(a, s), v_mul(b, c)));
    }
    for (; i < half; i++) {
        const float a = x[i], b = x[half + i];

        x[i] = a * cs[2 * i] - b * cs[2 * i + 1];
        x[half + i] = a * cs[2 * i + 1] + b * cs[2 * i];
    }
}

static void rope(float *x, const float *cs, size_t n_heads, size_t d,
                 size_t n_rot, bool halves)
{
    for (size_t h = 0; h < n_heads; h++) {
        if (halves)
            rope_halves(x + h * d, cs, n_rot / 2);
        else
            rope_pairs(x + h * d, cs, n_rot);
    }
}

static float exp_sum(float *y, const float *x, size_t n, float max)
{
    const size_t whole = n / VW * VW;
    vf sum = v_zero();

    for (size_t i = 0; i < whole; i += VW) {
        const vf e = v_exp(v_sub(v_load(x + i), v_set1(max)));

        v_store(y + i, e);
        sum = v_add(sum, e);
    }
    if (whole < n) {
        const size_t rest = n - whole;
        float tail[VW] = {0};

        v_store_n(tail, v_exp(v_sub(v_load_n(x + whole, rest), v_set1(max))),
                  rest);
        v_store_n(y + whole, v_load(tail), rest);
        sum = v_add(sum, v_load(tail));
    }
    return v_sum(sum);
}

/* A maximum per vector first, then the first place that has it. */
static size_t argmax(const float *x, size_t n)
{
    const size_t whole = n / VW * VW;
    vf m = v_set1(x[0]);
    size_t i = 0;

    for (size_t j = 0; j < whole; j += VW)
        m = v_max(m, v_load(x + j));
    float max = v_hmax(m);

    for (size_t j = whole; j < n; j++)
        max = x[j] > max ? x[j] : max;
    while (i < n - 1 && x[i] != max)
        i++;
    return i;
}
