/*
 * spm.cc - SentencePiece behind a C face, made to answer as the reference does.
 *
 * SentencePiece merges pieces by score exactly as the reference does, so it
 * does the encoding. Around it:
 *
 *   - The ModelProto is written here from the vocabulary, without a
 *     normaliser, special tokens reserved (special.c has cut them out of the
 *     text already) and an unknown piece of our own behind the others, because
 *     SentencePiece wants exactly one.
 *   - Bytes that are not UTF-8 never reach it (it would make U+FFFD of them):
 *     they become byte tokens here, and nothing merges across them.
 *   - A text is cut between characters that are neighbours in no piece: no
 *     merge could have crossed there, so the result is the same. Such a word
 *     is looked up first among the pieces that SentencePiece was seen to make
 *     of their own text; the others go to it by the kilobyte, since one call
 *     costs O(n log n) time and a hundred times the text in memory.
 *
 * C++ exceptions stop here.
 */
/* In C a function may have its struct's name; C++ sees a hidden constructor. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "core/tokenizer/spm.h"
#include "core/tokenizer/utf8.h"

extern "C" {
#include "core/base/error.h"
}
#pragma GCC diagnostic pop

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

struct infer_spm {
    sentencepiece::SentencePieceProcessor processor;
    std::vector<bool> neighbours; /* Bloom filter of pairs; empty: never cut */
    bool bytes = false;           /* all 256 byte pieces are there */
    infer_strs words = {}; /* bytes of pieces that encode to themselves */
    std::vector<int32_t> word_ids; /* of each */
    size_t longest_word = 0;

    infer_spm() = default;
    infer_spm(const infer_spm &) = delete;
    infer_spm &operator=(const infer_spm &) = delete;
    ~infer_spm()
    {
        infer_strs_release(&words);
    }
};

namespace
{

constexpr size_t kPairBits = 1 << 19;
constexpr size_t kPartBytes = 1024;
constexpr size_t kMaxWord = 64; /* longer pieces are rare, and slow to try */
constexpr uint32_t kSpace = 0x2581; /* U+2581 stands for a space in pieces */

/* ---- ModelProto: the fields used, by number ------------------------------ */

enum Field { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum PieceField { kPiece = 1, kScore = 2, kType = 3 };
enum TrainerField { kModelType = 3, kByteFallback = 35 };
enum NormalizerField { kDummyPrefix = 3, kExtraSpaces = 4, kEscape = 5 };
enum { kUnigram = 1, kBpe = 2 };

void PutVarint(std::string *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        out->push_back(static_cast<char>(value | 0x80));
    out->push_back(static_cast<char>(value));
}

void PutInt(std::string *out, unsigned field, uint64_t value)
{
    PutVarint(out, field << 3);
    PutVarint(out, value);
}

void PutBytes(std::string *out, unsigned field, std::string_view value)
{
    PutVarint(out, field << 3 | 2);
    PutVarint(out, value.size());
    out->append(value);
}

void PutPiece(std::string *out, std::string_view text, float score,
              unsigned type)
{
    std::string piece;
    char bits[4];

    std::memcpy(bits, &score, sizeof(bits));
    PutBytes(&piece, kPiece, text);
    PutVarint(&piece, kScore << 3 | 5);
    piece.append(bits, sizeof(bits));
    PutInt(&piece, kType, type);
    PutBytes(out, kPieces, piece);
}

std::string_view Text(const infer_vocab *v, uint32_t id)
{
    return {v->texts.data[id].data, v->texts.data[id].len};
}

/* How the proto calls a token. The reference lets user-defined and unused
 * pieces merge like any other. */
unsigned ProtoType(const infer_vocab *v, uint32_t id, bool bytes)
{
    if (v->unigram && v->types[id] == INFER_TOKEN_USER)
        return INFER_TOKEN_CONTROL; /* cut out already; its score is no price */
    if (v->unigram && v->types[id] == INFER_TOKEN_UNUSED)
        return INFER_TOKEN_UNUSED;
    switch (v->types[id]) {
    case INFER_TOKEN_UNKNOWN:
    case INFER_TOKEN_CONTROL:
        return INFER_TOKEN_CONTROL;
    case INFER_TOKEN_BYTE:
        return bytes ? INFER_TOKEN_BYTE : INFER_TOKEN_CONTROL;
    default:
        return INFER_TOKEN_NORMAL;
    }
}

std::string MakeProto(const infer_vocab *v, bool bytes)
{
    std::string proto, trainer, normalizer;
    size_t longest = 0;

    for (uint32_t id = 0; id < v->n; id++) {
        PutPiece(&proto, Text(v, id), v->scores[id], ProtoType(v, id, bytes));
        longest = std::max(longest, Text(v, id).size());
    }
    /* longer than any piece, so it is none of them */
    PutPiece(&proto, std::string(longest + 1, '?'), 0.0f, INFER_TOKEN_UNKNOWN);
    PutInt(&trainer, kModelType, v->unigram ? kUnigram : kBpe);
    PutInt(&trainer, kByteFallback, bytes);
    PutBytes(&proto, kTrainer, trainer);
    PutInt(&normalizer, kDummyPrefix, 0);
    PutInt(&normalizer, kExtraSpaces, 0);
    PutInt(&normalizer, kEscape, 1);
    PutBytes(&proto, kNormalizer, normalizer);
    return proto;
}

/* ---- where a text may be cut --------------------------------------------- */

size_t PairBit(uint32_t a, uint32_t b)
{
    const uint64_t key = static_cast<uint64_t>(a) << 32 | b;

    return (key * 0x9e3779b97f4a7c15u >> 32) % kPairBits;
}

void NotePairs(infer_spm *spm, std::string_view piece)
{
    uint32_t last = 0, cp = 0;

    for (size_t i = 0; i < piece.size();) {
        const size_t n = infer_utf8_next(&piece[i], piece.size() - i, &cp);

        if (n == 0)
            return; /* never found in valid text */
        if (i > 0)
            spm->neighbours[PairBit(last, cp)] = true;
        last = cp;
        i += n;
    }
}

/* Ask SentencePiece which pieces it makes of their own text. */
void NoteWords(infer_spm *spm, const infer_vocab *v)
{
    std::vector<int> ids;

    if (infer_strs_init(&spm->words, v->n) != 0)
        throw std::bad_alloc();
    for (uint32_t id = 0; id < v->n; id++) {
        const infer_gguf_str *bytes = &v->bytes[id];

        if (v->types[id] != INFER_TOKEN_NORMAL || bytes->len > kMaxWord ||
            !spm->processor.Encode(Text(v, id), &ids).ok() || ids.size() != 1 ||
            ids[0] != static_cast<int>(id))
            continue;
        if (infer_strs_add(&spm->words, bytes->data, bytes->len) ==
            spm->word_ids.size()) {
            spm->word_ids.push_back(ids[0]);
            spm->longest_word = std::max(spm->longest_word, bytes->len);
        }
    }
}

/* ---- encoding ------------------------------------------------------------ */

struct Encoder {
    const infer_spm *spm;
    const infer_vocab *v;
    infer_ids *out;
    bool prefix;           /* a space is still to come before the text */
    size_t start = 0;      /* of what is put off */
    size_t word_start = 0; /* of the word being read */
    std::vector<int> ids;
    std::string joined;

    Encoder(const infer_spm *s, const infer_vocab *vocab, infer_ids *o, bool p)
        : spm(s), v(vocab), out(o), prefix(p)
    {
    }

    void Push(int32_t id)
    {
        if (infer_ids_push(out, id) != 0)
            throw std::bad_alloc();
    }

    void PushBytes(std::string_view bytes)
    {
        for (const char c : bytes) {
            const int32_t id = v->byte_ids[static_cast<unsigned char>(c)];

            if (id >= 0)
                Push(id);
        }
    }

    /* What no piece covers is one unknown token, as SentencePiece has it. */
    void PushUnknown()
    {
        if (v->unk >= 0 && (out->n == 0 || out->data[out->n - 1] != v->unk))
            Push(v->unk);
    }

    /* A vocabulary without byte pieces: look what the unknown pieces cover. */
    void RunWithUnknown(std::string_view text)
    {
        const auto pieces = spm->processor.EncodeAsImmutableProto(text);

        for (size_t i = 0; i < pieces.pieces_size(); i++) {
            const auto piece = pieces.pieces(static_cast<int>(i));

            if (piece.id() < v->n)
                Push(static_cast<int32_t>(piece.id()));
            else if (v->unigram)
                PushUnknown();
            else
                PushBytes(
                    text.substr(piece.begin(), piece.end() - piece.begin()));
        }
    }

    /* One part, valid UTF-8. */
    void Run(std::string_view text)
    {
        if (text.empty())
            return;
        if (!spm->bytes)
            return RunWithUnknown(text);
        if (!spm->processor.Encode(text, &ids).ok())
            throw std::invalid_argument("text");
        for (const int id : ids)
            Push(id);
    }

    /* Encode what was put off, up to a cut. */
    void Flush(std::string_view text, size_t end)
    {
        Run(text.substr(start, end - start));
        start = end;
    }

    /* The first word has a space before it, and goes alone. */
    void FirstWord(std::string_view word)
    {
        joined.assign(1, ' ');
        joined.append(word);
        Run(joined);
        start = word.size();
        prefix = false;
    }

    /* A word ends here: it is known, or is put off to go with others. */
    void EndWord(std::string_view text, size_t end)
    {
        const auto word = text.substr(word_start, end - word_start);
        int32_t at = -1;

        word_start = end;
        if (prefix)
            return FirstWord(word);
        if (word.empty())
            return;
        if (word.size() <= spm->longest_word)
            at = infer_strs_find(&spm->words, word.data(), word.size());
        if (at >= 0) {
            Flush(text, end - word.size());
            Push(spm->word_ids[static_cast<size_t>(at)]);
            start = end;
        } else if (end - start >= kPartBytes) {
            Flush(text, end);
        }
    }

    bool MayCut(uint32_t a, uint32_t b) const
    {
        if (v->unigram) /* sums of scores differ in the last bit: ties would */
            return false;
        a = a == ' ' ? kSpace : a;
        b = b == ' ' ? kSpace : b;
        return !spm->neighbours[PairBit(a, b)];
    }

    size_t Invalid(std::string_view text);
    int Text(std::string_view text, infer_error *err);
};

/*
 * The reference takes a character's length from the upper half of its first
 * byte alone, in a text whose spaces are U+2581 already, and makes byte tokens
 * of it all if that is not valid. Returns the bytes of the text this covers.
 */
size_t Encoder::Invalid(std::string_view text)
{
    static const unsigned char length[] = {1, 1, 1, 1, 1, 1, 1, 1,
                                           1, 1, 1, 1, 2, 2, 3, 4};
    size_t want = length[static_cast<unsigned char>(text[0]) >> 4], i = 0;

    for (; want > 0 && i < text.size(); i++) {
        /* what the length leaves of a cut U+2581 is not valid either */
        const auto bytes = text[i] == ' ' ? std::string_view("\xe2\x96\x81")
                                          : text.substr(i, 1);

        PushBytes(bytes);
        want -= std::min(want, bytes.size());
    }
    return i;
}

int Encoder::Text(std::string_view text, infer_error *err)
{
    uint32_t cp = 0, last = 0;

    for (size_t i = 0, n; i < text.size(); i += n, last = cp) {
        n = infer_utf8_next(&text[i], text.size() - i, &cp);
        if (n == 0) {
            EndWord(text, i);
            Flush(text, i);
            n = Invalid(text.substr(i));
            start = word_start = i + n;
        } else if (i > word_start && MayCut(last, cp)) {
            EndWord(text, i);
        } else if (i - word_start > INFER_TOKENIZE_MAX_RUN) {
            return infer_fail(err, INFER_ETOOLONG,
                              "more than %d bytes without a place to cut",
                              INFER_TOKENIZE_MAX_RUN);
        }
    }
    EndWord(text, text.size());
    Flush(text, text.size());
    return 0;
}

/* The file's own normaliser has the say; it also sets the space. */
int EncodeWhole(Encoder *e, std::string_view text, infer_error *err)
{
    if (text.size() > INFER_TOKENIZE_MAX_RUN)
        return infer_fail(err, INFER_ETOOLONG,
                          "this vocabulary takes at most %d bytes",
                          INFER_TOKENIZE_MAX_RUN);
    if (!e->spm->processor.Encode(text, &e->ids).ok())
        return infer_fail(err, INFER_EINVAL, "cannot encode the text");
    for (const int id : e->ids)
        e->Push(id);
    return 0;
}

int Create(infer_spm *spm, const infer_vocab *v, const infer_spm_file *file,
           infer_error *err)
{
    const bool own = !file || file->plain;
    size_t n_bytes = 0;

    for (uint32_t id = 0; id < v->n; id++)
        n_bytes += v->types[id] == INFER_TOKEN_BYTE;
    spm->bytes = n_bytes == 256;
    const auto status = spm->processor.LoadFromSerializedProto(
        own ? MakeProto(v, spm->bytes) : std::string(file->data, file->size));
    if (!status.ok())
        return infer_fail(err, INFER_EFORMAT,
                          "the vocabulary is not one for SentencePiece: %s",
                          status.message());
    if (own) {
        spm->neighbours.resize(kPairBits);
        for (uint32_t id = 0; id < v->n; id++)
            NotePairs(spm, Text(v, id));
        if (!v->unigram)
            NoteWords(spm, v);
    }
    return 0;
}

} // namespace

int infer_spm_create(struct infer_spm **out, const struct infer_vocab *v,
                     const struct infer_spm_file *file, struct infer_error *err)
{
    infer_spm *spm = nullptr;
    int status;

    try {
        spm = new infer_spm();
        status = Create(spm, v, file, err);
    } catch (const std::bad_alloc &) {
        status = infer_fail(err, INFER_ENOMEM, "out of memory for the pieces");
    } catch (...) {
        status = infer_fail(err, INFER_EFORMAT,
                            "the vocabulary is not one for SentencePiece");
    }
    if (status == 0)
        *out = spm;
    else
        delete spm;
    return status;
}

void infer_spm_free(struct infer_spm *spm)
{
    delete spm;
}

int infer_spm_encode(const struct infer_spm *spm, const struct infer_vocab *v,
                     const char *text, size_t len, bool prefix,
                     struct infer_ids *out, struct infer_error *err)
{
    try {
        Encoder e(spm, v, out, prefix);
        const std::string_view view(text, len);

        return spm->neighbours.empty() ? EncodeWhole(&e, view, err)
                                       : e.Text(view, err);
    } catch (const std::bad_alloc &) {
        return infer_fail(err, INFER_ENOMEM, "out of memory encoding %zu bytes",
                          len);
    } catch (...) {
        return infer_fail(err, INFER_EINVAL, "cannot encode the text");
    }
}
