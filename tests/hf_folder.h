/* hf_folder.h - a folder for a Hugging Face checkpoint, and what is held of it.
 * Where something fails, so does the test. */
#ifndef TESTS_HF_FOLDER_H
#define TESTS_HF_FOLDER_H

#include "core/format/gguf.h"

#include <cjson/cJSON.h>

extern char hf_folder[64]; /* of this test, emptied after it */
extern char hf_back[128];  /* the model that comes back, in it */

/* Set up and tear down. */
int hf_make_folder(void **state);
int hf_remove_folder(void **state);

/* The path of a file in it; two at a time. */
const char *hf_in(const char *name);
void hf_write(const char *path, const void *data, size_t n);
void hf_write_json(const char *name, cJSON *root); /* frees root */

/* A model of the oracle to the folder. */
void hf_export_oracle(const char *name);
struct infer_gguf *hf_open(const char *path);

/* The folder is refused with this status and these words, and no file is left;
 * what: names the case. */
void hf_import_fails(int status, const char *says, const char *what);

/* If a has an array of this key, b has the same. */
void hf_same_array(const struct infer_gguf *a, const struct infer_gguf *b,
                   const char *key);
void hf_same_vocab(const struct infer_gguf *a, const struct infer_gguf *b);
/* Texts of the oracle's cases for model `name` become the same ids. */
void hf_same_ids(const char *name, const struct infer_gguf *g);

#endif
