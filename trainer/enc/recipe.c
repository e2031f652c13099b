/* recipe.c - see recipe.h. */
#include "trainer/enc/recipe.h"

#include "core/base/error.h"
#include "trainer/enc/head.h"
#include "trainer/enc/import.h"
#include "trainer/enc/vocab.h"
#include "trainer/hf/checkpoint.h"
#include "trainer/nn/schedule.h"

#include <math.h>

struct enc_recipe enc_recipe_default(void)
{
    return (struct enc_recipe){.layers = ENC_UNSET,
                               .heads = ENC_UNSET,
                               .width = ENC_UNSET,
                               .ffn = ENC_UNSET,
                               .context = ENC_UNSET,
                               .vocab = 8000,
                               .buckets = ENC_UNSET,
                               .words = 3,
                               .char_min = 3,
                               .char_max = 5,
                               .drop_tokens = ENC_UNSET_REAL,
                               .drop_grams = 0.3,
                               .drop_vector = ENC_UNSET_REAL,
                               .drop_part = 0.2,
                               .dropout = 0.1,
                               .lr = ENC_UNSET_REAL,
                               .other_lr = 1e-3,
                               .rows_lr = 0.3,
                               .weight_decay = 0.01,
                               .warmup = 0.05,
                               .batch = ENC_UNSET,
                               .seed = 1,
                               .precision = ENC_UNSET_CHOICE};
}

static void set(uint64_t *v, uint64_t otherwise)
{
    if (*v == ENC_UNSET)
        *v = otherwise;
}

static void set_choice(int *v, int otherwise)
{
    if (*v == ENC_UNSET_CHOICE)
        *v = otherwise;
}

static void set_real(double *v, double otherwise)
{
    if (*v == ENC_UNSET_REAL)
        *v = otherwise;
}

/* An option is what the file says, or was not given. */
static int same(uint64_t *v, uint64_t of_file, const char *name,
                struct infer_error *err)
{
    set(v, of_file);
    if (*v == of_file)
        return 0;
    return infer_fail(err, INFER_EINVAL,
                      "--%s is %llu, of --init's file it is %llu: leave it out",
                      name, (unsigned long long)*v,
                      (unsigned long long)of_file);
}

static int check_bert(struct enc_recipe *p, struct infer_error *err)
{
    struct net_shape *s = &p->begin;
    int status = 0;

    if (p->tokenizer)
        status = infer_fail(err, INFER_EINVAL,
                            "--tokenizer: --init's file has its own");
    if (status == 0)
        status = same(&p->layers, s->n_layers, "layers", err);
    if (status == 0)
        status = same(&p->heads, s->n_heads, "heads", err);
    if (status == 0)
        status = same(&p->width, s->d_model, "width", err);
    if (status == 0)
        status = same(&p->ffn, s->d_ff, "ffn", err);
    if (status == 0)
        status = same(&p->buckets, 0, "ngram-buckets", err);
    set(&p->context, s->n_ctx < 256 ? s->n_ctx : 256);
    if (status == 0 && p->context > s->n_ctx)
        status = infer_fail(err, INFER_EINVAL,
                            "--context %llu is above %u, of --init's file",
                            (unsigned long long)p->context, s->n_ctx);
    set(&p->batch, 32);
    set_real(&p->drop_tokens, 0.0);
    set_real(&p->drop_vector, 0.1);
    set_real(&p->lr, 5e-5);
    set_choice(&p->precision, TRAIN_AUTO);
    s->dropout = (float)p->dropout;
    return status;
}

static int check_own(struct enc_recipe *p, struct infer_error *err)
{
    set(&p->layers, 0);
    set(&p->heads, 4);
    set(&p->width, 256);
    set(&p->ffn, (p->width * 8 / 3 + 31) / 32 * 32);
    set(&p->context, 256);
    set(&p->buckets, 262144);
    set(&p->batch, 64);
    set_real(&p->drop_tokens, 0.1);
    set_real(&p->drop_vector, 0.5);
    set_real(&p->lr, 0.02);
    set_choice(&p->precision, TRAIN_F32);
    if (p->width % p->heads || (p->width / p->heads) % 2)
        return infer_fail(err, INFER_EINVAL,
                          "--width %llu is not an even multiple of --heads "
                          "%llu",
                          (unsigned long long)p->width,
                          (unsigned long long)p->heads);
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

int enc_recipe_check(struct enc_recipe *p, struct infer_error *err)
{
    int status = 1;

    if (p->init && hf_checkpoint_is(p->init))
        return infer_fail(err, INFER_EINVAL,
                          "--init takes a GGUF file: make one with infer-train "
                          "import %.120s model.gguf",
                          p->init);
    if (p->init)
        status = enc_import_bert(p->init, &p->begin, err);
    p->bert = status == 0;
    if (status < 0)
        return status;
    return p->bert ? check_bert(p, err) : check_own(p, err);
}

static struct net_shape shape_of(const struct enc_recipe *p, uint32_t n_vocab,
                                 size_t n_classes)
{
    if (p->bert) {
        struct net_shape s = p->begin;

        s.n_classes = (uint32_t)n_classes;
        s.dense = !p->plain && n_classes;
        return s;
    }
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
    struct optim_config config =
        optim_default(p->bert ? OPTIM_ADAMW : OPTIM_MUON);
    struct infer_tokenizer *t = NULL;
    struct net_shape shape;
    int status = enc_vocab_open(run, &t, err);

    if (status != 0)
        return status;
    shape = shape_of(p, infer_tokenizer_n_vocab(t), n_classes);
    status = enc_model_create(m, &shape, &spec, t, max_batch,
                              (size_t)p->context, team,
                              (enum train_precision)p->precision, p->seed, err);
    if (status == 0)
        enc_head_init(m->net);
    if (status == 0 && p->init)
        status = p->bert ? enc_import_whole(m, p->init, err)
                         : enc_import(m, p->init, err);
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
