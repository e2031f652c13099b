/* export.c - see export.h. */
#include "trainer/enc/export.h"

#include "core/format/quant.h"
#include "trainer/run/folder.h"

#include <stdio.h>

#define ARCH "inferd-encoder."

enum { PATH_LEN = 4096 };

static void set_ngrams(struct infer_gguf_writer *w, struct enc_model *m)
{
    const uint64_t dims[2] = {net_shape(m->net)->d_model, m->spec.buckets};

    if (!m->rows)
        return;
    infer_gguf_set_u32(w, ARCH "ngram.buckets", m->spec.buckets);
    infer_gguf_set_u32(w, ARCH "ngram.min", m->spec.min);
    infer_gguf_set_u32(w, ARCH "ngram.max", m->spec.max);
    infer_gguf_set_u32(w, ARCH "ngram.char_min", m->spec.char_min);
    infer_gguf_set_u32(w, ARCH "ngram.char_max", m->spec.char_max);
    infer_gguf_add_tensor(w, "ngram_embd.weight", INFER_F32, 2, dims,
                          nn_rows_data(m->rows));
}

struct more {
    struct enc_model *m;
    train_export_fn *keys;
    void *user;
};

static void add_more(void *user, struct infer_gguf_writer *w)
{
    const struct more *more = user;

    if (more->keys)
        more->keys(more->user, w);
    set_ngrams(w, more->m);
}

int enc_export(struct enc_model *m, const char *run, const char *file,
               train_export_fn *keys, void *user, struct infer_error *err)
{
    struct more more = {m, keys, user};
    char vocab[PATH_LEN], path[PATH_LEN];

    snprintf(vocab, sizeof(vocab), "%s/tokenizer.gguf", run);
    snprintf(path, sizeof(path), "%s/%s", run, file);
    return train_export(m->net, vocab, train_folder_name(run), path, add_more,
                        &more, err);
}
