/*
 * cmd_quantize.c - infer-train quantize: a model file with smaller weights.
 *
 * The work is trainer/run/quantize.c; this reads the command line and prints
 * what came of it.
 */
#include "core/base/error.h"
#include "core/format/quant.h"
#include "trainer/commands.h"
#include "trainer/run/evaluate.h"
#include "trainer/run/quantize.h"

#include <stdio.h>

struct options {
    struct train_list files;
    const char *type;
    struct train_text eval;
    struct train_list imatrix;
    uint64_t context, imatrix_tokens;
};

static const char usage[] =
    "usage: infer-train quantize IN.gguf OUT.gguf --type TYPE [OPTIONS]\n\n"
    "Writes a copy whose matrices have another type. Vectors stay F32; rows\n"
    "that whole blocks do not fill become F16.";

static int parse(struct options *o, const char *const *argv,
                 struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->files, "IN.gguf OUT.gguf", 0, 0,
         "the model, and where the new one goes"},
        {"type", TRAIN_OPT_TEXT, &o->type, "TYPE", 0, 0,
         "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k"},
        {"eval", TRAIN_OPT_LIST, &o->eval.paths, "FILE", 0, 0,
         "print the loss on this text before and after"},
        {"imatrix", TRAIN_OPT_LIST, &o->imatrix, "FILE", 0, 0,
         "weigh errors by what the matrices see in this text"},
        {"imatrix-tokens", TRAIN_OPT_COUNT, &o->imatrix_tokens, "N", 0, 1e12,
         "of that text at most; 0: all (200k)"},
        {"context", TRAIN_OPT_COUNT, &o->context, "N", 2, 1e6,
         "tokens of one window of --eval and --imatrix (the model's)"},
        TRAIN_TEXT_OPTIONS(&o->eval),
    };

    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

static int check(const struct options *o, int *type, struct infer_error *err)
{
    if (o->files.n != 2)
        return infer_fail(err, INFER_EINVAL,
                          "give two files, the model and the new one");
    if (!o->type)
        return infer_fail(err, INFER_EINVAL, "--type is missing, e.g. q8_0");
    *type = infer_qtype_parse(o->type);
    if (*type < 0 || !train_quantize_supports((uint32_t)*type))
        return infer_fail(err, INFER_EINVAL,
                          "--type '%.20s' is none of f32 f16 bf16 q8_0 q4_0 "
                          "q4_1 q5_0 q5_1 q4_k q5_k q6_k",
                          o->type);
    return 0;
}

static void print_report(const struct train_quantize_report *r)
{
    for (size_t i = 0; i < TRAIN_QUANTIZE_TYPES; i++)
        if (r->n_tensors[i])
            printf("  %-5s %4zu tensors %10.3f MB\n",
                   infer_qtype_info((uint32_t)i)->name, r->n_tensors[i],
                   (double)r->bytes[i] / 1e6);
    if (r->n_fallback)
        printf("  %zu matrices have rows that blocks do not divide (the first "
               "is %s): F16\n",
               r->n_fallback, r->fallback);
    printf("  file  %.3f MB -> %.3f MB\n", (double)r->bytes_before / 1e6,
           (double)r->bytes_after / 1e6);
}

static int print_loss(const struct options *o, const char *path,
                      struct infer_error *err)
{
    const struct train_evaluate_options how = {.context = o->context};
    struct train_evaluation e;
    const int status = train_evaluate_file(path, &o->eval, &how, &e, err);

    if (status == 0)
        printf("  loss %.5f, perplexity %.4f: %s\n", e.loss, e.perplexity,
               path);
    return status;
}

static int work(const struct options *o, int type, struct infer_error *err)
{
    struct train_quantize_report report;
    struct train_importance *imp = NULL;
    struct train_text calibration = o->eval;
    int status = 0;

    calibration.paths = o->imatrix;
    if (o->imatrix.n)
        status = train_importance_create(&imp, o->files.items[0], &calibration,
                                         o->context, o->imatrix_tokens, err);
    if (status == 0)
        status = train_quantize_file(o->files.items[0], o->files.items[1],
                                     (uint32_t)type, imp, &report, err);
    if (status == 0 && imp)
        printf("importance of %zu matrices from %llu tokens\n",
               report.n_weighed,
               (unsigned long long)train_importance_tokens(imp));
    train_importance_free(imp);
    if (status == 0) {
        printf("%s\n", o->files.items[1]);
        print_report(&report);
    }
    for (size_t i = 0; i < 2 && status == 0 && o->eval.paths.n; i++)
        status = print_loss(o, o->files.items[i], err);
    return status;
}

int train_cmd_quantize(const char *const *argv)
{
    struct options o = {.imatrix_tokens = 200000};
    struct infer_error err = {0};
    int type = 0, status = parse(&o, argv, &err), rc;

    if (status == 0)
        status = check(&o, &type, &err);
    if (status == 1)
        rc = 0;
    else if (status < 0)
        rc = train_command_end("quantize", status, &err) * 2;
    else
        rc = train_command_end("quantize", work(&o, type, &err), &err);
    train_list_release(&o.files);
    train_list_release(&o.eval.paths);
    train_list_release(&o.imatrix);
    return rc;
}
