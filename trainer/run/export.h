/*
 * export.h - a trained net as a GGUF file with its vocabulary: what inferd and
 * llama.cpp open.
 */
#ifndef TRAINER_RUN_EXPORT_H
#define TRAINER_RUN_EXPORT_H

#include "core/format/gguf.h"
#include "trainer/nn/net.h"

/* general.architecture */
const char *train_arch_name(const struct net_shape *s);

/* Adds keys and tensors of its own before the file is written. */
typedef void train_export_fn(void *user, struct infer_gguf_writer *w);

/*
 *   vocab  path of a GGUF file whose tokenizer keys are copied
 *   name   general.name
 *   more   or NULL
 * Errors  EIO, EFORMAT (of vocab), ENOMEM
 */
int train_export(struct net *net, const char *vocab, const char *name,
                 const char *path, train_export_fn *more, void *user,
                 struct infer_error *err);

#endif
