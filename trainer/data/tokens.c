/* tokens.c - see tokens.h. The trailer comes last because only then the number
 * of tokens is known; a file cut short has none. */
#include "trainer/data/tokens.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

struct trailer {
    char magic[8];
    uint32_t width, n_vocab;
    uint64_t n, n_bytes;
};

static const char magic[8] = "infertk1";

enum { CHUNK = 4096 };

int train_tokens_begin(struct train_token_writer *w, const char *path,
                       uint32_t n_vocab, struct infer_error *err)
{
    *w = (struct train_token_writer){.width = n_vocab <= 65536 ? 2 : 4,
                                     .n_vocab = n_vocab};
    return infer_replace_begin(&w->file, path, err);
}

int train_tokens_write(struct train_token_writer *w, const int32_t *ids,
                       size_t n, struct infer_error *err)
{
    uint16_t narrow[CHUNK];
    int status = 0;

    w->n += n;
    if (w->width == 4)
        return infer_replace_write(&w->file, ids, n * sizeof(*ids), err);
    while (n > 0 && status == 0) {
        const size_t take = n < CHUNK ? n : CHUNK;

        for (size_t i = 0; i < take; i++)
            narrow[i] = (uint16_t)ids[i];
        status =
            infer_replace_write(&w->file, narrow, take * sizeof(*narrow), err);
        ids += take;
        n -= take;
    }
    return status;
}

int train_tokens_commit(struct train_token_writer *w, uint64_t n_bytes,
                        struct infer_error *err)
{
    struct trailer end = {.width = w->width,
                          .n_vocab = w->n_vocab,
                          .n = w->n,
                          .n_bytes = n_bytes};
    int status;

    memcpy(end.magic, magic, sizeof(magic));
    status = infer_replace_write(&w->file, &end, sizeof(end), err);
    return status ? status : infer_replace_commit(&w->file, err);
}

void train_tokens_abort(struct train_token_writer *w)
{
    infer_replace_abort(&w->file);
}

int train_tokens_open(struct train_tokens *t, const char *path,
                      uint32_t n_vocab, struct infer_error *err)
{
    struct trailer end = {0};
    struct train_map map = {"", 0};
    const int status = train_map_open(&map, path, err);

    if (status != 0)
        return status;
    if (map.size >= sizeof(end))
        memcpy(&end, map.data + map.size - sizeof(end), sizeof(end));
    if (memcmp(end.magic, magic, sizeof(magic)) != 0 ||
        end.n_vocab != n_vocab || end.width != (n_vocab <= 65536 ? 2u : 4u) ||
        end.n != (map.size - sizeof(end)) / end.width) {
        train_map_close(&map);
        return infer_fail(err, INFER_EFORMAT,
                          "'%.150s' is damaged or of another vocabulary; "
                          "start the run again in a new folder",
                          path);
    }
    *t = (struct train_tokens){map, end.width, end.n, end.n_bytes};
    return 0;
}

void train_tokens_close(struct train_tokens *t)
{
    if (t->map.data)
        train_map_close(&t->map);
    *t = (struct train_tokens){{"", 0}, 0, 0, 0};
}

bool train_tokens_read(const struct train_tokens *t, uint64_t from, size_t n,
                       uint32_t n_vocab, int32_t *ids)
{
    const char *at = t->map.data + from * t->width;
    uint32_t id;
    uint16_t narrow;

    for (size_t i = 0; i < n; i++) {
        if (t->width == 2) {
            memcpy(&narrow, at + 2 * i, 2);
            id = narrow;
        } else {
            memcpy(&id, at + 4 * i, 4);
        }
        if (id >= n_vocab)
            return false;
        ids[i] = (int32_t)id;
    }
    return true;
}
