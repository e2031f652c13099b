/*
 * main.c - infer-train: picks the subcommand.
 *
 * Exit status: 0 done, 1 it failed, 2 the command line is wrong. Each failure
 * is one line on stderr that says what to do.
 */
#include "trainer/commands.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct train_command commands[] = {
    {"tokenizer", train_cmd_tokenizer, "make a vocabulary from text"},
    {"lm", train_cmd_lm, "train a language model from text"},
    {"classify", train_cmd_classify, "train a classifier of texts"},
    {"embed", train_cmd_embed, "train a sentence embedder"},
    {"eval", train_cmd_eval, "loss, perplexity and bits per byte of a model"},
    {"merge", train_cmd_merge, "average models of one shape"},
    {"quantize", train_cmd_quantize, "write a model with smaller weights"},
    {"import", train_cmd_import, "make a model of a Hugging Face checkpoint"},
    {"export", train_cmd_export, "write a model as safetensors or ONNX"},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(*commands) };

static void print_help(void)
{
    printf("infer-train %s - makes the models that inferd serves\n\n"
           "usage: infer-train COMMAND [OPTIONS]; COMMAND --help says more\n\n",
           infer_version());
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].help);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";

    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write() */
    /* a full disk or quota too */
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run((const char *const *)argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
        strcmp(name, "help") == 0) {
        print_help();
        return argc > 1 ? 0 : 2;
    }
    if (strcmp(name, "--version") == 0) {
        printf("infer-train %s\n", infer_version());
        return 0;
    }
    fprintf(stderr,
            "infer-train: unknown command '%.60s'; infer-train --help lists "
            "them\n",
            name);
    return 2;
}
