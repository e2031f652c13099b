/* folder.h - the folder of a run. */
#ifndef TRAINER_RUN_FOLDER_H
#define TRAINER_RUN_FOLDER_H

#include "infer.h"

/* Make it with its subfolders. Errors  EINVAL (a run is there already), EIO */
int train_folder_make(const char *path, struct infer_error *err);

/* Remove temporary files that a killed run left. Errors  EINVAL (no run) */
int train_folder_clean(const char *path, struct infer_error *err);

/* Its last part: the model's name. */
const char *train_folder_name(const char *path);

#endif
