/*
 * layers_attention.inc.h - attention in tiles of TILE x TILE scores.
 *
 * A unit's keys, values (and in the backward pass their gradients) are
 * gathered once, rotated and padded with zeros to whole tiles, so that every
 * product inside is one shape and one loop. Keys are also kept transposed,
 * since scores need them column by column. Short sequences fill a part of a
 * tile, and only that part is computed. With kernels for bfloat16 the places
 * of right operands hold their panels, which take half the room.
 *
 *   scratch   5 [T'][K'] | 6 [TILE][K'] | 3 [TILE][TILE] | rows
 *   K' = K in whole product tiles, T' = T in whole TILEs
 */

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Places in the scratch of one unit; dims as in the head of this file. */
struct attn_work {
    const struct nn_attn *a;
    size_t row0;      /* first row of the sequence */
    size_t n_tokens;  /* of it */
    size_t kp, tp;    /* K', T' */
    size_t ld, nq;    /* row strides of qkv and of out */
    real *kt, *k, *v; /* [T'/TILE][K'][TILE], [T'][K'], and v: forward as k,
                         backward as kt */
    real *dk, *dv;    /* [T'][K'] */
    real *q, *o, *dout, *dq;        /* [TILE][K'] */
    real *s, *dp;                   /* [TILE][TILE] */
    real *m, *sum;                  /* [TILE] */
    const struct bf16_kernels *mul; /* NULL: products in f32 */
    uint32_t *qa, *qb, *da, *db;    /* q and dout, as left and right operand */
    uint32_t *room;                 /* of a score tile, as left operand */
};

static size_t attention_scratch(size_t n_tokens, size_t d_head)
{
    const size_t kp = round_up(d_head, NR), tp = round_up(n_tokens, TILE);

    return 5 * tp * kp + 6 * TILE * kp + 3 * TILE * TILE + 2 * TILE;
}

static void attn_begin(struct attn_work *w, const struct nn_attn *a,
                       size_t unit, real *scratch)
{
    const size_t b = unit / a->n_kv_heads;
    const size_t row0 = a->starts ? a->starts[b] : b * a->n_tokens;
    const size_t n = a->starts ? a->starts[b + 1] - row0 : a->n_tokens;
    const size_t kp = round_up(a->d_head, NR), tp = round_up(n, TILE);
    real **const big[] = {&w->kt, &w->k, &w->v, &w->dk, &w->dv};
    real **const small[] = {&w->q, &w->o, &w->dout, &w->dq};

    *w = (struct attn_work){.a = a,
                            .row0 = row0,
                            .n_tokens = n,
                            .kp = kp,
                            .tp = tp,
                            .ld = (a->n_heads + 2 * a->n_kv_heads) * a->d_head,
                            .nq = a->n_heads * a->d_head,
                            .mul = a->mul};
    for (int i = 0; i < 5; i++, scratch += tp * kp)
        *big[i] = scratch;
    for (int i = 0; i < 4; i++, scratch += TILE * kp)
        *small[i] = scratch;
    w->qa = (uint32_t *)scratch;
    w->qb = w->qa + TILE * kp / 2;
    w->da = w->qb + TILE * kp / 2;
    w->db = w->da + TILE * kp / 2;
    w->s = scratch + 2 * TILE * kp;
    w->dp = w->s + TILE * TILE;
    w->room = (uint32_t *)(w->dp + TILE * TILE);
    w->m = w->dp + 2 * TILE * TILE;
    w->sum = w->m + TILE;
}

/* Rows of the tile that begins at t0. */
static size_t tile_rows(const struct attn_work *w, size_t t0)
{
    const size_t left = w->n_tokens - t0;

    return left < TILE ? left : TILE;
}

/* Rows [t0, t0 + TILE) of one head, scaled; zeros where there are none. */
static void gather(const struct attn_work *w, real *to, const real *from,
                   size_t ld, size_t t0, real scale)
{
    const size_t n = tile_rows(w, t0), k = w->a->d_head, kp = w->kp;

    from += (w->row0 + t0) * ld;
    memset(to, 0, TILE * kp * sizeof(*to));
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++)
            to[r * kp + i] = from[r * ld + i] * scale;
}

/* The same of queries, keys or values: columns `at` and on of qkv. */
static void gather_qkv(const struct attn_work *w, real *to, size_t at,
                       size_t t0, bool turn, real scale)
{
    const struct nn_attn *a = w->a;
    const size_t n = tile_rows(w, t0), k = a->d_head, kp = w->kp;

    if (a->qkv) {
        gather(w, to, a->qkv + at, w->ld, t0, scale);
    } else {
        const uint16_t *from = a->qkv16 + (w->row0 + t0) * w->ld + at;

        memset(to, 0, TILE * kp * sizeof(*to));
        for (size_t r = 0; r < n; r++) {
            widen(to + r * kp, from + r * w->ld, k);
            for (size_t i = 0; i < k; i++)
                to[r * kp + i] *= scale;
        }
    }
    if (turn && a->cs)
        rotate(to, kp, a->cs + t0 * k, n, k, a->halves, 1);
}

/* TILE rows of keys or values where a right operand lies; turned, if it is not
 * NULL, gets the operand whose columns they are. */
static void gather_right(const struct attn_work *w, real *to, size_t from,
                         size_t t0, bool turn, real *turned)
{
    real *rows = w->mul ? w->o : to;

    gather_qkv(w, rows, from, t0, turn, 1);
    if (w->mul)
        right_packed(w->mul, (uint32_t *)to, rows, w->kp);
    if (turned)
        right_turned(w->mul, turned, rows, w->kp);
}

/* q and dout of a tile, as both kinds of operand. */
static void pack_queries(const struct attn_work *w, size_t t)
{
    left_packed(w->mul, w->qa, w->q, w->kp, tile_rows(w, t));
    left_packed(w->mul, w->da, w->dout, w->kp, tile_rows(w, t));
    right_packed(w->mul, w->qb, w->q, w->kp);
    right_packed(w->mul, w->db, w->dout, w->kp);
}

/* The way back. */
static void scatter(const struct attn_work *w, real *to, const real *from,
                    size_t ld, size_t t0)
{
    const size_t n = tile_rows(w, t0), k = w->a->d_head, kp = w->kp;

    to += (w->row0 + t0) * ld;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++)
            to[r * ld + i] = from[r * kp + i];
}

/* The same for gradients of queries, keys and values. */
static void scatter_qkv(const struct attn_work *w, size_t at, real *from,
                        size_t t0, bool turn, real scale)
{
    const struct nn_attn *a = w->a;
    const size_t n = tile_rows(w, t0), k = a->d_head, kp = w->kp;

    if (turn && a->cs)
        rotate(from, kp, a->cs + t0 * k, n, k, a->halves, -1);
    for (size_t i = 0; i < n * kp; i++)
        from[i] *= scale;
    if (a->qkv) {
        scatter(w, a->qkv + at, from, w->ld, t0);
        return;
    }
    for (size_t r = 0; r < n; r++)
        narrow(a->qkv16 + (w->row0 + t0 + r) * w->ld + at, from + r * kp, k);
}

/* One row of n scores joins the running softmax: probabilities relative to the
 * new maximum in its place; returns what older sums shrink by. */
static real softmax_join(real *s, size_t n, real *m, real *sum)
{
    vr high = v_set1(*m), total = {0};
    real shrink;

    for (size_t j = n; j < TILE; j++)
        s[j] = -(real)INFINITY;
    for (size_t j = 0; j < TILE; j += VW)
        high = v_max(high, v_load(s + j));
    high = v_set1(v_highest(high));
    shrink = *m == high[0] ? 1 : (real)exp((double)(*m - high[0]));
    *m = high[0];
    for (size_t j = 0; j < TILE; j += VW) {
        const vr p = v_exp(v_load(s + j) - high);

        total += p;
        v_store(s + j, p);
    }
    *sum = *sum * shrink + v_sum(total);
    return shrink;
}

/* A tile of queries, or of gradients of what they got, times the keys. */
static struct left queries(const struct attn_work *w)
{
    return (struct left){w->q, w->kp, 1, w->mul ? w->qa : NULL};
}

static struct left gradients(const struct attn_work *w)
{
    return (struct left){w->dout, w->kp, 1, w->mul ? w->da : NULL};
}

static void attend_tile(struct attn_work *w, size_t t)
{
    const size_t kp = w->kp, n_rows = tile_rows(w, t);
    const size_t end = w->a->both ? w->n_tokens : t + 1;

    for (size_t i = 0; i < TILE; i++) {
        w->m[i] = -(real)INFINITY;
        w->sum[i] = 0;
    }
    memset(w->o, 0, TILE * kp * sizeof(*w->o));
    for (size_t at = 0; at < end; at += TILE) {
        const bool diagonal = !w->a->both && at == t;
        const size_t n_keys = tile_rows(w, at);

        mm(w->mul, w->room, w->s, queries(w), w->kt + at * kp, kp, TILE,
           (struct extent){n_rows, n_keys, kp}, false, diagonal ? LEFT : WHOLE);
        for (size_t i = 0; i < n_rows; i++) {
            const size_t n = diagonal ? i + 1 : n_keys;
            const vr shrink =
                v_set1(softmax_join(w->s + i * TILE, n, &w->m[i], &w->sum[i]));

            for (size_t j = 0; j < kp; j += VW)
                v_store(w->o + i * kp + j, v_load(w->o + i * kp + j) * shrink);
        }
        mm(w->mul, w->room, w->o, (struct left){w->s, TILE, 1, NULL},
           w->v + at * kp, TILE, kp, (struct extent){n_rows, kp, n_keys}, true,
           diagonal ? UP_TO : WHOLE);
    }
}

static void attention(const struct nn_attn *a, size_t unit, real *scratch)
{
    const size_t g = unit % a->n_kv_heads, rep = a->n_heads / a->n_kv_heads;
    const size_t K = a->d_head, H = a->n_heads;
    const real scale = 1 / (real)sqrt((double)K);
    struct attn_work w;

    attn_begin(&w, a, unit, scratch);
    const size_t T = w.n_tokens;

    mm_begin(w.mul);
    for (size_t t = 0; t < T; t += TILE) {
        gather_qkv(&w, w.k, (H + g) * K, t, true, 1);
        right_turned(w.mul, w.kt + t * w.kp, w.k, w.kp);
        gather_right(&w, w.v + t * w.kp, (H + a->n_kv_heads + g) * K, t, false,
                     NULL);
    }
    for (size_t h = g * rep; h < (g + 1) * rep; h++)
        for (size_t t = 0; t < T; t += TILE) {
            gather_qkv(&w, w.q, h * K, t, true, scale);
            if (w.mul)
                left_packed(w.mul, w.qa, w.q, w.kp, tile_rows(&w, t));
            attend_tile(&w, t);
            for (size_t i = 0; i < TILE && t + i < T; i++) {
                const real inv = 1 / w.sum[i];

                for (size_t j = 0; j < K; j++)
                    w.o[i * w.kp + j] *= inv;
                a->lse[(w.row0 + t + i) * H + h] =
                    w.m[i] + (real)log((double)w.sum[i]);
            }
            scatter(&w, a->out + h * K, w.o, w.nq, t);
        }
    mm_end(w.mul);
}

/* s = probabilities of one tile, dp = gradient of its scores:
 *   ds = p * (dp - sum(dout * out)) */
static void score_back(struct attn_work *w, const real *lse, const real *dot,
                       size_t n_rows, size_t n_keys, bool diagonal)
{
    for (size_t i = 0; i < n_rows; i++) {
        real *s = w->s + i * TILE, *dp = w->dp + i * TILE;
        const size_t n = diagonal ? i + 1 : n_keys;

        for (size_t j = n; j < TILE; j++) {
            s[j] = -(real)INFINITY;
            dp[j] = 0;
        }
        for (size_t j = 0; j < TILE; j += VW) {
            const vr p = v_exp(v_load(s + j) - lse[i]);

            v_store(s + j, p);
            v_store(dp + j, p * (v_load(dp + j) - dot[i]));
        }
    }
}

/* Row sums of dout * out and the softmax sums of a query tile. */
static void tile_sums(struct attn_work *w, size_t h, size_t t)
{
    for (size_t i = 0; i < TILE; i++) {
        vr dot = {0};

        for (size_t j = 0; j < w->kp; j += VW)
            dot = v_fma(v_load(w->dout + i * w->kp + j),
                        v_load(w->o + i * w->kp + j), dot);
        w->sum[i] = v_sum(dot);
        w->m[i] = t + i < w->n_tokens
                      ? w->a->lse[(w->row0 + t + i) * w->a->n_heads + h]
                      : 0;
    }
}

static void attend_tile_back(struct attn_work *w, size_t t)
{
    const size_t kp = w->kp, n_rows = tile_rows(w, t);
    const size_t end = w->a->both ? w->n_tokens : t + 1;
    const real *q = w->mul ? (const real *)w->qb : w->q;
    const real *dout = w->mul ? (const real *)w->db : w->dout;

    memset(w->dq, 0, TILE * kp * sizeof(*w->dq));
    for (size_t at = 0; at < end; at += TILE) {
        const bool diagonal = !w->a->both && at == t;
        const size_t n_keys = tile_rows(w, at);
        const struct extent scores = {n_rows, n_keys, kp};
        const struct extent to_keys = {n_keys, kp, n_rows};

        mm(w->mul, w->room, w->s, queries(w), w->kt + at * kp, kp, TILE, scores,
           false, diagonal ? LEFT : WHOLE);
        mm(w->mul, w->room, w->dp, gradients(w), w->v + at * kp, kp, TILE,
           scores, false, diagonal ? LEFT : WHOLE);
        score_back(w, w->m, w->sum, n_rows, n_keys, diagonal);
        mm(w->mul, w->room, w->dv + at * kp, (struct left){w->s, 1, TILE, NULL},
           dout, TILE, kp, to_keys, true, diagonal ? FROM : WHOLE);
        mm(w->mul, w->room, w->dk + at * kp,
           (struct left){w->dp, 1, TILE, NULL}, q, TILE, kp, to_keys, true,
           diagonal ? FROM : WHOLE);
        mm(w->mul, w->room, w->dq, (struct left){w->dp, TILE, 1, NULL},
           w->k + at * kp, TILE, kp, (struct extent){n_rows, kp, n_keys}, true,
           diagonal ? UP_TO : WHOLE);
    }
}

static void attention_back(const struct nn_attn *a, size_t unit, real *scratch)
{
    const size_t g = unit % a->n_kv_heads, rep = a->n_heads / a->n_kv_heads;
    const size_t K = a->d_head, H = a->n_heads;
    const size_t k = (H + g) * K, v = (H + a->n_kv_heads + g) * K;
    const real scale = 1 / (real)sqrt((double)K);
    struct attn_work w;

    attn_begin(&w, a, unit, scratch);
    const size_t T = w.n_tokens;

    mm_begin(w.mul);
    for (size_t t = 0; t < T; t += TILE) {
        gather_right(&w, w.k + t * w.kp, k, t, true, w.kt + t * w.kp);
        gather_qkv(&w, w.q, v, t, false, 1);
        right_turned(w.mul, w.v + t * w.kp, w.q, w.kp);
    }
    memset(w.dk, 0, w.tp * w.kp * sizeof(*w.dk));
    memset(w.dv, 0, w.tp * w.kp * sizeof(*w.dv));
    for (size_t h = g * rep; h < (g + 1) * rep; h++)
        for (size_t t = 0; t < T; t += TILE) {
            gather_qkv(&w, w.q, h * K, t, true, scale);
            gather(&w, w.o, a->out + h * K, w.nq, t, 1);
            gather(&w, w.dout, a->dout + h * K, w.nq, t, 1);
            tile_sums(&w, h, t);
            if (w.mul)
                pack_queries(&w, t);
            attend_tile_back(&w, t);
            scatter_qkv(&w, h * K, w.dq, t, true, scale);
        }
    for (size_t t = 0; t < T; t += TILE) {
        scatter_qkv(&w, k, w.dk + t * w.kp, t, true, 1);
        scatter_qkv(&w, v, w.dv + t * w.kp, t, false, 1);
    }
    mm_end(w.mul);
}
