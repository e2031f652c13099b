/* layers_norm.inc.h - RMSNorm and LayerNorm: one pass over a row for the
 * statistics, one for the result, while it is in the first cache. */

static void copy_next(real *next, const real *x, const real *bias, size_t d)
{
    for (size_t i = 0; i < d; i += VW) {
        vr v = v_load_n(x + i, d - i);

        if (bias)
            v += v_load_n(bias + i, d - i);
        v_store_n(next + i, v, d - i);
    }
}

static void rmsnorm(real *y, real *rstd, real *next, const real *x,
                    const real *w, const real *bias, size_t rows, size_t d,
                    real eps)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d) {
        vr sum = {0};

        for (size_t i = 0; i < d; i += VW) {
            const vr v = v_load_n(x + i, d - i);

            sum = v_fma(v, v, sum);
        }
        rstd[r] = 1 / (real)sqrt((double)(v_sum(sum) / (real)d + eps));
        for (size_t i = 0; i < d; i += VW)
            v_store_n(y + i,
                      v_load_n(x + i, d - i) * rstd[r] * v_load_n(w + i, d - i),
                      d - i);
        if (next)
            copy_next(next + r * d, x, bias, d);
    }
}

/*
 * With n = x * rstd and g = dy * w:
 *   dx = rstd * (g - n * mean(g n)),  dw = dy * n
 */
static void rmsnorm_back(real *dx, real *dw, real *h, const real *dy,
                         const real *x, const real *w, const real *rstd,
                         size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++, x += d, dx += d, dy += d, h += d) {
        const vr s = v_set1(rstd[r]);
        vr dot = {0};

        for (size_t i = 0; i < d; i += VW)
            dot = v_fma(v_load_n(dy + i, d - i) * v_load_n(w + i, d - i),
                        v_load_n(x + i, d - i), dot);
        const vr mean = v_set1(v_sum(dot) * rstd[r] / (real)d);

        for (size_t i = 0; i < d; i += VW) {
            const vr n = v_load_n(x + i, d - i) * s;
            const vr wi = v_load_n(w + i, d - i), g = v_load_n(dy + i, d - i);
            const vr add = (g * wi - n * mean) * s;

            v_store_n(dx + i, v_load_n(dx + i, d - i) + add, d - i);
            v_store_n(dw + i, v_fma(g, n, v_load_n(dw + i, d - i)), d - i);
            v_store_n(h + i, n * wi, d - i);
        }
    }
}

static void row_moments(const real *x, size_t d, real eps, real *mean,
                        real *rstd)
{
    vr sum = {0}, squares = {0};
    size_t i;

    for (i = 0; i < d; i += VW)
        sum += v_load_n(x + i, d - i);
    *mean = v_sum(sum) / (real)d;
    for (i = 0; i + VW <= d; i += VW)
        squares += (v_load(x + i) - *mean) * (v_load(x + i) - *mean);
    for (; i < d; i++) /* padding would count as -mean */
        squares[0] += (x[i] - *mean) * (x[i] - *mean);
    *rstd = 1 / (real)sqrt((double)(v_sum(squares) / (real)d + eps));
}

static void layernorm(real *y, real *stat, real *next, const real *x,
                      const real *w, const real *b, const real *bias,
                      size_t rows, size_t d, real eps)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d, stat += 2) {
        row_moments(x, d, eps, &stat[0], &stat[1]);
        for (size_t i = 0; i < d; i += VW) {
            const vr n = (v_load_n(x + i, d - i) - stat[0]) * stat[1];

            v_store_n(y + i,
                      v_fma(n, v_load_n(w + i, d - i), v_load_n(b + i, d - i)),
                      d - i);
        }
        if (next)
            copy_next(next + r * d, x, bias, d);
    }
}

/*
 * With n = (x - mean) * rstd and g = dy * w:
 *   dx = rstd * (g - mean(g) - n * mean(g n)),  dw = dy * n,  db = dy
 */
static void layernorm_back(real *dx, real *dw, real *db, real *h,
                           const real *dy, const real *x, const real *w,
                           const real *b, const real *stat, size_t rows,
                           size_t d)
{
    for (size_t r = 0; r < rows;
         r++, x += d, dx += d, dy += d, h += d, stat += 2) {
        vr sum = {0}, dot = {0};

        for (size_t i = 0; i < d; i += VW) {
            const vr g = v_load_n(dy + i, d - i) * v_load_n(w + i, d - i);

            sum += g;
            dot = v_fma(g, (v_load_n(x + i, d - i) - stat[0]) * stat[1], dot);
        }
        const vr mean = v_set1(v_sum(sum) / (real)d);
        const vr slope = v_set1(v_sum(dot) / (real)d);

        for (size_t i = 0; i < d; i += VW) {
            const vr n = (v_load_n(x + i, d - i) - stat[0]) * stat[1];
            const vr wi = v_load_n(w + i, d - i), g = v_load_n(dy + i, d - i);
            const vr add = (g * wi - mean - n * slope) * stat[1];

            v_store_n(dx + i, v_load_n(dx + i, d - i) + add, d - i);
            v_store_n(dw + i, v_fma(g, n, v_load_n(dw + i, d - i)), d - i);
            v_store_n(db + i, g + v_load_n(db + i, d - i), d - i);
            v_store_n(h + i, v_fma(n, wi, v_load_n(b + i, d - i)), d - i);
        }
    }
}
