/*
 * sha256.h - checksums of data, as `sha256sum` prints them, so that a model
 * card's reader can prove to have the same text.
 *
 * Spec  FIPS 180-4
 */
#ifndef TRAINER_DATA_SHA256_H
#define TRAINER_DATA_SHA256_H

#include "infer.h"

struct train_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64]; /* bytes % 64 of it are filled */
};

enum { TRAIN_SHA256_TEXT = 65 }; /* 64 hex digits and a NUL */

void train_sha256_init(struct train_sha256 *s);
void train_sha256_update(struct train_sha256 *s, const void *data, size_t n);
/* May be called once; s is then spent. */
void train_sha256_finish(struct train_sha256 *s, char text[TRAIN_SHA256_TEXT]);

#endif
