/*
 * test_server_config.c - options from defaults, file, variables and flags.
 *
 * config/inferd.json is read here too: it must hold every option, each at the
 * default of the table, so that the file can be trusted as documentation.
 */
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Load with these flags and variables; file is a path or NULL. */
static int load(struct config *c, const char *const *argv,
                const char *const *env, struct infer_error *err)
{
    enum config_action action;

    memset(err, 0, sizeof(*err));
    return config_load(c, argv, env, &action, err);
}

static char *temp_file(const char *text)
{
    char *path = strdup("/tmp/inferd-config-XXXXXX");
    const int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static bool same_value(const struct option *o, const struct config *a,
                       const struct config *b)
{
    const char *x = (const char *)a + o->member;
    const char *y = (const char *)b + o->member;

    if (o->kind <= OPTION_WORD)
        return memcmp(x, y, sizeof(int64_t)) == 0;
    if (o->kind == OPTION_STR)
        return strcmp(*(char *const *)(const void *)x,
                      *(char *const *)(const void *)y) == 0;
    return a->n_models == b->n_models && a->n_api_keys == b->n_api_keys &&
           a->cors_origins.n == b->cors_origins.n;
}

static void test_shipped_file_is_the_defaults(void **state)
{
    struct infer_error err = {0};
    struct config preset, file;

    (void)state;
    assert_int_equal(config_init(&preset, &err), 0);
    assert_int_equal(config_init(&file, &err), 0);
    if (config_read_file(&file, "config/inferd.json", &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < config_n_options(); i++) {
        const struct option *o = config_option(i);

        if (file.source[i] != FROM_FILE)
            fail_msg("config/inferd.json lacks '%s'", o->name);
        if (!same_value(o, &preset, &file))
            fail_msg("config/inferd.json differs in '%s'", o->name);
    }
    config_release(&preset);
    config_release(&file);
}

static void test_precedence(void **state)
{
    char *path = temp_file("{\"max_n\": 2, \"max_stop\": 2, \"max_batch\": 2,"
                           " \"model\": [\"file=/f\"]}");
    const char *argv[] = {"inferd",    "--config",  path,
                          "--max-n=4", "--model",   "a=/x",
                          "--model",   "/y/b.gguf", NULL};
    const char *env[] = {"INFERD_MAX_N=3", "INFERD_MAX_STOP=3", "HOME=/", NULL};
    struct infer_error err;
    struct config c;

    (void)state;
    if (load(&c, argv, env, &err))
        fail_msg("%s", err.text);
    assert_int_equal(c.max_n, 4);
    assert_int_equal(c.max_stop, 3);
    assert_int_equal(c.max_batch, 2);
    assert_int_equal(c.drain_ms, 30000);
    assert_int_equal(c.n_models, 2);
    assert_string_equal(c.models[0].name, "a");
    assert_string_equal(c.models[0].path, "/x");
    assert_string_equal(c.models[1].name, "b");
    config_release(&c);
    unlink(path);
    free(path);
}

static void test_own_settings_of_a_model(void **state)
{
    char *path = temp_file(
        "{ /* two */ \"ctx\": 100, // all\n"
        "\"model\": {\"a\": {\"path\": \"/a\", \"ctx\": 7, \"max_running\": 9},"
        "\"b\": \"/b//no comment\"}}");
    const char *argv[] = {"inferd",        "--config", path,
                          "--max-running", "5",        NULL};
    struct infer_error err;
    struct config c;

    (void)state;
    if (load(&c, argv, NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(c.models[0].engine.ctx, 7);
    assert_int_equal(c.models[0].engine.max_running, 5); /* the flag wins */
    assert_int_equal(c.models[1].engine.ctx, 100);
    assert_string_equal(c.models[1].path, "/b//no comment");
    config_release(&c);
    unlink(path);
    free(path);
}

static void test_booleans(void **state)
{
    static const struct {
        const char *flag, *value;
        int64_t expected;
    } cases[] = {
        {"--access-log", NULL, 1},       {"--no-access-log", NULL, 0},
        {"--access-log=false", NULL, 0}, {"--access-log", "false", 0},
        {"--access_log", "true", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *argv[] = {"inferd", "--model=m=/m", cases[i].flag,
                              cases[i].value, NULL};
        struct infer_error err;
        struct config c;

        assert_int_equal(load(&c, argv, NULL, &err), 0);
        assert_int_equal(c.access_log, cases[i].expected);
        config_release(&c);
    }
}

static void test_keys(void **state)
{
    char *path =
        temp_file("[\"secret-number-one\", {\"name\": \"web\", \"key\": "
                  "\"secret-number-two\", \"concurrency\": 2, \"rate\": 60,"
                  "\"models\": [\"m\"]}]");
    const char *argv[] = {"inferd", "--model=m=/m", "--api-keys-file", path,
                          NULL};
    const char *env[] = {"INFERD_API_KEYS=key-from-env-1,key-from-env-2",
                         "INFERD_CORS_ORIGINS=https://a,https://b", NULL};
    struct infer_error err;
    struct config c;

    (void)state;
    if (load(&c, argv, env, &err))
        fail_msg("%s", err.text);
    assert_int_equal(c.n_api_keys, 4);
    assert_string_equal(c.api_keys[1].key, "key-from-env-2");
    assert_string_equal(c.api_keys[3].name, "web");
    assert_int_equal(c.api_keys[3].concurrency, 2);
    assert_int_equal(c.api_keys[3].models.n, 1);
    assert_int_equal(c.cors_origins.n, 2);
    config_release(&c);
    unlink(path);
    free(path);
}

/* Each must fail with a message that holds `word`. */
static void test_bad_flags(void **state)
{
    static const struct {
        const char *argv[4];
        const char *env;
        const char *word;
    } cases[] = {
        {{"--nonsense"}, NULL, "--nonsense"},
        {{"--max-n=0"}, NULL, "--max-n"},
        {{"--max-n=1x"}, NULL, "1x"},
        {{"--max-n="}, NULL, "--max-n"},
        {{"--max-n= 1"}, NULL, "--max-n"},
        {{"--max-n", "99999999999999999999"}, NULL, "--max-n"},
        {{"--max-n"}, NULL, "--max-n"},
        {{"--kv-type=q8"}, NULL, "f16|f32"},
        {{"--kv-type=f1"}, NULL, "f16|f32"},
        {{"--access-log=maybe"}, NULL, "maybe"},
        {{"--no-max-n"}, NULL, "--no-max-n"},
        {{"file.gguf"}, NULL, "file.gguf"},
        {{"--model="}, NULL, "--model"},
        {{"--model=a=/x", "--model=a=/y"}, NULL, "'a'"},
        {{NULL}, NULL, "no model"},
        {{"--model=a=/x", "--listen", "nowhere"}, NULL, "listen"},
        {{"--model=a=/x", "--listen", "[::1]:65536"}, NULL, "listen"},
        {{"--model=a=/x"}, "INFERD_MAXN=3", "INFERD_MAXN"},
        {{"--model=a=/x"}, "INFERD_MAX_N=three", "INFERD_MAX_N"},
        {{"--model=a=/x", "--api-keys="}, NULL, "key1"},
        {{"--config=/does/not/exist"}, NULL, "/does/not/exist"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *argv[6] = {"inferd"};
        const char *env[] = {cases[i].env, NULL};
        struct infer_error err;
        struct config c;

        for (size_t k = 0; k < 4; k++)
            argv[k + 1] = cases[i].argv[k];
        assert_true(load(&c, argv, env, &err) < 0);
        if (!strstr(err.text, cases[i].word))
            fail_msg("case %zu: '%s' lacks '%s'", i, err.text, cases[i].word);
    }
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "byte 0"},
        {"[]", "one object"},
        {"{\"max_m\": 1}", "max_m"},
        {"{\"max-n\": 1}", "max-n"},
        {"{\"max_n\": \"1\"}", "whole number"},
        {"{\"max_n\": 1.5}", "max_n"},
        {"{\"max_n\": 1, \"max_n\": 2}", "twice"},
        {"{\"access_log\": 1}", "true or false"},
        {"{\"listen\": 1}", "listen"},
        {"{\"model\": 3}", "model"},
        {"{\"model\": [{\"path\": \"/a\"}]}", "name"},
        {"{\"model\": {\"a\": {}}}", "path"},
        {"{\"model\": {\"a\": {\"path\": \"/a\", \"listen\": \"x\"}}}",
         "listen"},
        {"{\"api_keys\": [{\"name\": \"x\"}]}", "needs a key"},
        {"{\"api_keys\": [{\"key\": \"x\", \"limit\": 1}]}", "limit"},
        {"{\"cors_origins\": \"*\"}", "list"},
        {"{ /* never ends }", "byte 2"},
        {"{} trailing", "byte 3"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = temp_file(cases[i].text);
        const char *argv[] = {"inferd", "--model=m=/m", "--config", path, NULL};
        struct infer_error err;
        struct config c;

        assert_true(load(&c, argv, NULL, &err) < 0);
        if (!strstr(err.text, cases[i].word))
            fail_msg("case %zu: '%s' lacks '%s'", i, err.text, cases[i].word);
        unlink(path);
        free(path);
    }
}

/* What Kubernetes adds beside a Service named "inferd" is not ours. */
static void test_service_variables_are_ignored(void **state)
{
    const char *argv[] = {"inferd", "--model=m=/m", NULL};
    const char *env[] = {"INFERD_SERVICE_HOST=10.0.0.1",
                         "INFERD_SERVICE_PORT=80",
                         "INFERD_PORT=tcp://10.0.0.1:80",
                         "INFERD_PORT_80_TCP_ADDR=10.0.0.1", NULL};
    struct infer_error err;
    struct config c;

    (void)state;
    assert_int_equal(load(&c, argv, env, &err), 0);
    config_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_file_is_the_defaults),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_own_settings_of_a_model),
        cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_bad_flags),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_service_variables_are_ignored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
