/*
 * infer-structured.c - what a schema costs per token.
 *
 *   infer-structured -m MODEL [-r ROUNDS] [-n TOKENS] [-b BATCH]
 *
 * Runs the engine on one thread, in turn without a grammar and with each of
 * some schemas, and prints processor time per step: so other load on the
 * machine hardly shows. Every round compiles its grammars anew, so nothing is
 * known from the round before.
 */
#include "infer.h"
#include "server/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_KINDS = 5, MAX_ROUNDS = 101, MAX_BATCH = 64 };

static const struct {
    const char *name, *schema;
} kinds[N_KINDS] = {
    {"free", NULL},
    {"string", "{\"type\":\"string\",\"minLength\":9000}"},
    {"bounded", "{\"type\":\"string\",\"minLength\":900,\"maxLength\":1000}"},
    {"objects",
     "{\"type\":\"array\",\"minItems\":900,\"items\":{\"type\":\"object\","
     "\"required\":[\"name\",\"n\",\"ok\"],\"properties\":{\"name\":{\"type\":"
     "\"string\",\"maxLength\":12},\"n\":{\"type\":\"integer\",\"minimum\":0,"
     "\"maximum\":999},\"ok\":{\"type\":\"boolean\"}}}}"},
    {"any", "{\"type\":\"array\",\"minItems\":900}"},
};

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void ignore(void *user, const struct infer_event *event)
{
    (void)user;
    (void)event;
}

static void die(const struct infer_error *err)
{
    fprintf(stderr, "infer-structured: %s\n", err->text);
    exit(1);
}

/* Processor milliseconds per step after the first (the prompt's). */
static double measure(struct infer_engine *e, const char *schema, uint32_t n,
                      uint32_t batch, uint64_t seed)
{
    struct infer_grammar *g[MAX_BATCH] = {NULL};
    struct infer_error err = {0};
    const int32_t prompt[] = {1, 100, 200, 300};
    double start;
    uint32_t steps = 0;

    for (uint32_t i = 0; i < batch; i++) {
        struct infer_request r = {.prompt = prompt,
                                  .n_prompt = 4,
                                  .max_tokens = n,
                                  .logprobs = -1,
                                  .ignore_eos = true,
                                  .on_event = ignore};
        cJSON *root = schema ? cJSON_Parse(schema) : NULL;

        infer_sampling_default(&r.sampling);
        r.sampling.seed = seed + i;
        if (schema && schema_compile(&g[i], root, &err))
            die(&err);
        cJSON_Delete(root);
        r.grammar = g[i];
        if (infer_engine_submit(e, &r, &err))
            die(&err);
    }
    infer_engine_step(e);
    start = cpu_ms();
    while (infer_engine_step(e) > 0)
        steps++;
    start = cpu_ms() - start;
    for (uint32_t i = 0; i < batch; i++)
        infer_grammar_free(g[i]);
    return start / (steps > 0 ? steps : 1);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), by_value);
    return v[n / 2];
}

static int number(const char *text, int most)
{
    const int v = atoi(text);

    return v < 1 ? 1 : v > most ? most : v;
}

int main(int argc, char **argv)
{
    static double ms[N_KINDS][MAX_ROUNDS], ratio[N_KINDS][MAX_ROUNDS];
    struct infer_model *m = NULL;
    struct infer_team *team = NULL;
    struct infer_engine *e = NULL;
    struct infer_error err = {0};
    const char *path = NULL;
    int rounds = 7, n = 128, batch = 1;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "-m") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "-r") == 0)
            rounds = number(argv[i + 1], MAX_ROUNDS);
        else if (strcmp(argv[i], "-n") == 0)
            n = number(argv[i + 1], 1000);
        else if (strcmp(argv[i], "-b") == 0)
            batch = number(argv[i + 1], MAX_BATCH);
    }
    if (!path) {
        fprintf(stderr, "usage: infer-structured -m MODEL [-r ROUNDS] "
                        "[-n TOKENS] [-b BATCH]\n");
        return 2;
    }
    if (infer_model_load(&m, path, NULL, &err) ||
        infer_team_create(&team, 1, 0, &err) ||
        infer_engine_create(&e, m, team,
                            &(struct infer_engine_params){
                                .max_running = MAX_BATCH, .n_ctx = 1024},
                            &err))
        die(&err);
    for (int r = 0; r < rounds; r++)
        for (int k = 0; k < N_KINDS; k++) {
            ms[k][r] = measure(e, kinds[k].schema, (uint32_t)n, (uint32_t)batch,
                               (uint64_t)r * 100 + 1);
            ratio[k][r] = ms[k][r] / ms[0][r];
        }
    printf("batch %d, %d tokens, %d rounds; processor ms per step\n", batch, n,
           rounds);
    for (int k = 0; k < N_KINDS; k++) {
        const double mid = median(ratio[k], rounds);

        printf("%-8s %8.3f ms  ratio %.3f (%.3f .. %.3f)\n", kinds[k].name,
               median(ms[k], rounds), mid, ratio[k][0], ratio[k][rounds - 1]);
    }
    infer_engine_free(e);
    infer_team_free(team);
    infer_model_free(m);
    return 0;
}
