/*
 * schema.h - JSON Schema (2020-12, a subset) to a grammar.
 *
 * What is written by the grammar is JSON that the schema accepts. It need not
 * be all that the schema accepts (white space, escapes and numbers are a
 * little narrower); but a keyword that cannot be kept is refused, never left
 * out. docs/structured.md is the list.
 */
#ifndef SERVER_SCHEMA_H
#define SERVER_SCHEMA_H

#include "infer.h"

#include <cjson/cJSON.h>

/*
 *   schema  an object or a boolean; NULL: any JSON object
 *   err     names the place: "#/properties/age: ..."
 * Cost    O(size of the schema)
 * Errors  EINVAL (not a schema, or nothing satisfies it), EUNSUPPORTED,
 *         ETOOLONG, ENOMEM
 */
int schema_compile(struct infer_grammar **g, const cJSON *schema,
                   struct infer_error *err);

#endif
