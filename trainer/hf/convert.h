/*
 * convert.h - whole models: a checkpoint as a GGUF file, and back.
 */
#ifndef TRAINER_HF_CONVERT_H
#define TRAINER_HF_CONVERT_H

#include "infer.h"

struct hf_report {
    const char *arch; /* a constant */
    size_t n_tensors;
    uint64_t n_values;
};

/*
 * A Hugging Face checkpoint as a GGUF file (atomically), which was loaded by
 * the engine before it got its name.
 *
 *   from  a folder with config.json, tokenizer and model.safetensors (or the
 *         index of several), or such a file in its folder
 *   type  an enum infer_qtype for the matrices, -1: as they are. Vectors and
 *         learned positions become F32, rows that blocks do not fill F16.
 *
 * Cost    tensors that change are in memory until they are written
 * Errors  EIO, EFORMAT, EUNSUPPORTED (name the file and what in it), EINVAL
 *         (a value is not finite), ENOMEM
 */
int hf_import(const char *from, const char *to, int type,
              struct hf_report *report, struct infer_error *err);

/*
 * The way back: a folder (made if absent) with model.safetensors, config.json,
 * generation_config.json, tokenizer and tokenizer_config.json. Quantized
 * weights become F32, others stay what they are.
 * Errors  as above
 */
int hf_export(const char *from, const char *folder, struct hf_report *report,
              struct infer_error *err);

/*
 * As ONNX (opset 17, standard operators): one file, F32.
 *
 *   input_ids  [batch][sequence] int64   in, sequence up to the context
 *   logits     [batch][sequence][V] F32  out; every token sees itself and
 *                                        those before it
 * Errors  as above; EUNSUPPORTED (over 2 GB, which the format cannot hold)
 */
int onnx_export(const char *from, const char *to, struct hf_report *report,
                struct infer_error *err);

#endif
