/* embed_report.c - what a run leaves: model.gguf, README.md, report.json. */
#include "trainer/enc/embed_parts.h"

#include "trainer/enc/export.h"
#include "trainer/enc/papers.h"
#include "trainer/run/card.h"
#include "trainer/run/folder.h"

#include <math.h>
#include <stdio.h>

static void set_keys(void *user, struct infer_gguf_writer *w)
{
    const struct enc_embed_run *r = user;
    uint32_t dims[ENC_MAX_DIMENSIONS];

    for (size_t i = 0; i < r->n_dims; i++)
        dims[i] = (uint32_t)r->dims[i];
    infer_gguf_set_array(w, "inferd.embedding.dimensions", INFER_GGUF_U32, dims,
                         r->n_dims);
}

/* A number of the card's table, or that nothing was there to measure it on. */
static void put_cell(FILE *card, bool measured, double v)
{
    if (measured)
        fprintf(card, " %.4f |", v);
    else
        fputs(" - |", card);
}

/* One line of scores in the card, report.json and on the terminal. */
static int score_at(struct enc_embed_run *r, size_t d, FILE *card, FILE *json,
                    bool first)
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
    put_cell(card, r->val.n > 0, val);
    put_cell(card, r->test.n > 0, test);
    put_cell(card, r->o->retrieval != NULL, found.ndcg10);
    put_cell(card, r->o->retrieval != NULL, found.recall100);
    fputc('\n', card);
    printf("\n");
    fputc('}', json);
    return 0;
}

static void print_shape(FILE *f, const struct enc_embed_run *r)
{
    const struct net_shape *s = net_shape(r->model.net);

    fprintf(f,
            "\n%zu groups of texts, %zu scored pairs; %u layers, width %u, "
            "vocabulary %u, %u n-gram rows. %llu epochs, %.0f s on %d threads; "
            "parameters of epoch %llu.\n",
            r->n, r->scored.n, s->n_layers, s->d_model, s->n_vocab,
            r->model.spec.buckets, (unsigned long long)r->epoch, r->seconds,
            infer_team_size(r->team), (unsigned long long)r->best_epoch);
}

static int report(struct enc_embed_run *r)
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
        train_card_recipe(card, r->argv);
        print_shape(card, r);
    }
    closed =
        enc_paper_close(card, r->o->out, "README.md", status ? NULL : r->err);
    status = status ? status : closed;
    closed =
        enc_paper_close(json, r->o->out, "report.json", status ? NULL : r->err);
    return status ? status : closed;
}

int enc_embed_finish(struct enc_embed_run *r)
{
    const int status =
        enc_export(&r->model, r->o->out, "model.gguf", set_keys, r, r->err);

    return status == 0 ? report(r) : status;
}
