/*
 * spm_file.c - read the pieces of a SentencePiece .model file.
 *
 * The file is a serialised protobuf message. Only a dozen of its fields
 * matter here, so it is walked by hand: pieces and their kinds for decoding,
 * and whether the text is normalised before encoding (then SentencePiece gets
 * the file's own bytes; else the vocabulary is all it needs). The walk proves
 * the framing before SentencePiece sees the file.
 */
#include "core/tokenizer/spm.h"

#include "core/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE = 64 << 20 };

/* Wire types, and the numbers of the messages' fields. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum {
    TRAINER_MODEL_TYPE = 3,
    TRAINER_SUFFIX = 24, /* treat_whitespace_as_suffix */
    TRAINER_BYTE_FALLBACK = 35,
    TRAINER_UNK = 40,
    TRAINER_BOS,
    TRAINER_EOS
};
enum {
    NORMALIZER_CHARSMAP = 2,
    NORMALIZER_DUMMY_PREFIX,
    NORMALIZER_EXTRA_SPACES,
    NORMALIZER_ESCAPE
};
enum { TYPE_UNIGRAM = 1, TYPE_BPE = 2 };

/* What is left of a message. */
struct cursor {
    const unsigned char *p, *end;
    bool bad;
};

struct field {
    uint64_t number;
    uint64_t value;      /* of a varint; bits of a fixed one */
    struct cursor bytes; /* of a length-delimited one */
};

struct header { /* what the specs say; initialised to protobuf's defaults */
    uint64_t model_type, suffix;
    int64_t unk, bos, eos;
    bool charsmap, dummy_prefix, extra_spaces, escape;
};

static uint64_t varint(struct cursor *c)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->p == c->end)
            break;
        value |= (uint64_t)(*c->p & 0x7f) << shift;
        if (!(*c->p++ & 0x80))
            return value;
    }
    c->bad = true;
    return 0;
}

/* n little-endian bytes */
static uint64_t fixed(struct cursor *c, size_t n)
{
    uint64_t value = 0;

    if ((size_t)(c->end - c->p) < n) {
        c->bad = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)*c->p++ << 8 * i;
    return value;
}

/* The next field; false at the end or when the message is malformed. */
static bool next_field(struct cursor *c, struct field *f)
{
    uint64_t tag;

    if (c->bad || c->p == c->end)
        return false;
    tag = varint(c);
    *f = (struct field){.number = tag >> 3};
    switch (tag & 7) {
    case VARINT:
        f->value = varint(c);
        break;
    case FIXED64:
        f->value = fixed(c, 8);
        break;
    case FIXED32:
        f->value = fixed(c, 4);
        break;
    case BYTES:
        f->value = varint(c);
        if (c->bad || f->value > (uint64_t)(c->end - c->p)) {
            c->bad = true;
            break;
        }
        f->bytes = (struct cursor){c->p, c->p + f->value, false};
        c->p += f->value;
        break;
    default:
        c->bad = true;
    }
    return !c->bad;
}

static void read_trainer(struct cursor c, struct header *h, bool *bad)
{
    struct field f;

    while (next_field(&c, &f)) {
        if (f.number == TRAINER_MODEL_TYPE)
            h->model_type = f.value;
        else if (f.number == TRAINER_SUFFIX)
            h->suffix = f.value;
        else if (f.number == TRAINER_UNK)
            h->unk = (int64_t)f.value;
        else if (f.number == TRAINER_BOS)
            h->bos = (int64_t)f.value;
        else if (f.number == TRAINER_EOS)
            h->eos = (int64_t)f.value;
    }
    *bad = *bad || c.bad;
}

static void read_normalizer(struct cursor c, struct header *h, bool *bad)
{
    struct field f;

    while (next_field(&c, &f)) {
        if (f.number == NORMALIZER_CHARSMAP)
            h->charsmap = f.value > 0;
        else if (f.number == NORMALIZER_DUMMY_PREFIX)
            h->dummy_prefix = f.value != 0;
        else if (f.number == NORMALIZER_EXTRA_SPACES)
            h->extra_spaces = f.value != 0;
        else if (f.number == NORMALIZER_ESCAPE)
            h->escape = f.value != 0;
    }
    *bad = *bad || c.bad;
}

static int add_piece(struct infer_vocab *v, struct cursor c,
                     struct infer_error *err)
{
    const char *text = "";
    size_t len = 0;
    uint64_t type = INFER_TOKEN_NORMAL;
    float score = 0.0f;
    struct field f;

    while (next_field(&c, &f)) {
        if (f.number == PIECE_TEXT) {
            text = (const char *)f.bytes.p;
            len = (size_t)f.value;
        } else if (f.number == PIECE_SCORE) {
            const uint32_t bits = (uint32_t)f.value;

            memcpy(&score, &bits, sizeof(score));
        } else if (f.number == PIECE_TYPE) {
            type = f.value;
        }
    }
    if (c.bad || !text)
        return infer_fail(err, INFER_EFORMAT, "piece %u is malformed", v->n);
    return infer_vocab_add(v, text, len, score,
                           type > INFER_TOKEN_BYTE ? 0 : (uint32_t)type,
                           "pieces", err);
}

/* First walk: the header, and how much there is. */
static int read_header(struct cursor c, struct header *h, uint32_t *n_pieces,
                       struct infer_error *err)
{
    struct field f;
    bool bad = false;
    uint64_t n = 0;

    *h = (struct header){.model_type = TYPE_UNIGRAM,
                         .bos = 1,
                         .eos = 2,
                         .dummy_prefix = true,
                         .extra_spaces = true,
                         .escape = true};
    while (next_field(&c, &f)) {
        n += f.number == MODEL_PIECES;
        if (f.number == MODEL_TRAINER)
            read_trainer(f.bytes, h, &bad);
        else if (f.number == MODEL_NORMALIZER)
            read_normalizer(f.bytes, h, &bad);
    }
    if (bad || c.bad || n == 0 || n > INFER_VOCAB_MAX_TOKENS)
        return infer_fail(err, INFER_EFORMAT,
                          "not a SentencePiece model of 1 to %d pieces",
                          INFER_VOCAB_MAX_TOKENS);
    if ((h->model_type != TYPE_UNIGRAM && h->model_type != TYPE_BPE) ||
        h->suffix || !h->escape)
        return infer_fail(err, INFER_EUNSUPPORTED,
                          "only unigram and BPE models with spaces escaped in "
                          "front of words are supported");
    *n_pieces = (uint32_t)n;
    return 0;
}

static int32_t id_or_none(int64_t id, uint32_t n)
{
    return id >= 0 && id < n ? (int32_t)id : -1;
}

static int parse(struct infer_vocab *v, struct infer_spm_file *file,
                 struct infer_error *err)
{
    const unsigned char *data = (const unsigned char *)file->data;
    struct cursor c = {data, data + file->size, false};
    struct header h;
    struct field f;
    uint32_t n = 0;
    int status = read_header(c, &h, &n, err);

    if (status == 0) /* texts are smaller than what holds them, names not */
        status = infer_vocab_init(
            v, n, file->size + (size_t)n * INFER_VOCAB_EMPTY_NAME, err);
    while (status == 0 && next_field(&c, &f))
        if (f.number == MODEL_PIECES)
            status = add_piece(v, f.bytes, err);
    if (status != 0)
        return status;
    v->unk = id_or_none(h.unk, n);
    v->bos = id_or_none(h.bos, n);
    v->eos = id_or_none(h.eos, n);
    v->sep = v->eos; /* as of a GGUF file */
    v->unigram = h.model_type == TYPE_UNIGRAM;
    v->add_bos = v->bos >= 0;
    v->add_space_prefix = h.dummy_prefix;
    file->normalizes = h.charsmap || h.extra_spaces;
    file->plain = h.model_type == TYPE_BPE && !file->normalizes;
    return infer_vocab_finish(v, err);
}

static int read_file(const char *path, char **data, size_t *size,
                     struct infer_error *err)
{
    FILE *f = fopen(path, "rb");
    char *buffer = NULL;
    struct stat st;
    int status;

    if (!f || fstat(fileno(f), &st) != 0) {
        status = infer_fail(err, INFER_EIO, "%s", strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE) {
        status = infer_fail(err, INFER_EIO, "not a file of at most %d bytes",
                            MAX_FILE);
        goto out;
    }
    *size = (size_t)st.st_size;
    buffer = malloc(*size + 1);
    if (!buffer)
        status = infer_fail(err, INFER_ENOMEM, "out of memory reading it");
    else if (fread(buffer, 1, *size, f) != *size)
        status = infer_fail(err, INFER_EIO, "it ends early");
    else
        status = 0;
out:
    if (f)
        fclose(f);
    if (status != 0)
        free(buffer);
    else
        *data = buffer;
    return status;
}

int infer_spm_file_load(struct infer_vocab *v, struct infer_spm_file *file,
                        char **data, const char *path, struct infer_error *err)
{
    size_t size = 0;
    int status;

    v->family = INFER_FAMILY_SPM;
    status = read_file(path, data, &size, err);
    if (status != 0)
        return status;
    *file = (struct infer_spm_file){.data = *data, .size = size};
    return parse(v, file, err);
}
