/* cmd_merge.c - infer-train merge: models of one shape in, their average
 * out. */
#include "core/base/error.h"
#include "trainer/commands.h"
#include "trainer/enc/judge.h"
#include "trainer/enc/merge.h"
#include "trainer/enc/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum kind { KIND_UNIFORM, KIND_GREEDY, KIND_EMA };

struct options {
    struct train_list files, val;
    struct enc_columns columns;
    const char *out;
    int kind;
    double decay;
};

static const char usage[] =
    "usage: infer-train merge --out FILE [OPTIONS] MODEL...\n\n"
    "Averages the weights of models of one shape and vocabulary, best of runs\n"
    "that began alike (--init). greedy takes the best classifier on the --val\n"
    "examples, then adds each other that makes the average no worse.";

static int parse(struct options *o, const char *const *argv,
                 struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->files, "MODEL...", 0, 0, "GGUF files"},
        {"out", TRAIN_OPT_TEXT, &o->out, "FILE", 0, 0, "the result"},
        {"kind", TRAIN_OPT_CHOICE, &o->kind, "uniform|greedy|ema", 0, 0,
         "what is averaged (uniform)"},
        {"decay", TRAIN_OPT_REAL, &o->decay, "X", 0, 1,
         "ema: of those before, in the order given (0.5)"},
        {"val", TRAIN_OPT_LIST, &o->val, "FILE", 0, 0,
         "greedy: labelled examples; repeat it for more"},
        {"text", TRAIN_OPT_TEXT, &o->columns.text, "COLUMN", 0, 0, "(text)"},
        {"pair", TRAIN_OPT_TEXT, &o->columns.pair, "COLUMN", 0, 0,
         "of the second text, of pairs"},
        {"label", TRAIN_OPT_TEXT, &o->columns.label, "COLUMN", 0, 0, "(label)"},
        {"label-separator", TRAIN_OPT_TEXT, &o->columns.separator, "CHARS", 0,
         0, "between the labels of a field (,)"},
        {"oos-label", TRAIN_OPT_TEXT, &o->columns.oos, "LABEL", 0, 0,
         "label of texts that belong to no class"},
        ENC_TABLE_OPTIONS(&o->columns.table),
    };

    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

static int check(const struct options *o, struct infer_error *err)
{
    if (!o->out)
        return infer_fail(err, INFER_EINVAL, "--out is missing");
    if (o->files.n < 2)
        return infer_fail(err, INFER_EINVAL, "give two models or more");
    if (o->kind == KIND_GREEDY && !o->val.n)
        return infer_fail(err, INFER_EINVAL,
                          "--kind greedy needs --val FILE to judge by");
    return 0;
}

/* ---- greedy -----------------------------------------------------------------
 */

struct soup {
    struct options *o;
    struct enc_rows rows;
    struct infer_team *team;
    double *scores; /* [files.n] of each alone */
    bool *take;     /* [files.n] */
    char *trial;    /* path */
    struct infer_error *err;
};

static int judge_all(struct soup *s)
{
    int status = 0;

    for (size_t i = 0; i < s->o->files.n && status == 0; i++) {
        status = enc_judge(s->o->files.items[i], &s->rows, &s->o->columns,
                           s->team, &s->scores[i], s->err);
        if (status == 0)
            printf("%s: %.4f\n", s->o->files.items[i], s->scores[i]);
    }
    return status;
}

/* The best that was not tried; false: none is left. */
static bool next_best(const struct soup *s, const bool *tried, size_t *at)
{
    bool found = false;

    for (size_t i = 0; i < s->o->files.n; i++)
        if (!tried[i] && (!found || s->scores[i] > s->scores[*at])) {
            *at = i;
            found = true;
        }
    return found;
}

static int try_each(struct soup *s, bool *tried)
{
    double best = 0.0, score;
    size_t at = 0, n = 0;
    int status = 0;

    while (status == 0 && next_best(s, tried, &at)) {
        tried[at] = s->take[at] = true;
        status = enc_merge(s->trial, &s->o->files, s->take, ENC_MERGE_UNIFORM,
                           0.0, s->err);
        if (status == 0)
            status = enc_judge(s->trial, &s->rows, &s->o->columns, s->team,
                               &score, s->err);
        if (status != 0)
            break;
        if (n == 0 || score >= best) {
            best = score;
            n++;
        } else {
            s->take[at] = false;
        }
        printf("%s %s: %.4f\n", s->take[at] ? "with" : "not",
               s->o->files.items[at], score);
    }
    if (status == 0)
        status = enc_merge(s->o->out, &s->o->files, s->take, ENC_MERGE_UNIFORM,
                           0.0, s->err);
    if (status == 0)
        printf("%s: the average of %zu, %.4f\n", s->o->out, n, best);
    return status;
}

static int greedy(struct options *o, struct infer_error *err)
{
    struct soup s = {.o = o, .err = err};
    bool *tried = calloc(o->files.n, sizeof(*tried));
    int status = enc_rows_read(&s.rows, &o->val, &o->columns, err);

    s.scores = calloc(o->files.n, sizeof(*s.scores));
    s.take = calloc(o->files.n, sizeof(*s.take));
    if (status == 0 && (!tried || !s.scores || !s.take ||
                        asprintf(&s.trial, "%s.trial", o->out) < 0))
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    if (status == 0)
        status = infer_team_create(&s.team, 0, 0, err);
    if (status == 0)
        status = judge_all(&s);
    if (status == 0)
        status = try_each(&s, tried);
    if (s.trial)
        unlink(s.trial);
    enc_rows_release(&s.rows);
    infer_team_free(s.team);
    free(s.trial);
    free(s.scores);
    free(s.take);
    free(tried);
    return status;
}

static int merge(struct options *o, struct infer_error *err)
{
    int status;

    if (o->kind == KIND_GREEDY)
        return greedy(o, err);
    status = enc_merge(o->out, &o->files, NULL,
                       o->kind == KIND_EMA ? ENC_MERGE_EMA : ENC_MERGE_UNIFORM,
                       o->decay, err);
    if (status == 0)
        printf("%s: the average of %zu\n", o->out, o->files.n);
    return status;
}

int train_cmd_merge(const char *const *argv)
{
    struct options o = {
        .decay = 0.5,
        .columns = {.text = "text", .label = "label", .separator = ","}};
    struct infer_error err = {0};
    int status = parse(&o, argv, &err), rc;

    if (status == 0)
        status = check(&o, &err);
    if (status == 1)
        rc = 0;
    else if (status < 0)
        rc = train_command_end("merge", status, &err) * 2;
    else
        rc = train_command_end("merge", merge(&o, &err), &err);
    train_list_release(&o.files);
    train_list_release(&o.val);
    return rc;
}
