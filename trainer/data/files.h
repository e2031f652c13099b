/*
 * files.h - paths to a list of regular files, and a file as a mapping.
 */
#ifndef TRAINER_DATA_FILES_H
#define TRAINER_DATA_FILES_H

#include "trainer/options.h"

/*
 * The files that paths name: themselves, and of a folder all text files below
 * it (.txt .text .md .jsonl .ndjson), sorted by name. Items are malloc'd.
 * Errors  EIO (a path cannot be read), EINVAL (no file), ENOMEM
 */
int train_files_expand(const struct train_list *paths, struct train_list *files,
                       struct infer_error *err);
void train_files_release(struct train_list *files);

bool train_file_is_jsonl(const char *path);

struct train_map {
    const char *data; /* [size]; "" when size is 0 */
    size_t size;
};

/* Map a regular file to be read once from the front. Errors  EIO */
int train_map_open(struct train_map *map, const char *path,
                   struct infer_error *err);
void train_map_close(struct train_map *map);

#endif
