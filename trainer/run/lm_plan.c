/* lm_plan.c - see lm_parts.h: the options made into shapes, rates and limits.
 */
#include "trainer/run/lm_parts.h"

#include "core/base/error.h"
#include "trainer/run/init.h"

#include <unistd.h>

/* ---- settings --------------------------------------------------------------
 */

static void set(uint64_t *option, uint64_t def)
{
    if (!*option)
        *option = def;
}

/* The shape of a model that begins anew. */
static int fill_shape(struct train_lm *o, struct infer_error *err)
{
    if (o->arch < 0)
        o->arch = NET_LLAMA;
    if (!o->tokenizer)
        o->tokenizer = "char";
    if (o->rope_base <= 0.0)
        o->rope_base = 10000.0;
    set(&o->layers, 4);
    set(&o->heads, 4);
    set(&o->width, 256);
    set(&o->context, 256);
    if (o->width % o->heads)
        return infer_fail(
            err, INFER_EINVAL, "--width %llu is not a multiple of --heads %llu",
            (unsigned long long)o->width, (unsigned long long)o->heads);
    set(&o->kv_heads, o->heads);
    /* SwiGLU has three matrices for GELU's two */
    set(&o->ffn,
        o->arch == NET_GPT2 ? 4 * o->width : (o->width * 8 / 3 + 31) / 32 * 32);
    return 0;
}

static int check_shape(struct train_lm *o, struct infer_error *err)
{
    const int status = o->init ? train_init_shape(o, err) : fill_shape(o, err);

    if (status != 0)
        return status;
    if (!o->start_context)
        o->start_context = o->context;
    for (uint64_t c = o->start_context; c != o->context; c *= 2)
        if (c > o->context)
            return infer_fail(err, INFER_EINVAL,
                              "--start-context %llu does not double to "
                              "--context %llu",
                              (unsigned long long)o->start_context,
                              (unsigned long long)o->context);
    return 0;
}

int train_lm_check(struct train_lm *o, struct infer_error *err)
{
    struct net_shape shape;
    struct schedule schedule;
    struct optim_config optim;
    int status;

    if (!o->text.paths.n)
        return infer_fail(err, INFER_EINVAL,
                          "no data given: name text files, JSONL or folders");
    if (!o->steps && o->time <= 0.0)
        return infer_fail(err, INFER_EINVAL,
                          "no end is given: pass --steps N or --time 10m");
    if (!o->val.n && o->text.val_share <= 0.0)
        return infer_fail(err, INFER_EINVAL,
                          "no validation text: pass --val FILE, or a "
                          "--val-share above 0");
    if (!o->sample_every)
        o->sample_every = o->eval_every;
    status = check_shape(o, err);
    if (status == 0) { /* before hours of reading data; any vocabulary does */
        shape = lm_shape(o, 256);
        status = net_shape_check(&shape, err);
    }
    if (status == 0) {
        schedule = lm_schedule(o);
        status = schedule_check(&schedule, err);
    }
    if (status == 0) {
        optim = lm_optim(o);
        status = optim_check(&optim, err);
    }
    return status;
}

struct net_shape lm_shape(const struct train_lm *o, uint32_t n_vocab)
{
    return (struct net_shape){
        .arch = (enum net_arch)o->arch,
        .tied = !o->untied,
        .n_vocab = n_vocab,
        .n_ctx = (uint32_t)(o->model_context ? o->model_context : o->context),
        .n_layers = (uint32_t)o->layers,
        .n_heads = (uint32_t)o->heads,
        .n_kv_heads = (uint32_t)o->kv_heads,
        .d_model = (uint32_t)o->width,
        .d_head = (uint32_t)(o->head ? o->head : o->width / o->heads),
        .d_ff = (uint32_t)o->ffn,
        .rope_base = (float)o->rope_base,
        .norm_eps = o->norm_eps > 0.0 ? (float)o->norm_eps : 1e-5f,
        .dropout = (float)o->dropout,
        .label_smoothing = (float)o->smoothing};
}

struct optim_config lm_optim(const struct train_lm *o)
{
    struct optim_config c = optim_default((enum optim_kind)o->optim);

    if (o->lr > 0.0)
        c.lr = (float)o->lr;
    if (o->other_lr > 0.0)
        c.other_lr = (float)o->other_lr;
    if (o->weight_decay >= 0.0)
        c.weight_decay = (float)o->weight_decay;
    if (o->clip >= 0.0)
        c.clip = (float)o->clip;
    return c;
}

struct schedule lm_schedule(const struct train_lm *o)
{
    return (struct schedule){.kind = (enum schedule_kind)o->schedule,
                             .warmup = o->warmup,
                             .total = 1.0,
                             .decay = o->decay,
                             .final = o->final};
}

int lm_check_memory(const struct run *r, const struct net_shape *shape,
                    int n_threads)
{
    const double have =
        (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    const double need =
        (double)net_bytes(shape, r->n_seqs, r->o->context, n_threads) *
        train_ranks_here(r->ranks);

    if (need < have)
        return 0;
    return infer_fail(r->err, INFER_EINVAL,
                      "this shape and batch take %.1f GB of memory, the "
                      "machine has %.1f: choose a smaller --width, --layers, "
                      "--batch (and a larger --accumulate) or --context",
                      need / 1e9, have / 1e9);
}

/* ---- where the run is ------------------------------------------------------
 */

double lm_seconds(const struct run *r)
{
    return r->seconds_before + (double)(infer_clock_ns() - r->started_ns) / 1e9;
}

double lm_done(const struct run *r)
{
    const double by_steps =
        r->o->steps ? (double)r->p.step / (double)r->o->steps : 0.0;
    const double by_time = r->o->time > 0.0 ? r->clock / r->o->time : 0.0;

    return r->o->steps ? by_steps : by_time;
}

bool lm_finished(const struct run *r)
{
    return (r->o->steps && r->p.step >= r->o->steps) ||
           (r->o->time > 0.0 && r->clock >= r->o->time) ||
           (r->o->patience && r->p.stale >= r->o->patience);
}

uint64_t lm_context(const struct run *r)
{
    const double share = lm_done(r);
    uint64_t c = r->o->context;
    unsigned stages = 1;

    while (c > r->o->start_context) {
        c /= 2;
        stages++;
    }
    for (unsigned s = 1; s < stages; s++)
        if (share * 2.0 * (stages - 1) >= s)
            c *= 2;
    return c;
}

float lm_lr(const struct run *r)
{
    const double share = lm_done(r);

    return (float)schedule_at(&r->schedule, share < 1.0 ? share : 1.0);
}
