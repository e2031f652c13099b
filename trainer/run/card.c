/* card.c - see card.h. */
#include "trainer/run/card.h"

#include "core/base/error.h"
#include "core/format/replace.h"
#include "trainer/data/files.h"
#include "trainer/run/folder.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096 };

/* What "auto" was found to be joins the command line: it is measured, and a
 * resumed run must not measure anew. */
static void add_precision(cJSON *words, const struct train_lm *o,
                          enum train_precision used)
{
    if (o->precision != TRAIN_AUTO)
        return;
    cJSON_AddItemToArray(words, cJSON_CreateString("--precision"));
    cJSON_AddItemToArray(
        words, cJSON_CreateString(used == TRAIN_BF16 ? "bf16" : "f32"));
}

int train_config_write(const struct train_lm *o, const char *const *argv,
                       enum train_precision used, uint32_t n_vocab,
                       struct infer_error *err)
{
    cJSON *config = cJSON_CreateObject();
    cJSON *words = cJSON_AddArrayToObject(config, "argv");
    char path[PATH_LEN], *text;
    int status;

    for (; words && *argv; argv++)
        cJSON_AddItemToArray(words, cJSON_CreateString(*argv));
    add_precision(words, o, used);
    cJSON_AddStringToObject(config, "version", infer_version());
    cJSON_AddNumberToObject(config, "vocabulary", n_vocab);
    cJSON_AddNumberToObject(config, "layers", (double)o->layers);
    cJSON_AddNumberToObject(config, "heads", (double)o->heads);
    cJSON_AddNumberToObject(config, "kv_heads", (double)o->kv_heads);
    cJSON_AddNumberToObject(config, "width", (double)o->width);
    cJSON_AddNumberToObject(config, "ffn", (double)o->ffn);
    cJSON_AddNumberToObject(config, "context", (double)o->context);
    cJSON_AddNumberToObject(config, "seed", (double)o->seed);
    text = cJSON_Print(config);
    snprintf(path, sizeof(path), "%s/config.json", o->out);
    status = text ? infer_replace_file(path, text, strlen(text), err)
                  : infer_fail(err, INFER_ENOMEM, "out of memory");
    cJSON_free(text);
    cJSON_Delete(config);
    return status;
}

int train_config_read(const char *run, char ***out, struct infer_error *err)
{
    char path[PATH_LEN], **argv = NULL;
    struct train_map map = {"", 0};
    cJSON *config = NULL;
    const cJSON *words, *word;
    size_t n = 0;
    int status;

    snprintf(path, sizeof(path), "%s/config.json", run);
    status = train_map_open(&map, path, err);
    if (status != 0)
        return status;
    config = cJSON_ParseWithLength(map.data, map.size);
    words = cJSON_GetObjectItemCaseSensitive(config, "argv");
    argv = calloc((size_t)cJSON_GetArraySize(words) + 1, sizeof(*argv));
    status = argv && cJSON_GetArraySize(words) > 0 ? 0 : INFER_EFORMAT;
    cJSON_ArrayForEach (word, words) {
        if (status == 0 && cJSON_IsString(word))
            argv[n] = strdup(word->valuestring);
        if (status == 0 && !argv[n++])
            status = INFER_EFORMAT;
    }
    cJSON_Delete(config);
    train_map_close(&map);
    if (status == 0) {
        *out = argv;
        return 0;
    }
    train_config_free(argv);
    return infer_fail(err, status, "'%.200s' is damaged", path);
}

void train_config_free(char **argv)
{
    for (char **a = argv; a && *a; a++)
        free(*a);
    free(argv);
}

/* ---- the card
 * ----------------------------------------------------------------
 */

void train_card_recipe(FILE *f, const char *const *argv)
{
    fputs("\n## Recipe\n\n```sh\ninfer-train", f);
    for (; *argv; argv++) {
        const bool plain = strspn(*argv, "abcdefghijklmnopqrstuvwxyz"
                                         "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789-_./=,:+") == strlen(*argv);

        fprintf(f, plain ? " %s" : " '%s'", *argv);
    }
    fputs("\n```\n", f);
}

static void print_data(FILE *f, const struct train_lm *o)
{
    char path[PATH_LEN];
    struct infer_error ignored;
    struct train_map map = {"", 0};

    snprintf(path, sizeof(path), "%s/data/sources.txt", o->out);
    fputs("\n## Data\n\nSHA-256, bytes, file:\n\n```\n", f);
    if (train_map_open(&map, path, &ignored) == 0)
        fwrite(map.data, 1, map.size, f);
    train_map_close(&map);
    fputs("```\n", f);
}

/* trainer/commit.c; absent from programs that are not infer-train. */
extern const char train_commit[] __attribute__((weak));

static void print_card(FILE *f, const struct train_card *c)
{
    const struct net_shape *s = net_shape(c->net);
    const char *name = train_folder_name(c->o->out);
    char ranks[32] = "";

    fprintf(f,
            "# %s\n\nA %s language model, trained %s%s by infer-train "
            "%s (commit %s).\n\n```sh\ninferd --model %s/model.gguf\n```\n\n"
            "## Scores\n\n| what | value |\n|---|---|\n"
            "| validation loss, nats per token | %.5f |\n"
            "| validation, bits per byte | %.5f |\n"
            "| validation tokens | %llu |\n\n",
            name, s->arch == NET_GPT2 ? "gpt2" : "llama",
            c->o->init ? "from " : "from scratch", c->o->init ? c->o->init : "",
            infer_version(), train_commit ? train_commit : "unknown", c->o->out,
            c->val_loss, c->bits_per_byte, (unsigned long long)c->val_tokens);
    fprintf(f,
            "## Shape\n\n| parameters | layers | width | heads (kv) | head | "
            "hidden | context | vocabulary |\n|---|---|---|---|---|---|---|---|"
            "\n| %zu | %u | %u | %u (%u) | %u | %u | %u | %u |\n",
            net_n_params(c->net), s->n_layers, s->d_model, s->n_heads,
            s->n_kv_heads, s->d_head, s->d_ff, s->n_ctx, s->n_vocab);
    train_card_recipe(f, c->argv);
    if (c->n_ranks > 1)
        snprintf(ranks, sizeof(ranks), "%d ranks of ", c->n_ranks);
    fprintf(
        f,
        "\n%llu steps, %llu tokens, %.1f s on %s%d threads (%s); the "
        "parameters are those of step %llu, the best seen%s.\n",
        (unsigned long long)c->last.step, (unsigned long long)c->last.n_tokens,
        c->seconds, ranks, infer_team_size(net_team(c->net)),
        train_gemm_precision(net_gemm(c->net)) == TRAIN_BF16 ? "bf16" : "f32",
        (unsigned long long)c->last.best_step,
        c->o->ema > 0.0 ? ", averaged over steps" : "");
    print_data(f, c->o);
}

int train_card_write(const struct train_card *c, struct infer_error *err)
{
    char path[PATH_LEN], *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int status;

    if (f)
        print_card(f, c);
    if (!f || fclose(f) != 0) {
        free(text);
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    snprintf(path, sizeof(path), "%s/README.md", c->o->out);
    status = infer_replace_file(path, text, strlen(text), err);
    free(text);
    return status;
}
