/* layers_optim.inc.h - optimizer steps: memory bound, so each is one pass. */

static void sgd(real *p, real *m, const real *g, size_t n,
                const struct nn_update *u)
{
    const struct nn_update k = *u;

    for (size_t i = 0; i < n; i++) {
        m[i] = m[i] * k.beta1 + (g[i] * k.grad_scale + p[i] * k.l2);
        p[i] -= k.lr * (m[i] + k.decay * p[i]);
    }
}

static void adam(real *p, real *m, real *v, const real *g, size_t n,
                 const struct nn_update *u)
{
    const struct nn_update k = *u;

    for (size_t i = 0; i < n; i += VW) {
        const vr pi = v_load_n(p + i, n - i);
        const vr gi = v_load_n(g + i, n - i) * k.grad_scale + pi * k.l2;
        const vr mi = v_load_n(m + i, n - i) * k.beta1 + gi * (1 - k.beta1);
        const vr si =
            v_load_n(v + i, n - i) * k.beta2 + gi * gi * (1 - k.beta2);
        const vr root = v_sqrt(si * k.correct2);

        v_store_n(m + i, mi, n - i);
        v_store_n(v + i, si, n - i);
        v_store_n(p + i,
                  pi - k.lr * (mi * k.correct1 / (root + k.eps) + k.decay * pi),
                  n - i);
    }
}

static void nesterov(real *y, real *m, const real *g, size_t n,
                     const struct nn_update *u)
{
    const struct nn_update k = *u;

    for (size_t i = 0; i < n; i++) {
        const real gi = g[i] * k.grad_scale;

        m[i] = m[i] * k.beta1 + gi;
        y[i] = gi + m[i] * k.beta1;
    }
}

static void blend(real *y, real a, const real *x, real b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] * a + x[i] * b;
}

/* In double: a norm over millions of small squares. */
static double sum_squares(const real *x, size_t n)
{
    enum { RUN = 4096 };
    double total = 0;

    for (size_t at = 0; at < n; at += RUN) {
        const size_t end = n - at < RUN ? n : at + RUN;
        vr s = {0};

        for (size_t i = at; i < end; i += VW) {
            const vr v = v_load_n(x + i, end - i);

            s = v_fma(v, v, s);
        }
        total += (double)v_sum(s);
    }
    return total;
}
