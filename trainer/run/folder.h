/* folder.h - the folder of a run. */
#ifndef TRAINER_RUN_FOLDER_H
#define TRAINER_RUN_FOLDER_H

#include "infer.h"

/*
 * Make the folder of a new run with its subfolders, or enter that of one to
 * resume (it must be there); keep other processes out until close or the end of
 * this one, and remove what a killed one left half written. lock  out  for
 * close Errors  EINVAL (a run is there already), EBUSY (another process is at
 * work there), EIO
 */
int train_folder_open(const char *path, bool resume, int *lock,
                      struct infer_error *err);
void train_folder_close(int lock); /* -1: nothing */

/* Is there a run (config.json)? */
bool train_folder_has_run(const char *path);

/* Its last part: the model's name. */
const char *train_folder_name(const char *path);

#endif
