/* cmd_classify.c - infer-train classify: labelled texts in, classifier out. */
#include "trainer/commands.h"
#include "trainer/enc/classify.h"
#include "trainer/enc/options.h"

#include <stdio.h>

static const char usage[] =
    "usage: infer-train classify --out RUN [OPTIONS] FILE...\n\n"
    "Trains a classifier of texts from CSV, TSV or JSONL files. RUN gets\n"
    "model.gguf (calibrated), README.md, report.json, metrics.csv, tables of\n"
    "classes, confusions and mistakes, and pictures.";

static int parse(struct enc_classify *o, const char *const *argv,
                 struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->train, "FILE...", 0, 0,
         "training examples: .csv, .tsv, .jsonl"},
        {"out", TRAIN_OPT_TEXT, &o->out, "RUN", 0, 0, "folder of the run"},
        {"val", TRAIN_OPT_LIST, &o->val, "FILE", 0, 0,
         "validation examples; repeat it for more"},
        {"val-share", TRAIN_OPT_REAL, &o->val_share, "X", 0, 0.9,
         "or this share of the training examples, by hash (0.1)"},
        {"test", TRAIN_OPT_LIST, &o->test, "FILE", 0, 0,
         "examples for the report only; repeat it for more"},
        {"kind", TRAIN_OPT_CHOICE, &o->columns.kind, "single|multi|regression",
         0, 0, "one label a text, any number, or a number (single)"},
        {"text", TRAIN_OPT_TEXT, &o->columns.text, "COLUMN", 0, 0,
         "column or field of the text (text)"},
        {"pair", TRAIN_OPT_TEXT, &o->columns.pair, "COLUMN", 0, 0,
         "of the second text, of pairs"},
        {"label", TRAIN_OPT_TEXT, &o->columns.label, "COLUMN", 0, 0,
         "of the label or number (label)"},
        {"label-separator", TRAIN_OPT_TEXT, &o->columns.separator, "CHARS", 0,
         0, "between the labels of a field, multi (,)"},
        {"oos-label", TRAIN_OPT_TEXT, &o->columns.oos, "LABEL", 0, 0,
         "label of texts that belong to no class"},
        {"oos-recall", TRAIN_OPT_REAL, &o->oos_recall, "X", 0, 1,
         "share of those to refuse, sets the threshold (0.6)"},
        {"plain-head", TRAIN_OPT_FLAG, &o->recipe.plain, "", 0, 0,
         "no hidden layer between vector and labels"},
        {"balance", TRAIN_OPT_CHOICE, &o->balance, "none|weights|sampling", 0,
         0, "of rare classes (none)"},
        {"label-smoothing", TRAIN_OPT_REAL, &o->smoothing, "X", 0, 0.9,
         "share (0.1)"},
        {"epochs", TRAIN_OPT_COUNT, &o->epochs, "N", 1, 4096,
         "passes over the examples (10)"},
        {"time", TRAIN_OPT_TIME, &o->time, "T", 1, 1e8,
         "end after the epoch that passes it (the second training apart)"},
        {"no-refit", TRAIN_OPT_FLAG, &o->no_refit, "", 0, 0,
         "keep the best epoch, no second training with validation examples"},
        {"patience", TRAIN_OPT_COUNT, &o->patience, "N", 1, 4096,
         "end after N epochs without a better one"},
        ENC_TABLE_OPTIONS(&o->columns.table),
        ENC_RECIPE_OPTIONS(&o->recipe),
    };

    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

int train_cmd_classify(const char *const *argv)
{
    struct enc_classify o = {
        .columns = {.text = "text", .label = "label", .separator = ","},
        .recipe = enc_recipe_default(),
        .val_share = 0.1,
        .smoothing = 0.1,
        .oos_recall = 0.6,
        .epochs = 10};
    struct infer_error err = {0};
    int status = parse(&o, argv, &err), rc;

    if (status == 0)
        status = enc_classify_check(&o, &err);
    if (status == 1) {
        rc = 0;
    } else if (status < 0) {
        rc = train_command_end("classify", status, &err) * 2;
    } else {
        rc = train_command_end(
            "classify", enc_classify_run(&o, argv, train_command_stop(), &err),
            &err);
    }
    train_list_release(&o.train);
    train_list_release(&o.val);
    train_list_release(&o.test);
    return rc;
}
