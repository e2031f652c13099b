/*
 * json.h - the JSON files of a checkpoint, read field by field; the first
 * complaint stays and names file and field.
 */
#ifndef TRAINER_HF_JSON_H
#define TRAINER_HF_JSON_H

#include "infer.h"

#include <cjson/cJSON.h>

/* An object. Errors  EIO, EFORMAT (not JSON, or no object), ENOMEM */
int hf_json_open(cJSON **root, const char *path, struct infer_error *err);

/* Does the file exist? */
bool hf_json_exists(const char *folder, const char *name);
/* folder/name, when it exists; else *root stays NULL. */
int hf_json_open_in(cJSON **root, const char *folder, const char *name,
                    struct infer_error *err);

/* Write text as it is printed, atomically. Errors  EIO, ENOMEM */
int hf_json_save(const cJSON *root, const char *folder, const char *name,
                 struct infer_error *err);

struct hf_reader {
    const cJSON *object;
    const char *file; /* for messages */
    struct infer_error *err;
    int status; /* the first failure; readers do nothing after it */
};

#define HF_REQUIRED (-1.0) /* instead of a default */

/* A whole number, min..max; absent or null: def. */
uint32_t hf_u32(struct hf_reader *r, const char *key, double def, uint32_t min,
                uint32_t max);
float hf_f32(struct hf_reader *r, const char *key, double def, float min,
             float max);
bool hf_bool(struct hf_reader *r, const char *key, bool def);
/* Borrowed from the object; absent or null: def. */
const char *hf_text(struct hf_reader *r, const char *key, const char *def);
/* An object inside; NULL: absent or null. */
const cJSON *hf_object(struct hf_reader *r, const char *key);

/* Set r->status and its sentence: "FILE: 'key' ..." */
void hf_refuse(struct hf_reader *r, int status, const char *key,
               const char *what);

#endif
