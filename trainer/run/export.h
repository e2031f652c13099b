/*
 * export.h - a trained net as a GGUF file with its vocabulary: what inferd and
 * llama.cpp open.
 */
#ifndef TRAINER_RUN_EXPORT_H
#define TRAINER_RUN_EXPORT_H

#include "trainer/nn/net.h"

/*
 *   vocab  path of a GGUF file whose tokenizer keys are copied
 *   name   general.name
 * Errors  EIO, EFORMAT (of vocab), ENOMEM
 */
int train_export(struct net *net, const char *vocab, const char *name,
                 const char *path, struct infer_error *err);

#endif
