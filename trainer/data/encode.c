/* encode.c - see encode.h. */
#include "trainer/data/encode.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

int train_encoder_init(struct train_encoder *e, const struct infer_tokenizer *t,
                       struct infer_error *err)
{
    struct infer_tokens around = {0};
    const int status =
        infer_tokenizer_encode(t, "", 0, true, false, &around, err);

    if (status != 0)
        return status;
    *e = (struct train_encoder){
        .tokenizer = t, .bos = -1, .eos = infer_tokenizer_eos(t)};
    for (size_t i = 0; i < around.n; i++)
        if (around.ids[i] == infer_tokenizer_bos(t))
            e->bos = around.ids[i];
    infer_tokens_release(&around);
    return 0;
}

int train_ids_add(struct train_ids *ids, const int32_t *more, size_t n)
{
    if (ids->cap - ids->n < n) {
        const size_t cap = (ids->n + n) + (ids->n + n) / 2;
        int32_t *data = realloc(ids->data, cap * sizeof(*data));

        if (!data)
            return INFER_ENOMEM;
        ids->data = data;
        ids->cap = cap;
    }
    if (n)
        memcpy(ids->data + ids->n, more, n * sizeof(*more));
    ids->n += n;
    return 0;
}

int train_encode(struct train_encoder *e, const struct train_part *part,
                 struct train_ids *ids, struct infer_error *err)
{
    struct infer_tokens tokens = {0};
    int status = infer_tokenizer_encode(e->tokenizer, part->text, part->len,
                                        false, false, &tokens, err);

    if (status != 0)
        return status;
    if (part->first && e->n_docs++ > 0 && e->eos >= 0)
        status = train_ids_add(ids, &e->eos, 1);
    if (status == 0 && part->first && e->bos >= 0)
        status = train_ids_add(ids, &e->bos, 1);
    if (status == 0)
        status = train_ids_add(ids, tokens.ids, tokens.n);
    infer_tokens_release(&tokens);
    e->n_bytes += part->len;
    return status
               ? infer_fail(err, status, "out of memory for %zu tokens", ids->n)
               : 0;
}
