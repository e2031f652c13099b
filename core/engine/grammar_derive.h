/*
 * grammar_derive.h - `nullable` and `need` of a grammar's items.
 */
#ifndef INFER_ENGINE_GRAMMAR_DERIVE_H
#define INFER_ENGINE_GRAMMAR_DERIVE_H

#include "core/engine/grammar.h"

enum { INFER_NEED_UNKNOWN = UINT16_MAX }; /* ends at no depth allowed */

/*
 * Every rule must be defined.
 * Cost    O(parts) time and memory
 * Errors  ENOMEM
 */
int infer_grammar_derive(struct infer_grammar *g, struct infer_error *err);

#endif
