/*
 * spm_train.cc - see spm_train.h.
 *
 * The library's own sampling needs all lines in memory first, so the sample is
 * drawn here: a line is kept while the hash of its number is below a limit,
 * and the limit is halved whenever the kept lines outgrow the memory they may
 * use. Its log is silenced: what goes wrong comes back as a status, whose
 * words are made into advice.
 */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "trainer/tok/spm_train.h"

extern "C" {
#include "core/base/error.h"
}
#pragma GCC diagnostic pop

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace
{

constexpr size_t kMaxLine = 4096;

uint64_t Hash(uint64_t n)
{
    n = (n + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    n = (n ^ n >> 29) * 0x94d049bb133111ebu;
    return n ^ n >> 32;
}

struct Line {
    uint64_t hash;
    std::string text;
};

class Lines : public sentencepiece::SentenceIterator
{
  public:
    explicit Lines(const std::vector<Line> &lines) : lines_(lines)
    {
    }
    bool done() const override
    {
        return at_ >= lines_.size();
    }
    void Next() override
    {
        at_++;
    }
    const std::string &value() const override
    {
        return lines_[at_].text;
    }
    sentencepiece::util::Status status() const override
    {
        return sentencepiece::util::Status();
    }

  private:
    const std::vector<Line> &lines_;
    size_t at_ = 0;
};

/* Where to cut a line that is too long: behind a space, or a character. */
size_t CutAt(std::string_view line)
{
    if (line.size() <= kMaxLine)
        return line.size();
    const size_t space = line.rfind(' ', kMaxLine - 1);
    size_t n = kMaxLine;

    if (space != std::string_view::npos && space > 0)
        return space; /* which then begins the next word, as pieces want it */
    while (n > 1 && (static_cast<unsigned char>(line[n]) & 0xc0) == 0x80)
        n--;
    return n;
}

std::string Joined(const train_spm_options *o)
{
    std::string all;

    for (size_t i = 0; i < o->n_symbols; i++)
        all += (i ? "," : "") + std::string(o->symbols[i]);
    return all;
}

std::unordered_map<std::string, std::string> Spec(const train_spm_options *o)
{
    std::unordered_map<std::string, std::string> spec = {
        {"model_type", o->kind},
        {"vocab_size", std::to_string(o->n_vocab)},
        {"byte_fallback", o->byte_fallback ? "true" : "false"},
        {"split_digits", o->split_digits ? "true" : "false"},
        {"character_coverage", o->byte_fallback ? "0.9999" : "1.0"},
        {"normalization_rule_name", "identity"},
        {"add_dummy_prefix", "false"},
        {"remove_extra_whitespaces", "false"},
        {"allow_whitespace_only_pieces", "true"},
        {"max_sentence_length", std::to_string(kMaxLine * 2)},
        {"num_threads", std::to_string(o->n_threads)},
        {"train_extremely_large_corpus", "false"},
        {"minloglevel", "2"},
    };

    if (o->n_symbols)
        spec["user_defined_symbols"] = Joined(o);
    return spec;
}

/* The library's complaint as advice. */
int Explain(const train_spm_options *o, const std::string &why,
            infer_error *err)
{
    const size_t most = why.find("value <= ");
    const unsigned long long n = o->n_vocab;

    if (most != std::string::npos)
        return infer_fail(err, INFER_EINVAL,
                          "a vocabulary of %llu pieces is larger than the text "
                          "allows; pass --vocab %lu or less, or give more text",
                          n, std::strtoul(why.c_str() + most + 9, nullptr, 10));
    if (why.find("required_chars") != std::string::npos ||
        why.find("smaller than required") != std::string::npos)
        return infer_fail(
            err, INFER_EINVAL,
            "a vocabulary of %llu pieces cannot hold all "
            "characters of the text; pass a larger --vocab%s",
            n, o->byte_fallback ? "" : ", or leave out --no-byte-fallback");
    return infer_fail(err, INFER_EINVAL, "SentencePiece: %.180s", why.c_str());
}

} // namespace

struct train_spm {
    std::vector<Line> lines;
    uint64_t bytes = 0; /* of the lines kept */
    uint64_t max_bytes = 0;
    uint64_t n = 0;         /* lines seen */
    uint64_t limit = ~0ull; /* hashes of kept lines are not above it */

    void Add(std::string_view line)
    {
        const uint64_t hash = Hash(n++);

        if (line.empty() || hash > limit)
            return;
        lines.push_back({hash, std::string(line)});
        bytes += line.size();
        while (bytes > max_bytes && lines.size() > 1)
            Halve();
    }

    void Halve()
    {
        limit /= 2;
        lines.erase(
            std::remove_if(lines.begin(), lines.end(),
                           [this](const Line &l) { return l.hash > limit; }),
            lines.end());
        bytes = 0;
        for (const Line &l : lines)
            bytes += l.text.size();
    }
};

int train_spm_create(struct train_spm **t, uint64_t max_bytes,
                     struct infer_error *err)
{
    train_spm *spm = new (std::nothrow) train_spm();

    if (!spm)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    spm->max_bytes = max_bytes;
    *t = spm;
    return 0;
}

int train_spm_add(struct train_spm *t, const char *line, size_t len,
                  struct infer_error *err)
{
    std::string_view rest(line, len);

    try {
        while (!rest.empty()) {
            const size_t cut = CutAt(rest);

            t->Add(rest.substr(0, cut));
            rest.remove_prefix(cut);
        }
    } catch (const std::bad_alloc &) {
        return infer_fail(err, INFER_ENOMEM, "out of memory holding %zu lines",
                          t->lines.size());
    }
    return 0;
}

uint64_t train_spm_lines(const struct train_spm *t)
{
    return t->lines.size();
}

int train_spm_run(struct train_spm *t, const struct train_spm_options *o,
                  char **model, size_t *size, struct infer_error *err)
{
    if (t->lines.empty())
        return infer_fail(err, INFER_EINVAL,
                          "no line of text to train a tokenizer on");
    try {
        Lines lines(t->lines);
        std::string proto;
        const auto status =
            sentencepiece::SentencePieceTrainer::Train(Spec(o), &lines, &proto);

        if (!status.ok())
            return Explain(o, status.error_message(), err);
        char *copy = static_cast<char *>(std::malloc(proto.size() + 1));

        if (!copy)
            throw std::bad_alloc();
        std::memcpy(copy, proto.data(), proto.size());
        *model = copy;
        *size = proto.size();
    } catch (const std::bad_alloc &) {
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory training a tokenizer; pass a smaller "
                          "--sample");
    } catch (const std::exception &e) {
        return infer_fail(err, INFER_EINVAL, "SentencePiece: %s", e.what());
    }
    return 0;
}

void train_spm_free(struct train_spm *t)
{
    delete t;
}
