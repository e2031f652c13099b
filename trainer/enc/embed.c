/*
 * embed.c - see embed.h. The best parameters, by the validation pairs (without
 * them: the last), become the model.
 */
#include "trainer/enc/embed.h"

#include "core/base/error.h"
#include "core/format/gguf.h"
#include "trainer/data/shuffle.h"
#include "trainer/enc/embed_loss.h"
#include "trainer/enc/export.h"
#include "trainer/enc/papers.h"
#include "trainer/enc/vocab.h"
#include "trainer/nn/schedule.h"
#include "trainer/run/folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096 };

/* Texts [first, first + n) of texts mean the same, the n_negatives behind them
 * do not. */
struct group {
    uint32_t first, n, n_negatives;
};

struct run {
    const struct enc_embed *o;
    const char *const *argv;
    struct infer_team *team;
    struct train_table *tables; /* [o->groups.n] */
    struct enc_model model;
    struct optim *optim;
    struct enc_texts texts;
    struct group *groups; /* [n] */
    size_t n;
    struct enc_pairs scored, val, test;
    size_t dims[ENC_MAX_DIMENSIONS], n_dims;

    uint32_t *which; /* [max_batch] texts of a step */
    int32_t *group;  /* [max_batch] whose they are, -1: a negative */
    float *scores;   /* [max_batch] */
    struct enc_embed_loss loss;
    size_t max_batch;
    uint64_t step, total, epoch, best_epoch, scored_step;
    double best, seconds;
    struct enc_copy copy;
    int lock; /* of the folder */
    struct infer_error *err;
};

static int no_memory(struct run *r)
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
static int read_dimensions(struct run *r)
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

/* ---- data -------------------------------------------------------------------
 */

static int read_tables(struct run *r)
{
    const struct enc_embed *o = r->o;
    const char *columns[3] = {o->texts};
    size_t n = 1;
    int status = 0;

    if (o->pair)
        columns[n++] = o->pair;
    if (o->negatives)
        columns[n++] = o->negatives;
    r->tables = calloc(o->groups.n, sizeof(*r->tables));
    if (!r->tables)
        return no_memory(r);
    for (size_t i = 0; i < o->groups.n && status == 0; i++)
        status = train_table_read(&r->tables[i], o->groups.items[i], &o->table,
                                  columns, n, r->err);
    return status;
}

typedef int item_fn(struct run *r, const char *text, size_t len, void *to);

static int each_item(struct run *r, const struct train_cell *c, item_fn *fn,
                     void *to)
{
    const char *s = c->text;
    int status = 0;

    for (size_t i = 0; i < c->n && status == 0; i++, s += strlen(s) + 1)
        status = fn(r, s, strlen(s), to);
    return status;
}

struct refs {
    struct enc_text_ref *refs;
    size_t n, cap;
};

static int add_ref(struct run *r, const char *text, size_t len, void *to)
{
    struct refs *all = to;

    if (all->n == all->cap) {
        const size_t cap = all->cap ? all->cap * 2 : 1024;
        struct enc_text_ref *p = realloc(all->refs, cap * sizeof(*p));

        if (!p)
            return no_memory(r);
        all->refs = p;
        all->cap = cap;
    }
    all->refs[all->n++] = (struct enc_text_ref){text, len};
    return 0;
}

static int make_vocab(struct run *r)
{
    const struct enc_recipe *p = &r->o->recipe;
    struct refs all = {0};
    int status = 0;

    for (size_t i = 0; i < r->o->groups.n; i++)
        for (size_t k = 0; k < r->tables[i].n_rows && status == 0; k++)
            status = each_item(r, train_table_cell(&r->tables[i], k, 0),
                               add_ref, &all);
    if (status == 0)
        status = enc_vocab_make(
            r->o->out, p->tokenizer ? p->tokenizer : p->init, all.refs, all.n,
            p->vocab, infer_team_size(r->team), r->err);
    free(all.refs);
    return status;
}

static int add_text(struct run *r, const char *text, size_t len, void *to)
{
    uint32_t *count = to;

    ++*count;
    return enc_texts_add(&r->texts, &r->model, text, len, NULL, 0, r->err);
}

/* Where to cut near a place: behind a space, or else between characters. */
static size_t cut_at(const char *text, size_t len, size_t near)
{
    size_t at = near;

    while (at < len && text[at] != ' ')
        at++;
    if (at >= len - len / 8)
        for (at = near; at < len && ((unsigned char)text[at] & 0xc0) == 0x80;)
            at++;
    return at;
}

/* Halves and middle of a text; texts too short for that are no group. */
static int add_cuts(struct run *r, const char *text, size_t len, void *to)
{
    const size_t q = cut_at(text, len, len / 4), h = cut_at(text, len, len / 2);
    const size_t e = cut_at(text, len, len - len / 4);
    int status;

    if (q == 0 || q >= h || h >= e || e >= len)
        return 0;
    status = add_text(r, text, h, to);
    if (status == 0)
        status = add_text(r, text + h, len - h, to);
    return status == 0 ? add_text(r, text + q, e - q, to) : status;
}

static int add_group(struct run *r, const struct train_table *t, size_t row)
{
    struct group *g = &r->groups[r->n];
    char where[140];
    size_t column = 1;
    int status;

    *g = (struct group){.first = (uint32_t)r->texts.n};
    status = each_item(r, train_table_cell(t, row, 0),
                       r->o->cut ? add_cuts : add_text, &g->n);
    if (r->o->cut && g->n == 0)
        return status;
    if (status == 0 && r->o->pair)
        status =
            each_item(r, train_table_cell(t, row, column++), add_text, &g->n);
    if (status == 0 && r->o->negatives)
        status = each_item(r, train_table_cell(t, row, column), add_text,
                           &g->n_negatives);
    if (status == 0 && g->n < 2) {
        train_table_where(t, row, where, sizeof(where));
        return infer_fail(r->err, INFER_EFORMAT,
                          "%s: %u text, where a group needs two that mean the "
                          "same",
                          where, g->n);
    }
    r->n++;
    return status;
}

static int encode(struct run *r)
{
    const struct enc_embed *o = r->o;
    const char *const columns[3] = {o->a, o->b, o->score};
    size_t n = 0;
    int status = 0;

    for (size_t i = 0; i < o->groups.n; i++)
        n += r->tables[i].n_rows;
    r->groups = calloc(n + 1, sizeof(*r->groups));
    if (!r->groups)
        return no_memory(r);
    for (size_t i = 0; i < o->groups.n; i++)
        for (size_t k = 0; k < r->tables[i].n_rows && status == 0; k++)
            status = add_group(r, &r->tables[i], k);
    if (status == 0)
        status = enc_pairs_read(&r->scored, &r->model, &o->scored, &o->table,
                                columns, r->err);
    if (status == 0)
        status = enc_pairs_read(&r->val, &r->model, &o->val, &o->table, columns,
                                r->err);
    if (status == 0)
        status = enc_pairs_read(&r->test, &r->model, &o->test, &o->table,
                                columns, r->err);
    return status;
}

static int build(struct run *r)
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

static float lr_now(const struct run *r)
{
    const struct schedule s = {.kind = SCHEDULE_LINEAR,
                               .warmup = r->o->recipe.warmup * (double)r->total,
                               .total = (double)r->total};

    return (float)schedule_at(
        &s, (double)(r->step < r->total ? r->step : r->total - 1));
}

/* Different texts of a group: the first of a permutation. */
static size_t draw_group(const struct run *r, size_t at, const struct group *g,
                         int32_t number, uint64_t key)
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

static int finish_step(struct run *r, float *dv, double loss)
{
    const struct enc_recipe *p = &r->o->recipe;
    const float lr = lr_now(r);
    int status = enc_back(&r->model, dv, lr * (float)p->rows_lr,
                          (float)p->rows_decay, r->err);

    if (status != 0)
        return status;
    if (!isfinite(loss) || !isfinite(optim_step(r->optim, lr)))
        return infer_fail(r->err, INFER_EFORMAT,
                          "the loss is not finite at step %llu; try a lower "
                          "--lr",
                          (unsigned long long)r->step + 1);
    r->step++;
    return 0;
}

static int start_step(struct run *r, const struct enc_texts *t, size_t n,
                      float **v)
{
    const struct enc_recipe *p = &r->o->recipe;
    const struct enc_dropout drop = {.tokens = (float)p->drop_tokens,
                                     .grams = (float)p->drop_grams,
                                     .vector = (float)p->drop_vector,
                                     .part = (float)p->drop_part};

    net_zero_grads(r->model.net);
    return enc_forward(&r->model, t, r->which, n, &drop,
                       train_mix(p->seed ^ 0xe3bed, r->step), v, r->err);
}

static int group_step(struct run *r, size_t at, size_t n, double *loss)
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
    return finish_step(r, r->loss.dv, sum);
}

static int scored_step(struct run *r)
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
    return finish_step(r, r->loss.dv, sum);
}

/* Scored steps that are due after `done` of the epoch's n group steps. */
static uint64_t scored_due(const struct run *r, size_t done, size_t n)
{
    const double per_epoch =
        r->o->pair_share * (double)r->scored.n / (double)r->o->recipe.batch;

    return r->scored.n ? (uint64_t)(per_epoch * ((double)r->epoch +
                                                 (double)done / (double)n))
                       : 0;
}

static int one_epoch(struct run *r, double *loss, const volatile int *stop)
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

static int end_epoch(struct run *r, double loss, uint64_t started)
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

static int train(struct run *r, const volatile int *stop)
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
        enc_copy_restore(&r->copy, &r->model);
    return status;
}

/* ---- the end ----------------------------------------------------------------
 */

static void set_keys(void *user, struct infer_gguf_writer *w)
{
    const struct run *r = user;
    uint32_t dims[ENC_MAX_DIMENSIONS];

    for (size_t i = 0; i < r->n_dims; i++)
        dims[i] = (uint32_t)r->dims[i];
    infer_gguf_set_array(w, "inferd.embedding.dimensions", INFER_GGUF_U32, dims,
                         r->n_dims);
}

/* One line of scores in the card, report.json and on the terminal. */
static int score_at(struct run *r, size_t d, FILE *card, FILE *json, bool first)
{
    double val = (double)NAN, test = (double)NAN;
    struct enc_retrieval found = {0};
    int status = 0;

    if (r->val.n)
        status = enc_pairs_spearman(&r->model, &r->val, d, &val, r->err);
    if (status == 0 && r->test.n)
        status = enc_pairs_spearman(&r->model, &r->test, d, &test, r->err);
    if (status == 0 && r->o->retrieval)
        status =
            enc_retrieval_run(&r->model, r->o->retrieval, d, &found, r->err);
    if (status != 0)
        return status;
    fprintf(card, "| %zu |", d);
    fprintf(json, "%s\n  {\"dimensions\": %zu", first ? "" : ",", d);
    printf("%zu dimensions:", d);
    if (r->val.n) {
        printf(" validation Spearman %.4f", val);
        fprintf(json, ", \"val_spearman\": %.6f", val);
    }
    if (r->test.n) {
        printf(" test Spearman %.4f", test);
        fprintf(json, ", \"test_spearman\": %.6f", test);
    }
    if (r->o->retrieval) {
        printf(" nDCG@10 %.4f recall@100 %.4f (%zu queries, %zu documents)",
               found.ndcg10, found.recall100, found.n_queries, found.n_docs);
        fprintf(json, ", \"ndcg@10\": %.6f, \"recall@100\": %.6f", found.ndcg10,
                found.recall100);
    }
    fprintf(card, " %.4f | %.4f | %.4f | %.4f |\n", val, test, found.ndcg10,
            found.recall100);
    printf("\n");
    fputc('}', json);
    return 0;
}

static void print_recipe(FILE *f, const struct run *r)
{
    const struct net_shape *s = net_shape(r->model.net);

    fprintf(f,
            "\n## Recipe\n\n%zu groups of texts, %zu scored pairs; %u layers, "
            "width %u, vocabulary %u, %u n-gram rows. %llu epochs, %.0f s on "
            "%d threads; parameters of epoch %llu.\n\n```sh\ninfer-train",
            r->n, r->scored.n, s->n_layers, s->d_model, s->n_vocab,
            r->model.spec.buckets, (unsigned long long)r->epoch, r->seconds,
            infer_team_size(r->team), (unsigned long long)r->best_epoch);
    for (const char *const *a = r->argv; *a; a++)
        fprintf(f, strpbrk(*a, " '\"$") ? " '%s'" : " %s", *a);
    fputs("\n```\n", f);
}

static int report(struct run *r)
{
    FILE *card = enc_paper_open(r->o->out, "README.md", "w");
    FILE *json = enc_paper_open(r->o->out, "report.json", "w");
    int status = 0, closed;

    if (card && json) {
        fprintf(card,
                "# %s\n\nA sentence embedder, trained by infer-train %s.\n\n"
                "```sh\ninferd --model %s/model.gguf\n```\n\n## Scores\n\n"
                "| dimensions | validation Spearman | test Spearman | nDCG@10 "
                "| recall@100 |\n|---|---|---|---|---|\n",
                train_folder_name(r->o->out), infer_version(), r->o->out);
        fprintf(json, "{\"seconds\": %.1f, \"epochs\": %llu, \"scores\": [",
                r->seconds, (unsigned long long)r->epoch);
        for (size_t i = 0; i < r->n_dims && status == 0; i++)
            status = score_at(r, r->dims[i], card, json, i == 0);
        fputs("\n]}\n", json);
        print_recipe(card, r);
    }
    closed =
        enc_paper_close(card, r->o->out, "README.md", status ? NULL : r->err);
    status = status ? status : closed;
    closed =
        enc_paper_close(json, r->o->out, "report.json", status ? NULL : r->err);
    return status ? status : closed;
}

static int finish(struct run *r)
{
    char vocab[PATH_LEN], path[PATH_LEN];
    int status;

    snprintf(vocab, sizeof(vocab), "%s/tokenizer.gguf", r->o->out);
    snprintf(path, sizeof(path), "%s/model.gguf", r->o->out);
    status = enc_export(&r->model, vocab, train_folder_name(r->o->out), path,
                        set_keys, r, r->err);
    return status == 0 ? report(r) : status;
}

static void release(struct run *r)
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
    struct run r = {.o = o, .argv = argv, .lock = -1, .err = err};
    int status = read_dimensions(&r);

    if (status == 0)
        status = infer_team_create(&r.team, (int)o->recipe.threads, 0, err);
    if (status == 0)
        status = read_tables(&r);
    if (status == 0)
        status = train_folder_open(o->out, false, &r.lock, err);
    if (status == 0)
        status = make_vocab(&r);
    if (status == 0)
        status = build(&r);
    if (status == 0)
        status = encode(&r);
    if (status == 0)
        status = enc_paper_config(o->out, argv, err);
    if (status == 0 && r.n == 0)
        status = infer_fail(err, INFER_EINVAL, "no text is long enough to cut");
    if (status == 0) {
        printf("%zu groups, %zu texts, %zu scored pairs, %zu to validate; %.2f "
               "M parameters and %u n-gram rows\n",
               r.n, r.texts.n, r.scored.n, r.val.n,
               (double)net_n_params(r.model.net) / 1e6, r.model.spec.buckets);
        status = train(&r, stop);
    }
    if (status == 0)
        status = finish(&r);
    release(&r);
    return status;
}
