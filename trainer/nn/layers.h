/*
 * layers.h - the layers of a decoder as forward and backward pairs.
 *
 * Every function runs on the calling thread over the rows (or units) it is
 * given; net.c shares them out. Backward functions recompute what is cheaper
 * to compute than to keep. `d*` are gradients; a gradient marked += is added
 * to, so that rows, sequences and micro-batches accumulate.
 *
 * Products of matrices are not here: see trainer/gemm/gemm.h. One table per
 * instruction set; NN_REAL is float, but for the test that takes finite
 * differences.
 *
 * Shapes: R rows (tokens), D width, F hidden, H heads, G KV heads, K head
 * width, V vocabulary, B sequences of T tokens.
 */
#ifndef TRAINER_NN_LAYERS_H
#define TRAINER_NN_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef NN_REAL
#define NN_REAL float
#endif

struct bf16_kernels;

/* Which values are dropped is a hash of (key, row, column): nothing is kept
 * and the backward pass draws the same. */
struct nn_dropout {
    uint32_t key[2];
    uint32_t threshold; /* dropped below it; 0: none is */
    NN_REAL scale;      /* of what stays: 1 / (1 - share) */
};

/*
 * Attention of B sequences (Vaswani et al. 2017), causal or not, of one length
 * or packed one behind another without padding, tile by tile with a running
 * softmax, so that memory is O(T), and with the probabilities
 * recomputed in the backward pass (FlashAttention: Dao 2022, arXiv:2205.14135).
 * A unit is one KV head of one sequence with the query heads that share it.
 * Queries and keys are rotated on their way in, gradients on their way out.
 */
struct nn_attn {
    const struct bf16_kernels *mul; /* of its products; NULL: f32 */
    NN_REAL *qkv;        /* [B T][(H + 2 G) K]: q, k, v before the rotation;
                            the backward pass leaves gradients in their place */
    uint16_t *qkv16;     /* the same in bfloat16, if qkv is NULL */
    NN_REAL *out;        /* [B T][H K] */
    NN_REAL *lse;        /* [B T][H] log of each softmax's sum */
    const NN_REAL *dout; /* [B T][H K], backward only */
    const NN_REAL *cs;   /* [T][K/2][2] cosines and sines; NULL: no rotation */
    bool halves;         /* rotate (i, i + K/2) instead of (2i, 2i + 1) */
    bool both;           /* a token sees all others, not only earlier ones */
    size_t n_tokens;     /* T, if starts is NULL */
    const uint32_t *starts; /* [B + 1] first row of each sequence, and the end
                               (then "B T" is starts[B]) */
    size_t n_heads, n_kv_heads, d_head;
};

/* Settings of one optimizer step over a range of parameters. */
struct nn_update {
    NN_REAL lr;
    NN_REAL decay;      /* p -= lr * decay * p, next to the step */
    NN_REAL l2;         /* g += l2 * p, before it */
    NN_REAL grad_scale; /* of g, from clipping */
    NN_REAL beta1, beta2;
    NN_REAL eps;
    NN_REAL correct1, correct2; /* 1 / (1 - beta^step) */
};

struct nn_layers {
    const char *name;

    /* y = x * rstd * w, rstd [R] = 1 / sqrt(mean(x^2) + eps);
     * next (may be NULL) = x + bias (may be NULL): the residual stream that
     * the branch's last product is added to. (Zhang & Sennrich 2019) */
    void (*rmsnorm)(NN_REAL *y, NN_REAL *rstd, NN_REAL *next, const NN_REAL *x,
                    const NN_REAL *w, const NN_REAL *bias, size_t rows,
                    size_t d, NN_REAL eps);
    /* dx [R][D] +=, dw [D] +=; h [R][D] = the normed rows again, which the
     * weight gradient needs next (may be dy itself) */
    void (*rmsnorm_back)(NN_REAL *dx, NN_REAL *dw, NN_REAL *h,
                         const NN_REAL *dy, const NN_REAL *x, const NN_REAL *w,
                         const NN_REAL *rstd, size_t rows, size_t d);
    /* The same with mean and offset b; stat [R][2] = mean, rstd.
     * (Ba et al. 2016) */
    void (*layernorm)(NN_REAL *y, NN_REAL *stat, NN_REAL *next,
                      const NN_REAL *x, const NN_REAL *w, const NN_REAL *b,
                      const NN_REAL *bias, size_t rows, size_t d, NN_REAL eps);
    void (*layernorm_back)(NN_REAL *dx, NN_REAL *dw, NN_REAL *db, NN_REAL *h,
                           const NN_REAL *dy, const NN_REAL *x,
                           const NN_REAL *w, const NN_REAL *b,
                           const NN_REAL *stat, size_t rows, size_t d);

    /* x [R][N] += bias [N]; and its gradient: db[c] += sum of dy[.][c] for
     * columns c0 <= c < c1 */
    void (*add_bias)(NN_REAL *x, const NN_REAL *bias, size_t rows, size_t n);
    void (*add_bias_back)(NN_REAL *db, const NN_REAL *dy, size_t rows, size_t n,
                          size_t c0, size_t c1);

    /* out = x + dropped(y); all [R][D], rows counted from row0 */
    void (*residual)(NN_REAL *out, const NN_REAL *x, const NN_REAL *y,
                     const struct nn_dropout *drop, size_t row0, size_t rows,
                     size_t d);
    /* y = dropped(x), forward and backward; in place or not */
    void (*dropout)(NN_REAL *y, const NN_REAL *x, const struct nn_dropout *drop,
                    size_t row0, size_t rows, size_t d);

    /* Activations: h [R][F] = silu(g) u of gu [R][g F | u F] (Shazeer 2020);
     * gelu (tanh form, Hendrycks & Gimpel 2016) and relu^2 (So et al. 2021) of
     * u [R][F]. Back: the input becomes its gradient, dh becomes h again. */
    void (*swiglu)(NN_REAL *h, const NN_REAL *gu, size_t rows, size_t f);
    void (*swiglu_back)(NN_REAL *gu, NN_REAL *dh, size_t rows, size_t f);
    void (*gelu)(NN_REAL *h, const NN_REAL *u, size_t rows, size_t f);
    void (*gelu_back)(NN_REAL *u, NN_REAL *dh, size_t rows, size_t f);
    void (*relu2)(NN_REAL *h, const NN_REAL *u, size_t rows, size_t f);
    void (*relu2_back)(NN_REAL *u, NN_REAL *dh, size_t rows, size_t f);

    /* x [R][D] = tok[tokens[r]] + pos[(row0 + r) % T] (pos may be NULL) */
    void (*embed)(NN_REAL *x, const NN_REAL *tok, const NN_REAL *pos,
                  const int32_t *tokens, size_t row0, size_t rows,
                  size_t n_tokens, size_t d);
    /* dtok [V][D] +=, dpos [T][D] += (or NULL), columns c0 <= c < c1 only, of
     * all rows: a column has one writer */
    void (*embed_back)(NN_REAL *dtok, NN_REAL *dpos, const NN_REAL *dx,
                       const int32_t *tokens, size_t rows, size_t n_tokens,
                       size_t d, size_t c0, size_t c1);

    /* Rotate rows x [R][ld] of one head, cs [R][K/2][2]; back: inverse.
     * (Su et al. 2021, arXiv:2104.09864) */
    void (*rope)(NN_REAL *x, size_t ld, const NN_REAL *cs, size_t rows,
                 size_t d_head, bool halves);
    void (*rope_back)(NN_REAL *x, size_t ld, const NN_REAL *cs, size_t rows,
                      size_t d_head, bool halves);

    /* unit = b * G + g; scratch holds attention_scratch() values, 64-byte
     * aligned */
    void (*attention)(const struct nn_attn *a, size_t unit, NN_REAL *scratch);
    void (*attention_back)(const struct nn_attn *a, size_t unit,
                           NN_REAL *scratch);
    size_t (*attention_scratch)(size_t n_tokens, size_t d_head);

    /* Softmax and cross-entropy of logits [R][V] against targets [R] (-1: not
     * counted): nll [R] = -log p(target); loss [R] = the smoothed form,
     * (1 - s) nll + s mean(-log p). With back, logits become
     * scale * d(loss)/d(logits). (Szegedy et al. 2016, section 7) */
    void (*cross_entropy)(NN_REAL *logits, const int32_t *targets,
                          NN_REAL *loss, NN_REAL *nll, size_t rows, size_t v,
                          NN_REAL smoothing, bool back, NN_REAL scale);

    /* y [R][D] = x / length, length [R]; back: dx += */
    void (*unit)(NN_REAL *y, NN_REAL *length, const NN_REAL *x, size_t rows,
                 size_t d);
    void (*unit_back)(NN_REAL *dx, const NN_REAL *dy, const NN_REAL *y,
                      const NN_REAL *length, size_t rows, size_t d);
    /* Losses of heads, summed and returned; with back, the input z (or s)
     * becomes scale * its gradient.
     * binary: sigmoid cross-entropy of z [R][C], targets 0..1; weights [C] of
     * positive targets, or NULL
     * squares: (z - target)^2 of n values
     * pair_order: log(1 + sum exp((s_j - s_i) / temperature)) over all pairs
     * whose scores say s_i > s_j (CoSENT: Su 2022, kexue.fm/archives/8847);
     * ds [n] work space */
    double (*binary)(NN_REAL *z, const NN_REAL *targets, const NN_REAL *weights,
                     size_t rows, size_t c, bool back, NN_REAL scale);
    double (*squares)(NN_REAL *z, const NN_REAL *targets, size_t n, bool back,
                      NN_REAL scale);
    double (*pair_order)(NN_REAL *s, const NN_REAL *scores, size_t n,
                         NN_REAL temperature, bool back, NN_REAL scale,
                         NN_REAL *ds);

    /* Optimizer steps over n values; see optim.h for the papers.
     * sgd: m = beta1 m + g, p -= lr m
     * adam: m, v means of g, g^2; p -= lr m / (sqrt(v) + eps)
     * nesterov: m = beta1 m + g, y = g + beta1 m */
    void (*sgd)(NN_REAL *p, NN_REAL *m, const NN_REAL *g, size_t n,
                const struct nn_update *u);
    void (*adam)(NN_REAL *p, NN_REAL *m, NN_REAL *v, const NN_REAL *g, size_t n,
                 const struct nn_update *u);
    void (*nesterov)(NN_REAL *y, NN_REAL *m, const NN_REAL *g, size_t n,
                     const struct nn_update *u);
    /* bfloat16 to NN_REAL and back, to nearest, ties to even */
    void (*widen)(NN_REAL *y, const uint16_t *x, size_t n);
    void (*narrow)(uint16_t *y, const NN_REAL *x, size_t n);
    /* y = a y + b x */
    void (*blend)(NN_REAL *y, NN_REAL a, const NN_REAL *x, NN_REAL b, size_t n);
    double (*sum_squares)(const NN_REAL *x, size_t n);
};

/* The best table this machine has. */
const struct nn_layers *nn_layers(void);

#endif
