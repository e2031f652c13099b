/*
 * spm_write.c - a vocabulary as a SentencePiece .model file: what spm_file.c
 * reads back, and any program that uses SentencePiece.
 */
#include "core/tokenizer/spm.h"

#include "core/base/error.h"
#include "core/format/protobuf.h"
#include "core/format/replace.h"

/* Numbers of the messages' fields. */
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum {
    TRAINER_MODEL_TYPE = 3,
    TRAINER_VOCAB_SIZE = 4,
    TRAINER_BYTE_FALLBACK = 35,
    TRAINER_UNK = 40,
    TRAINER_BOS,
    TRAINER_EOS,
    TRAINER_PAD
};
enum {
    NORMALIZER_NAME = 1,
    NORMALIZER_DUMMY_PREFIX = 3,
    NORMALIZER_EXTRA_SPACES = 4
};
enum { TYPE_UNIGRAM = 1, TYPE_BPE = 2 };

static void put_piece(struct infer_pb *out, const struct infer_vocab *v,
                      uint32_t id)
{
    const struct infer_gguf_str *text = &v->texts.data[id];
    struct infer_pb piece = {0};

    infer_pb_bytes(&piece, PIECE_TEXT, text->data, (size_t)text->len);
    infer_pb_f32(&piece, PIECE_SCORE, v->scores[id]);
    infer_pb_int(&piece, PIECE_TYPE, v->types[id]);
    infer_pb_message(out, MODEL_PIECES, &piece);
}

static void put_specs(struct infer_pb *out, const struct infer_vocab *v,
                      bool bytes)
{
    struct infer_pb trainer = {0}, normalizer = {0};

    infer_pb_int(&trainer, TRAINER_MODEL_TYPE,
                 v->unigram ? TYPE_UNIGRAM : TYPE_BPE);
    infer_pb_int(&trainer, TRAINER_VOCAB_SIZE, v->n);
    infer_pb_int(&trainer, TRAINER_BYTE_FALLBACK, bytes);
    /* -1 is ten bytes of an int32 */
    infer_pb_int(&trainer, TRAINER_UNK, (uint64_t)(int64_t)v->unk);
    infer_pb_int(&trainer, TRAINER_BOS, (uint64_t)(int64_t)v->bos);
    infer_pb_int(&trainer, TRAINER_EOS, (uint64_t)(int64_t)v->eos);
    infer_pb_int(&trainer, TRAINER_PAD, (uint64_t)(int64_t)-1);
    infer_pb_message(out, MODEL_TRAINER, &trainer);
    infer_pb_str(&normalizer, NORMALIZER_NAME, "identity");
    infer_pb_int(&normalizer, NORMALIZER_DUMMY_PREFIX, v->add_space_prefix);
    infer_pb_int(&normalizer, NORMALIZER_EXTRA_SPACES, 0);
    infer_pb_message(out, MODEL_NORMALIZER, &normalizer);
}

int infer_spm_file_save(const struct infer_vocab *v, const char *path,
                        struct infer_error *err)
{
    struct infer_replace r = {.fd = -1};
    struct infer_pb out = {0};
    uint32_t n_unknown = 0, n_bytes = 0;
    int status;

    for (uint32_t id = 0; id < v->n; id++) {
        n_unknown += v->types[id] == INFER_TOKEN_UNKNOWN;
        n_bytes += v->types[id] == INFER_TOKEN_BYTE;
        put_piece(&out, v, id);
    }
    put_specs(&out, v, n_bytes == 256);
    if (n_unknown != 1)
        status = infer_fail(err, INFER_EUNSUPPORTED,
                            "a SentencePiece model has one unknown piece, this "
                            "vocabulary %u",
                            n_unknown);
    else if (out.failed)
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    else
        status = infer_replace_begin(&r, path, err);
    if (status == 0)
        status = infer_replace_write(&r, out.data, out.n, err);
    if (status == 0)
        status = infer_replace_commit(&r, err);
    infer_replace_abort(&r);
    infer_pb_release(&out);
    return status;
}
