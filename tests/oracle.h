/* oracle.h - reading the reference's files (cases.json, raw floats). */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#define ORACLE "../shared/oracle"

/* False (and a line that says so) where the reference is not there. */
bool oracle_present(void);

/* The instruction sets to test: $INFER_TEST_CPU (infer_cpu_parse), else all. */
unsigned oracle_cpu(void);

/* A JSON file; fails the test when it cannot be read. */
cJSON *oracle_json(const char *path);

/* folder/cases.json; fails the test when it cannot be read. */
cJSON *oracle_cases(const char *folder);

/* A whole file of floats, malloc'd; n: how many. */
float *oracle_floats(const char *path, size_t *n);

const char *oracle_str(const cJSON *object, const char *key);
double oracle_num(const cJSON *object, const char *key);

/* Integers of an array, at most max; returns how many. */
size_t oracle_list(const cJSON *array, int32_t *out, size_t max);
size_t oracle_ids(const cJSON *object, const char *key, int32_t *out,
                  size_t max);

/* "model-F32.gguf" and its 16-bit siblings: no rounding of activations. */
bool oracle_is_float(const char *file);

#endif
