/*
 * infer-bench.c - tokens per second of bare forward passes, in the manner of
 * llama-bench: pp N processes a prompt of N tokens, tg N generates N tokens one
 * step at a time, with B sequences decoding side by side, each D tokens deep.
 *
 * No sampling and no text: tokens are drawn at random, as llama-bench does, so
 * the figures compare. Each test runs once unmeasured, then -r times; the
 * median is reported, with the extremes, because on a shared machine the mean
 * follows the neighbours.
 */
#include "bench/memory.h"
#include "bench/util.h"
#include "infer.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MODELS = 16, MAX_REPEATS = 1000, MAX_CHUNK = 8192 };

struct options {
    const char *models[MAX_MODELS];
    size_t n_models;
    struct bench_list threads, prompts, gens, batches, depths;
    uint32_t repeats;
    uint32_t chunk; /* prompt tokens per forward pass */
    unsigned cpu;
    enum infer_kv_type kv;
    bool json;
    bool memory; /* measure its bandwidth too */
};

/* One test and what came out. */
struct test {
    uint32_t n_prompt, n_gen;  /* one of them is 0 */
    uint32_t n_batch;          /* sequences decoding side by side */
    uint32_t depth;            /* tokens in each sequence beforehand */
    double speed[MAX_REPEATS]; /* tokens/s, all sequences together */
};

/* What a model's tests run on. */
struct bench {
    const struct options *opt;
    const struct infer_model *model;
    struct infer_session *session;
    struct infer_row *rows; /* [max(chunk, batch)] */
    struct bench_rng rng;
    uint32_t n_threads;
    double memory_gbs; /* 0: not measured */
    cJSON *results;    /* array, when JSON is wanted */
    struct infer_error err;
};

static const char usage_text[] =
    "usage: infer-bench -m FILE.gguf [-m FILE.gguf ...] [options]\n"
    "lists are separated by commas\n"
    "  -t LIST       threads (0: one per processor)\n"
    "  -p LIST       prompt lengths (512); 0: no such test\n"
    "  -n LIST       lengths to generate (128); 0: no such test\n"
    "  -b LIST       sequences that generate side by side (1)\n"
    "  -d LIST       tokens in the context beforehand (0)\n"
    "  -u N          prompt tokens per forward pass (512)\n"
    "  -r N          measured runs of each test (5)\n"
    "  --cpu MASK    all, scalar, or instruction sets: avx2,avx512vnni,...\n"
    "  --kv TYPE     f16 or f32 (f16)\n"
    "  --memory      measure memory bandwidth beside each model\n"
    "  -o FORMAT     table or json (table)\n";

/* ---- running ------------------------------------------------------------ */

static struct infer_row random_row(struct bench *b, uint32_t seq, bool logits)
{
    const uint32_t n_vocab = infer_model_info(b->model)->n_vocab;

    return (struct infer_row){.token =
                                  (int32_t)bench_rng_below(&b->rng, n_vocab),
                              .seq = seq,
                              .logits = logits};
}

/* n tokens into a sequence, logits of the last only. */
static int process_prompt(struct bench *b, uint32_t seq, uint32_t n)
{
    int status = INFER_OK;

    for (uint32_t done = 0; done < n && status == INFER_OK;) {
        const uint32_t left = n - done;
        const uint32_t size = left < b->opt->chunk ? left : b->opt->chunk;

        for (uint32_t i = 0; i < size; i++)
            b->rows[i] = random_row(b, seq, done + i + 1 == n);
        status = infer_session_eval(b->session, b->rows, size, NULL, &b->err);
        done += size;
    }
    return status;
}

/* n steps of all sequences, as many rows as a forward pass takes at a time. */
static int generate(struct bench *b, uint32_t n, uint32_t n_batch)
{
    int status = INFER_OK;

    for (uint32_t i = 0; i < n && status == INFER_OK; i++) {
        for (uint32_t seq = 0; seq < n_batch; seq++)
            b->rows[seq] = random_row(b, seq, true);
        status =
            infer_session_eval(b->session, b->rows, n_batch, NULL, &b->err);
    }
    return status;
}

/* Once through a test; its sequences are back at their depth afterwards. */
static int run_once(struct bench *b, const struct test *t, double *speed)
{
    const uint32_t n_tokens =
        t->n_prompt > 0 ? t->n_prompt : t->n_gen * t->n_batch;
    const uint64_t start = infer_clock_ns();
    const int status = t->n_prompt > 0 ? process_prompt(b, 0, t->n_prompt)
                                       : generate(b, t->n_gen, t->n_batch);

    *speed = n_tokens * 1e9 / (double)(infer_clock_ns() - start);
    for (uint32_t seq = 0; seq < t->n_batch; seq++)
        infer_session_rewind(b->session, seq, t->depth);
    return status;
}

static int run_test(struct bench *b, struct test *t)
{
    int status = INFER_OK;
    double unused;

    for (uint32_t seq = 0; seq < t->n_batch && status == INFER_OK; seq++) {
        infer_session_rewind(b->session, seq, 0);
        status = process_prompt(b, seq, t->depth);
    }
    if (status == INFER_OK)
        status = run_once(b, t, &unused); /* warm-up */
    for (uint32_t i = 0; i < b->opt->repeats && status == INFER_OK; i++)
        status = run_once(b, t, &t->speed[i]);
    for (uint32_t seq = 0; seq < t->n_batch; seq++)
        infer_session_rewind(b->session, seq, 0);
    return status;
}

/* ---- reporting ---------------------------------------------------------- */

static void print_header(void)
{
    printf("| %-28s | %9s | %9s | %-12s | %7s | %-20s | %10s | %21s |\n",
           "model", "size MiB", "params M", "kernels", "threads", "test",
           "tokens/s", "min .. max");
    printf("|%.*s|%.*s:|%.*s:|%.*s|%.*s:|%.*s|%.*s:|%.*s:|\n", 30,
           "--------------------------------", 10, "-----------", 10,
           "-----------", 14, "---------------", 8, "---------", 22,
           "------------------------", 11, "-----------", 22,
           "-----------------------");
}

/* "pp512", "tg128 b8 @ d1024" */
static void test_label(char *out, size_t size, const struct test *t)
{
    int n = snprintf(out, size, "%s%u", t->n_prompt ? "pp" : "tg",
                     t->n_prompt ? t->n_prompt : t->n_gen);

    if (t->n_batch > 1)
        n += snprintf(out + n, size - (size_t)n, " b%u", t->n_batch);
    if (t->depth > 0)
        snprintf(out + n, size - (size_t)n, " @ d%u", t->depth);
}

/* speed is sorted already */
static void print_row(const struct bench *b, const struct test *t,
                      double median)
{
    const struct infer_model_info *info = infer_model_info(b->model);
    char label[64], name[96], spread[64];

    test_label(label, sizeof(label), t);
    snprintf(name, sizeof(name), "%.64s %s", info->name, info->type);
    snprintf(spread, sizeof(spread), "%.1f .. %.1f", t->speed[0],
             t->speed[b->opt->repeats - 1]);
    printf("| %-28.64s | %9.2f | %9.2f | %-12s | %7u | %-20s | %10.2f | %21s "
           "|\n",
           name, (double)info->file_bytes / 1048576.0,
           (double)info->n_params / 1e6, info->kernels, b->n_threads, label,
           median, spread);
    fflush(stdout);
}

/* Field names are llama-bench's where it has them, so that one script reads
 * both. Samples come sorted. */
static void add_result(struct bench *b, const struct test *t, double median)
{
    const struct infer_model_info *info = infer_model_info(b->model);
    const int n = (int)b->opt->repeats;
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "model_filename", info->path);
    cJSON_AddStringToObject(o, "model_arch", info->arch);
    cJSON_AddStringToObject(o, "model_type", info->type);
    cJSON_AddNumberToObject(o, "model_size", (double)info->file_bytes);
    cJSON_AddNumberToObject(o, "model_n_params", (double)info->n_params);
    cJSON_AddNumberToObject(o, "weight_bytes", (double)info->weight_bytes);
    cJSON_AddNumberToObject(o, "load_seconds", info->load_seconds);
    cJSON_AddStringToObject(o, "kernels", info->kernels);
    cJSON_AddNumberToObject(o, "n_threads", b->n_threads);
    cJSON_AddStringToObject(o, "type_kv",
                            b->opt->kv == INFER_KV_F32 ? "f32" : "f16");
    cJSON_AddNumberToObject(o, "n_prompt", t->n_prompt);
    cJSON_AddNumberToObject(o, "n_gen", t->n_gen);
    cJSON_AddNumberToObject(o, "n_parallel", t->n_batch);
    cJSON_AddNumberToObject(o, "n_depth", t->depth);
    if (b->memory_gbs > 0)
        cJSON_AddNumberToObject(o, "memory_read_gbs", b->memory_gbs);
    cJSON_AddNumberToObject(o, "median_ts", median);
    cJSON_AddItemToObject(o, "samples_ts",
                          cJSON_CreateDoubleArray(t->speed, n));
    cJSON_AddItemToArray(b->results, o);
}

/* ---- the product of all lists ------------------------------------------- */

static int measure(struct bench *b, struct test *t)
{
    double median;

    if (t->n_prompt == 0 && t->n_gen == 0)
        return INFER_OK;
    if (run_test(b, t) != INFER_OK) {
        char label[64];

        test_label(label, sizeof(label), t);
        fprintf(stderr, "infer-bench: %s of '%s': %s\n", label,
                infer_model_info(b->model)->path, b->err.text);
        return b->err.status;
    }
    median = bench_median(t->speed, b->opt->repeats);
    if (b->results != NULL)
        add_result(b, t, median);
    else
        print_row(b, t, median);
    return INFER_OK;
}

static int run_tests(struct bench *b, struct test *t)
{
    const struct options *opt = b->opt;
    int status = INFER_OK;

    for (size_t d = 0; d < opt->depths.n && status == INFER_OK; d++) {
        *t = (struct test){.depth = opt->depths.v[d], .n_batch = 1};
        for (size_t i = 0; i < opt->prompts.n && status == INFER_OK; i++) {
            t->n_prompt = opt->prompts.v[i];
            status = measure(b, t);
        }
        t->n_prompt = 0;
        for (size_t i = 0; i < opt->gens.n; i++) {
            t->n_gen = opt->gens.v[i];
            for (size_t j = 0; j < opt->batches.n && status == INFER_OK; j++) {
                t->n_batch = opt->batches.v[j];
                status = measure(b, t);
            }
        }
    }
    return status;
}

static void measure_memory(struct bench *b)
{
    b->memory_gbs = bench_memory_read(b->n_threads);
    fprintf(stderr, "memory read with %u threads: %.1f GB/s\n", b->n_threads,
            b->memory_gbs);
}

static int bench_model(struct bench *b, uint32_t n_threads)
{
    const struct options *opt = b->opt;
    const uint32_t max_batch = bench_list_max(&opt->batches);
    const uint32_t longest =
        bench_list_max(&opt->prompts) > bench_list_max(&opt->gens)
            ? bench_list_max(&opt->prompts)
            : bench_list_max(&opt->gens);
    const struct infer_session_params params = {
        .n_seqs = max_batch,
        .n_ctx = bench_list_max(&opt->depths) + longest,
        .max_rows = opt->chunk > max_batch ? opt->chunk : max_batch,
        .kv_type = opt->kv};
    struct infer_team *team = NULL;
    struct test *test = calloc(1, sizeof(*test));
    int status;

    b->rows = calloc(params.max_rows, sizeof(b->rows[0]));
    if (b->rows == NULL || test == NULL) {
        fprintf(stderr, "infer-bench: out of memory\n");
        status = INFER_ENOMEM;
        goto out;
    }
    status = infer_team_create(&team, (int)n_threads, 0, &b->err);
    if (status == INFER_OK)
        status =
            infer_session_create(&b->session, b->model, team, &params, &b->err);
    if (status != INFER_OK) {
        fprintf(stderr, "infer-bench: %s\n", b->err.text);
        goto out;
    }
    b->n_threads = (uint32_t)infer_team_size(team);
    if (opt->memory)
        measure_memory(b);
    status = run_tests(b, test);
out:
    infer_session_free(b->session);
    b->session = NULL;
    infer_team_free(team);
    free(b->rows);
    free(test);
    return status;
}

static int bench_all(const struct options *opt, cJSON *results)
{
    const struct infer_model_params params = {.cpu = opt->cpu};
    int status = INFER_OK;

    for (size_t i = 0; i < opt->n_models && status == INFER_OK; i++) {
        struct bench b = {.opt = opt, .results = results, .rng = {1}};
        struct infer_model *model = NULL;

        status = infer_model_load(&model, opt->models[i], &params, &b.err);
        if (status != INFER_OK) {
            fprintf(stderr, "infer-bench: %s\n", b.err.text);
            break;
        }
        b.model = model;
        for (size_t j = 0; j < opt->threads.n && status == INFER_OK; j++)
            status = bench_model(&b, opt->threads.v[j]);
        infer_model_free(model);
    }
    return status;
}

/* ---- options ------------------------------------------------------------ */

enum { OPT_CPU = 256, OPT_KV, OPT_MEMORY };

static const struct option long_options[] = {
    {"cpu", required_argument, NULL, OPT_CPU},
    {"kv", required_argument, NULL, OPT_KV},
    {"memory", no_argument, NULL, OPT_MEMORY},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

static int parse_choice(const char *option, const char *value, const char *no,
                        const char *yes, bool *out)
{
    if (strcmp(value, no) != 0 && strcmp(value, yes) != 0) {
        fprintf(stderr, "%s: '%s' is neither %s nor %s\n", option, value, no,
                yes);
        return -1;
    }
    *out = strcmp(value, yes) == 0;
    return 0;
}

static int parse_kv(const char *value, struct options *opt)
{
    bool f32;

    if (parse_choice("--kv", value, "f16", "f32", &f32) != 0)
        return -1;
    opt->kv = f32 ? INFER_KV_F32 : INFER_KV_F16;
    return 0;
}

static int parse_cpu(const char *value, struct options *opt)
{
    struct infer_error err;

    if (infer_cpu_parse(value, &opt->cpu, &err) == INFER_OK)
        return 0;
    fprintf(stderr, "--cpu: %s\n", err.text);
    return -1;
}

static int add_model(const char *path, struct options *opt)
{
    if (opt->n_models == MAX_MODELS) {
        fprintf(stderr, "-m: at most %d models\n", MAX_MODELS);
        return -1;
    }
    opt->models[opt->n_models++] = path;
    return 0;
}

static int parse_option(int c, const char *value, struct options *opt)
{
    switch (c) {
    case 'm':
        return add_model(value, opt);
    case 't':
        return bench_parse_list("-t", value, 0, 256, &opt->threads);
    case 'p':
        return bench_parse_list("-p", value, 0, 1 << 20, &opt->prompts);
    case 'n':
        return bench_parse_list("-n", value, 0, 1 << 20, &opt->gens);
    case 'b':
        return bench_parse_list("-b", value, 1, 1024, &opt->batches);
    case 'd':
        return bench_parse_list("-d", value, 0, 1 << 20, &opt->depths);
    case 'u':
        return bench_parse_u32("-u", value, 1, MAX_CHUNK, &opt->chunk);
    case 'r':
        return bench_parse_u32("-r", value, 1, MAX_REPEATS, &opt->repeats);
    case 'o':
        return parse_choice("-o", value, "table", "json", &opt->json);
    case OPT_CPU:
        return parse_cpu(value, opt);
    case OPT_KV:
        return parse_kv(value, opt);
    case OPT_MEMORY:
        opt->memory = true;
        return 0;
    default:
        return -1;
    }
}

static int parse_options(int argc, char **argv, struct options *opt)
{
    int c;

    while ((c = getopt_long(argc, argv, "m:t:p:n:b:d:u:r:o:h", long_options,
                            NULL)) != -1) {
        if (c == 'h')
            return 1;
        if (parse_option(c, optarg, opt) != 0)
            return -1;
    }
    if (opt->n_models == 0)
        fprintf(stderr, "-m FILE is missing\n");
    return opt->n_models == 0 || optind != argc ? -1 : 0;
}

/* Kernels chosen below what the machine has make a figure that misleads. */
static void warn_cpu(const struct options *opt)
{
    const unsigned have = infer_cpu_detect();

    if ((have & opt->cpu) != have)
        fprintf(stderr, "note: --cpu leaves out instruction sets that this "
                        "machine has\n");
}

int main(int argc, char **argv)
{
    struct options opt = {.threads = {1, {0}},
                          .prompts = {1, {512}},
                          .gens = {1, {128}},
                          .batches = {1, {1}},
                          .depths = {1, {0}},
                          .repeats = 5,
                          .chunk = 512,
                          .cpu = (unsigned)INFER_CPU_ALL,
                          .kv = INFER_KV_F16};
    cJSON *results = NULL;
    int status = parse_options(argc, argv, &opt);

    if (status != 0) {
        if (status > 0)
            fputs(usage_text, stdout);
        else
            fputs("infer-bench --help lists the options\n", stderr);
        return status > 0 ? 0 : 2;
    }
    bench_warn_environment();
    warn_cpu(&opt);
    if (opt.json)
        results = cJSON_CreateArray();
    else
        print_header();
    status = bench_all(&opt, results);
    if (results != NULL) {
        char *text = cJSON_Print(results);

        puts(text != NULL ? text : "[]");
        cJSON_free(text);
        cJSON_Delete(results);
    }
    return status == INFER_OK ? 0 : 1;
}
