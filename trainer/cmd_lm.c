/*
 * cmd_lm.c - infer-train lm: the command line of a training run.
 *
 * A run's own command line is kept in its config.json; --resume reads it back,
 * adds the options given now, so that a limit can be raised, and keeps them.
 */
#include "core/base/error.h"
#include "trainer/commands.h"
#include "trainer/run/card.h"
#include "trainer/run/folder.h"
#include "trainer/run/lm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: infer-train lm --out RUN (--steps N | --time T) [OPTIONS] "
    "FILE|FOLDER...\n"
    "       infer-train lm --resume RUN\n"
    "       mpirun -np N infer-train lm ...\n\n"
    "Trains a language model. RUN gets config.json, metrics.csv and .jsonl,\n"
    "TensorBoard events, loss.svg, samples.txt, checkpoints/, model.gguf (the\n"
    "best parameters) and README.md.";

static int parse(struct train_lm *o, const char **resume,
                 const char *const *argv, struct infer_error *err)
{
    const struct train_option table[] = {
        {"", TRAIN_OPT_LIST, &o->text.paths, "FILE|FOLDER...", 0, 0,
         "UTF-8 text, JSONL, or folders of them"},
        {"out", TRAIN_OPT_TEXT, &o->out, "RUN", 0, 0, "folder of the run"},
        {"resume", TRAIN_OPT_TEXT, resume, "RUN", 0, 0,
         "go on from its last checkpoint"},
        {"tokenizer", TRAIN_OPT_TEXT, &o->tokenizer, "FILE", 0, 0,
         "a .model, a .gguf, or char: one token a character (char)"},
        {"init", TRAIN_OPT_TEXT, &o->init, "FILE|FOLDER", 0, 0,
         "go on from a .gguf or a Hugging Face checkpoint: its shape, "
         "vocabulary and values"},
        {"val", TRAIN_OPT_LIST, &o->val, "FILE", 0, 0,
         "validation text; repeat it for more"},
        {"val-share", TRAIN_OPT_REAL, &o->text.val_share, "X", 0, 0.9,
         "or this share of the data (0.1)"},
        {"arch", TRAIN_OPT_CHOICE, &o->arch, "llama|gpt2", 0, 0,
         "architecture (llama)"},
        {"layers", TRAIN_OPT_COUNT, &o->layers, "N", 1, 1000, "layers (4)"},
        {"heads", TRAIN_OPT_COUNT, &o->heads, "N", 1, 1000,
         "attention heads (4)"},
        {"kv-heads", TRAIN_OPT_COUNT, &o->kv_heads, "N", 1, 1000,
         "key and value heads (as heads)"},
        {"width", TRAIN_OPT_COUNT, &o->width, "N", 1, 65536, "width (256)"},
        {"ffn", TRAIN_OPT_COUNT, &o->ffn, "N", 1, 262144,
         "hidden width (8/3 of the width; gpt2: 4)"},
        {"context", TRAIN_OPT_COUNT, &o->context, "N", 1, 65536,
         "tokens of a window (256; of --init its own, at most 1024)"},
        {"untied", TRAIN_OPT_FLAG, &o->untied, "", 0, 0,
         "the head is not the embedding"},
        {"rope-base", TRAIN_OPT_REAL, &o->rope_base, "X", 1, 1e9,
         "of rotary positions (10000)"},
        {"dropout", TRAIN_OPT_REAL, &o->dropout, "X", 0, 0.9, "share (0)"},
        {"label-smoothing", TRAIN_OPT_REAL, &o->smoothing, "X", 0, 0.9,
         "share (0)"},
        {"optimizer", TRAIN_OPT_CHOICE, &o->optim, "sgd|adam|adamw|muon", 0, 0,
         "(muon)"},
        {"lr", TRAIN_OPT_REAL, &o->lr, "X", 1e-9, 1e3,
         "peak learning rate (sgd 0.1, adam 1e-3, muon 0.02)"},
        {"other-lr", TRAIN_OPT_REAL, &o->other_lr, "X", 1e-9, 1e3,
         "muon's, of embeddings and vectors (3e-3)"},
        {"weight-decay", TRAIN_OPT_REAL, &o->weight_decay, "X", 0, 10,
         "(adamw 0.1, muon 0.01)"},
        {"clip", TRAIN_OPT_REAL, &o->clip, "X", 0, 1e9,
         "longest gradient, 0: any (1)"},
        {"schedule", TRAIN_OPT_CHOICE, &o->schedule,
         "constant|cosine|linear|wsd", 0, 0, "of the learning rate (wsd)"},
        {"warmup", TRAIN_OPT_REAL, &o->warmup, "X", 0, 1,
         "share of the run (0.02)"},
        {"decay", TRAIN_OPT_REAL, &o->decay, "X", 0, 1,
         "share of the run, wsd (0.6)"},
        {"final-lr", TRAIN_OPT_REAL, &o->final, "X", 0, 1,
         "share of the peak at the end (0)"},
        {"batch", TRAIN_OPT_COUNT, &o->batch, "N", 1, 65536,
         "windows of one pass, shared by the ranks (8)"},
        {"accumulate", TRAIN_OPT_COUNT, &o->accumulate, "N", 1, 4096,
         "passes of one step (1)"},
        {"start-context", TRAIN_OPT_COUNT, &o->start_context, "N", 1, 65536,
         "begin with shorter windows, doubling up to the half (context)"},
        {"steps", TRAIN_OPT_COUNT, &o->steps, "N", 1, 1e12, "end of the run"},
        {"time", TRAIN_OPT_TIME, &o->time, "T", 1, 1e8,
         "end of the run: 90s, 10m, 2h"},
        {"patience", TRAIN_OPT_COUNT, &o->patience, "N", 1, 1e9,
         "end after N evaluations without a better one"},
        {"seed", TRAIN_OPT_COUNT, &o->seed, "N", 0, 9e15, "(1)"},
        {"threads", TRAIN_OPT_COUNT, &o->threads, "N", 0, 256,
         "compute threads of a rank (0: share the processors)"},
        {"precision", TRAIN_OPT_CHOICE, &o->precision, "f32|bf16|auto", 0, 0,
         "of the products (auto: the faster)"},
        {"log-every", TRAIN_OPT_COUNT, &o->log_every, "N", 1, 1e9,
         "steps (50)"},
        {"eval-every", TRAIN_OPT_COUNT, &o->eval_every, "N", 1, 1e9,
         "steps (250)"},
        {"eval-tokens", TRAIN_OPT_COUNT, &o->eval_tokens, "N", 0, 1e12,
         "of each evaluation, 0: all (100k; the last takes all)"},
        {"save-every", TRAIN_OPT_COUNT, &o->save_every, "N", 1, 1e9,
         "steps (500)"},
        {"keep", TRAIN_OPT_COUNT, &o->keep, "N", 1, 1000,
         "checkpoints, besides the best (2)"},
        {"ema", TRAIN_OPT_REAL, &o->ema, "X", 0, 0.99999,
         "average the parameters with this decay; 0: do not (0)"},
        {"sample", TRAIN_OPT_COUNT, &o->sample_tokens, "N", 0, 1e6,
         "write samples of N tokens meanwhile; 0: none (0)"},
        {"sample-every", TRAIN_OPT_COUNT, &o->sample_every, "N", 1, 1e9,
         "steps (as eval-every)"},
        {"prompt", TRAIN_OPT_TEXT, &o->prompt, "TEXT", 0, 0,
         "what samples begin with"},
        {"temperature", TRAIN_OPT_REAL, &o->temperature, "X", 0, 100,
         "of samples; 0: the likeliest token (0.8)"},
        {"peak", TRAIN_OPT_REAL, &o->peak, "GFLOP/S", 0, 1e9,
         "of the machine, to print the share reached (measured)"},
        TRAIN_TEXT_OPTIONS(&o->text),
    };

    return train_command_options(usage, table, sizeof(table) / sizeof(*table),
                                 argv, err);
}

static void defaults(struct train_lm *o)
{
    *o = (struct train_lm){.text.val_share = 0.1,
                           .arch = -1,
                           .optim = OPTIM_MUON,
                           .weight_decay = -1.0,
                           .clip = -1.0,
                           .schedule = SCHEDULE_WSD,
                           .warmup = 0.02,
                           .decay = 0.6,
                           .batch = 8,
                           .accumulate = 1,
                           .seed = 1,
                           .precision = TRAIN_AUTO,
                           .log_every = 50,
                           .eval_every = 250,
                           .eval_tokens = 100000,
                           .save_every = 500,
                           .keep = 2,
                           .prompt = "",
                           .temperature = 0.8};
}

static void release(struct train_lm *o)
{
    train_list_release(&o->text.paths);
    train_list_release(&o->val);
}

/* Add to *old what argv has beside --resume. */
static int join(char ***old, const char *const *argv, struct infer_error *err)
{
    size_t n = 0, more = 0;
    char **both;

    while ((*old)[n])
        n++;
    while (argv[more])
        more++;
    both = realloc(*old, (n + more + 1) * sizeof(*both));
    if (!both)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    *old = both;
    for (const char *const *a = argv + 1; *a; a++) {
        if (strncmp(*a, "--resume", 8) == 0) {
            a += (*a)[8] == '\0';
            continue;
        }
        both[n] = strdup(*a);
        both[n + 1] = NULL;
        if (!both[n++])
            return infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    return 0;
}

/* Parse argv, and for --resume what config.json holds before it; *old is then
 * the command line of the run. */
static int read_options(struct train_lm *o, const char **resume, char ***old,
                        const char *const *argv, struct infer_error *err)
{
    const char *ignored = NULL;
    int status;

    defaults(o);
    status = parse(o, resume, argv, err);
    if (status != 0)
        return status;
    if (!*resume && !o->out)
        return infer_fail(err, INFER_EINVAL,
                          "--out is missing: name the folder of the run");
    if (!*resume)
        return train_lm_check(o, err);
    if (o->out || o->text.paths.n || o->val.n)
        return infer_fail(err, INFER_EINVAL,
                          "--resume takes the data and --out of the run; leave "
                          "them out");
    if (!train_folder_has_run(*resume))
        return infer_fail(err, INFER_EINVAL,
                          "'%.150s' holds no run to resume (no config.json)",
                          *resume);
    status = train_config_read(*resume, old, err);
    if (status == 0)
        status = join(old, argv, err);
    if (status != 0)
        return status;
    release(o);
    defaults(o);
    status = parse(o, &ignored, (const char *const *)*old, err);
    o->out = *resume;
    o->resumed = true;
    return status == 0 ? train_lm_check(o, err) : status;
}

static int run(const char *const *argv, struct train_ranks *ranks,
               struct infer_error *err)
{
    const bool first = train_ranks_id(ranks) == 0;
    const char *resume = NULL, *warning = train_blas_warning();
    struct train_lm o;
    char **old = NULL;
    int status = read_options(&o, &resume, &old, argv, err), rc = 0;

    if (status <= 0)
        status = train_ranks_agree(ranks, status, err);

    if (status < 0) {
        rc = 2;
    } else if (status == 0) {
        if (warning && first)
            fprintf(stderr, "infer-train lm: %s\n", warning);
        status = train_lm_run(&o, old ? (const char *const *)old : argv,
                              resume != NULL, ranks, train_command_stop(), err);
        rc = status != 0;
    }
    if (status == 0)
        rc = train_command_end("lm", 0, err);
    else if (status < 0 && (first || train_ranks_lost(ranks)))
        train_command_end("lm", status, err);
    release(&o);
    train_config_free(old);
    return rc;
}

int train_cmd_lm(const char *const *argv)
{
    struct train_ranks *ranks = NULL;
    struct infer_error err = {0};
    const int status = train_ranks_open(&ranks, &err);
    int rc;

    if (status != 0)
        return train_command_end("lm", status, &err);
    /* what is printed is printed once */
    if (train_ranks_id(ranks) != 0 && !freopen("/dev/null", "w", stdout))
        fclose(stdout);
    rc = run(argv, ranks, &err);
    train_ranks_close(ranks);
    return rc;
}
