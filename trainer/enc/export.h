/* export.h - an encoder as a GGUF file (docs/model-format.md). */
#ifndef TRAINER_ENC_EXPORT_H
#define TRAINER_ENC_EXPORT_H

#include "trainer/enc/model.h"
#include "trainer/run/export.h"

/* RUN/FILE with RUN's vocabulary; keys adds the task's (or NULL).
 * Errors  as train_export() */
int enc_export(struct enc_model *m, const char *run, const char *file,
               train_export_fn *keys, void *user, struct infer_error *err);

#endif
