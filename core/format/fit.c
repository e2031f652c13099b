/*
 * fit.c - weighted least squares over a small grid of roundings.
 *
 * For given integers the best scale (and minimum) is a linear problem with a
 * closed solution; which integers depends on the scale they were rounded with.
 * So: round with the scale that fits the extremes and with STEPS others around
 * it, solve for each, keep the one with the least squared error.
 */
#include "core/format/fit.h"

enum { STEPS = 10 }; /* to each side, a tenth of an integer each */

static float at_step(int extreme, int k)
{
    return (float)extreme + 0.1f * (float)k;
}

float infer_fit_scale(const float *x, const float *w, int n, int lo, int hi)
{
    float max = 0.0f, best = 0.0f, scale = 0.0f;

    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(max))
            max = x[i];
    if (max == 0.0f)
        return 0.0f;
    scale = max / (float)lo; /* should every weight be 0 */
    for (int k = -STEPS; k <= STEPS; k++) {
        const float inverse = at_step(lo, k) / max;
        float xq = 0.0f, qq = 0.0f;

        for (int i = 0; i < n; i++) {
            const float q = (float)infer_nearest(inverse * x[i], lo, hi);

            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        /* the error is sum(w x^2) - xq^2 / qq */
        if (qq > 0.0f && xq * xq > best * qq) {
            best = xq * xq / qq;
            scale = xq / qq;
        }
    }
    return scale;
}

/* Sums over the values that a least-squares line through (q, x) needs. */
struct sums {
    float w, wq, wqq, wx, wxq;
};

static bool solve(const struct sums *s, bool any_min, float *scale, float *min)
{
    const float det = s->w * s->wqq - s->wq * s->wq;

    if (!(det > 0.0f))
        return false;
    *scale = (s->w * s->wxq - s->wx * s->wq) / det;
    *min = (s->wqq * s->wx - s->wq * s->wxq) / det;
    if (!any_min && *min > 0.0f) {
        *min = 0.0f;
        *scale = s->wxq / s->wqq;
    }
    return *scale > 0.0f;
}

static float line_error(const float *x, const float *w, const float *q, int n,
                        float scale, float min)
{
    float sum = 0.0f;

    for (int i = 0; i < n; i++) {
        const float e = scale * q[i] + min - x[i];

        sum += w[i] * e * e;
    }
    return sum;
}

void infer_fit_affine(const float *x, const float *w, int n, int top,
                      bool any_min, float *scale, float *min)
{
    float lo = x[0], hi = x[0], best = INFINITY;

    for (int i = 1; i < n; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
    }
    if (!any_min && lo > 0.0f)
        lo = 0.0f;
    *min = lo;
    *scale = (hi - lo) / (float)top;
    if (!(*scale > 0.0f))
        return;
    for (int k = -STEPS; k <= STEPS; k++) {
        const float inverse = at_step(top, k) / (hi - lo);
        struct sums s = {0};
        float q[32], a, b, error;

        for (int i = 0; i < n; i++) {
            q[i] = (float)infer_nearest(inverse * (x[i] - lo), 0, top);
            s.w += w[i];
            s.wq += w[i] * q[i];
            s.wqq += w[i] * q[i] * q[i];
            s.wx += w[i] * x[i];
            s.wxq += w[i] * x[i] * q[i];
        }
        if (!solve(&s, any_min, &a, &b))
            continue;
        error = line_error(x, w, q, n, a, b);
        if (error < best) {
            best = error;
            *scale = a;
            *min = b;
        }
    }
}
