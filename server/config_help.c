/* config_help.c - what --help prints: a line per row of options.def. */
#include "server/config.h"

#include <stdio.h>

static void help_line(const struct option *o)
{
    static const char *const shape[] = {
        [OPTION_INT] = "N",        [OPTION_BOOL] = "",
        [OPTION_WORD] = "WORD",    [OPTION_STR] = "TEXT",
        [OPTION_STRINGS] = "TEXT", [OPTION_MODELS] = "[NAME=]PATH",
        [OPTION_KEYS] = "KEY",
    };
    char flag[64];
    int n = snprintf(flag, sizeof(flag), "--%s", o->name);

    for (int i = 2; i < n; i++)
        if (flag[i] == '_')
            flag[i] = '-';
    printf("  %s %s\n      %s", flag, shape[o->kind], o->help);
    if (o->words)
        printf(" (%s)", o->words);
    if (o->preset && *o->preset)
        printf(" [%s]", o->preset);
    if (o->kind >= OPTION_STRINGS)
        printf(" (repeatable)");
    putchar('\n');
}

void config_help(void)
{
    puts("usage: inferd --model [NAME=]PATH [option...]\n"
         "Serves language models over HTTP.\n\n"
         "Each option is also a variable (--max-n: INFERD_MAX_N; commas "
         "separate a list)\nand a key of the configuration file (max_n). "
         "Flags win over variables, these over\nthe file.\n\n"
         "  --config FILE\n      configuration file: JSON with comments\n"
         "  --healthcheck[=PATH]\n      ask the server that listens as "
         "configured; exit status 0 if\n      PATH [/healthz] is 200\n"
         "  --help, --version");
    for (size_t i = 0; i < config_n_options(); i++)
        help_line(config_option(i));
}
