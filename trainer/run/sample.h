/*
 * sample.h - text that a model file writes, through the engine that serves it.
 */
#ifndef TRAINER_RUN_SAMPLE_H
#define TRAINER_RUN_SAMPLE_H

#include "infer.h"

struct train_sample {
    const char *prompt; /* may be "": a vocabulary with BOS begins with it,
                           others with a line break */
    uint32_t n_tokens;  /* to generate; at most what the context leaves */
    float temperature;
    uint64_t seed;
};

/*
 *   text  out  prompt and continuation, malloc'd, NUL-terminated
 * Errors  infer_model_load()'s, ETOOLONG (the prompt fills the context), ENOMEM
 */
int train_sample(const char *model, struct infer_team *team,
                 const struct train_sample *how, char **text,
                 struct infer_error *err);

#endif
