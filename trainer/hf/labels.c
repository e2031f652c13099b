/*
 * labels.c - the classes of a BERT with a head: their names from config.json
 * (id2label) and whether a text has one of them or any number. A single output
 * without a problem_type is a reranker's score and has no name.
 */
#include "trainer/hf/config.h"

#include "core/base/error.h"
#include "trainer/hf/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_names(struct hf_reader *r, const struct hf_config *c,
                      struct infer_gguf_writer *w)
{
    const cJSON *map = hf_object(r, "id2label");
    struct infer_gguf_str *names = calloc(c->n_classes, sizeof(*names));
    char(*made)[24] = calloc(c->n_classes, sizeof(*made));

    if (!names || !made)
        r->status = infer_fail(r->err, INFER_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < c->n_classes && r->status == 0; i++) {
        const cJSON *name;
        char id[16];

        snprintf(id, sizeof(id), "%u", i);
        snprintf(made[i], sizeof(made[i]), "LABEL_%u", i);
        name = cJSON_GetObjectItemCaseSensitive(map, id);
        if (name && !cJSON_IsString(name))
            hf_refuse(r, INFER_EFORMAT, "id2label", "has a name that is none");
        else if (name)
            names[i] = (struct infer_gguf_str){name->valuestring,
                                               strlen(name->valuestring)};
        else
            names[i] = (struct infer_gguf_str){made[i], strlen(made[i])};
    }
    if (r->status == 0)
        infer_gguf_set_strs(w, "bert.classifier.output_labels", names,
                            c->n_classes);
    free(names);
    free(made);
}

int hf_labels_set(const struct hf_config *c, const char *folder,
                  struct infer_gguf_writer *w, struct infer_error *err)
{
    struct hf_reader r = {.file = "config.json", .err = err};
    const char *type;
    cJSON *root = NULL;

    r.status = hf_json_open_in(&root, folder, r.file, err);
    r.object = root;
    type = hf_text(&r, "problem_type",
                   c->n_classes > 1 ? "single_label_classification" : "");
    if (r.status == 0 && *type)
        set_names(&r, c, w);
    if (strcmp(type, "multi_label_classification") == 0)
        infer_gguf_set_str(w, "inferd.classifier.kind", "multi");
    else if (strcmp(type, "regression") == 0)
        infer_gguf_set_str(w, "inferd.classifier.kind", "regression");
    else if (*type && strcmp(type, "single_label_classification") != 0)
        hf_refuse(&r, INFER_EUNSUPPORTED, "problem_type", "is not known");
    cJSON_Delete(root);
    return r.status;
}
