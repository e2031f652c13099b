/*
 * frame.h - tokens of a text or a pair of texts, with what stands around them.
 */
#ifndef INFER_TOKENIZER_FRAME_H
#define INFER_TOKENIZER_FRAME_H

#include "core/tokenizer/tokenizer.h"

/*
 * As infer_encode() in infer.h, but for the n-grams: out has none.
 *
 *   pair   NULL: none
 *   limit  tokens, at most, the special ones among them
 * Errors  ETOOLONG (says the limit), ENOMEM
 */
int infer_frame_encode(const struct infer_tokenizer *t,
                       const struct infer_text_piece *text,
                       const struct infer_text_piece *pair, uint32_t limit,
                       enum infer_truncate truncate, struct infer_encoded *out,
                       struct infer_error *err);

#endif
