/* retrieval.c - see retrieval.h. Documents are ranked by brute force: a product
 * of all queries with all documents. */
#include "trainer/enc/retrieval.h"

#include "core/base/error.h"
#include "core/format/names.h"
#include "trainer/enc/metrics.h"
#include "trainer/nn/layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64, PATH_LEN = 4096, CUT = 10, DEEP = 100 };

static int no_memory(struct infer_error *err)
{
    return infer_fail(err, INFER_ENOMEM, "out of memory");
}

int enc_embed_all(struct enc_model *m, const struct enc_texts *t, size_t d,
                  float **out, struct infer_error *err)
{
    const size_t width = net_shape(m->net)->d_model;
    float *all = malloc((t->n * d + 1) * sizeof(*all)), length;
    int status = all ? 0 : no_memory(err);

    for (size_t at = 0; at < t->n && status == 0; at += BATCH) {
        const size_t n = t->n - at < BATCH ? t->n - at : BATCH;
        uint32_t which[BATCH];
        float *v;

        for (size_t i = 0; i < n; i++)
            which[i] = (uint32_t)(at + i);
        status = enc_forward(m, t, which, n, NULL, 0, &v, err);
        for (size_t i = 0; i < n && status == 0; i++)
            nn_layers()->unit(all + (at + i) * d, &length, v + i * width, 1, d);
    }
    if (status != 0) {
        free(all);
        return status;
    }
    *out = all;
    return 0;
}

static double dot(const float *a, const float *b, size_t d)
{
    double sum = 0.0;

    for (size_t i = 0; i < d; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* ---- pairs ------------------------------------------------------------------
 */

static int add_pairs(struct enc_pairs *p, struct enc_model *m,
                     const struct train_table *t, struct infer_error *err)
{
    double *scores = realloc(p->scores, (p->n + t->n_rows) * sizeof(*scores));
    int status = 0;

    if (!scores)
        return no_memory(err);
    p->scores = scores;
    for (size_t i = 0; i < t->n_rows && status == 0; i++) {
        const struct train_cell *score = train_table_cell(t, i, 2);
        char *end, where[140];

        scores[p->n] = strtod(score->text, &end);
        if (end == score->text || *end || !isfinite(scores[p->n])) {
            train_table_where(t, i, where, sizeof(where));
            return infer_fail(err, INFER_EFORMAT,
                              "%s: the score '%.40s' is not a number", where,
                              score->text);
        }
        for (size_t k = 0; k < 2 && status == 0; k++) {
            const struct train_cell *c = train_table_cell(t, i, k);

            status = enc_texts_add(&p->texts, m, c->text, c->len, NULL, 0, err);
        }
        p->n++;
    }
    return status;
}

int enc_pairs_read(struct enc_pairs *p, struct enc_model *m,
                   const struct train_list *paths,
                   const struct train_table_options *o,
                   const char *const columns[3], struct infer_error *err)
{
    int status = 0;

    for (size_t i = 0; i < paths->n && status == 0; i++) {
        struct train_table t = {0};

        status = train_table_read(&t, paths->items[i], o, columns, 3, err);
        if (status == 0)
            status = add_pairs(p, m, &t, err);
        train_table_release(&t);
    }
    return status;
}

void enc_pairs_release(struct enc_pairs *p)
{
    enc_texts_release(&p->texts);
    free(p->scores);
    *p = (struct enc_pairs){0};
}

int enc_pairs_spearman(struct enc_model *m, const struct enc_pairs *p, size_t d,
                       double *rho, struct infer_error *err)
{
    float *v = NULL;
    double *cosines = malloc((p->n + 1) * sizeof(*cosines));
    int status =
        cosines ? enc_embed_all(m, &p->texts, d, &v, err) : no_memory(err);

    for (size_t i = 0; i < p->n && status == 0; i++)
        cosines[i] = dot(v + 2 * i * d, v + (2 * i + 1) * d, d);
    if (status == 0)
        *rho = enc_spearman(cosines, p->scores, p->n);
    free(cosines);
    free(v);
    return status;
}

/* ---- questions and documents ------------------------------------------------
 */

struct side {
    struct train_table table;
    struct infer_names ids; /* of rows, from table */
    struct enc_texts texts;
    float *vectors; /* [n][d] */
};

static void release_side(struct side *s)
{
    train_table_release(&s->table);
    infer_names_release(&s->ids);
    enc_texts_release(&s->texts);
    free(s->vectors);
}

static int read_side(struct side *s, struct enc_model *m, const char *folder,
                     const char *name, size_t d, struct infer_error *err)
{
    static const char *const columns[] = {"_id", "text"};
    const struct train_table_options o = {0};
    char path[PATH_LEN];
    int status;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    status = train_table_read(&s->table, path, &o, columns, 2, err);
    for (size_t i = 0; i < s->table.n_rows && status == 0; i++) {
        const struct train_cell *id = train_table_cell(&s->table, i, 0);
        const struct train_cell *c = train_table_cell(&s->table, i, 1);

        if (infer_names_add(&s->ids, id->text, id->len, (uint32_t)i) < 0)
            return no_memory(err);
        status = enc_texts_add(&s->texts, m, c->text, c->len, NULL, 0, err);
    }
    if (status == 0)
        status = enc_embed_all(m, &s->texts, d, &s->vectors, err);
    return status;
}

struct judged {
    uint32_t query, doc;
    double gain;
};

static int by_query(const void *a, const void *b)
{
    const struct judged *x = a, *y = b;

    return (x->query > y->query) - (x->query < y->query);
}

static int read_judged(const struct side *queries, const struct side *docs,
                       const char *folder, struct judged **out, size_t *n,
                       struct infer_error *err)
{
    static const char *const columns[] = {"1", "2", "3"};
    const struct train_table_options o = {0};
    struct train_table t = {0};
    char path[PATH_LEN], where[140];
    int status;

    snprintf(path, sizeof(path), "%s/qrels.tsv", folder);
    status = train_table_read(&t, path, &o, columns, 3, err);
    *out = malloc((t.n_rows + 1) * sizeof(**out));
    if (status == 0 && !*out)
        status = no_memory(err);
    for (size_t i = 0; i < t.n_rows && status == 0; i++) {
        const struct train_cell *c = train_table_cell(&t, i, 0);
        const int64_t q = infer_names_find(&queries->ids, c[0].text, c[0].len);
        const int64_t d = infer_names_find(&docs->ids, c[1].text, c[1].len);

        train_table_where(&t, i, where, sizeof(where));
        if (q < 0 || d < 0)
            status = infer_fail(err, INFER_EFORMAT, "%s: no %s '%.40s'", where,
                                q < 0 ? "query" : "document",
                                q < 0 ? c[0].text : c[1].text);
        else
            (*out)[(*n)++] = (struct judged){(uint32_t)q, (uint32_t)d,
                                             strtod(c[2].text, NULL)};
    }
    train_table_release(&t);
    if (status == 0)
        qsort(*out, *n, sizeof(**out), by_query);
    return status;
}

struct hit {
    double score;
    uint32_t doc;
};

static int best_first(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->doc > y->doc) - (x->doc < y->doc);
}

/* One query's judgements [n] against its ranking. work [n_docs] gains. */
static void judge(const struct judged *j, size_t n, const struct hit *hits,
                  size_t n_docs, double *work, struct enc_retrieval *out)
{
    double *all = work + n_docs, found = 0.0, wanted = 0.0, ranked[CUT];

    memset(work, 0, n_docs * sizeof(*work));
    for (size_t i = 0; i < n; i++) {
        all[i] = j[i].gain > 0.0 ? j[i].gain : 0.0;
        work[j[i].doc] = all[i];
        wanted += all[i] > 0.0;
    }
    for (size_t i = 0; i < n_docs && i < DEEP; i++) {
        if (i < CUT)
            ranked[i] = work[hits[i].doc];
        found += work[hits[i].doc] > 0.0;
    }
    if (wanted == 0.0)
        return;
    out->ndcg10 += enc_ndcg(ranked, n_docs < CUT ? n_docs : CUT, all, n, CUT);
    out->recall100 += found / wanted;
    out->n_queries++;
}

static int rank_all(const struct side *queries, const struct side *docs,
                    const struct judged *j, size_t n, size_t d,
                    struct enc_retrieval *out, struct infer_error *err)
{
    const size_t n_docs = docs->texts.n;
    struct hit *hits = malloc((n_docs + 1) * sizeof(*hits));
    double *work = malloc((n_docs + n + 1) * sizeof(*work));

    *out = (struct enc_retrieval){.n_docs = n_docs};
    for (size_t at = 0, end; at < n && hits && work; at = end) {
        const float *q = queries->vectors + j[at].query * d;

        for (end = at; end < n && j[end].query == j[at].query;)
            end++;
        for (size_t i = 0; i < n_docs; i++)
            hits[i] =
                (struct hit){dot(q, docs->vectors + i * d, d), (uint32_t)i};
        qsort(hits, n_docs, sizeof(*hits), best_first);
        judge(j + at, end - at, hits, n_docs, work, out);
    }
    if (out->n_queries) {
        out->ndcg10 /= (double)out->n_queries;
        out->recall100 /= (double)out->n_queries;
    }
    free(hits);
    free(work);
    return hits && work ? 0 : no_memory(err);
}

int enc_retrieval_run(struct enc_model *m, const char *folder, size_t d,
                      struct enc_retrieval *out, struct infer_error *err)
{
    struct side queries = {0}, docs = {0};
    struct judged *judged = NULL;
    size_t n = 0;
    int status = read_side(&queries, m, folder, "queries.jsonl", d, err);

    if (status == 0)
        status = read_side(&docs, m, folder, "corpus.jsonl", d, err);
    if (status == 0)
        status = read_judged(&queries, &docs, folder, &judged, &n, err);
    if (status == 0)
        status = rank_all(&queries, &docs, judged, n, d, out, err);
    free(judged);
    release_side(&queries);
    release_side(&docs);
    return status;
}
