/*
 * commands.h - the subcommands of infer-train. Each gets its own arguments
 * (argv[0] is its name) and returns the exit status: 0 done, 1 it failed, 2 the
 * command line is wrong. They print; what they call does not.
 */
#ifndef TRAINER_COMMANDS_H
#define TRAINER_COMMANDS_H

#include "trainer/options.h"

struct train_command {
    const char *name;
    int (*run)(const char *const *argv);
    const char *help; /* one line */
};

int train_cmd_tokenizer(const char *const *argv);
int train_cmd_quantize(const char *const *argv);
int train_cmd_eval(const char *const *argv);
int train_cmd_lm(const char *const *argv);
int train_cmd_classify(const char *const *argv);
int train_cmd_embed(const char *const *argv);
int train_cmd_merge(const char *const *argv);
int train_cmd_import(const char *const *argv);
int train_cmd_export(const char *const *argv);

/*
 * Options of a command: 0 go on, 1 help was asked for and printed, negative:
 * the complaint is in err (exit 2).
 */
int train_command_options(const char *usage, const struct train_option *options,
                          size_t n, const char *const *argv,
                          struct infer_error *err);

/* The exit status for a command's result; prints the complaint. */
int train_command_end(const char *name, int status,
                      const struct infer_error *err);

/* A flag that SIGINT and SIGTERM set from now on: end early, keep what there
 * is. */
const volatile int *train_command_stop(void);

#endif
