/*
 * vocab.c - see vocab.h. Every text gets a space in front, in training and by
 * add_space_prefix afterwards, so that a word is the same piece anywhere.
 * A megabyte is enough to learn from: more only takes longer, minutes for text
 * without spaces.
 */
#include "trainer/enc/vocab.h"

#include "core/base/error.h"
#include "core/format/replace.h"
#include "trainer/tok/chars.h"
#include "trainer/tok/spm_train.h"
#include "trainer/tok/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LEN = 4096, LEAST = 300, SAMPLE_BYTES = 1000 * 1000 };

static int add_texts(struct train_spm *t, const struct enc_text_ref *texts,
                     size_t n, struct infer_error *err)
{
    char *line = NULL;
    size_t room = 0;
    int status = 0;

    for (size_t i = 0; i < n && status == 0; i++) {
        if (texts[i].len + 1 > room) {
            free(line);
            room = 2 * texts[i].len + 1;
            line = malloc(room);
        }
        if (!line)
            return infer_fail(err, INFER_ENOMEM, "out of memory");
        line[0] = ' ';
        for (size_t k = 0; k < texts[i].len; k++)
            line[k + 1] = texts[i].text[k] == '\n' ? ' ' : texts[i].text[k];
        status = train_spm_add(t, line, texts[i].len + 1, err);
    }
    free(line);
    return status;
}

/* SentencePiece refuses more pieces than the text has: ask for fewer. */
static int learn(const char *path, const struct enc_text_ref *texts, size_t n,
                 uint64_t n_vocab, int n_threads, struct infer_error *err)
{
    struct train_spm *t = NULL;
    char *model = NULL;
    size_t size = 0;
    int status = train_spm_create(&t, SAMPLE_BYTES, err);

    if (status == 0)
        status = add_texts(t, texts, n, err);
    for (uint64_t v = n_vocab; status == 0; v = v * 3 / 4) {
        const struct train_spm_options o = {.kind = "bpe",
                                            .n_vocab = v < LEAST ? LEAST : v,
                                            .byte_fallback = true,
                                            .n_threads = n_threads};

        status = train_spm_run(t, &o, &model, &size, err);
        if (status != INFER_EINVAL || v < LEAST)
            break;
        status = 0;
    }
    if (status == 0)
        status = infer_replace_file(path, model, size, err);
    free(model);
    train_spm_free(t);
    return status;
}

/* Too few words to cut: their characters and all bytes. */
static int chars_only(struct train_vocab *v, const struct enc_text_ref *texts,
                      size_t n, struct infer_error *err)
{
    struct train_chars chars = {0};
    uint64_t dropped;
    int status = train_chars_create(&chars, err);

    for (size_t i = 0; i < n && status == 0; i++)
        train_chars_add(&chars, texts[i].text, texts[i].len);
    if (status == 0)
        status = train_chars_vocab(&chars, true, 0, v, &dropped, err);
    train_chars_release(&chars);
    return status;
}

int enc_vocab_make(const char *run, const char *given,
                   const struct enc_text_ref *texts, size_t n, uint64_t n_vocab,
                   int n_threads, struct infer_error *err)
{
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    char learned[PATH_LEN], path[PATH_LEN];
    int status = 0;

    snprintf(path, sizeof(path), "%s/tokenizer.gguf", run);
    snprintf(learned, sizeof(learned), "%s/tokenizer.model", run);
    if (given && !train_vocab_is_spm(given))
        return train_vocab_copy(given, path, err);
    if (!given)
        status = learn(learned, texts, n, n_vocab, n_threads, err);
    if (status == INFER_EINVAL)
        status = chars_only(&v, texts, n, err);
    else if (status == 0)
        status = train_vocab_load_spm(&v, given ? given : learned, err);
    if (!given) {
        v.add_space = true;
        v.add_bos = true;
    }
    if (status == 0)
        status = train_vocab_save(&v, path, err);
    train_vocab_release(&v);
    if (!given)
        unlink(learned);
    return status;
}

int enc_vocab_open(const char *run, struct infer_tokenizer **t,
                   struct infer_error *err)
{
    char path[PATH_LEN];
    struct infer_gguf *g = NULL;
    int status;

    snprintf(path, sizeof(path), "%s/tokenizer.gguf", run);
    status = infer_gguf_open(&g, path, err);
    if (status == 0)
        status = infer_tokenizer_create(t, g, err);
    infer_gguf_close(g);
    return status;
}
