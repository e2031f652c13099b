/* sample.c - see sample.h. */
#include "trainer/run/sample.h"

#include "core/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void collect(void *user, const struct infer_event *event)
{
    fwrite(event->text, 1, event->text_len, user);
}

static int begin(const struct infer_model *m, const char *prompt,
                 struct infer_tokens *t, struct infer_error *err)
{
    int status = infer_tokenize(m, prompt, strlen(prompt), true, false, t, err);

    if (status == 0 && t->n == 0) {
        infer_tokens_release(t);
        status = infer_tokenize(m, "\n", 1, true, false, t, err);
    }
    if (status == 0 && t->n == 0)
        status = infer_fail(err, INFER_EINVAL,
                            "the sample's prompt has no token; give another "
                            "--prompt");
    return status;
}

static int run(struct infer_engine *e, const struct infer_tokens *prompt,
               const struct train_sample *how, FILE *out,
               struct infer_error *err)
{
    const uint32_t n_ctx = infer_engine_n_ctx(e);
    const size_t room = prompt->n < n_ctx ? n_ctx - prompt->n : 0;
    struct infer_request req = {.prompt = prompt->ids,
                                .n_prompt = prompt->n,
                                .logprobs = -1,
                                .on_event = collect,
                                .user = out};
    int status;

    req.max_tokens = how->n_tokens < room ? how->n_tokens : (uint32_t)room;
    infer_sampling_default(&req.sampling);
    req.sampling.temperature = how->temperature;
    req.sampling.seed = how->seed;
    status = infer_engine_submit(e, &req, err);
    while (status == 0 && infer_engine_step(e) > 0)
        continue;
    return status;
}

int train_sample(const char *model, struct infer_team *team,
                 const struct train_sample *how, char **text,
                 struct infer_error *err)
{
    const struct infer_engine_params params = {.max_running = 1};
    struct infer_model *m = NULL;
    struct infer_engine *e = NULL;
    struct infer_tokens prompt = {0};
    size_t size = 0;
    FILE *out = NULL;
    int status = infer_model_load(&m, model, NULL, err);

    *text = NULL;
    if (status == 0)
        status = begin(m, how->prompt, &prompt, err);
    if (status == 0)
        status = infer_engine_create(&e, m, team, &params, err);
    if (status == 0) {
        out = open_memstream(text, &size);
        if (!out)
            status = infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    if (status == 0) {
        fputs(how->prompt, out);
        status = run(e, &prompt, how, out, err);
    }
    if (out && fclose(out) != 0 && status == 0)
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    infer_engine_free(e);
    infer_tokens_release(&prompt);
    infer_model_free(m);
    if (status != 0) {
        free(*text);
        *text = NULL;
    }
    return status;
}
