/* judge.h - how good is a classifier's file? */
#ifndef TRAINER_ENC_JUDGE_H
#define TRAINER_ENC_JUDGE_H

#include "trainer/enc/examples.h"

/*
 * The number that training chooses epochs by (accuracy in scope, micro F1, or
 * minus the squared error), of labelled rows. columns->kind is taken from the
 * file.
 * Errors  those of the file; EFORMAT (a label it does not know), ENOMEM
 */
int enc_judge(const char *path, const struct enc_rows *rows,
              struct enc_columns *columns, struct infer_team *team,
              double *score, struct infer_error *err);

#endif
