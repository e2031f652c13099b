/* options.h - rows of the options that classify and embed share. */
#ifndef TRAINER_ENC_OPTIONS_H
#define TRAINER_ENC_OPTIONS_H

#include "trainer/enc/recipe.h"

/* clang-format off */
#define ENC_TABLE_OPTIONS(t)                                                   \
    {"delimiter", TRAIN_OPT_TEXT, &(t)->delimiter, "CHAR", 0, 0,               \
     "between columns, or 'tab' (found out)"},                                 \
    {"no-header", TRAIN_OPT_FLAG, &(t)->no_header, "", 0, 0,                   \
     "the first row is data; columns are numbers from 1"},                     \
    {"encoding", TRAIN_OPT_CHOICE, &(t)->encoding, "utf-8|cp1252", 0, 0,       \
     "of the files; UTF-16 is seen by its mark (utf-8)"}

#define ENC_RECIPE_OPTIONS(p)                                                  \
    {"init", TRAIN_OPT_TEXT, &(p)->init, "FILE", 0, 0,                         \
     "begin as a BERT, or with what fits of another GGUF file"},               \
    {"tokenizer", TRAIN_OPT_TEXT, &(p)->tokenizer, "FILE", 0, 0,               \
     "a .model or .gguf (learned from the examples)"},                         \
    {"vocab", TRAIN_OPT_COUNT, &(p)->vocab, "N", 300, 1000000,                 \
     "pieces to learn at most (8000)"},                                        \
    {"layers", TRAIN_OPT_COUNT, &(p)->layers, "N", 0, 1000, "layers (0)"},     \
    {"heads", TRAIN_OPT_COUNT, &(p)->heads, "N", 1, 1000,                      \
     "attention heads (4)"},                                                   \
    {"width", TRAIN_OPT_COUNT, &(p)->width, "N", 2, 65536, "width (256)"},     \
    {"ffn", TRAIN_OPT_COUNT, &(p)->ffn, "N", 1, 262144,                        \
     "hidden width (8/3 of the width)"},                                       \
    {"context", TRAIN_OPT_COUNT, &(p)->context, "N", 1, 65536,                 \
     "tokens of a text at most (256)"},                                        \
    {"ngram-buckets", TRAIN_OPT_COUNT, &(p)->buckets, "N", 0, 1u << 31,        \
     "rows for hashed n-grams, 0: none (262144)"},                             \
    {"ngram-words", TRAIN_OPT_COUNT, &(p)->words, "N", 1, 8,                   \
     "longest n-gram of words (3)"},                                           \
    {"ngram-char-min", TRAIN_OPT_COUNT, &(p)->char_min, "N", 0, 8,             \
     "shortest n-gram of characters, 0: none (3)"},                            \
    {"ngram-char-max", TRAIN_OPT_COUNT, &(p)->char_max, "N", 0, 8,             \
     "longest (5)"},                                                           \
    {"drop-tokens", TRAIN_OPT_REAL, &(p)->drop_tokens, "X", 0, 0.9,            \
     "share of a text's tokens left out (0.1; a BERT's 0)"},                   \
    {"drop-ngrams", TRAIN_OPT_REAL, &(p)->drop_grams, "X", 0, 0.9,             \
     "share of its n-grams left out (0.3)"},                                   \
    {"drop-vector", TRAIN_OPT_REAL, &(p)->drop_vector, "X", 0, 0.9,            \
     "share of its vector (0.5; embed 0; a BERT's 0.1)"},                      \
    {"drop-part", TRAIN_OPT_REAL, &(p)->drop_part, "X", 0, 0.9,                \
     "share of texts without tokens, and without n-grams (0.2)"},              \
    {"dropout", TRAIN_OPT_REAL, &(p)->dropout, "X", 0, 0.9,                    \
     "inside the layers (0.1)"},                                               \
    {"lr", TRAIN_OPT_REAL, &(p)->lr, "X", 1e-9, 1e3,                           \
     "peak learning rate of matrices, Muon (0.02); of a BERT, AdamW (5e-5)"},  \
    {"other-lr", TRAIN_OPT_REAL, &(p)->other_lr, "X", 1e-9, 1e3,               \
     "of embeddings, head and vectors, Adam (1e-3)"},                          \
    {"ngram-lr", TRAIN_OPT_REAL, &(p)->rows_lr, "X", 1e-9, 1e3,                \
     "of n-gram rows, Adagrad (0.3)"},                                         \
    {"ngram-decay", TRAIN_OPT_REAL, &(p)->rows_decay, "X", 0, 10,              \
     "of their weights when touched (0)"},                                     \
    {"weight-decay", TRAIN_OPT_REAL, &(p)->weight_decay, "X", 0, 10,           \
     "of the others (0.01)"},                                                  \
    {"warmup", TRAIN_OPT_REAL, &(p)->warmup, "X", 0, 1,                        \
     "share of the run, then linear to 0 (0.05)"},                             \
    {"batch", TRAIN_OPT_COUNT, &(p)->batch, "N", 1, 65536,                     \
     "texts a step (64; a BERT's 32)"},                                        \
    {"seed", TRAIN_OPT_COUNT, &(p)->seed, "N", 0, 9e15, "(1)"},                \
    {"threads", TRAIN_OPT_COUNT, &(p)->threads, "N", 0, 256,                   \
     "compute threads (0: one per processor)"},                                \
    {"precision", TRAIN_OPT_CHOICE, &(p)->precision, "f32|bf16", 0, 0,         \
     "of the products (f32; a BERT's bf16 where it is fast)"}
/* clang-format on */

#endif
