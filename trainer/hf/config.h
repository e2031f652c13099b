/*
 * config.h - what a model is, as config.json says it and as a GGUF file says
 * it: one structure, read from and written to both.
 *
 * Reference  the configuration classes of Hugging Face's transformers
 */
#ifndef TRAINER_HF_CONFIG_H
#define TRAINER_HF_CONFIG_H

#include "core/format/gguf.h"

enum hf_arch { HF_LLAMA, HF_QWEN2, HF_QWEN3, HF_GPT2, HF_BERT };
enum hf_scaling {
    HF_SCALE_NONE,
    HF_SCALE_LINEAR,
    HF_SCALE_LLAMA3,
    HF_SCALE_YARN
};

enum hf_pooling { HF_POOL_MEAN = 1, HF_POOL_FIRST = 2, HF_POOL_RANK = 4 };

enum { HF_MAX_EOS = 3 };

struct hf_config {
    enum hf_arch arch;
    uint32_t n_vocab, n_ctx, n_layers, n_heads, n_kv_heads;
    uint32_t d_model, d_head, d_ff;
    float eps, rope_base;
    bool tied;
    bool attn_bias, mlp_bias; /* llama: of all four, of all three products */

    /* bert */
    uint32_t n_types;
    uint32_t n_classes;      /* of a head on the first token; 0: none */
    enum hf_pooling pooling; /* GGUF's numbers; rank: the head's */

    enum hf_scaling scaling; /* of rotary positions */
    float factor, orig_ctx;
    float low, high;                         /* llama3 */
    float attn_factor, beta_fast, beta_slow; /* yarn; attn_factor as GGUF has
                                                it: 1 is yarn's own */

    int32_t bos, eos[HF_MAX_EOS]; /* -1: none */
};

/* "llama", the architecture's name in GGUF files and in config.json. */
const char *hf_arch_name(enum hf_arch arch);

/*
 * FOLDER/config.json, and generation_config.json for the ids if it is there.
 * Errors  EIO, EFORMAT, EUNSUPPORTED: names file and field
 */
int hf_config_read(struct hf_config *c, const char *folder,
                   struct infer_error *err);
/* And back, both files. */
int hf_config_write(const struct hf_config *c, const char *folder,
                    const char *torch_dtype, struct infer_error *err);

/* From a GGUF file of one of the architectures.
 * Errors  infer_hparams_read()'s, EUNSUPPORTED (says what config.json cannot
 *         say) */
int hf_config_from_gguf(struct hf_config *c, const struct infer_gguf *g,
                        struct infer_error *err);
/* general.architecture and the keys of the shape. */
void hf_config_set(const struct hf_config *c, struct infer_gguf_writer *w);
/* The names of FOLDER/config.json's classes and what kind they are. Errors  as
 * hf_config_read() */
int hf_labels_set(const struct hf_config *c, const char *folder,
                  struct infer_gguf_writer *w, struct infer_error *err);

/* Divisors of the frequencies that llama3's scaling means, [d_head / 2]. */
void hf_llama3_factors(const struct hf_config *c, float *factors);

#endif
