/* idf.c - see idf.h. */
#include "trainer/enc/idf.h"

#include "core/base/error.h"
#include "trainer/data/shuffle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* in [n_rows]: texts that have an n-gram of the row, each counted once. */
static void count_texts(const struct enc_texts *t, uint32_t *in, uint32_t *last)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct enc_text *x = &t->texts[i];

        for (size_t k = 0; k < (size_t)x->n_word + x->n_chars; k++) {
            const uint32_t row = t->grams[x->grams + k];

            in[row] += last[row] != i + 1;
            last[row] = (uint32_t)i + 1;
        }
    }
}

/* Value i of a stream of signs: as good as normals for a projection
 * (Achlioptas 2003). */
static float sign(uint64_t seed, uint64_t i)
{
    return train_mix(seed, i / 64) >> i % 64 & 1 ? 1.0f : -1.0f;
}

/* Without layers, tokens add random directions that know no rarity: they begin
 * with a weight of zero. */
static void silence_tokens(struct enc_model *m)
{
    const struct net_param *p = net_param_find(m->net, "output_norm.weight");

    if (net_shape(m->net)->n_layers == 0 && p)
        memset(net_params(m->net) + p->offset, 0, p->n * sizeof(float));
}

int enc_idf_rows(struct enc_model *m, const struct enc_texts *t, uint64_t seed,
                 struct infer_error *err)
{
    const size_t n = m->spec.buckets, d = net_shape(m->net)->d_model;
    uint32_t *in = calloc(2 * n + 1, sizeof(*in));

    if (!in)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    count_texts(t, in, in + n);
    for (size_t i = 0; i < n; i++) {
        const double idf =
            log((1.0 + (double)t->n) / (1.0 + (double)in[i])) + 1.0;

        for (size_t k = 0; k < d; k++)
            nn_rows_data(m->rows)[i * d + k] =
                (float)idf * sign(seed, i * d + k);
    }
    free(in);
    silence_tokens(m);
    return 0;
}
