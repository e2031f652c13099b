/*
 * embed.c - see embed.h. The best parameters, by the validation pairs (without
 * them: the last), become the model.
 */
#include "trainer/enc/embed_parts.h"

#include "core/base/error.h"
#include "trainer/data/shuffle.h"
#include "trainer/enc/idf.h"
#include "trainer/enc/papers.h"
#include "trainer/run/folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int no_memory(struct enc_embed_run *r)
{
    return infer_fail(r->err, INFER_ENOMEM, "out of memory");
}

int enc_embed_check(struct enc_embed *o, struct infer_error *err)
{
    if (!o->out)
        return infer_fail(err, INFER_EINVAL,
                          "--out is missing: name the folder of the run");
    if (!o->groups.n)
        return infer_fail(err, INFER_EINVAL, "no training file is given");
    return enc_recipe_check(&o->recipe, err);
}

/* "256,64" to numbers, falling, the first the width. */
static int read_dimensions(struct enc_embed_run *r)
{
    const size_t width = r->o->recipe.width;
    const char *s = r->o->dimensions;
    char *end;

    r->dims[0] = width;
    r->n_dims = 1;
    for (; s && *s; s = *end ? end + 1 : end) {
        const unsigned long d = strtoul(s, &end, 10);

        if (end == s || (*end && *end != ',') || d < 1 ||
            r->n_dims == ENC_MAX_DIMENSIONS || d > r->dims[r->n_dims - 1])
            return infer_fail(r->err, INFER_EINVAL,
                              "--dimensions takes falling numbers from the "
                              "width, %zu, such as %zu,%zu, not '%.40s'",
                              width, width, width / 2, r->o->dimensions);
        if (d < r->dims[r->n_dims - 1])
            r->dims[r->n_dims++] = d;
    }
    return 0;
}

static int build(struct enc_embed_run *r)
{
    const struct enc_recipe *p = &r->o->recipe;
    size_t n = p->batch * (r->o->views + (r->o->negatives ? 1 : 0));
    int status;

    r->max_batch = n > 64 ? n : 64;
    status = enc_recipe_build(p, r->o->out, 0, r->max_batch, r->team, &r->model,
                              &r->optim, r->err);
    if (status != 0)
        return status;
    r->which = malloc(r->max_batch * sizeof(*r->which));
    r->group = malloc(r->max_batch * sizeof(*r->group));
    r->scores = malloc(r->max_batch * sizeof(*r->scores));
    if (!r->which || !r->group || !r->scores)
        return no_memory(r);
    return enc_embed_loss_create(&r->loss, r->max_batch, p->width, r->dims,
                                 r->n_dims, net_gemm(r->model.net), r->err);
}

/* ---- steps ------------------------------------------------------------------
 */

/* Different texts of a group: the first of a permutation. */
static size_t draw_group(const struct enc_embed_run *r, size_t at,
                         const struct enc_group *g, int32_t number,
                         uint64_t key)
{
    for (uint64_t v = 0; v < r->o->views && v < g->n; v++) {
        r->which[at] = g->first + (uint32_t)train_permute(v, g->n, key);
        r->group[at++] = number;
    }
    if (g->n_negatives) {
        r->which[at] =
            g->first + g->n + (uint32_t)(train_mix(key, 1) % g->n_negatives);
        r->group[at++] = -1;
    }
    return at;
}

static int finish_step(struct enc_embed_run *r, double loss)
{
    const int status =
        enc_recipe_step(&r->o->recipe, &r->model, r->optim, r->loss.dv, loss,
                        r->step, r->total, r->err);

    r->step += status == 0;
    return status;
}

static int start_step(struct enc_embed_run *r, const struct enc_texts *t,
                      size_t n, float **v)
{
    const struct enc_dropout drop = enc_recipe_dropout(&r->o->recipe);

    net_zero_grads(r->model.net);
    return enc_forward(&r->model, t, r->which, n, &drop,
                       train_mix(r->o->recipe.seed ^ 0xe3bed, r->step), v,
                       r->err);
}

static int group_step(struct enc_embed_run *r, size_t at, size_t n,
                      double *loss)
{
    const uint64_t key = train_mix(r->o->recipe.seed, r->epoch);
    size_t n_texts = 0;
    double sum;
    float *v;
    int status;

    for (size_t i = at; i < at + n; i++) {
        const uint64_t g = train_permute(i, r->n, key);

        n_texts = draw_group(r, n_texts, &r->groups[g], (int32_t)(i - at),
                             train_mix(key, g));
    }
    status = start_step(r, &r->texts, n_texts, &v);
    if (status != 0)
        return status;
    sum = enc_embed_contrast(&r->loss, v, r->group, n_texts,
                             (float)r->o->temperature);
    *loss += sum;
    return finish_step(r, sum);
}

static int scored_step(struct enc_embed_run *r)
{
    const size_t most = r->max_batch / 2, per = r->o->recipe.batch;
    const size_t n = most < per ? most : per;
    size_t used = 0;
    double sum;
    float *v;
    int status;

    for (; used < n && used < r->scored.n; used++) {
        const uint64_t i = r->scored_step * n + used;
        const uint64_t pass = i / r->scored.n;
        const uint32_t pair =
            (uint32_t)train_permute(i % r->scored.n, r->scored.n,
                                    train_mix(r->o->recipe.seed ^ 0x5c0, pass));

        r->which[2 * used] = 2 * pair;
        r->which[2 * used + 1] = 2 * pair + 1;
        r->scores[used] = (float)r->scored.scores[pair];
    }
    r->scored_step++;
    status = start_step(r, &r->scored.texts, 2 * used, &v);
    if (status != 0)
        return status;
    sum = enc_embed_order(&r->loss, v, r->scores, used,
                          (float)r->o->pair_temperature,
                          r->o->pair_loss == ENC_PAIRS_SQUARES);
    return finish_step(r, sum);
}

/* Scored steps that are due after `done` of the epoch's n group steps. */
static uint64_t scored_due(const struct enc_embed_run *r, size_t done, size_t n)
{
    const double per_epoch =
        r->o->pair_share * (double)r->scored.n / (double)r->o->recipe.batch;

    return r->scored.n ? (uint64_t)(per_epoch * ((double)r->epoch +
                                                 (double)done / (double)n))
                       : 0;
}

static int one_epoch(struct enc_embed_run *r, double *loss,
                     const volatile int *stop)
{
    const size_t b = r->o->recipe.batch, n = (r->n + b - 1) / b;
    int status = 0;

    *loss = 0.0;
    for (size_t k = 0; k < n && status == 0 && !*stop; k++) {
        const size_t left = r->n - k * b;

        status = group_step(r, k * b, left < b ? left : b, loss);
        while (status == 0 && r->scored_step < scored_due(r, k + 1, n))
            status = scored_step(r);
    }
    *loss /= (double)n;
    return status;
}

static int end_epoch(struct enc_embed_run *r, double loss, uint64_t started)
{
    double rho = (double)NAN;
    FILE *f;
    int status = 0;

    r->seconds = (double)(infer_clock_ns() - started) / 1e9;
    if (r->val.n)
        status =
            enc_pairs_spearman(&r->model, &r->val, r->dims[0], &rho, r->err);
    if (status != 0)
        return status;
    printf("epoch %2llu  %6.1f s  loss %.4f", (unsigned long long)r->epoch + 1,
           r->seconds, loss);
    if (r->val.n)
        printf("  val Spearman %.4f", rho);
    printf("\n");
    fflush(stdout);
    f = enc_paper_open(r->o->out, "metrics.csv", r->epoch ? "a" : "w");
    if (f && r->epoch == 0)
        fputs("epoch,step,seconds,loss,val_spearman\n", f);
    if (f)
        fprintf(f, "%llu,%llu,%.1f,%.6f,%.6f\n",
                (unsigned long long)r->epoch + 1, (unsigned long long)r->step,
                r->seconds, loss, rho);
    status = enc_paper_close(f, r->o->out, "metrics.csv", r->err);
    if (status == 0 && (!r->val.n || !(rho <= r->best))) {
        r->best = rho;
        r->best_epoch = r->epoch + 1;
        status = enc_copy_take(&r->copy, &r->model, r->err);
    }
    return status;
}

static int train(struct enc_embed_run *r, const volatile int *stop)
{
    const uint64_t started = infer_clock_ns();
    const size_t b = r->o->recipe.batch;
    int status = 0;

    r->total = r->o->epochs * ((r->n + b - 1) / b);
    r->epoch = r->o->epochs;
    r->total += scored_due(r, 0, 1);
    r->epoch = 0;
    r->best = -2.0;
    for (; status == 0 && r->epoch < r->o->epochs && !*stop; r->epoch++) {
        double loss;

        status = one_epoch(r, &loss, stop);
        if (status == 0)
            status = end_epoch(r, loss, started);
        if (r->o->time > 0.0 && r->seconds >= r->o->time) {
            r->epoch++;
            break;
        }
    }
    if (status == 0)
        status = enc_copy_restore(&r->copy, &r->model, r->err);
    return status;
}

static void release(struct enc_embed_run *r)
{
    for (size_t i = 0; i < r->o->groups.n && r->tables; i++)
        train_table_release(&r->tables[i]);
    free(r->tables);
    enc_texts_release(&r->texts);
    enc_pairs_release(&r->scored);
    enc_pairs_release(&r->val);
    enc_pairs_release(&r->test);
    enc_embed_loss_release(&r->loss);
    enc_copy_release(&r->copy);
    optim_free(r->optim);
    enc_model_release(&r->model);
    infer_team_free(r->team);
    train_folder_close(r->lock);
    free(r->groups);
    free(r->which);
    free(r->group);
    free(r->scores);
}

int enc_embed_run(const struct enc_embed *o, const char *const *argv,
                  const volatile int *stop, struct infer_error *err)
{
    struct enc_embed_run r = {.o = o, .argv = argv, .lock = -1, .err = err};
    int status = read_dimensions(&r);

    if (status == 0)
        status = infer_team_create(&r.team, (int)o->recipe.threads, 0, err);
    if (status == 0)
        status = enc_embed_read(&r);
    if (status == 0)
        status = train_folder_open(o->out, false, &r.lock, err);
    if (status == 0)
        status = enc_embed_vocab(&r);
    if (status == 0)
        status = build(&r);
    if (status == 0)
        status = enc_embed_encode(&r);
    if (status == 0 && o->begin == ENC_BEGIN_IDF && r.model.rows &&
        !o->recipe.init)
        status = enc_idf_rows(&r.model, &r.texts, o->recipe.seed, err);
    if (status == 0)
        status = enc_paper_config(o->out, argv, err);
    if (status == 0 && r.n == 0)
        status = infer_fail(err, INFER_EINVAL,
                            o->cut ? "no text is long enough to cut"
                                   : "the files hold no groups of texts");
    if (status == 0) {
        printf("%zu groups, %zu texts, %zu scored pairs, %zu to validate; %.2f "
               "M parameters and %u n-gram rows\n",
               r.n, r.texts.n, r.scored.n, r.val.n,
               (double)net_n_params(r.model.net) / 1e6, r.model.spec.buckets);
        status = train(&r, stop);
    }
    if (status == 0)
        status = enc_embed_finish(&r);
    release(&r);
    return status;
}
