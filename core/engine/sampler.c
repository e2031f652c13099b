/*
 * sampler.c - bias, penalties, cuts and the draw, in time linear in V.
 *
 * A vocabulary has 32 000 to 150 000 entries and at batch 32 this runs 32
 * times a step, so nothing here sorts it. The row is read once for the maximum
 * of each 64 logits; with these, the k best lie in few blocks. top_p first
 * drops the tokens that together cannot reach 1 - top_p. What is left, mostly
 * some hundred candidates, is cut by quickselect on unique 64-bit keys (rank
 * value, then index), so ties have one outcome.
 *
 * Candidates stay in the order of their ids. Sums are doubles in a fixed order
 * of additions, so the same row gives the same token on every thread.
 */
#include "core/engine/sampler.h"

#include "core/base/error.h"
#include "core/engine/keys.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, LANES = 16 };

struct candidate {
    int32_t id; /* -1: dropped */
    float y;    /* (logit - max) / temperature, <= 0 */
    float w;    /* exp(y): not yet normalised */
};

struct infer_sampler {
    const struct infer_kernels *kern;
    uint32_t n_vocab, n_blocks;
    float *x;                /* [V] changed or scaled logits */
    float *w;                /* [V] weights */
    float *block_max;        /* [n_blocks] */
    uint32_t *count;         /* [V] all zero between calls */
    struct candidate *cands; /* [V] */
    uint64_t *keys;          /* [V] */
    uint32_t n;              /* candidates */
    float max;               /* of the row last scanned */
};

static uint32_t blocks_of(uint32_t n_vocab)
{
    return (n_vocab + BLOCK - 1) / BLOCK;
}

uint64_t infer_sampler_bytes(uint32_t n_vocab)
{
    const uint64_t each = 2 * sizeof(float) + sizeof(uint32_t) +
                          sizeof(struct candidate) + sizeof(uint64_t);

    return sizeof(struct infer_sampler) + n_vocab * each +
           blocks_of(n_vocab) * sizeof(float);
}

int infer_sampler_create(struct infer_sampler **out,
                         const struct infer_kernels *kern, uint32_t n_vocab,
                         struct infer_error *err)
{
    struct infer_sampler *s = calloc(1, sizeof(*s));

    if (s == NULL)
        goto nomem;
    s->kern = kern;
    s->n_vocab = n_vocab;
    s->n_blocks = blocks_of(n_vocab);
    s->x = malloc(n_vocab * sizeof(*s->x));
    s->w = malloc(n_vocab * sizeof(*s->w));
    s->block_max = malloc(s->n_blocks * sizeof(*s->block_max));
    s->count = calloc(n_vocab, sizeof(*s->count));
    s->cands = malloc(n_vocab * sizeof(*s->cands));
    s->keys = malloc(n_vocab * sizeof(*s->keys));
    if (s->x == NULL || s->w == NULL || s->block_max == NULL ||
        s->count == NULL || s->cands == NULL || s->keys == NULL)
        goto nomem;
    *out = s;
    return INFER_OK;

nomem:
    infer_sampler_free(s);
    return infer_fail(err, INFER_ENOMEM, "no memory to sample from %u tokens",
                      n_vocab);
}

void infer_sampler_free(struct infer_sampler *s)
{
    if (s == NULL)
        return;
    free(s->x);
    free(s->w);
    free(s->block_max);
    free(s->count);
    free(s->cands);
    free(s->keys);
    free(s);
}

/* ---- random numbers ----------------------------------------------------- */

/* Finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t scramble(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double infer_uniform(uint64_t seed, uint32_t choice, uint32_t position)
{
    const uint64_t step = 0x9e3779b97f4a7c15u;
    const uint64_t stream = scramble(seed + step);
    const uint64_t counter = (uint64_t)choice << 32 | position;

    return (double)(scramble(stream + step * counter + counter) >> 11) *
           0x1p-53;
}

/* ---- one pass over a row ------------------------------------------------ */

static uint32_t block_len(const struct infer_sampler *s, uint32_t b)
{
    return b + 1 < s->n_blocks ? BLOCK : s->n_vocab - b * BLOCK;
}

/* Maximum of x[0..n), n <= BLOCK; bad[] collects a bit for each NaN. The loops
 * have constant counts, so that the compiler uses vectors. */
static float max_of(const float *x, uint32_t n, uint32_t *restrict bad)
{
    float lane[LANES];

    for (int j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    if (n == BLOCK) {
        for (int i = 0; i < BLOCK; i += LANES)
            for (int j = 0; j < LANES; j++) {
                lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
                bad[j] |= x[i + j] != x[i + j];
            }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            lane[0] = x[i] > lane[0] ? x[i] : lane[0];
            bad[0] |= x[i] != x[i];
        }
    }
    for (int j = 0; j < 8; j++)
        lane[j] = lane[j + 8] > lane[j] ? lane[j + 8] : lane[j];
    for (int j = 0; j < 4; j++)
        lane[j] = lane[j + 4] > lane[j] ? lane[j + 4] : lane[j];
    lane[0] = lane[2] > lane[0] ? lane[2] : lane[0];
    lane[1] = lane[3] > lane[1] ? lane[3] : lane[1];
    return lane[1] > lane[0] ? lane[1] : lane[0];
}

/* Fill block_max and max. False: no distribution can be made of the row. */
static bool scan(struct infer_sampler *s, const float *x)
{
    uint32_t bad[LANES] = {0};
    bool sound;

    s->max = -INFINITY;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const float m = max_of(x + b * BLOCK, block_len(s, b), bad);

        s->block_max[b] = m;
        s->max = m > s->max ? m : s->max;
    }
    sound = s->max <= FLT_MAX && s->max >= -FLT_MAX;
    for (int j = 0; j < LANES; j++)
        sound &= bad[j] == 0;
    return sound;
}

static int32_t argmax(const struct infer_sampler *s, const float *x)
{
    uint32_t i = 0;

    while (s->block_max[i] < s->max)
        i++;
    i *= BLOCK;
    while (x[i] < s->max)
        i++;
    return (int32_t)i;
}

static double sum_of(const float *w, size_t n)
{
    float lane[LANES] = {0};
    double sum = 0.0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += w[i + j];
    for (size_t j = 0; i + j < n; j++)
        lane[j] += w[i + j];
    for (size_t j = 0; j < LANES; j++)
        sum += (double)lane[j];
    return sum;
}

static double sum_of_blocks(const float *w, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i += BLOCK)
        sum += sum_of(w + i, n - i < BLOCK ? n - i : BLOCK);
    return sum;
}

/* ---- selection ---------------------------------------------------------- */

/* Bring the fewest smallest keys whose candidates weigh at least `mass` to the
 * front, one at least; returns how many. */
static uint32_t select_mass(const struct infer_sampler *s, double mass)
{
    uint32_t lo = 0, hi = s->n;
    double before = 0.0;

    while (hi - lo > 1) {
        const uint32_t mid = infer_keys_split(s->keys, lo, hi);
        double sum = before;

        for (uint32_t i = lo; i < mid; i++)
            sum += (double)s->cands[infer_key_index(s->keys[i])].w;
        if (sum >= mass) {
            hi = mid;
        } else {
            lo = mid;
            before = sum;
        }
    }
    return hi;
}

/* Keep the candidates that the first k keys name. */
static void keep_selected(struct infer_sampler *s, uint32_t k)
{
    uint32_t n = 0;

    for (uint32_t i = k; i < s->n; i++)
        s->cands[infer_key_index(s->keys[i])].id = -1;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->cands[i].id >= 0)
            s->cands[n++] = s->cands[i];
    s->n = n;
}

/* The k best of x as candidates, and their keys first in keys[]; y is the
 * unscaled distance from the maximum. */
static void collect_best(struct infer_sampler *s, const float *x, uint32_t k)
{
    float far = INFINITY;
    uint32_t n = 0;

    if (k < s->n_blocks) { /* k block maxima are this near, so k tokens are */
        for (uint32_t b = 0; b < s->n_blocks; b++)
            s->keys[b] = infer_key_of(s->max - s->block_max[b], b);
        infer_keys_select(s->keys, s->n_blocks, k);
        far = 0.0f;
        for (uint32_t i = 0; i < k; i++)
            far =
                fmaxf(far, s->max - s->block_max[infer_key_index(s->keys[i])]);
    }
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const uint32_t end = b * BLOCK + block_len(s, b);

        if (s->max - s->block_max[b] > far)
            continue;
        for (uint32_t i = b * BLOCK; i < end; i++) {
            const float away = s->max - x[i];

            if (away > far)
                continue;
            s->cands[n] = (struct candidate){.id = (int32_t)i, .y = -away};
            s->keys[n] = infer_key_of(away, n);
            n++;
        }
    }
    s->n = n;
    infer_keys_select(s->keys, n, k);
}

/* ---- logprobs ----------------------------------------------------------- */

static double log_sum_exp(struct infer_sampler *s, const float *x)
{
    s->kern->exp_sum(s->w, x, s->n_vocab, s->max);
    return (double)s->max + log(sum_of_blocks(s->w, s->n_vocab));
}

static void find_top(struct infer_sampler *s, struct infer_sample *job,
                     double lse)
{
    const uint32_t want = (uint32_t)job->n_top;
    const uint32_t k = want < s->n_vocab ? want : s->n_vocab;

    job->n_found = k;
    if (k == 0)
        return;
    collect_best(s, job->logits, k);
    infer_keys_sort(s->keys, k);
    for (uint32_t i = 0; i < k; i++) {
        const int32_t id = s->cands[infer_key_index(s->keys[i])].id;

        job->top[i].id = id;
        job->top[i].logprob = (float)((double)job->logits[id] - lse);
    }
}

/* ---- steps 1 to 3 ------------------------------------------------------- */

static bool changes_logits(const struct infer_sampling *p)
{
    return p->n_bias > 0 || p->repetition_penalty != 1.0f ||
           p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f;
}

static float penalised(float x, const struct infer_sampling *p, uint32_t count)
{
    if (p->repetition_penalty != 1.0f)
        x = x > 0.0f ? x / p->repetition_penalty : x * p->repetition_penalty;
    if (count > 0)
        x -= p->frequency_penalty * (float)count + p->presence_penalty;
    return fminf(fmaxf(x, -FLT_MAX), FLT_MAX);
}

/* Tokens without a bit lose all their weight. */
static void apply_mask(struct infer_sampler *s, const uint64_t *mask)
{
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const uint64_t word = mask[b];
        float *x = s->x + b * BLOCK;

        float kept[BLOCK];
        const uint32_t n = block_len(s, b);
        uint64_t rest = ~word;

        if (n < BLOCK)
            rest &= (UINT64_C(1) << n) - 1;
        if (__builtin_popcountll(rest) <= BLOCK / 2) {
            for (; rest != 0; rest &= rest - 1)
                x[__builtin_ctzll(rest)] = -INFINITY;
            continue;
        }
        for (rest = word; rest != 0; rest &= rest - 1)
            kept[__builtin_ctzll(rest)] = x[__builtin_ctzll(rest)];
        for (uint32_t i = 0; i < n; i++)
            x[i] = -INFINITY;
        for (rest = word; rest != 0; rest &= rest - 1)
            x[__builtin_ctzll(rest)] = kept[__builtin_ctzll(rest)];
    }
}

/* Copy the logits to s->x and change them. */
static void change_logits(struct infer_sampler *s,
                          const struct infer_sample *job)
{
    const struct infer_sampling *p = job->params;
    const uint32_t seen = 1u << 31; /* in prompt or output, not yet treated */

    memcpy(s->x, job->logits, s->n_vocab * sizeof(*s->x));
    if (!changes_logits(p))
        return;
    for (size_t i = 0; i < p->n_bias; i++)
        s->x[p->bias[i].id] += p->bias[i].bias;
    for (uint32_t i = 0; i < job->n_tokens; i++) {
        uint32_t *count = &s->count[job->tokens[i]];

        *count = (*count | seen) + (i >= job->n_prompt);
    }
    for (uint32_t i = 0; i < job->n_tokens; i++) {
        const int32_t id = job->tokens[i];

        if (s->count[id] != 0)
            s->x[id] = penalised(s->x[id], p, s->count[id] & ~seen);
        s->count[id] = 0;
    }
}

/* ---- steps 4 to 9 ------------------------------------------------------- */

/* y = (x - max) / temperature, n <= BLOCK; y may be x. The division neither
 * overflows nor meets 0 * inf, however small the temperature. */
static void scale_block(float *y, const float *x, uint32_t n, float max,
                        float temperature)
{
    float scaled[BLOCK];

    if (n == BLOCK)
        for (int i = 0; i < BLOCK; i++)
            scaled[i] = (x[i] - max) / temperature;
    else
        for (uint32_t i = 0; i < n; i++)
            scaled[i] = (x[i] - max) / temperature;
    memcpy(y, scaled, n * sizeof(*y));
}

/* Weights of the whole vocabulary in s->w. */
static void weigh_all(struct infer_sampler *s, const float *x,
                      float temperature)
{
    const float max = s->max;

    if (temperature == 1.0f) {
        s->kern->exp_sum(s->w, x, s->n_vocab, max);
        return;
    }
    for (uint32_t b = 0; b < s->n_blocks; b++) /* x may be s->x */
        scale_block(s->x + b * BLOCK, x + b * BLOCK, block_len(s, b), max,
                    temperature);
    s->kern->exp_sum(s->w, s->x, s->n_vocab, 0.0f);
}

/* Candidates are the tokens that weigh at least `least` (> 0). */
static void collect_heavy(struct infer_sampler *s, float least)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_vocab; i++) {
        s->cands[n].id = (int32_t)i; /* kept only if n moves on */
        s->cands[n].w = s->w[i];
        n += s->w[i] >= least;
    }
    for (uint32_t i = 0; i < n; i++)
        s->cands[i].y = logf(s->cands[i].w);
    s->n = n;
}

static double total(const struct infer_sampler *s)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < s->n; i++)
        sum += (double)s->cands[i].w;
    return sum;
}

static void cut_top_k(struct infer_sampler *s, const float *x,
                      const struct infer_sampling *p)
{
    collect_best(s, x, (uint32_t)p->top_k);
    keep_selected(s, (uint32_t)p->top_k);
    for (uint32_t i = 0; i < s->n; i++) {
        s->cands[i].y /= p->temperature;
        s->cands[i].w = expf(s->cands[i].y);
    }
}

static void cut_top_p(struct infer_sampler *s, double mass)
{
    for (uint32_t i = 0; i < s->n; i++) /* heaviest first: bits complemented */
        s->keys[i] = ~infer_key_of(s->cands[i].w, ~i);
    keep_selected(s, select_mass(s, mass));
}

static void cut_min_p(struct infer_sampler *s, float min_p)
{
    float least = 0.0f;
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++)
        least = fmaxf(least, s->cands[i].w);
    least *= min_p;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->cands[i].w >= least)
            s->cands[n++] = s->cands[i];
    s->n = n;
}

/* Meister et al. 2022, arXiv:2202.00666. */
static void cut_typical(struct infer_sampler *s, float typical_p)
{
    const double sum = total(s), log_sum = log(sum);
    double entropy = 0.0;

    for (uint32_t i = 0; i < s->n; i++)
        if (s->cands[i].w > 0.0f)
            entropy +=
                (double)s->cands[i].w / sum * (log_sum - (double)s->cands[i].y);
    for (uint32_t i = 0; i < s->n; i++) {
        const double surprise = log_sum - (double)s->cands[i].y;

        s->keys[i] = infer_key_of((float)fabs(surprise - entropy), i);
    }
    keep_selected(s, select_mass(s, (double)typical_p * sum));
}

/* The first index at which the running sum of w exceeds u * total; should
 * rounding leave none, a late one that has weight. */
static int32_t draw_all(const struct infer_sampler *s, double u)
{
    double r = u * sum_of_blocks(s->w, s->n_vocab);
    uint32_t begin = 0, end;
    int32_t id = 0;

    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const double sum = sum_of(s->w + b * BLOCK, block_len(s, b));

        if (sum > 0.0)
            begin = b * BLOCK;
        if (r < sum)
            break;
        r -= sum;
    }
    end = begin + block_len(s, begin / BLOCK);
    for (uint32_t i = begin; i < end && r >= 0.0; i++) {
        if (s->w[i] > 0.0f)
            id = (int32_t)i;
        r -= (double)s->w[i];
    }
    return id;
}

static int32_t draw_candidate(const struct infer_sampler *s, double u)
{
    double r = u * total(s);
    int32_t last = s->cands[0].id;

    for (uint32_t i = 0; i < s->n && r >= 0.0; i++) {
        if (s->cands[i].w > 0.0f)
            last = s->cands[i].id;
        r -= (double)s->cands[i].w;
    }
    return last;
}

/* A weight below which no token survives the cuts: those lighter than this sum
 * up to less than 1 - top_p, or are below min_p. The largest weight is 1. */
static float least_weight(const struct infer_sampler *s,
                          const struct infer_sampling *p, double sum)
{
    const double rest = (1.0 - (double)p->top_p) * sum / s->n_vocab;

    if (p->top_p < 1.0f)
        return fmaxf(FLT_MIN, (float)(0.999 * rest));
    return p->typical_p < 1.0f ? FLT_MIN : 0.999f * p->min_p;
}

static int32_t draw(struct infer_sampler *s, const float *x,
                    const struct infer_sampling *p, double u)
{
    const bool top_p = p->top_p < 1.0f, typical = p->typical_p < 1.0f;
    double sum;

    if (p->top_k > 0 && (uint32_t)p->top_k < s->n_vocab) {
        cut_top_k(s, x, p);
        sum = total(s);
    } else {
        weigh_all(s, x, p->temperature);
        if (!top_p && !typical && p->min_p == 0.0f)
            return draw_all(s, u);
        sum = sum_of_blocks(s->w, s->n_vocab);
        collect_heavy(s, least_weight(s, p, sum));
    }
    if (top_p)
        cut_top_p(s, (double)p->top_p * sum);
    if (p->min_p > 0.0f)
        cut_min_p(s, p->min_p);
    if (typical)
        cut_typical(s, p->typical_p);
    return draw_candidate(s, u);
}

void infer_sampler_run(struct infer_sampler *s, struct infer_sample *job)
{
    const float *x = job->logits;
    double lse = 0.0;

    job->n_found = 0;
    job->logprob = NAN;
    job->stuck = false;
    job->broken = !scan(s, x);
    if (job->broken)
        return;
    if (job->n_top >= 0) {
        lse = log_sum_exp(s, x);
        find_top(s, job, lse);
    }
    if (job->given >= 0) {
        job->id = job->given;
    } else {
        if (job->mask != NULL || changes_logits(job->params)) {
            change_logits(s, job);
            if (job->mask != NULL)
                apply_mask(s, job->mask);
            x = s->x;
            job->stuck = !scan(s, x);
            if (job->stuck)
                return;
        }
        job->id = job->params->temperature == 0.0f
                      ? argmax(s, x)
                      : draw(s, x, job->params,
                             infer_uniform(job->params->seed, job->choice,
                                           job->n_tokens - job->n_prompt));
    }
    if (job->n_top >= 0)
        job->logprob = (float)((double)job->logits[job->id] - lse);
}
