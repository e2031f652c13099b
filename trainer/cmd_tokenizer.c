/*
 * cmd_tokenizer.c - infer-train tokenizer: text in, vocabulary out.
 *
 * Two files come out: NAME.gguf, a GGUF of nothing but the vocabulary, which
 * the lm command, inferd's models and llama.cpp all understand, and for
 * unigram and bpe also SentencePiece's own NAME.model.
 */
#include "core/base/error.h"
#include "core/format/replace.h"
#include "trainer/commands.h"
#include "trainer/data/text.h"
#include "trainer/tok/chars.h"
#include "trainer/tok/spm_train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { KIND_UNIGRAM, KIND_BPE, KIND_CHAR };
enum { DEFAULT_VOCAB = 4096, SAMPLE_BYTES = 200 * 1000 * 1000 };

struct options {
    struct train_text text;
    struct train_list symbols;
    const char *out;
    int kind;
    uint64_t n_vocab; /* 0: not given */
    uint64_t sample;
    bool bytes, no_bytes, split_digits;
};

static const char usage[] =
    "usage: infer-train tokenizer --out NAME [OPTIONS] FILE|FOLDER...\n\n"
    "Learns a vocabulary from UTF-8 text or JSONL and writes NAME.gguf and,\n"
    "for unigram and bpe, NAME.model (SentencePiece).";

static int parse(struct options *o, const char *const *argv,
                 struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->text.paths, "FILE|FOLDER...", 0, 0,
         "UTF-8 text, JSONL, or folders of them"},
        {"out", TRAIN_OPT_TEXT, &o->out, "NAME", 0, 0,
         "path of the result, without its ending"},
        {"kind", TRAIN_OPT_CHOICE, &o->kind, "unigram|bpe|char", 0, 0,
         "how text is cut (bpe)"},
        {"vocab", TRAIN_OPT_COUNT, &o->n_vocab, "N", 4, 1000000,
         "tokens in all (4096; char: every character)"},
        {"symbol", TRAIN_OPT_LIST, &o->symbols, "TEXT", 0, 0,
         "a token never cut, e.g. <|user|>; repeat it for more"},
        {"byte-fallback", TRAIN_OPT_FLAG, &o->bytes, "", 0, 0,
         "unknown characters become bytes (not for char)"},
        {"no-byte-fallback", TRAIN_OPT_FLAG, &o->no_bytes, "", 0, 0,
         "they become <unk>"},
        {"split-digits", TRAIN_OPT_FLAG, &o->split_digits, "", 0, 0,
         "every digit is a token"},
        {"sample", TRAIN_OPT_COUNT, &o->sample, "BYTES", 1000, 1e12,
         "text to learn from at most (200M)"},
        TRAIN_TEXT_OPTIONS(&o->text),
    };

    o->sample = SAMPLE_BYTES;
    o->kind = KIND_BPE;
    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

static int check(const struct options *o, struct infer_error *err)
{
    if (!o->out)
        return infer_fail(err, INFER_EINVAL,
                          "--out is missing: name the "
                          "result, e.g. --out tokenizer");
    if (!o->text.paths.n)
        return infer_fail(err, INFER_EINVAL,
                          "no data given: name text files, JSONL or folders");
    if (o->bytes && o->no_bytes)
        return infer_fail(err, INFER_EINVAL,
                          "--byte-fallback and --no-byte-fallback exclude "
                          "each other");
    for (size_t i = 0; i < o->symbols.n; i++)
        if (!*o->symbols.items[i] || strpbrk(o->symbols.items[i], ", \t\n\""))
            return infer_fail(err, INFER_EINVAL,
                              "--symbol '%.60s' is empty or has a space, comma "
                              "or quote in it",
                              o->symbols.items[i]);
    return 0;
}

/* ---- characters -------------------------------------------------------------
 */

static int count_chars(void *user, const struct train_part *part,
                       struct infer_error *err)
{
    (void)err;
    train_chars_add(user, part->text, part->len);
    return 0;
}

static int make_chars(const struct options *o, struct train_vocab *v,
                      struct train_text_stats *stats, struct infer_error *err)
{
    struct train_chars chars = {0};
    uint64_t dropped = 0;
    int status = train_chars_create(&chars, err);

    if (status == 0)
        status = train_text_each(&o->text, count_chars, &chars, stats, err);
    if (status == 0)
        status =
            train_chars_vocab(&chars, o->bytes, o->n_vocab, v, &dropped, err);
    for (size_t i = 0; i < o->symbols.n && status == 0; i++)
        status =
            train_vocab_add(v, o->symbols.items[i], strlen(o->symbols.items[i]),
                            0.0f, INFER_TOKEN_USER, err);
    if (status == 0 && dropped)
        printf("%.3f %% of the characters have no token\n",
               100.0 * (double)dropped / (double)chars.n);
    train_chars_release(&chars);
    return status;
}

/* ---- SentencePiece
 * -----------------------------------------------------------
 */

static int add_lines(void *user, const struct train_part *part,
                     struct infer_error *err)
{
    const char *s = part->text, *end = s + part->len;
    int status = 0;

    while (s < end && status == 0) {
        const char *newline = memchr(s, '\n', (size_t)(end - s));
        const char *stop = newline ? newline : end;

        status = train_spm_add(user, s, (size_t)(stop - s), err);
        s = stop + 1;
    }
    return status;
}

static int run_spm(const struct options *o, struct train_spm *t,
                   const char *path, struct infer_error *err)
{
    const struct train_spm_options spec = {
        .kind = o->kind == KIND_BPE ? "bpe" : "unigram",
        .n_vocab = o->n_vocab ? o->n_vocab : DEFAULT_VOCAB,
        .byte_fallback = !o->no_bytes,
        .split_digits = o->split_digits,
        .symbols = o->symbols.items,
        .n_symbols = o->symbols.n,
        .n_threads = (int)sysconf(_SC_NPROCESSORS_ONLN),
    };
    char *model = NULL;
    size_t size = 0;
    int status = train_spm_run(t, &spec, &model, &size, err);

    if (status == 0)
        status = infer_replace_file(path, model, size, err);
    free(model);
    return status;
}

static int make_spm(const struct options *o, struct train_vocab *v,
                    struct train_text_stats *stats, struct infer_error *err)
{
    struct train_spm *t = NULL;
    char *path = NULL;
    int status = train_spm_create(&t, o->sample, err);

    if (status == 0 && asprintf(&path, "%s.model", o->out) < 0)
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    if (status == 0)
        status = train_text_each(&o->text, add_lines, t, stats, err);
    if (status == 0)
        status = run_spm(o, t, path, err);
    if (status == 0)
        status = train_vocab_load_spm(v, path, err);
    if (status == 0)
        printf("%s: %zu pieces from %llu lines\n", path, v->n,
               (unsigned long long)train_spm_lines(t));
    train_spm_free(t);
    free(path);
    return status;
}

/* ---- the command
 * --------------------------------------------------------------
 */

static int make(const struct options *o, struct infer_error *err)
{
    struct train_text_stats stats = {0};
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    char *path = NULL;
    int status;

    if (asprintf(&path, "%s.gguf", o->out) < 0)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = o->kind == KIND_CHAR ? make_chars(o, &v, &stats, err)
                                  : make_spm(o, &v, &stats, err);
    if (status == 0)
        status = train_vocab_save(&v, path, err);
    if (status == 0)
        printf("%s: %zu tokens from %llu documents, %llu bytes\n", path, v.n,
               (unsigned long long)stats.docs, (unsigned long long)stats.bytes);
    train_vocab_release(&v);
    train_text_stats_release(&stats);
    free(path);
    return status;
}

int train_cmd_tokenizer(const char *const *argv)
{
    struct options o = {0};
    struct infer_error err = {0};
    int status = parse(&o, argv, &err), rc;

    if (status == 0)
        status = check(&o, &err);
    if (status == 1)
        rc = 0;
    else if (status < 0)
        rc = train_command_end("tokenizer", status, &err) * 2;
    else
        rc = train_command_end("tokenizer", make(&o, &err), &err);
    train_list_release(&o.text.paths);
    train_list_release(&o.symbols);
    return rc;
}
