/* recipe.c - see recipe.h. */
#include "trainer/enc/recipe.h"

#include "core/base/error.h"
#include "trainer/enc/export.h"
#include "trainer/enc/head.h"
#include "trainer/enc/vocab.h"
#include "trainer/nn/schedule.h"

#include <math.h>

struct enc_recipe enc_recipe_default(void)
{
    return (struct enc_recipe){.layers = 0,
                               .heads = 4,
                               .width = 256,
                               .context = 256,
                               .vocab = 8000,
                               .buckets = 262144,
                               .words = 3,
                               .char_min = 3,
                               .char_max = 5,
                               .drop_tokens = 0.1,
                               .drop_grams = 0.3,
                               .drop_vector = 0.5,
                               .drop_part = 0.2,
                               .dropout = 0.1,
                               .lr = 0.02,
                               .other_lr = 1e-3,
                               .rows_lr = 0.3,
                               .weight_decay = 0.01,
                               .warmup = 0.05,
                               .batch = 64,
                               .seed = 1,
                               .precision = TRAIN_F32};
}

int enc_recipe_check(struct enc_recipe *p, struct infer_error *err)
{
    if (p->width % p->heads || (p->width / p->heads) % 2)
        return infer_fail(err, INFER_EINVAL,
                          "--width %llu is not an even multiple of --heads "
                          "%llu",
                          (unsigned long long)p->width,
                          (unsigned long long)p->heads);
    if (!p->ffn)
        p->ffn = (p->width * 8 / 3 + 31) / 32 * 32;
    if (p->char_min == 0)
        p->char_max = 0;
    if (p->char_min > p->char_max)
        return infer_fail(err, INFER_EINVAL,
                          "--ngram-char-min %llu is above --ngram-char-max "
                          "%llu",
                          (unsigned long long)p->char_min,
                          (unsigned long long)p->char_max);
    return 0;
}

static struct net_shape shape_of(const struct enc_recipe *p, uint32_t n_vocab,
                                 size_t n_classes)
{
    return (struct net_shape){.arch = NET_LLAMA,
                              .encoder = true,
                              .pooling = NET_POOL_MEAN,
                              .n_classes = (uint32_t)n_classes,
                              .dense = !p->plain && n_classes,
                              .n_vocab = n_vocab,
                              .n_ctx = (uint32_t)p->context,
                              .n_layers = (uint32_t)p->layers,
                              .n_heads = (uint32_t)p->heads,
                              .n_kv_heads = (uint32_t)p->heads,
                              .d_model = (uint32_t)p->width,
                              .d_head = (uint32_t)(p->width / p->heads),
                              .d_ff = (uint32_t)p->ffn,
                              .rope_base = 10000.0f,
                              .norm_eps = 1e-5f,
                              .dropout = (float)p->dropout};
}

static struct infer_ngrams_spec ngrams_of(const struct enc_recipe *p)
{
    if (!p->buckets)
        return (struct infer_ngrams_spec){0};
    return (struct infer_ngrams_spec){.buckets = (uint32_t)p->buckets,
                                      .min = 1,
                                      .max = (uint32_t)p->words,
                                      .char_min = (uint32_t)p->char_min,
                                      .char_max = (uint32_t)p->char_max};
}

int enc_recipe_build(const struct enc_recipe *p, const char *run,
                     size_t n_classes, size_t max_batch,
                     struct infer_team *team, struct enc_model *m,
                     struct optim **optim, struct infer_error *err)
{
    const struct infer_ngrams_spec spec = ngrams_of(p);
    struct optim_config config = optim_default(OPTIM_MUON);
    struct infer_tokenizer *t = NULL;
    struct net_shape shape;
    int status = enc_vocab_open(run, &t, err);

    if (status != 0)
        return status;
    shape = shape_of(p, infer_tokenizer_n_vocab(t), n_classes);
    status = enc_model_create(m, &shape, &spec, t, max_batch, team,
                              (enum train_precision)p->precision, p->seed, err);
    if (status == 0)
        enc_head_init(m->net);
    if (status == 0 && p->init)
        status = enc_import(m, p->init, err);
    config.lr = (float)p->lr;
    config.other_lr = (float)p->other_lr;
    config.weight_decay = (float)p->weight_decay;
    if (status == 0)
        status = optim_create(optim, m->net, &config, err);
    return status;
}

/* ---- a step -----------------------------------------------------------------
 */

struct enc_dropout enc_recipe_dropout(const struct enc_recipe *p)
{
    return (struct enc_dropout){.tokens = (float)p->drop_tokens,
                                .grams = (float)p->drop_grams,
                                .vector = (float)p->drop_vector,
                                .part = (float)p->drop_part};
}

static float rate_at(const struct enc_recipe *p, uint64_t step, uint64_t total)
{
    const struct schedule s = {.kind = SCHEDULE_LINEAR,
                               .warmup = p->warmup * (double)total,
                               .total = (double)total};

    return (float)schedule_at(&s, (double)(step < total ? step : total - 1));
}

int enc_recipe_step(const struct enc_recipe *p, struct enc_model *m,
                    struct optim *optim, float *dvectors, double loss,
                    uint64_t step, uint64_t total, struct infer_error *err)
{
    const float rate = rate_at(p, step, total);
    int status = enc_back(m, dvectors, rate * (float)p->rows_lr,
                          (float)p->rows_decay, err);

    if (status != 0)
        return status;
    if (!isfinite(loss) || !isfinite(optim_step(optim, rate)))
        return infer_fail(err, INFER_EFORMAT,
                          "the loss is not finite at step %llu; try a lower "
                          "--lr",
                          (unsigned long long)step + 1);
    return 0;
}
