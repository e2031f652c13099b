/* layers_heads.inc.h - what an encoder's vectors are for: unit length and the
 * losses of its tasks. Small: [B][C] or [B][D] once a step. */

static void unit(real *y, real *length, const real *x, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d) {
        vr sum = {0};

        for (size_t i = 0; i < d; i += VW) {
            const vr v = v_load_n(x + i, d - i);

            sum = v_fma(v, v, sum);
        }
        length[r] = (real)sqrt((double)v_sum(sum)) + (real)1e-12;
        for (size_t i = 0; i < d; i += VW)
            v_store_n(y + i, v_load_n(x + i, d - i) / length[r], d - i);
    }
}

/* dx = (dy - y (y dy)) / length */
static void unit_back(real *dx, const real *dy, const real *y,
                      const real *length, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++, dx += d, dy += d, y += d) {
        vr sum = {0};

        for (size_t i = 0; i < d; i += VW)
            sum = v_fma(v_load_n(dy + i, d - i), v_load_n(y + i, d - i), sum);
        const vr dot = v_set1(v_sum(sum));

        for (size_t i = 0; i < d; i += VW)
            v_store_n(dx + i,
                      v_load_n(dx + i, d - i) + (v_load_n(dy + i, d - i) -
                                                 v_load_n(y + i, d - i) * dot) /
                                                    length[r],
                      d - i);
    }
}

static double binary(real *z, const real *targets, const real *weights,
                     size_t rows, size_t c, bool back, real scale)
{
    double sum = 0;

    for (size_t i = 0; i < rows * c; i++) {
        const double x = (double)z[i], t = (double)targets[i];
        const double w = weights && t > 0 ? (double)weights[i % c] : 1.0;
        const double e = exp(-fabs(x)), soft = log1p(e);
        const double p = x >= 0 ? 1 / (1 + e) : e / (1 + e);
        /* -log p = soft + max(-x, 0), -log(1 - p) = soft + max(x, 0) */
        const double yes = soft + (x < 0 ? -x : 0);
        const double no = soft + (x > 0 ? x : 0);

        sum += w * t * yes + (1 - t) * no;
        if (back)
            z[i] = scale * (real)((1 - t) * p - w * t * (1 - p));
    }
    return sum;
}

static double squares(real *z, const real *targets, size_t n, bool back,
                      real scale)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        const real off = z[i] - targets[i];

        sum += (double)off * (double)off;
        if (back)
            z[i] = 2 * scale * off;
    }
    return sum;
}

static double pair_order(real *s, const real *scores, size_t n,
                         real temperature, bool back, real scale, real *ds)
{
    double high = 0, sum, part;

    for (size_t i = 0; i < n; i++) {
        ds[i] = 0;
        for (size_t j = 0; j < n; j++)
            if (scores[i] > scores[j] &&
                (double)((s[j] - s[i]) / temperature) > high)
                high = (double)((s[j] - s[i]) / temperature);
    }
    sum = exp(-high); /* the 1 of log(1 + ...) */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            if (!(scores[i] > scores[j]))
                continue;
            part = exp((double)((s[j] - s[i]) / temperature) - high);
            sum += part;
            ds[j] += (real)part;
            ds[i] -= (real)part;
        }
    for (size_t i = 0; i < n && back; i++)
        s[i] = ds[i] * scale / (real)(sum * (double)temperature);
    return high + log(sum);
}
