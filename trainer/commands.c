/* commands.c - what the subcommands share; see commands.h. */
#include "trainer/commands.h"

#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t stop;

int train_command_options(const char *usage, const struct train_option *options,
                          size_t n, const char *const *argv,
                          struct infer_error *err)
{
    bool help;
    const int status = train_options_parse(options, n, argv, &help, err);

    if (status == 0 && help) {
        train_options_help(usage, options, n);
        return 1;
    }
    return status;
}

int train_command_end(const char *name, int status,
                      const struct infer_error *err)
{
    if (status == 0)
        return fflush(stdout) ? 1 : 0;
    fprintf(stderr, "infer-train %s: %s\n", name,
            *err->text ? err->text : infer_status_text(status));
    return 1;
}

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

const volatile int *train_command_stop(void)
{
    const struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &stop;
}
