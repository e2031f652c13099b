/*
 * wordpiece.h - BERT's tokenizer: words, then the longest pieces of each.
 *
 * Private to core/tokenizer. It has no state beside the vocabulary, so any
 * thread may encode.
 */
#ifndef INFER_TOKENIZER_WORDPIECE_H
#define INFER_TOKENIZER_WORDPIECE_H

#include "core/tokenizer/vocab.h"

/*
 * Append the ids of a text, and with spans where each came from; base is added
 * to them. A word that is no row of pieces becomes v->unk.
 * Errors  ENOMEM
 */
int infer_wordpiece_encode(const struct infer_vocab *v, const char *text,
                           size_t len, size_t base, struct infer_ids *out,
                           struct infer_spans *spans);

#endif
