/* json.c - see json.h. */
#include "trainer/hf/json.h"

#include "core/base/error.h"
#include "core/format/replace.h"
#include "trainer/data/files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LEN = 4096 };

int hf_json_open(cJSON **root, const char *path, struct infer_error *err)
{
    struct train_map map = {"", 0};
    const char *end = NULL;
    cJSON *made;
    int status = train_map_open(&map, path, err);

    if (status != 0)
        return status;
    made = cJSON_ParseWithLengthOpts(map.data, map.size, &end, 0);
    while (made && end < map.data + map.size && *end && strchr(" \t\r\n", *end))
        end++;
    if (!made)
        status =
            infer_fail(err, INFER_EFORMAT, "'%.150s' is not JSON (byte %zu)",
                       path, end ? (size_t)(end - map.data) : 0);
    else if (end != map.data + map.size || !cJSON_IsObject(made))
        status = infer_fail(err, INFER_EFORMAT,
                            "'%.150s' is not one JSON object", path);
    train_map_close(&map);
    if (status != 0)
        cJSON_Delete(made);
    else
        *root = made;
    return status;
}

bool hf_json_exists(const char *folder, const char *name)
{
    char path[PATH_LEN];

    return snprintf(path, sizeof(path), "%s/%s", folder, name) < PATH_LEN &&
           access(path, F_OK) == 0;
}

int hf_json_open_in(cJSON **root, const char *folder, const char *name,
                    struct infer_error *err)
{
    char path[PATH_LEN];

    *root = NULL;
    if (!hf_json_exists(folder, name))
        return 0;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return hf_json_open(root, path, err);
}

int hf_json_save(const cJSON *root, const char *folder, const char *name,
                 struct infer_error *err)
{
    char path[PATH_LEN], *text = root ? cJSON_Print(root) : NULL;
    struct infer_replace r = {.fd = -1};
    int status;

    if (!text)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    status = infer_replace_begin(&r, path, err);
    if (status == 0)
        status = infer_replace_write(&r, text, strlen(text), err);
    if (status == 0)
        status = infer_replace_write(&r, "\n", 1, err);
    if (status == 0)
        status = infer_replace_commit(&r, err);
    infer_replace_abort(&r);
    cJSON_free(text);
    return status;
}

/* ---- fields --------------------------------------------------------------
 */

void hf_refuse(struct hf_reader *r, int status, const char *key,
               const char *what)
{
    if (r->status == 0)
        r->status =
            infer_fail(r->err, status, "%s: '%.40s' %s", r->file, key, what);
}

/* NULL: absent, null, or an earlier failure. */
static const cJSON *get(const struct hf_reader *r, const char *key)
{
    const cJSON *v =
        r->status ? NULL : cJSON_GetObjectItemCaseSensitive(r->object, key);

    return cJSON_IsNull(v) ? NULL : v;
}

static double number(struct hf_reader *r, const char *key, double def,
                     double min, double max)
{
    const cJSON *v = get(r, key);
    char what[80];

    if (r->status)
        return min;
    if (!v && def == HF_REQUIRED)
        hf_refuse(r, INFER_EFORMAT, key, "is missing");
    if (!v)
        return def;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= min) ||
        !(v->valuedouble <= max)) {
        snprintf(what, sizeof(what), "is not a number from %.9g to %.9g", min,
                 max);
        hf_refuse(r, INFER_EFORMAT, key, what);
        return min;
    }
    return v->valuedouble;
}

uint32_t hf_u32(struct hf_reader *r, const char *key, double def, uint32_t min,
                uint32_t max)
{
    const double v = number(r, key, def, min, max);

    if (r->status == 0 && v != floor(v))
        hf_refuse(r, INFER_EFORMAT, key, "is not a whole number");
    return r->status ? min : (uint32_t)v;
}

float hf_f32(struct hf_reader *r, const char *key, double def, float min,
             float max)
{
    return (float)number(r, key, def, (double)min, (double)max);
}

bool hf_bool(struct hf_reader *r, const char *key, bool def)
{
    const cJSON *v = get(r, key);

    if (v && !cJSON_IsBool(v))
        hf_refuse(r, INFER_EFORMAT, key, "is neither true nor false");
    return v ? cJSON_IsTrue(v) : def;
}

const char *hf_text(struct hf_reader *r, const char *key, const char *def)
{
    const cJSON *v = get(r, key);

    if (v && !cJSON_IsString(v))
        hf_refuse(r, INFER_EFORMAT, key, "is not a string");
    return v && cJSON_IsString(v) ? v->valuestring : def;
}

const cJSON *hf_object(struct hf_reader *r, const char *key)
{
    const cJSON *v = get(r, key);

    if (v && !cJSON_IsObject(v))
        hf_refuse(r, INFER_EFORMAT, key, "is not an object");
    return cJSON_IsObject(v) ? v : NULL;
}
