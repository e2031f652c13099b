/*
 * main.c - inferd: read the configuration, serve, say why not.
 *
 * Exit status: 0 after a clean stop, 1 if the start failed, 2 for a wrong flag,
 * variable or configuration file. Each failure is one line on stderr. With
 * --healthcheck: 0 if another inferd answers as asked, else 1.
 */
#include "server/config.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/probe.h"

#include <stdio.h>

extern char **environ;

int main(int argc, char **argv)
{
    struct config config;
    struct infer_error err = {0};
    enum config_action action;
    int rc;

    (void)argc;
    if (config_load(&config, (const char *const *)argv,
                    (const char *const *)environ, &action, &err)) {
        fprintf(stderr, "inferd: %s\n", err.text);
        return 2;
    }
    if (action == CONFIG_HELP)
        config_help();
    if (action == CONFIG_VERSION)
        printf("inferd %s\n", infer_version());
    if (action == CONFIG_HELP || action == CONFIG_VERSION)
        return 0;
    log_set_level((enum log_level)config.log_level);
    rc = action == CONFIG_HEALTHCHECK
             ? probe_run(config.listen, config.probe, &err)
             : loop_serve(&config, &err);
    if (rc && *err.text)
        fprintf(stderr, "inferd: %s\n", err.text);
    config_release(&config);
    return rc ? 1 : 0;
}
