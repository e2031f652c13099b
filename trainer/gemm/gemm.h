/*
 * gemm.h - the one place where the trainer multiplies matrices.
 *
 *   C = alpha op(A) op(B) + beta C       op(X) is X or its transpose
 *   op(A) [m][k]   op(B) [k][n]   C [m][n]   all row-major
 *
 * Two precisions. F32 is OpenBLAS, one of its threads per member of our team:
 * its own threads would spin beside ours. BF16 rounds A and B to bfloat16 while
 * it packs them and sums in f32, with the tiles of AMX or with vdpbf16ps: ten
 * times the speed, or twice, and a relative error of up to 2^-7 per product of
 * two numbers. Where the processor lacks both, BF16 means F32:
 * train_gemm_precision() tells, and peak.h which one is faster.
 *
 * The same inputs give the same bits, with any number of threads in BF16 and
 * with the same number in F32.
 */
#ifndef TRAINER_GEMM_GEMM_H
#define TRAINER_GEMM_GEMM_H

#include "core/base/team.h"

enum train_precision {
    TRAIN_F32,
    TRAIN_BF16,
    TRAIN_AUTO /* the faster of the two, measured when a context is made */
};

struct train_gemm_ctx; /* precision, team and work space */

/* Rounded once, multiplied often: an operand B in the kernels' own layout. */
struct train_packed;

/*
 * What is done to rows beside a product, by the member that has them in its
 * caches at that time: else each is a pass over memory of its own. Called by
 * any member, once for every row.
 */
struct train_beside {
    /* Write rows [row, row + rows) of A to `to`, lda floats apart. */
    void (*make)(const void *arg, float *to, size_t row, size_t rows);
    /* Rows [row, row + rows), columns [c0, c1) of C are at c, ldc floats apart.
     * row is a multiple of TRAIN_ROW_BLOCK. */
    void (*finish)(const void *arg, float *c, size_t ldc, size_t row,
                   size_t rows, size_t c0, size_t c1);
    bool whole;  /* finish wants all columns at once */
    float *made; /* the product's a, where make may write; or NULL */
    const void *make_arg, *finish_arg;
};

enum { TRAIN_ROW_BLOCK = 64 };

/* One product. Rows of a, b and c are lda, ldb and ldc floats apart. */
struct train_product {
    bool ta, tb; /* a is stored [k][m], b is stored [n][k] */
    size_t m, n, k;
    float alpha;
    const float *a;
    size_t lda;
    const float *b;
    size_t ldb;
    const struct train_packed *packed; /* of op(b), or NULL; F32 reads b */
    float beta;                        /* 0: c is written, never read */
    float *c;
    size_t ldc;
    /* train_gemm_phase() and _run() only: */
    const float *bias; /* [n] added to each row of C, or NULL */
    float *a_sums;     /* [m] += sums of op(A)'s rows, or NULL; with ta */
    /* Not with ta. If a or c is NULL, what is made (then lda is k), or finished
     * (then beta is 0, and c is not written), is in room of the member's own,
     * where train_gemm_fits(); else it is all in a and c. */
    const struct train_beside *beside;
    const uint16_t *a16; /* a in bfloat16 instead, or NULL */
};

/*
 * Make a context. It may be used by one thread, or one run of the team, at a
 * time.
 *
 *   team  runs the products; borrowed; NULL: the calling thread
 *   cpu   mask of allowed instruction sets; INFER_CPU_ALL
 * Cost    8 MB of work space and 3 MB a thread with BF16
 * Errors  ENOMEM
 */
int train_gemm_create(struct train_gemm_ctx **ctx,
                      enum train_precision precision, struct infer_team *team,
                      unsigned cpu, struct infer_error *err);
void train_gemm_free(struct train_gemm_ctx *ctx);

/* What the products of ctx really use. */
enum train_precision train_gemm_precision(const struct train_gemm_ctx *ctx);

/* The kernels of bf16.h behind it, or NULL in F32. */
struct bf16_kernels;
const struct bf16_kernels *train_gemm_kernels(const struct train_gemm_ctx *ctx);

/* Whether products of n columns and k inputs may have work beside with a or c
 * NULL. Never in F32, which has no a16 either. */
bool train_gemm_fits(const struct train_gemm_ctx *ctx, size_t n, size_t k,
                     bool whole);

/* The product, by the whole team; not from inside a run of it. */
void train_gemm(const struct train_gemm_ctx *ctx, bool ta, bool tb, size_t m,
                size_t n, size_t k, float alpha, const float *a, size_t lda,
                const float *b, size_t ldb, float beta, float *c, size_t ldc);
void train_gemm_run(const struct train_gemm_ctx *ctx,
                    const struct train_product *p);

/* The same from inside a run of ctx's team. Every member calls it with the same
 * product. It begins and ends with a barrier: inputs may come from the phase
 * before, and the result is there for all. */
void train_gemm_phase(struct infer_member *me, const struct train_gemm_ctx *ctx,
                      const struct train_product *p);

/* The same by this member alone, while the others do something else: for many
 * small products, such as one per head. */
void train_gemm_alone(const struct infer_member *me,
                      const struct train_gemm_ctx *ctx,
                      const struct train_product *p);

/*
 * Room for a packed op(B) [k][n]: what many products read, or what is packed by
 * rows where it is made, such as the inputs of a weight's gradient.
 *
 * Cost    2 k n bytes
 * Errors  ENOMEM; with F32 *packed is NULL, which products understand
 */
int train_packed_create(struct train_packed **packed,
                        const struct train_gemm_ctx *ctx, size_t k, size_t n,
                        struct infer_error *err);
void train_packed_free(struct train_packed *packed);

/* Fill it, by the whole team; b as in train_product. */
void train_packed_fill(const struct train_gemm_ctx *ctx,
                       struct train_packed *packed, bool tb, const float *b,
                       size_t ldb);

/* Rows [row, row + rows) of op(B) = B, columns [c0, c1): b [rows][ldb] at
 * column c0. row is a multiple of TRAIN_ROW_BLOCK and c0 of 32, as they come to
 * train_beside.finish. Products may then have fewer inputs than k: those
 * written last. Not in F32. */
void train_packed_rows(struct train_packed *packed, const float *b, size_t ldb,
                       size_t row, size_t rows, size_t c0, size_t c1);

/* ---- OpenBLAS ------------------------------------------------------------ */

/* The kind of processor OpenBLAS took this one for, such as "Cooperlake". */
const char *train_blas_core(void);

/* One sentence if that is less than the processor has, which halves F32: what
 * to do about it. NULL if all is well. */
const char *train_blas_warning(void);

#endif
