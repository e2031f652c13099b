/* papers.c - see papers.h. */
#include "trainer/enc/papers.h"

#include "core/base/error.h"
#include "trainer/enc/draw.h"
#include "trainer/run/card.h"
#include "trainer/run/export.h"
#include "trainer/run/folder.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096, WORST = 200, SHOWN = 20 };

FILE *enc_paper_open(const char *run, const char *name, const char *mode)
{
    char path[PATH_LEN];

    snprintf(path, sizeof(path), "%s/%s", run, name);
    return fopen(path, mode);
}

int enc_paper_close(FILE *f, const char *run, const char *name,
                    struct infer_error *err)
{
    const bool failed = !f || ferror(f);

    if ((f && fclose(f) != 0) || failed)
        return infer_fail(err, INFER_EIO, "cannot write '%.150s/%s'", run,
                          name);
    return 0;
}

int enc_paper_config(const char *run, const char *const *argv,
                     struct infer_error *err)
{
    cJSON *config = cJSON_CreateObject();
    cJSON *words = cJSON_AddArrayToObject(config, "argv");
    FILE *f = enc_paper_open(run, "config.json", "w");
    char *text;

    for (; words && *argv; argv++)
        cJSON_AddItemToArray(words, cJSON_CreateString(*argv));
    cJSON_AddStringToObject(config, "version", infer_version());
    text = cJSON_Print(config);
    if (f && text)
        fprintf(f, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(config);
    return enc_paper_close(f, run, "config.json", err);
}

/* ---- tables -----------------------------------------------------------------
 */

/* A field of CSV. */
static void put_field(FILE *f, const char *s, size_t len)
{
    fputc('"', f);
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"')
            fputc('"', f);
        fputc(s[i], f);
    }
    fputc('"', f);
}

static int write_classes(const struct enc_run *r, const struct enc_scores *o)
{
    FILE *f = enc_paper_open(r->o->out, "classes.csv", "w");

    if (f)
        fputs("label,examples,precision,recall,f1\n", f);
    for (size_t k = 0; k < r->labels.n && f; k++) {
        const struct enc_class_score *s = &o->classes[k];

        put_field(f, r->labels.names[k], strlen(r->labels.names[k]));
        fprintf(f, ",%llu,%.4f,%.4f,%.4f\n",
                (unsigned long long)(s->right + s->missed), enc_precision(s),
                enc_recall(s), enc_f1(s));
    }
    return enc_paper_close(f, r->o->out, "classes.csv", r->err);
}

static int write_confusion(const struct enc_run *r, const struct enc_scores *o)
{
    const size_t c = r->labels.n;
    FILE *f = enc_paper_open(r->o->out, "confusion.csv", "w");

    if (f)
        fputs("label,said,examples\n", f);
    for (size_t i = 0; i < c * c && f; i++) {
        const char *is = r->labels.names[i / c], *said = r->labels.names[i % c];

        if (!o->confusion[i])
            continue;
        put_field(f, is, strlen(is));
        fputc(',', f);
        put_field(f, said, strlen(said));
        fprintf(f, ",%u\n", o->confusion[i]);
    }
    return enc_paper_close(f, r->o->out, "confusion.csv", r->err);
}

struct mistake {
    size_t i;
    double sure;
};

static int surest(const void *a, const void *b)
{
    const struct mistake *x = a, *y = b;

    return (x->sure < y->sure) - (x->sure > y->sure);
}

/* Mistakes, the surest first. */
static size_t find_mistakes(const struct enc_run *r, const struct enc_set *s,
                            const struct enc_scores *o, struct mistake *m)
{
    const bool numbers = r->o->columns.kind == ENC_REGRESSION;
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++)
        if (numbers || o->said[i] != s->targets[i])
            m[n++] = (struct mistake){i, numbers ? -o->sure[i] : o->sure[i]};
    qsort(m, n, sizeof(*m), surest);
    return n < WORST ? n : WORST;
}

static const char *name_of(const struct enc_run *r, int32_t class)
{
    if (class >= 0)
        return r->labels.names[class];
    return r->o->columns.oos ? r->o->columns.oos : "out_of_scope";
}

static int write_mistakes(const struct enc_run *r, const struct enc_set *s,
                          const struct enc_scores *o, FILE *card)
{
    struct mistake *m = malloc((s->n + 1) * sizeof(*m));
    FILE *f = enc_paper_open(r->o->out, "mistakes.csv", "w");
    const size_t n = m ? find_mistakes(r, s, o, m) : 0;

    if (f)
        fputs("text,label,said,probability\n", f);
    if (card)
        fputs("\n## Surest mistakes\n\n| text | label | said | probability |\n"
              "|---|---|---|---|\n",
              card);
    for (size_t k = 0; k < n && f; k++) {
        const size_t i = m[k].i;
        const struct enc_row *row = s->rows[i];
        const char *is = name_of(r, s->targets[i]);
        const char *said = name_of(r, o->said[i]);

        put_field(f, row->a, row->a_len);
        fputc(',', f);
        put_field(f, is, strlen(is));
        fputc(',', f);
        put_field(f, said, strlen(said));
        fprintf(f, ",%.4f\n", m[k].sure);
        if (card && k < SHOWN && !strpbrk(row->a, "|\n"))
            fprintf(card, "| %.*s | %s | %s | %.3f |\n",
                    (int)(row->a_len < 300 ? row->a_len : 300), row->a, is,
                    said, m[k].sure);
    }
    free(m);
    return enc_paper_close(f, r->o->out, "mistakes.csv", r->err);
}

/* ---- the card ---------------------------------------------------------------
 */

static void print_scores(FILE *f, const struct enc_run *r, const char *what,
                         const struct enc_scores *o)
{
    const double n = (double)(o->n ? o->n : 1);

    if (r->o->columns.kind == ENC_REGRESSION) {
        fprintf(f,
                "| %s | %llu | MSE %.4f, mean error %.4f, Pearson %.4f, "
                "Spearman %.4f |\n",
                what, (unsigned long long)o->n, o->squares, o->absolute,
                o->pearson, o->spearman);
        return;
    }
    fprintf(f,
            "| %s | %llu | accuracy %.2f %%, macro F1 %.2f, micro F1 %.2f, ECE "
            "%.2f %% (%.2f %% before calibration)",
            what, (unsigned long long)o->n, 100.0 * (double)o->right / n,
            100.0 * o->macro_f1, 100.0 * enc_f1(&o->all), 100.0 * o->ece,
            100.0 * o->ece_raw);
    if (o->oos)
        fprintf(f,
                "; refusing below %.4f: accuracy in scope %.2f %%, recall of "
                "%llu texts out of scope %.2f %%",
                r->oos_threshold, 100.0 * (double)o->right_in / n,
                (unsigned long long)o->oos,
                100.0 * (double)o->oos_right / (double)o->oos);
    fputs(" |\n", f);
}

static void print_shape(FILE *f, const struct enc_run *r)
{
    const struct net_shape *s = net_shape(r->model.net);

    fprintf(f,
            "\n## Shape\n\n%zu classes; %s, %u layers, width %u, hidden %u, %u "
            "heads, context %u, vocabulary %u; %zu parameters.",
            r->train.n_classes, train_arch_name(s), s->n_layers, s->d_model,
            s->d_ff, s->n_heads, s->n_ctx, s->n_vocab,
            net_n_params(r->model.net));
    if (r->model.rows)
        fprintf(f,
                " %u rows for n-grams of up to %u words and %u to %u "
                "characters, %llu values.",
                r->model.spec.buckets, r->model.spec.max,
                r->model.spec.char_min, r->model.spec.char_max,
                (unsigned long long)r->model.spec.buckets * s->d_model);
    fputc('\n', f);
}

static int write_card(struct enc_run *r, const struct enc_scores *val,
                      const struct enc_scores *test)
{
    FILE *f = enc_paper_open(r->o->out, "README.md", "w");
    int status = 0;

    if (f) {
        fprintf(f,
                "# %s\n\nA classifier, trained by infer-train %s.\n\n```sh\n"
                "inferd --model %s/model.gguf\n```\n\n## Scores\n\n"
                "| examples | in scope | |\n|---|---|---|\n",
                train_folder_name(r->o->out), infer_version(), r->o->out);
        print_scores(f, r, "validation", val);
        if (test)
            print_scores(f, r, "test", test);
        print_shape(f, r);
        train_card_recipe(f, r->argv);
        fprintf(f,
                "\n%zu examples, %llu epochs, %.0f s in all on %d threads; "
                "epoch %llu is the best on the validation examples%s. "
                "Temperature %.4f.\n",
                r->train.n, (unsigned long long)r->epoch, r->seconds,
                infer_team_size(r->team), (unsigned long long)r->best_epoch,
                r->refitted ? ", whose scores are those of a training without "
                              "them; the parameters are of a second one with "
                              "them, up to that epoch"
                            : " and gives the parameters",
                r->temperature);
    }
    status = write_mistakes(r, test ? &r->test : &r->val, test ? test : val, f);
    if (status != 0) {
        if (f)
            fclose(f);
        return status;
    }
    return enc_paper_close(f, r->o->out, "README.md", r->err);
}

/* ---- for programs -----------------------------------------------------------
 */

static void json_number(FILE *f, const char *name, double v)
{
    if (isfinite(v))
        fprintf(f, ", \"%s\": %.6f", name, v);
    else
        fprintf(f, ", \"%s\": null", name);
}

static void json_scores(FILE *f, const struct enc_run *r, const char *what,
                        const struct enc_scores *o)
{
    const double n = (double)(o->n ? o->n : 1);

    fprintf(f, ",\n  \"%s\": {\"examples\": %llu", what,
            (unsigned long long)o->n);
    if (r->o->columns.kind == ENC_REGRESSION) {
        json_number(f, "mse", o->squares);
        json_number(f, "pearson", o->pearson);
        json_number(f, "spearman", o->spearman);
    } else {
        json_number(f, "accuracy", (double)o->right / n);
        json_number(f, "macro_f1", o->macro_f1);
        json_number(f, "micro_f1", enc_f1(&o->all));
        json_number(f, "ece", o->ece);
        json_number(f, "ece_before", o->ece_raw);
    }
    if (o->oos) {
        json_number(f, "accuracy_with_threshold", (double)o->right_in / n);
        json_number(f, "oos_recall", (double)o->oos_right / (double)o->oos);
    }
    fputc('}', f);
}

static int write_json(const struct enc_run *r, const struct enc_scores *val,
                      const struct enc_scores *test)
{
    FILE *f = enc_paper_open(r->o->out, "report.json", "w");

    if (f) {
        fprintf(f, "{\"epochs\": %llu, \"best_epoch\": %llu",
                (unsigned long long)r->epoch,
                (unsigned long long)r->best_epoch);
        json_number(f, "seconds", r->seconds);
        json_number(f, "temperature", r->temperature);
        if (r->oos_threshold >= 0.0)
            json_number(f, "oos_threshold", r->oos_threshold);
        json_scores(f, r, "validation", val);
        if (test)
            json_scores(f, r, "test", test);
        fputs("\n}\n", f);
    }
    return enc_paper_close(f, r->o->out, "report.json", r->err);
}

int enc_papers_write(struct enc_run *r, const struct enc_scores *val,
                     const struct enc_scores *test)
{
    const struct enc_scores *o = test ? test : val;
    int status = write_json(r, val, test);

    if (status == 0)
        status = write_card(r, val, test);
    if (status == 0)
        status = enc_draw_learning(r->o->out, r->err);
    if (status != 0 || r->o->columns.kind == ENC_REGRESSION)
        return status;
    status = write_classes(r, o);
    if (status == 0)
        status = enc_draw_reliability(r->o->out, &o->bins, r->err);
    if (status != 0 || r->o->columns.kind != ENC_SINGLE)
        return status;
    status = write_confusion(r, o);
    if (status == 0)
        status = enc_draw_confusion(r->o->out, o->confusion,
                                    (const char *const *)r->labels.names,
                                    r->labels.n, r->err);
    return status;
}
