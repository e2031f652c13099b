/*
 * oracle.c - reading the reference's files; whatever is wrong with them fails
 * the test that asked.
 */
#include "tests/oracle.h"

#include "infer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

bool oracle_present(void)
{
    if (access(ORACLE "/README.md", R_OK) == 0)
        return true;
    print_message("skipped: " ORACLE " is not there\n");
    return false;
}

unsigned oracle_cpu(void)
{
    const char *text = getenv("INFER_TEST_CPU");
    struct infer_error err;
    unsigned mask = (unsigned)INFER_CPU_ALL;

    if (text && infer_cpu_parse(text, &mask, &err))
        fail_msg("INFER_TEST_CPU: %s", err.text);
    return mask;
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text;

    if (!f)
        fail_msg("cannot open '%s'", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    text = malloc(*n + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *n, f), *n);
    text[*n] = '\0';
    fclose(f);
    return text;
}

cJSON *oracle_json(const char *path)
{
    size_t n;
    char *text = read_file(path, &n);
    cJSON *json = cJSON_ParseWithLength(text, n);

    free(text);
    assert_non_null(json);
    return json;
}

cJSON *oracle_cases(const char *folder)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/cases.json", folder);
    return oracle_json(path);
}

float *oracle_floats(const char *path, size_t *n)
{
    char *data = read_file(path, n);

    *n /= sizeof(float);
    return (void *)data;
}

const char *oracle_str(const cJSON *object, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(object, key);

    if (!cJSON_IsString(v))
        fail_msg("no string '%s'", key);
    return v->valuestring;
}

double oracle_num(const cJSON *object, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(object, key);

    if (!cJSON_IsNumber(v))
        fail_msg("no number '%s'", key);
    return v->valuedouble;
}

size_t oracle_list(const cJSON *array, int32_t *out, size_t max)
{
    const cJSON *v;
    size_t n = 0;

    assert_true(cJSON_IsArray(array));
    cJSON_ArrayForEach (v, array) {
        assert_true(n < max);
        out[n++] = v->valueint;
    }
    return n;
}

size_t oracle_ids(const cJSON *object, const char *key, int32_t *out,
                  size_t max)
{
    return oracle_list(cJSON_GetObjectItem(object, key), out, max);
}

bool oracle_is_float(const char *file)
{
    return strstr(file, "F32") || strstr(file, "F16");
}
