/* cmd_embed.c - infer-train embed: texts that mean the same in, embedder
 * out. */
#include "trainer/commands.h"
#include "trainer/enc/embed.h"
#include "trainer/enc/options.h"

#include <stdio.h>

static const char usage[] =
    "usage: infer-train embed --out RUN [OPTIONS] FILE...\n\n"
    "Trains a sentence embedder. Each row of the files is a group of texts "
    "that\n"
    "mean the same: a JSONL field with a list, or two columns (--texts a\n"
    "--pair b). RUN gets model.gguf, README.md, report.json and metrics.csv.";

static int parse(struct enc_embed *o, const char *const *argv,
                 struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->groups, "FILE...", 0, 0,
         "groups of texts: .jsonl, .csv, .tsv"},
        {"out", TRAIN_OPT_TEXT, &o->out, "RUN", 0, 0, "folder of the run"},
        {"texts", TRAIN_OPT_TEXT, &o->texts, "COLUMN", 0, 0,
         "column or field of a group's texts (texts)"},
        {"cut", TRAIN_OPT_FLAG, &o->cut, "", 0, 0,
         "a text alone is a group: its halves and its middle"},
        {"pair", TRAIN_OPT_TEXT, &o->pair, "COLUMN", 0, 0,
         "of more texts of the group"},
        {"negatives", TRAIN_OPT_TEXT, &o->negatives, "COLUMN", 0, 0,
         "of texts that are like them and mean something else"},
        {"scored", TRAIN_OPT_LIST, &o->scored, "FILE", 0, 0,
         "pairs with a score to learn from; repeat it for more"},
        {"val", TRAIN_OPT_LIST, &o->val, "FILE", 0, 0,
         "pairs with a score that choose the epoch"},
        {"test", TRAIN_OPT_LIST, &o->test, "FILE", 0, 0,
         "pairs with a score for the report only"},
        {"a", TRAIN_OPT_TEXT, &o->a, "COLUMN", 0, 0,
         "of scored pairs: one text (a)"},
        {"b", TRAIN_OPT_TEXT, &o->b, "COLUMN", 0, 0, "the other (b)"},
        {"score", TRAIN_OPT_TEXT, &o->score, "COLUMN", 0, 0,
         "a number (score)"},
        {"retrieval", TRAIN_OPT_TEXT, &o->retrieval, "FOLDER", 0, 0,
         "corpus.jsonl, queries.jsonl and qrels.tsv to report nDCG of"},
        {"dimensions", TRAIN_OPT_TEXT, &o->dimensions, "N,N...", 0, 0,
         "that vectors may be cut to (the width)"},
        {"views", TRAIN_OPT_COUNT, &o->views, "N", 2, 64,
         "texts of a group in a step (2)"},
        {"temperature", TRAIN_OPT_REAL, &o->temperature, "X", 1e-3, 10,
         "of the contrast (0.05)"},
        {"pair-loss", TRAIN_OPT_CHOICE, &o->pair_loss, "order|squares", 0, 0,
         "of scored pairs (order)"},
        {"pair-temperature", TRAIN_OPT_REAL, &o->pair_temperature, "X", 1e-3,
         10, "of their order (0.05)"},
        {"pair-share", TRAIN_OPT_REAL, &o->pair_share, "X", 0, 100,
         "passes over scored pairs per epoch (1)"},
        {"ngram-begin", TRAIN_OPT_CHOICE, &o->begin, "zero|idf", 0, 0,
         "n-gram rows at first: nothing, or as tf-idf compares (idf)"},
        {"epochs", TRAIN_OPT_COUNT, &o->epochs, "N", 1, 4096,
         "passes over the groups (10)"},
        {"time", TRAIN_OPT_TIME, &o->time, "T", 1, 1e8,
         "end after the epoch that passes it"},
        ENC_TABLE_OPTIONS(&o->table),
        ENC_RECIPE_OPTIONS(&o->recipe),
    };

    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

int train_cmd_embed(const char *const *argv)
{
    struct enc_embed o = {.texts = "texts",
                          .a = "a",
                          .b = "b",
                          .score = "score",
                          .recipe = enc_recipe_default(),
                          .begin = ENC_BEGIN_IDF,
                          .views = 2,
                          .temperature = 0.05,
                          .pair_temperature = 0.05,
                          .pair_share = 1.0,
                          .epochs = 10};
    struct infer_error err = {0};
    int status, rc;

    o.recipe.drop_vector = 0.0; /* directions count, not values */
    status = parse(&o, argv, &err);

    if (status == 0)
        status = enc_embed_check(&o, &err);
    if (status == 1) {
        rc = 0;
    } else if (status < 0) {
        rc = train_command_end("embed", status, &err) * 2;
    } else {
        rc = train_command_end(
            "embed", enc_embed_run(&o, argv, train_command_stop(), &err), &err);
    }
    train_list_release(&o.groups);
    train_list_release(&o.scored);
    train_list_release(&o.val);
    train_list_release(&o.test);
    return rc;
}
