/* layers_loss.inc.h - cross-entropy, fused with the softmax's gradient: the
 * probabilities of a row exist only where its logits were. */

struct row_loss {
    real high, sum, mean; /* largest logit, sum of exp, mean logit */
};

/* logits become exp(logit - largest). */
static struct row_loss exponents(real *x, size_t v)
{
    const size_t whole = v / VW * VW;
    vr high = v_set1(x[0]), total = {0}, sum = {0};
    struct row_loss out;
    real high_tail = x[0], sum_tail = 0, total_tail = 0;

    for (size_t i = 0; i < whole; i += VW)
        high = v_max(high, v_load(x + i));
    for (size_t i = whole; i < v; i++)
        high_tail = x[i] > high_tail ? x[i] : high_tail;
    out.high = v_highest(v_max(high, v_set1(high_tail)));
    for (size_t i = 0; i < whole; i += VW) {
        const vr a = v_load(x + i), e = v_exp(a - out.high);

        total += a;
        sum += e;
        v_store(x + i, e);
    }
    if (whole < v) {
        const vr e = v_exp(v_load_n(x + whole, v - whole) - out.high);

        for (size_t i = whole; i < v; i++) {
            total_tail += x[i];
            sum_tail += e[i - whole];
        }
        v_store_n(x + whole, e, v - whole);
    }
    out.sum = v_sum(sum) + sum_tail;
    out.mean = (v_sum(total) + total_tail) / (real)v;
    return out;
}

static void cross_entropy(real *logits, const int32_t *targets, real *loss,
                          real *nll, size_t rows, size_t v, real smoothing,
                          bool back, real scale)
{
    for (size_t r = 0; r < rows; r++, logits += v) {
        const int32_t t = targets[r];

        loss[r] = nll[r] = 0;
        if (t < 0) {
            if (back)
                memset(logits, 0, v * sizeof(*logits));
            continue;
        }
        const real at = logits[t];
        const struct row_loss e = exponents(logits, v);
        const real lse = e.high + (real)log((double)e.sum);

        nll[r] = lse - at;
        loss[r] = (1 - smoothing) * nll[r] + smoothing * (lse - e.mean);
        if (!back)
            continue;
        const vr a = v_set1(scale / e.sum);
        const vr b = v_set1(-scale * smoothing / (real)v);

        for (size_t i = 0; i < v; i += VW)
            v_store_n(logits + i, v_fma(v_load_n(logits + i, v - i), a, b),
                      v - i);
        logits[t] -= scale * (1 - smoothing);
    }
}
