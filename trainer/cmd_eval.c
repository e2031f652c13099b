/*
 * cmd_eval.c - infer-train eval: what a model file makes of a text. One name
 * and one number a line, so that scripts can read it.
 */
#include "core/base/error.h"
#include "trainer/commands.h"
#include "trainer/run/evaluate.h"

#include <cjson/cJSON.h>
#include <stdio.h>

struct options {
    struct train_list model;
    struct train_text text;
    uint64_t context, max_tokens, threads;
    int split; /* an enum train_split */
    bool json;
};

static const char usage[] =
    "usage: infer-train eval MODEL.gguf --data FILE [OPTIONS]\n\n"
    "Loss of a text, through the engine that serves the model. The text is "
    "cut\n"
    "into windows of --context tokens, each evaluated from an empty context;\n"
    "every token but the first is predicted once.";

static int parse(struct options *o, const char *const *argv,
                 struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->model, "MODEL.gguf", 0, 0, "the model"},
        {"data", TRAIN_OPT_LIST, &o->text.paths, "FILE", 0, 0,
         "text, JSONL or a folder; repeat it for more"},
        {"context", TRAIN_OPT_COUNT, &o->context, "N", 1, 1e6,
         "tokens of one window (the model's context)"},
        {"max-tokens", TRAIN_OPT_COUNT, &o->max_tokens, "N", 1, 1e15,
         "stop after as many (all)"},
        {"threads", TRAIN_OPT_COUNT, &o->threads, "N", 0, 256,
         "compute threads (0: one per processor)"},
        {"split", TRAIN_OPT_CHOICE, &o->split, "all|train|val", 0, 0,
         "which part of it, as lm divides it (all)"},
        {"val-share", TRAIN_OPT_REAL, &o->text.val_share, "X", 0, 0.9,
         "of --split, as it was given to lm (0.1)"},
        {"json", TRAIN_OPT_FLAG, &o->json, "", 0, 0, "print one JSON object"},
        TRAIN_TEXT_OPTIONS(&o->text),
    };

    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

static int check(const struct options *o, struct infer_error *err)
{
    if (o->model.n != 1)
        return infer_fail(err, INFER_EINVAL, "give one model file");
    if (o->text.paths.n == 0)
        return infer_fail(err, INFER_EINVAL,
                          "--data is missing: name a text to evaluate on");
    if (o->split != TRAIN_SPLIT_ALL && o->text.val_share <= 0.0)
        return infer_fail(err, INFER_EINVAL,
                          "--split needs a --val-share above 0");
    return 0;
}

static void print_scores(const char *model, const struct train_evaluation *e,
                         bool json)
{
    const struct {
        const char *name;
        double value;
        int digits;
    } scores[] = {
        {"loss", e->loss, 6},
        {"perplexity", e->perplexity, 5},
        {"bits_per_byte", e->bits_per_byte, 6},
        {"accuracy", e->accuracy, 5},
        {"tokens", (double)e->n_tokens, 0},
        {"bytes", (double)e->n_bytes, 0},
        {"context", (double)e->context, 0},
        {"seconds", e->seconds, 2},
    };
    cJSON *name = json ? cJSON_CreateString(model) : NULL;
    char *quoted = name ? cJSON_PrintUnformatted(name) : NULL;

    if (json)
        printf("{\"model\":%s", quoted ? quoted : "null");
    for (size_t i = 0; i < sizeof(scores) / sizeof(*scores); i++)
        printf(json ? ",\"%s\":%.*f" : "%-13s  %.*f\n", scores[i].name,
               scores[i].digits, scores[i].value);
    if (json)
        puts("}");
    cJSON_free(quoted);
    cJSON_Delete(name);
}

static int work(const struct options *o, struct infer_error *err)
{
    const struct train_evaluate_options how = {.context = o->context,
                                               .max_tokens = o->max_tokens,
                                               .split = o->split,
                                               .n_threads = (int)o->threads};
    struct train_evaluation e;
    const int status =
        train_evaluate_file(o->model.items[0], &o->text, &how, &e, err);

    if (status == 0)
        print_scores(o->model.items[0], &e, o->json);
    return status;
}

int train_cmd_eval(const char *const *argv)
{
    struct options o = {.text.val_share = 0.1};
    struct infer_error err = {0};
    int status = parse(&o, argv, &err), rc;

    if (status == 0)
        status = check(&o, &err);
    if (status == 1)
        rc = 0;
    else if (status < 0)
        rc = train_command_end("eval", status, &err) * 2;
    else
        rc = train_command_end("eval", work(&o, &err), &err);
    train_list_release(&o.model);
    train_list_release(&o.text.paths);
    return rc;
}
