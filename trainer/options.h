/*
 * options.h - command lines as tables: one row says how an option is called,
 * what it takes, where it goes and what it means, so that parsing, checking
 * and --help cannot differ.
 */
#ifndef TRAINER_OPTIONS_H
#define TRAINER_OPTIONS_H

#include "infer.h"

enum train_option_kind {
    TRAIN_OPT_FLAG,  /* bool; takes nothing */
    TRAIN_OPT_TEXT,  /* const char * */
    TRAIN_OPT_LIST,  /* struct train_list; may be repeated */
    TRAIN_OPT_COUNT, /* uint64_t, min..max; k, M and G multiply by 1000 */
    TRAIN_OPT_REAL,  /* double, min..max */
    TRAIN_OPT_TIME,  /* double seconds, min..max; s, m and h multiply */
    TRAIN_OPT_CHOICE /* int: which word of arg, separated by '|' */
};

struct train_list {
    const char **items; /* [n], borrowed from argv; the array is owned */
    size_t n, cap;
};

struct train_option {
    const char *name; /* without "--"; "" for positional arguments */
    enum train_option_kind kind;
    void *to;
    const char *arg; /* its name in the help, or the choices */
    double min, max;
    const char *help; /* one line; its default is added by the caller */
};

/*
 * Read argv[1..]; "--x v" and "--x=v" are the same. Options that are not
 * given leave their place as it is. One positional row (LIST) may be given.
 *   help  out  --help was there; nothing else is then checked
 * Errors  EINVAL (names the option and says what it takes), ENOMEM
 */
int train_options_parse(const struct train_option *options, size_t n,
                        const char *const *argv, bool *help,
                        struct infer_error *err);

/* The table on stdout, below a usage text. */
void train_options_help(const char *usage, const struct train_option *options,
                        size_t n);

int train_list_add(struct train_list *list, const char *item);
void train_list_release(struct train_list *list);

#endif
