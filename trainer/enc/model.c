/* model.c - see model.h. Which tokens, n-grams and values are left out of a
 * text is a hash of (seed, text, place): a batch can be drawn again. */
#include "trainer/enc/model.h"

#include "core/base/error.h"
#include "core/tokenizer/frame.h"
#include "trainer/data/shuffle.h"
#include "trainer/nn/layers.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct infer_error *err)
{
    return infer_fail(err, INFER_ENOMEM, "out of memory");
}

/* A file's tokenizer and its embedding need not agree; ids index rows. */
static int check_vocab(const struct infer_tokenizer *t, uint32_t n_rows,
                       struct infer_error *err)
{
    const uint32_t n = t ? infer_tokenizer_n_vocab(t) : n_rows;

    if (n == n_rows)
        return 0;
    return infer_fail(err, INFER_EFORMAT,
                      "the vocabulary has %u tokens, tensor "
                      "'token_embd.weight' %u rows",
                      n, n_rows);
}

int enc_model_create(struct enc_model *m, const struct net_shape *shape,
                     const struct infer_ngrams_spec *spec,
                     struct infer_tokenizer *tokenizer, size_t max_batch,
                     size_t max_tokens, struct infer_team *team,
                     enum train_precision precision, uint64_t seed,
                     struct infer_error *err)
{
    int status;

    m->tokenizer = tokenizer;
    m->team = team;
    m->spec = *spec;
    m->max_batch = max_batch;
    m->max_tokens = max_tokens;
    status = check_vocab(tokenizer, shape->n_vocab, err);
    if (status == 0 && spec->buckets)
        status = infer_ngrams_check(spec, err);
    if (status == 0)
        status = net_create(&m->net, shape, max_batch, max_tokens, team,
                            precision, err);
    if (status == 0 && spec->buckets)
        status =
            nn_rows_create(&m->rows, spec->buckets, shape->d_model, team, err);
    if (status != 0)
        return status;
    m->tokens = malloc(max_batch * m->max_tokens * sizeof(*m->tokens));
    m->starts = malloc((max_batch + 1) * sizeof(*m->starts));
    if (!m->tokens || !m->starts)
        return no_memory(err);
    net_init(m->net, seed);
    return 0;
}

void enc_model_release(struct enc_model *m)
{
    infer_tokenizer_free(m->tokenizer);
    infer_ngrams_release(&m->work);
    net_free(m->net);
    nn_rows_free(m->rows);
    free(m->tokens);
    free(m->starts);
    free(m->uses);
    *m = (struct enc_model){0};
}

/* ---- texts ------------------------------------------------------------------
 */

/* Room for `more` items of `size` behind the first n. */
static int grow(void *list, size_t *cap, size_t n, size_t more, size_t size)
{
    void *p;
    size_t want = *cap ? *cap : 1024;

    if (n + more <= *cap)
        return 0;
    while (want < n + more)
        want *= 2;
    memcpy(&p, list, sizeof(p));
    p = realloc(p, want * size);
    if (!p)
        return INFER_ENOMEM;
    memcpy(list, &p, sizeof(p));
    *cap = want;
    return 0;
}

static int add_tokens(struct enc_texts *t, const struct enc_model *m,
                      struct enc_text *text, const struct infer_text_piece *a,
                      const struct infer_text_piece *b, struct infer_error *err)
{
    struct infer_encoded e = {0};
    int status = infer_frame_encode(m->tokenizer, a, b, (uint32_t)m->max_tokens,
                                    INFER_TRUNCATE_RIGHT, &e, err);

    if (status == 0 &&
        grow(&t->tokens, &t->tokens_cap, t->n_tokens, e.n, sizeof(*t->tokens)))
        status = no_memory(err);
    for (size_t i = 0; i < e.n && status == 0; i++)
        t->tokens[t->n_tokens++] = e.ids[i];
    text->n_tokens = e.n;
    infer_encoded_release(&e);
    return status;
}

static int add_grams(struct enc_texts *t, struct enc_model *m,
                     struct enc_text *text)
{
    const struct infer_ngrams *g = &m->work;

    if (grow(&t->grams, &t->grams_cap, t->n_grams, g->n_word + g->n_chars,
             sizeof(*t->grams)))
        return INFER_ENOMEM;
    text->n_word = (uint32_t)g->n_word;
    text->n_chars = (uint32_t)g->n_chars;
    if (g->n_word)
        memcpy(t->grams + t->n_grams, g->word, g->n_word * sizeof(*g->word));
    t->n_grams += g->n_word;
    if (g->n_chars)
        memcpy(t->grams + t->n_grams, g->chars, g->n_chars * sizeof(*g->chars));
    t->n_grams += g->n_chars;
    return 0;
}

int enc_texts_add(struct enc_texts *t, struct enc_model *m, const char *a,
                  size_t a_len, const char *b, size_t b_len,
                  struct infer_error *err)
{
    const struct infer_text_piece first = {a, a_len}, second = {b, b_len};
    struct enc_text text = {.tokens = t->n_tokens, .grams = t->n_grams};
    int status;

    if (grow(&t->texts, &t->cap, t->n, 1, sizeof(*t->texts)))
        return no_memory(err);
    status = add_tokens(t, m, &text, &first, b ? &second : NULL, err);
    infer_ngrams_clear(&m->work);
    if (status == 0 && m->rows)
        status = infer_ngrams_add(&m->work, &m->spec, 0, a, a_len, err);
    if (status == 0 && m->rows && b)
        status = infer_ngrams_add(&m->work, &m->spec, 1, b, b_len, err);
    if (status == 0 && add_grams(t, m, &text))
        status = no_memory(err);
    if (status == 0)
        t->texts[t->n++] = text;
    return status;
}

void enc_texts_release(struct enc_texts *t)
{
    free(t->tokens);
    free(t->grams);
    free(t->texts);
    *t = (struct enc_texts){0};
}

/* ---- a batch ----------------------------------------------------------------
 */

static bool dropped(uint64_t key, size_t i, float share)
{
    return share > 0.0f &&
           (double)(train_mix(key, i) >> 11) / 9007199254740992.0 <
               (double)share;
}

enum part { ALL, NO_TOKENS, NO_GRAMS };

static enum part part_of(const struct enc_model *m, size_t i)
{
    const uint64_t key = train_mix(m->seed, UINT64_MAX - 2 - i);

    if (!m->rows || net_shape(m->net)->n_layers == 0)
        return ALL;
    if (dropped(key, 0, m->dropout.part))
        return NO_TOKENS;
    return dropped(key, 1, m->dropout.part) ? NO_GRAMS : ALL;
}

static void fill_tokens(struct enc_model *m, const struct enc_texts *t,
                        const uint32_t *which, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        const struct enc_text *x = &t->texts[which[i]];
        const uint64_t key = train_mix(m->seed, 3 * i);
        const float share =
            part_of(m, i) == NO_TOKENS ? 1.0f : m->dropout.tokens;
        const size_t begin = at;

        m->starts[i] = (uint32_t)at;
        for (size_t k = 0; k < x->n_tokens; k++)
            if (!dropped(key, k, share))
                m->tokens[at++] = t->tokens[x->tokens + k];
        if (at == begin && x->n_tokens)
            m->tokens[at++] = t->tokens[x->tokens];
    }
    m->starts[n] = (uint32_t)at;
}

/* The mean of a list, of which a share is left out: those that stay weigh as
 * if all had. */
static void use_list(struct enc_model *m, const uint32_t *ids, size_t n,
                     size_t text, uint64_t key)
{
    const float share = m->dropout.grams;

    for (size_t k = 0; k < n; k++)
        if (!dropped(key, k, share))
            m->uses[m->n_uses++] = (struct nn_row_use){
                .row = ids[k],
                .text = (uint32_t)text,
                .weight = 1.0f / ((1.0f - share) * (float)n)};
}

static int fill_uses(struct enc_model *m, const struct enc_texts *t,
                     const uint32_t *which, size_t n)
{
    size_t all = 0;

    m->n_uses = 0;
    for (size_t i = 0; i < n; i++)
        all += t->texts[which[i]].n_word + t->texts[which[i]].n_chars;
    if (grow(&m->uses, &m->uses_cap, 0, all, sizeof(*m->uses)))
        return INFER_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct enc_text *x = &t->texts[which[i]];
        const uint32_t *ids = t->grams + x->grams;

        if (part_of(m, i) == NO_GRAMS)
            continue;
        use_list(m, ids, x->n_word, i, train_mix(m->seed, 3 * i + 1));
        use_list(m, ids + x->n_word, x->n_chars, i,
                 train_mix(m->seed, 3 * i + 2));
    }
    return 0;
}

static struct nn_dropout vector_dropout(const struct enc_model *m)
{
    const uint64_t key = train_mix(m->seed, UINT64_MAX);
    const double share = (double)m->dropout.vector;

    return (struct nn_dropout){.key = {(uint32_t)key, (uint32_t)(key >> 32)},
                               .threshold = (uint32_t)(share * 4294967296.0),
                               .scale = (float)(1.0 / (1.0 - share))};
}

int enc_forward(struct enc_model *m, const struct enc_texts *t,
                const uint32_t *which, size_t n,
                const struct enc_dropout *dropout, uint64_t seed,
                float **vectors, struct infer_error *err)
{
    const size_t d = net_shape(m->net)->d_model;
    const struct net_texts texts = {m->tokens, m->starts, n};
    struct nn_dropout drop;

    m->dropout = dropout ? *dropout : (struct enc_dropout){0};
    m->seed = seed;
    m->n = n;
    fill_tokens(m, t, which, n);
    if (m->rows && fill_uses(m, t, which, n))
        return no_memory(err);
    *vectors = net_encode(m->net, &texts, dropout != NULL,
                          train_mix(seed, UINT64_MAX - 1));
    if (m->rows)
        nn_rows_add(m->rows, m->uses, m->n_uses, *vectors, n);
    if (m->dropout.vector > 0.0f) {
        drop = vector_dropout(m);
        nn_layers()->dropout(*vectors, *vectors, &drop, 0, n, d);
    }
    return 0;
}

int enc_back(struct enc_model *m, float *dvectors, float rows_lr,
             float rows_decay, struct infer_error *err)
{
    const size_t d = net_shape(m->net)->d_model;

    if (m->dropout.vector > 0.0f) {
        const struct nn_dropout drop = vector_dropout(m);

        nn_layers()->dropout(dvectors, dvectors, &drop, 0, m->n, d);
    }
    net_encode_back(m->net, dvectors);
    if (!m->rows)
        return 0;
    return nn_rows_step(m->rows, m->uses, m->n_uses, dvectors, rows_lr,
                        rows_decay, err);
}

/* ---- copies -----------------------------------------------------------------
 */

static size_t rows_values(const struct enc_model *m)
{
    return m->rows ? (size_t)m->spec.buckets * net_shape(m->net)->d_model : 0;
}

int enc_copy_take(struct enc_copy *c, struct enc_model *m,
                  struct infer_error *err)
{
    const size_t n = net_n_values(m->net), r = rows_values(m);

    if (!c->net)
        c->net = malloc(n * sizeof(*c->net));
    if (!c->rows)
        c->rows = malloc(r * sizeof(*c->rows) + 1);
    if (!c->net || !c->rows)
        return no_memory(err);
    memcpy(c->net, net_params(m->net), n * sizeof(*c->net));
    if (r)
        memcpy(c->rows, nn_rows_data(m->rows), r * sizeof(*c->rows));
    return 0;
}

int enc_copy_restore(const struct enc_copy *c, struct enc_model *m,
                     struct infer_error *err)
{
    const size_t n = net_n_values(m->net), r = rows_values(m);

    if (!c->net)
        return infer_fail(err, INFER_EINVAL,
                          "stopped before the end of the first epoch: there is "
                          "nothing to keep");
    memcpy(net_params(m->net), c->net, n * sizeof(*c->net));
    if (r)
        memcpy(nn_rows_data(m->rows), c->rows, r * sizeof(*c->rows));
    return 0;
}

void enc_copy_release(struct enc_copy *c)
{
    free(c->net);
    free(c->rows);
    *c = (struct enc_copy){0};
}
