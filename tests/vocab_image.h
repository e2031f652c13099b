/* vocab_image.h - vocabularies as GGUF images, correct or not. They have keys
 * and no tensors, and lie on the stack. Where something fails, so does the
 * test. */
#ifndef TESTS_VOCAB_IMAGE_H
#define TESTS_VOCAB_IMAGE_H

#include "core/model/model.h"
#include "core/tokenizer/tokenizer.h"

#define KEY "tokenizer.ggml."
#define UL  "\xe2\x96\x81" /* U+2581, a space in SentencePiece's pieces */
#define G   "\xc4\xa0"     /* U+0120, a space in byte-level pieces */

struct vocab_image {
    unsigned char data[64 << 10];
    size_t n;
    uint64_t n_keys;
};

void vocab_begin(struct vocab_image *im);
/* Keys, in the order of the file. vocab_array(): n values are put next. */
void vocab_u32(struct vocab_image *im, const char *name, uint32_t v);
void vocab_bool(struct vocab_image *im, const char *name, bool v);
void vocab_str(struct vocab_image *im, const char *name, const char *v);
void vocab_array(struct vocab_image *im, const char *name, uint32_t type,
                 uint64_t n);
void vocab_strs(struct vocab_image *im, const char *name, const char *const *v,
                size_t n);
void vocab_put(struct vocab_image *im, const void *data, size_t n);
void vocab_put_u32(struct vocab_image *im, uint32_t v);
void vocab_put_str(struct vocab_image *im, const char *s);

/* A tokenizer of it; must: the test fails where that fails. */
int vocab_create(struct infer_tokenizer **t, struct vocab_image *im,
                 struct infer_error *err);
struct infer_tokenizer *vocab_must_create(struct vocab_image *im);

/* ---- two small vocabularies -----------------------------------------------
 */

struct vocab_piece {
    const char *text;
    float score;
    uint32_t type;
};

/* SentencePiece's, ids 0.., behind them the 256 bytes where wanted. */
enum {
    UNK,
    BOS,
    EOS,
    SP,
    A,
    B,
    AB,
    SP_AB,
    AA,
    AAAA,
    IM_END,
    USER,
    USER_BANG,
    E_ACUTE,
    UNUSED,
    N_SPM,
    BYTE0 = N_SPM
};

extern const struct vocab_piece vocab_spm_pieces[N_SPM];

void vocab_spm(struct vocab_image *im, bool bytes);

/* Byte-level BPE, without its merges. */
enum { BA, BB, BG, BAB, BGAB, BAA, BEND, BC3, BA9, B1, N_BPE };

extern const char *const vocab_bpe_merges[6];

void vocab_bpe(struct vocab_image *im, const char *pre);

#endif
