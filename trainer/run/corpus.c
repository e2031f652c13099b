/*
 * corpus.c - see corpus.h. The tokenizer is first written as the vocabulary
 * the model will carry and then read back from that file, so the data is
 * encoded by the very thing that will encode the prompts.
 */
#include "trainer/run/corpus.h"

#include "core/base/error.h"
#include "trainer/data/encode.h"
#include "trainer/tok/chars.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_MAX_LEN = 4096 };

struct making {
    struct train_encoder encoders[2]; /* training, validation */
    struct train_token_writer writers[2];
    struct train_ids ids;
    bool all_val; /* these files are all for validation */
    const volatile int *stop;
};

/* ---- the vocabulary
 * -----------------------------------------------------------
 */

static int count_part(void *user, const struct train_part *part,
                      struct infer_error *err)
{
    (void)err;
    train_chars_add(user, part->text, part->len);
    return 0;
}

static int make_chars(const struct train_lm *o, const char *path,
                      struct infer_error *err)
{
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    struct train_text val = o->text;
    struct train_chars chars = {0};
    uint64_t dropped;
    int status = train_chars_create(&chars, err);

    val.paths = o->val;
    if (status == 0)
        status = train_text_each(&o->text, count_part, &chars, NULL, err);
    if (status == 0 && o->val.n)
        status = train_text_each(&val, count_part, &chars, NULL, err);
    if (status == 0)
        status = train_chars_vocab(&chars, false, 0, &v, &dropped, err);
    if (status == 0)
        status = train_vocab_save(&v, path, err);
    train_chars_release(&chars);
    train_vocab_release(&v);
    return status;
}

static int make_vocab(const struct train_lm *o, const char *path,
                      struct infer_error *err)
{
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    int status;

    if (o->init) {
        char init[PATH_MAX_LEN];

        snprintf(init, sizeof(init), "%.4000s/init.gguf", o->out);
        return train_vocab_copy(init, path, err);
    }
    if (strcmp(o->tokenizer, "char") == 0)
        return make_chars(o, path, err);
    if (!train_vocab_is_spm(o->tokenizer))
        return train_vocab_copy(o->tokenizer, path, err);
    status = train_vocab_load_spm(&v, o->tokenizer, err);
    if (status == 0)
        status = train_vocab_save(&v, path, err);
    train_vocab_release(&v);
    return status;
}

static int open_vocab(const char *run, struct infer_tokenizer **t,
                      struct infer_error *err)
{
    char path[PATH_MAX_LEN];
    struct infer_gguf *g = NULL;
    int status;

    snprintf(path, sizeof(path), "%s/tokenizer.gguf", run);
    status = infer_gguf_open(&g, path, err);
    if (status == 0)
        status = infer_tokenizer_create(t, g, err);
    infer_gguf_close(g);
    return status;
}

/* ---- tokens
 * --------------------------------------------------------------------
 */

static int write_part(void *user, const struct train_part *part,
                      struct infer_error *err)
{
    struct making *m = user;
    const int which = m->all_val || part->val;
    int status;

    if (*m->stop)
        return infer_fail(err, INFER_EBUSY,
                          "stopped while reading the data; nothing was begun");
    m->ids.n = 0;
    status = train_encode(&m->encoders[which], part, &m->ids, err);
    if (status != 0)
        return status;
    return train_tokens_write(&m->writers[which], m->ids.data, m->ids.n, err);
}

static int write_sources(const char *run, const struct train_text_stats *a,
                         const struct train_text_stats *b,
                         struct infer_error *err)
{
    const struct train_text_stats *all[] = {a, b};
    char path[PATH_MAX_LEN], *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int status;

    for (int k = 0; f && k < 2; k++)
        for (size_t i = 0; i < all[k]->n_files; i++)
            fprintf(f, "%s  %llu  %s\n", all[k]->files[i].sha256,
                    (unsigned long long)all[k]->files[i].bytes,
                    all[k]->files[i].path);
    if (!f || fclose(f) != 0) {
        free(text);
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    snprintf(path, sizeof(path), "%s/data/sources.txt", run);
    status = infer_replace_file(path, text, size, err);
    free(text);
    return status;
}

static int walk(const struct train_lm *o, struct making *m,
                struct infer_error *err)
{
    struct train_text_stats stats = {0}, val_stats = {0};
    struct train_text train = o->text, val = o->text;
    int status;

    if (o->val.n)
        train.val_share = 0.0;
    val.val_share = 0.0;
    val.paths = o->val;
    status = train_text_each(&train, write_part, m, &stats, err);
    m->all_val = true;
    if (status == 0 && o->val.n)
        status = train_text_each(&val, write_part, m, &val_stats, err);
    for (int i = 0; i < 2 && status == 0; i++)
        status =
            train_tokens_commit(&m->writers[i], m->encoders[i].n_bytes, err);
    if (status == 0)
        status = write_sources(o->out, &stats, &val_stats, err);
    train_text_stats_release(&stats);
    train_text_stats_release(&val_stats);
    return status;
}

int train_corpus_make(const struct train_lm *o, const volatile int *stop,
                      struct infer_error *err)
{
    static const char *const names[] = {"train", "val"};
    struct infer_tokenizer *t = NULL;
    struct making m = {.stop = stop};
    char vocab[PATH_MAX_LEN], paths[2][PATH_MAX_LEN];
    int status, begun = 0;

    snprintf(vocab, sizeof(vocab), "%s/tokenizer.gguf", o->out);
    status = make_vocab(o, vocab, err);
    if (status == 0)
        status = open_vocab(o->out, &t, err);
    for (int i = 0; i < 2 && status == 0; i++) {
        snprintf(paths[i], sizeof(paths[i]), "%s/data/%s.tokens", o->out,
                 names[i]);
        status = train_encoder_init(&m.encoders[i], t, err);
        if (status == 0)
            status = train_tokens_begin(&m.writers[i], paths[i],
                                        infer_tokenizer_n_vocab(t), err);
        begun += status == 0;
    }
    if (status == 0)
        status = walk(o, &m, err);
    for (int i = 0; i < begun; i++)
        train_tokens_abort(&m.writers[i]);
    free(m.ids.data);
    infer_tokenizer_free(t);
    return status;
}

int train_corpus_open(struct train_corpus *c, const char *run,
                      struct infer_error *err)
{
    char path[PATH_MAX_LEN];
    int status = open_vocab(run, &c->tokenizer, err);

    if (status != 0)
        return status;
    c->n_vocab = infer_tokenizer_n_vocab(c->tokenizer);
    snprintf(path, sizeof(path), "%s/data/train.tokens", run);
    status = train_tokens_open(&c->train, path, c->n_vocab, err);
    snprintf(path, sizeof(path), "%s/data/val.tokens", run);
    if (status == 0)
        status = train_tokens_open(&c->val, path, c->n_vocab, err);
    return status;
}

void train_corpus_close(struct train_corpus *c)
{
    infer_tokenizer_free(c->tokenizer);
    train_tokens_close(&c->train);
    train_tokens_close(&c->val);
    *c = (struct train_corpus){0};
}
