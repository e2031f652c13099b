/*
 * cmd_convert.c - infer-train import and export: models from and for other
 * programs. The work is trainer/hf; this reads the command line.
 */
#include "core/base/error.h"
#include "core/format/quant.h"
#include "trainer/commands.h"
#include "trainer/hf/convert.h"
#include "trainer/run/quantize.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_LEN = 4096 };

/* ---- import ---------------------------------------------------------------
 */

static const char import_usage[] =
    "usage: infer-train import FOLDER|FILE.safetensors OUT.gguf [OPTIONS]\n\n"
    "Makes a model of a Hugging Face checkpoint (llama, mistral, qwen2,\n"
    "qwen3, gpt2 or bert) with config.json and its tokenizer, which is\n"
    "tokenizer.model, tokenizer.json, vocab.json and merges.txt, or\n"
    "vocab.txt, in the same folder.";

static int parse_import(struct train_list *files, const char **type,
                        const char *const *argv, struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, files, "FOLDER OUT.gguf", 0, 0,
         "the checkpoint, and where the model goes"},
        {"type", TRAIN_OPT_TEXT, type, "TYPE", 0, 0,
         "of matrices: f32 f16 bf16 q8_0 ... as quantize (as they are)"},
    };

    return train_command_options(import_usage, table,
                                 sizeof(table) / sizeof(*table), argv, err);
}

static int check_import(const struct train_list *files, const char *text,
                        int *type, struct infer_error *err)
{
    if (files->n != 2)
        return infer_fail(err, INFER_EINVAL,
                          "give a checkpoint and the file to make of it");
    *type = text ? infer_qtype_parse(text) : -1;
    if (text && (*type < 0 || !train_quantize_supports((uint32_t)*type)))
        return infer_fail(err, INFER_EINVAL,
                          "--type '%.20s' is none of f32 f16 bf16 q8_0 q4_0 "
                          "q4_1 q5_0 q5_1 q4_k q5_k q6_k",
                          text);
    return 0;
}

static int import(const struct train_list *files, int type,
                  struct infer_error *err)
{
    struct hf_report r;
    const int status =
        hf_import(files->items[0], files->items[1], type, &r, err);

    if (status == 0)
        printf("%s: %s, %zu tensors, %llu parameters\n", files->items[1],
               r.arch, r.n_tensors, (unsigned long long)r.n_values);
    return status;
}

int train_cmd_import(const char *const *argv)
{
    struct train_list files = {0};
    struct infer_error err = {0};
    const char *text = NULL;
    int type = -1, status = parse_import(&files, &text, argv, &err), rc;

    if (status == 0)
        status = check_import(&files, text, &type, &err);
    if (status == 1)
        rc = 0;
    else if (status < 0)
        rc = train_command_end("import", status, &err) * 2;
    else
        rc = train_command_end("import", import(&files, type, &err), &err);
    train_list_release(&files);
    return rc;
}

/* ---- export ---------------------------------------------------------------
 */

static const char export_usage[] =
    "usage: infer-train export RUN|FILE.gguf OUT [OPTIONS]\n\n"
    "Writes the model of a run, or any llama, qwen2, qwen3 or gpt2 file, for\n"
    "other programs. safetensors: OUT becomes a folder as Hugging Face's\n"
    "transformers read it; quantized weights become F32. onnx: OUT becomes a\n"
    "file, input_ids to logits, in F32, without a cache.";

struct export_options {
    struct train_list files;
    int format;
};

static int parse_export(struct export_options *o, const char *const *argv,
                        struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->files, "RUN|FILE.gguf OUT", 0, 0,
         "the model, and where the result goes"},
        {"format", TRAIN_OPT_CHOICE, &o->format, "safetensors|onnx", 0, 0,
         "(safetensors)"},
    };

    return train_command_options(export_usage, table,
                                 sizeof(table) / sizeof(*table), argv, err);
}

static int export_model(const struct export_options *o, struct infer_error *err)
{
    const char *from = o->files.items[0], *to = o->files.items[1];
    char model[PATH_LEN];
    struct hf_report r;
    struct stat st;
    int status;

    if (stat(from, &st) == 0 && S_ISDIR(st.st_mode)) {
        snprintf(model, sizeof(model), "%s/model.gguf", from);
        from = model;
    }
    status = o->format ? onnx_export(from, to, &r, err)
                       : hf_export(from, to, &r, err);
    if (status == 0)
        printf("%s: %s, %zu tensors, %llu parameters\n", to, r.arch,
               r.n_tensors, (unsigned long long)r.n_values);
    return status;
}

int train_cmd_export(const char *const *argv)
{
    struct export_options o = {0};
    struct infer_error err = {0};
    int status = parse_export(&o, argv, &err), rc;

    if (status == 0 && o.files.n != 2)
        status = infer_fail(&err, INFER_EINVAL,
                            "give a model and where its copy goes");
    if (status == 1)
        rc = 0;
    else if (status < 0)
        rc = train_command_end("export", status, &err) * 2;
    else
        rc = train_command_end("export", export_model(&o, &err), &err);
    train_list_release(&o.files);
    return rc;
}
