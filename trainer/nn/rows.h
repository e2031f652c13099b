/*
 * rows.h - a large table of rows of which a step touches few: hashed n-grams.
 *
 * A text's vector gets a weighted sum of rows. Gradients are not kept: the
 * touched rows move at once, by Adagrad with one sum of squares a row (Duchi et
 * al. 2011), so that a step costs what it touches and a rare n-gram learns as
 * fast as a frequent one. Rows begin at zero, where an n-gram that was never
 * seen says nothing and costs no memory, or as nn_rows_data() is filled.
 */
#ifndef TRAINER_NN_ROWS_H
#define TRAINER_NN_ROWS_H

#include "core/base/team.h"

struct nn_rows; /* opaque; one thread at a time */

/* Which rows go into which vector, and how much of each. */
struct nn_row_use {
    uint32_t row, text;
    float weight;
};

/* All rows zero; memory of the untouched is not taken. Errors  ENOMEM */
int nn_rows_create(struct nn_rows **r, uint32_t n, uint32_t d,
                   struct infer_team *team, struct infer_error *err);
void nn_rows_free(struct nn_rows *r);

float *nn_rows_data(struct nn_rows *r); /* [n][d] */

/* y [n_texts][d] += weight * row, of every use; uses are sorted by text. */
void nn_rows_add(struct nn_rows *r, const struct nn_row_use *uses,
                 size_t n_uses, float *y, size_t n_texts);

/*
 * Move the rows of the uses against the gradient that dy [n_texts][d], the
 * loss's derivative by y, gives them; each step of about lr a value, shrinking
 * as a row's gradients add up. decay: rows shrink by lr * decay when touched.
 * Errors  ENOMEM
 */
int nn_rows_step(struct nn_rows *r, const struct nn_row_use *uses,
                 size_t n_uses, const float *dy, float lr, float decay,
                 struct infer_error *err);

#endif
