/*
 * fuzz_schema.c - any JSON as a schema: a grammar, or an error that says why;
 * never a crash, never long.
 */
#include "server/jsoncheck.h"
#include "server/schema.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct infer_grammar *g = NULL;
    struct infer_error err = {0};
    cJSON *root;

    if (json_check((const char *)data, size, NULL) != 0)
        return 0;
    root = cJSON_ParseWithLength((const char *)data, size);
    if (!root)
        return 0;
    if (schema_compile(&g, root, &err) == 0)
        infer_grammar_free(g);
    else if (err.status == 0 || !*err.text)
        abort(); /* a failure that says nothing */
    cJSON_Delete(root);
    return 0;
}
