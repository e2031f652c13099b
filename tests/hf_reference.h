/*
 * hf_reference.h - what a Hugging Face checkpoint means, computed from its
 * files alone: config.json and safetensors in their own layout, double
 * precision, no code of the engine. Slow and plain: the definition that
 * exports and imports are held to.
 */
#ifndef TESTS_HF_REFERENCE_H
#define TESTS_HF_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

/* Logits [n_vocab] of the last of n tokens. Fails the test on any trouble. */
void hf_reference_logits(const char *folder, const int32_t *ids, size_t n,
                         double *logits, size_t n_vocab);

#endif
