/*
 * lm_sample.c - see lm_parts.h. The parameters are written as a model file and
 * given to the engine, so a sample is what the server would say; the file is
 * gone as soon as it is open.
 */
#include "trainer/run/lm_parts.h"

#include "core/base/error.h"
#include "trainer/run/export.h"
#include "trainer/run/sample.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LEN = 4096 };

static int io_fail(struct run *r, const char *path)
{
    return infer_fail(r->err, INFER_EIO, "cannot write '%.150s': %s", path,
                      strerror(errno));
}

int lm_sample_begin(struct run *r)
{
    char path[PATH_LEN];

    snprintf(path, sizeof(path), "%s/samples.txt", r->o->out);
    if (truncate(path, (off_t)r->p.sample_bytes) != 0 && errno != ENOENT)
        return io_fail(r, path);
    return 0;
}

static int keep(struct run *r, const char *text)
{
    char path[PATH_LEN];
    FILE *f;
    long at;

    snprintf(path, sizeof(path), "%s/samples.txt", r->o->out);
    f = fopen(path, "a");
    if (!f)
        return io_fail(r, path);
    fprintf(f, "== step %llu\n%s\n", (unsigned long long)r->p.step, text);
    at = ftell(f);
    if (fclose(f) != 0 || at < 0)
        return io_fail(r, path);
    r->p.sample_bytes = (uint64_t)at;
    return 0;
}

int lm_sample(struct run *r)
{
    const struct train_lm *o = r->o;
    const struct train_sample how = {
        .prompt = o->prompt,
        .n_tokens = (uint32_t)o->sample_tokens,
        .temperature = (float)o->temperature,
        .seed = train_mix(o->seed ^ 0x5a3, r->p.step) >> 1};
    char path[PATH_LEN], vocab[PATH_LEN], *text = NULL;
    int status;

    snprintf(path, sizeof(path), "%s/.sample.gguf.tmp-%ld", o->out,
             (long)getpid());
    snprintf(vocab, sizeof(vocab), "%s/tokenizer.gguf", o->out);
    if (r->ema)
        ema_swap(r->ema);
    status = train_export(r->net, vocab, "sample", path, NULL, NULL, r->err);
    if (r->ema)
        ema_swap(r->ema);
    if (status == 0)
        status = train_sample(path, r->team, &how, &text, r->err);
    unlink(path);
    if (status == 0)
        status = keep(r, text);
    if (status == 0) {
        printf("-- step %llu writes:\n%s\n--\n", (unsigned long long)r->p.step,
               text);
        fflush(stdout);
    }
    free(text);
    return status;
}
