/*
 * bpe.c - byte-level BPE with merges by rank.
 *
 * Symbols are numbers: the vocabulary's ids, and behind them the texts that
 * only merges name. A hash table gives rank and result of a pair. A word's
 * merges wait in a heap ordered by rank, then place, and are checked when
 * taken out, so a word of n bytes costs O(n log n) whatever it is.
 *
 * Most words of a text are single tokens. Which pieces their own merges put
 * together again is found out at load; such a word is then one look-up.
 *
 * Bytes that are not UTF-8 are read as the reference reads them: surrogates
 * and overlong forms pass, anything else is U+FFFD.
 */
#include "core/tokenizer/bpe.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

#define MERGES_KEY "tokenizer.ggml.merges"
#define NO_RANK    UINT32_MAX

struct merge {
    uint32_t left, right, result; /* symbols */
};

struct infer_bpe {
    const struct infer_vocab *vocab; /* the tokenizer's, which owns us */
    struct infer_pretok *pretok;
    struct merge *merges; /* [n_merges] by rank */
    uint32_t n_merges;
    uint32_t *slots; /* [mask + 1] rank of a pair; NO_RANK: empty */
    uint32_t mask;
    uint32_t byte_syms[256];
    struct infer_strs syms;  /* text of each symbol, the vocabulary first */
    char *byte_text;         /* [256 * 4] texts of the byte symbols */
    char *merge_text;        /* texts of merged symbols, joined */
    struct infer_strs words; /* bytes of the pieces that need no merging */
    int32_t *word_ids;       /* [words.n] */
};

/* Working memory of one encode. */
struct scratch {
    uint32_t *syms, *prev, *next; /* [cap] symbols of a word, linked */
    uint64_t *heap;               /* [2 * cap] rank << 32 | place */
    size_t n_heap, cap;
    const struct infer_bpe *bpe;
    struct infer_ids *out;
    struct infer_error *err;
};

/* ---- characters for bytes ---------------------------------------------------
 */

/* Printable Latin-1 stands for itself, the rest is moved to U+0100 and up. */
static bool printable(unsigned c)
{
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c != 0xad);
}

/* The bytes that are moved, in order: U+0100 + i is moved[i]. */
static unsigned moved_byte(unsigned i)
{
    return i < 33 ? i : i < 67 ? i - 33 + 0x7f : 0xad;
}

int infer_bpe_byte(uint32_t cp)
{
    if (cp < 0x100)
        return printable(cp) ? (int)cp : -1;
    return cp < 0x144 ? (int)moved_byte(cp - 0x100) : -1;
}

size_t infer_bpe_char(char *s, unsigned char byte)
{
    uint32_t cp = byte;

    if (!printable(byte))
        cp = 0x100 + (byte < 33      ? byte
                      : byte == 0xad ? 67u
                                     : byte - 0x7fu + 33);
    return infer_utf8_put(s, cp);
}

/* ---- the merge table --------------------------------------------------------
 */

static uint32_t pair_hash(uint32_t left, uint32_t right)
{
    const uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;

    return (uint32_t)(key >> 32);
}

/* The pair's slot, or the empty one where it belongs. */
static uint32_t *pair_slot(const struct infer_bpe *b, uint32_t left,
                           uint32_t right)
{
    for (uint32_t i = pair_hash(left, right);; i++) {
        uint32_t *p = &b->slots[i & b->mask];

        if (*p == NO_RANK ||
            (b->merges[*p].left == left && b->merges[*p].right == right))
            return p;
    }
}

/* ---- one word
 * ---------------------------------------------------------------- */

static int reserve(struct scratch *s, size_t n)
{
    size_t cap = s->cap ? s->cap : 256;

    if (n <= s->cap)
        return 0;
    while (cap < n)
        cap *= 2;
    free(s->syms);
    free(s->heap);
    s->cap = 0;
    s->syms = malloc(3 * cap * sizeof(*s->syms));
    s->heap = malloc(2 * cap * sizeof(*s->heap));
    if (!s->syms || !s->heap)
        return infer_fail(s->err, INFER_ENOMEM,
                          "out of memory merging a word of %zu bytes", n);
    s->prev = s->syms + cap;
    s->next = s->prev + cap;
    s->cap = cap;
    return 0;
}

static void heap_push(struct scratch *s, uint64_t item)
{
    size_t i = s->n_heap++;

    for (; i > 0 && s->heap[(i - 1) / 2] > item; i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = item;
}

static uint64_t heap_pop(struct scratch *s)
{
    const uint64_t top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < s->n_heap) {
        if (child + 1 < s->n_heap && s->heap[child + 1] < s->heap[child])
            child++;
        if (s->heap[child] >= last)
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Note that the symbol at i could merge with its right neighbour. Each merge
 * takes one item out and puts two in, so the heap holds at most 2n. */
static void offer(struct scratch *s, uint32_t i, size_t n)
{
    uint32_t rank;

    if (s->next[i] >= n)
        return;
    rank = *pair_slot(s->bpe, s->syms[i], s->syms[s->next[i]]);
    if (rank != NO_RANK)
        heap_push(s, (uint64_t)rank << 32 | i);
}

static void merge_all(struct scratch *s, size_t n)
{
    while (s->n_heap > 0) {
        const uint64_t item = heap_pop(s);
        const struct merge *m = &s->bpe->merges[item >> 32];
        const uint32_t left = (uint32_t)item, right = s->next[left];

        /* Stale: one of the two has merged with another meanwhile. The left
         * one then is NO_RANK or something else. */
        if (right >= n || s->syms[left] != m->left ||
            s->syms[right] != m->right)
            continue;
        s->syms[left] = m->result;
        s->syms[right] = NO_RANK;
        s->next[left] = s->next[right];
        if (s->next[left] < n)
            s->prev[s->next[left]] = left;
        if (left > 0)
            offer(s, s->prev[left], n);
        offer(s, left, n);
    }
}

/* Merge a word; its symbols are then syms[0], syms[next[0]], ... */
static int merge_word(struct scratch *s, const char *word, size_t n)
{
    const int status = reserve(s, n);

    if (status != 0)
        return status;
    for (uint32_t i = 0; i < n; i++) {
        s->syms[i] = s->bpe->byte_syms[(unsigned char)word[i]];
        s->prev[i] = i - 1;
        s->next[i] = i + 1;
    }
    s->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        offer(s, i, n);
    merge_all(s, n);
    return 0;
}

/* A symbol that is no token: whatever its bytes are on their own. */
static int push_unknown(struct scratch *s, uint32_t sym)
{
    const struct infer_gguf_str *text = &s->bpe->syms.data[sym];
    int status = 0;

    for (size_t i = 0; i < text->len && status == 0; i++) {
        const int32_t id =
            infer_strs_find(&s->bpe->vocab->texts, text->data + i, 1);

        if (id >= 0)
            status = infer_ids_push(s->out, id);
    }
    return status;
}

static int encode_word(void *ctx, const char *word, size_t n)
{
    struct scratch *s = ctx;
    const struct infer_bpe *b = s->bpe;
    const int32_t whole = infer_strs_find(&b->words, word, n);
    int status = 0;

    if (whole >= 0)
        return infer_ids_push(s->out, b->word_ids[whole]);
    if (n > INFER_TOKENIZE_MAX_RUN)
        return infer_fail(s->err, INFER_ETOOLONG,
                          "a word of %zu bytes, at most %d are allowed", n,
                          INFER_TOKENIZE_MAX_RUN);
    status = merge_word(s, word, n);
    for (size_t i = 0; i < n && status == 0; i = s->next[i])
        status = s->syms[i] < b->vocab->n
                     ? infer_ids_push(s->out, (int32_t)s->syms[i])
                     : push_unknown(s, s->syms[i]);
    return status;
}

/* ---- creation
 * ---------------------------------------------------------------- */

static int get_merges(const struct infer_gguf *g, struct infer_gguf_array *a,
                      size_t *text_bytes, struct infer_error *err)
{
    const int status = infer_gguf_get_array(g, MERGES_KEY, a, err);

    if (status < 0)
        return status;
    if (status > 0 || (a->n > 0 && a->type != INFER_GGUF_STRING))
        return infer_fail(err, INFER_EFORMAT,
                          MERGES_KEY " is not an array of strings");
    if (a->n > INFER_VOCAB_MAX_TOKENS)
        return infer_fail(err, INFER_EFORMAT,
                          MERGES_KEY " has %llu elements, at most %d are "
                                     "allowed",
                          (unsigned long long)a->n, INFER_VOCAB_MAX_TOKENS);
    *text_bytes = 0;
    for (uint64_t i = 0; i < a->n; i++) {
        if (a->strs[i].len > 2 * INFER_VOCAB_MAX_PIECE + 1)
            return infer_fail(
                err, INFER_EFORMAT, MERGES_KEY ": entry %llu has %llu bytes",
                (unsigned long long)i, (unsigned long long)a->strs[i].len);
        *text_bytes += a->strs[i].len * 2; /* the two sides, and joined */
    }
    return 0;
}

/* The symbol of a text, which is copied to *arena when it is new. */
static uint32_t intern(struct infer_bpe *b, const char *text, size_t len,
                       char **arena)
{
    const int32_t known = infer_strs_find(&b->syms, text, len);

    if (known >= 0)
        return (uint32_t)known;
    memcpy(*arena, text, len);
    *arena += len;
    return infer_strs_add(&b->syms, *arena - len, len);
}

static int add_merge(struct infer_bpe *b, const struct infer_gguf_str *text,
                     uint64_t i, char **arena, struct infer_error *err)
{
    /* a side may itself start with a space */
    const char *space =
        text->len > 2 ? memchr(text->data + 1, ' ', text->len - 2) : NULL;
    char joined[2 * INFER_VOCAB_MAX_PIECE + 1];
    struct merge *m = &b->merges[b->n_merges];
    size_t left, right;
    uint32_t *slot;

    if (!space)
        return infer_fail(err, INFER_EFORMAT,
                          MERGES_KEY ": entry %llu is not two pieces",
                          (unsigned long long)i);
    left = (size_t)(space - text->data);
    right = (size_t)text->len - left - 1;
    memcpy(joined, text->data, left);
    memcpy(joined + left, space + 1, right);
    m->left = intern(b, joined, left, arena);
    m->right = intern(b, joined + left, right, arena);
    m->result = intern(b, joined, left + right, arena);
    slot = pair_slot(b, m->left, m->right);
    if (*slot == NO_RANK) /* of two equal entries the first counts */
        *slot = b->n_merges++;
    return 0;
}

static int add_symbols(struct infer_bpe *b, uint32_t n_merges)
{
    const struct infer_vocab *v = b->vocab;

    if (infer_strs_init(&b->syms, v->n + 256 + 3 * n_merges) != 0)
        return INFER_ENOMEM;
    for (uint32_t id = 0; id < v->n; id++)
        infer_strs_add(&b->syms, v->texts.data[id].data,
                       (size_t)v->texts.data[id].len);
    for (unsigned byte = 0; byte < 256; byte++) {
        char *s = b->byte_text + byte * 4;
        const size_t len = infer_bpe_char(s, (unsigned char)byte);

        b->byte_syms[byte] = infer_strs_add(&b->syms, s, len);
    }
    return 0;
}

static int load_merges(struct infer_bpe *b, const struct infer_gguf *g,
                       struct infer_error *err)
{
    struct infer_gguf_array a;
    size_t text_bytes = 0, n_slots = 16;
    char *arena;
    int status = get_merges(g, &a, &text_bytes, err);

    if (status != 0)
        return status;
    while (n_slots < 2 * a.n)
        n_slots *= 2;
    b->mask = (uint32_t)(n_slots - 1);
    b->merges = malloc((a.n + 1) * sizeof(*b->merges));
    b->slots = malloc(n_slots * sizeof(*b->slots));
    b->byte_text = malloc(256 * 4);
    b->merge_text = arena = malloc(text_bytes + 1);
    if (!b->merges || !b->slots || !b->byte_text || !b->merge_text ||
        add_symbols(b, (uint32_t)a.n) != 0)
        return infer_fail(err, INFER_ENOMEM, "out of memory for %llu merges",
                          (unsigned long long)a.n);
    memset(b->slots, 0xff, n_slots * sizeof(*b->slots)); /* NO_RANK */
    for (uint64_t i = 0; i < a.n && status == 0; i++)
        status = add_merge(b, &a.strs[i], i, &arena, err);
    return status;
}

/* Do the merges of a piece's own bytes end in that piece? */
static int is_whole(struct scratch *s, uint32_t id, bool *whole)
{
    const struct infer_gguf_str *bytes = &s->bpe->vocab->bytes[id];
    const int status = merge_word(s, bytes->data, (size_t)bytes->len);

    *whole = status == 0 && s->syms[0] == id && s->next[0] >= bytes->len;
    return status;
}

static int find_words(struct infer_bpe *b, bool ignore_merges,
                      struct infer_error *err)
{
    const struct infer_vocab *v = b->vocab;
    struct scratch s = {.bpe = b, .err = err};
    int status = 0;

    b->word_ids = malloc(v->n * sizeof(*b->word_ids));
    if (!b->word_ids || infer_strs_init(&b->words, v->n) != 0)
        return infer_fail(err, INFER_ENOMEM, "out of memory for the words");
    for (uint32_t id = 0; id < v->n && status == 0; id++) {
        const struct infer_gguf_str *bytes = &v->bytes[id];
        bool whole = ignore_merges;
        uint32_t at;

        if (v->types[id] != INFER_TOKEN_NORMAL || bytes->len == 0)
            continue;
        if (!whole)
            status = is_whole(&s, id, &whole);
        if (status != 0 || !whole)
            continue;
        at = infer_strs_add(&b->words, bytes->data, (size_t)bytes->len);
        b->word_ids[at] = (int32_t)id;
    }
    free(s.syms);
    free(s.heap);
    return status;
}

int infer_bpe_create(struct infer_bpe **out, const struct infer_vocab *v,
                     const struct infer_pretok_rule *rule,
                     const struct infer_gguf *g, struct infer_error *err)
{
    struct infer_bpe *b = calloc(1, sizeof(*b));
    int status;

    if (!b)
        return infer_fail(err, INFER_ENOMEM, "out of memory for the merges");
    b->vocab = v;
    status = infer_pretok_create(&b->pretok, rule, err);
    if (status == 0)
        status = load_merges(b, g, err);
    if (status == 0)
        status = find_words(b, rule->ignore_merges, err);
    if (status != 0)
        infer_bpe_free(b);
    else
        *out = b;
    return status;
}

void infer_bpe_free(struct infer_bpe *b)
{
    if (!b)
        return;
    infer_pretok_free(b->pretok);
    free(b->merges);
    free(b->slots);
    infer_strs_release(&b->syms);
    free(b->byte_text);
    free(b->merge_text);
    infer_strs_release(&b->words);
    free(b->word_ids);
    free(b);
}

/* ---- text
 * --------------------------------------------------------------------- */

/* Where the strictly valid part of s ends. */
static size_t valid_length(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint32_t cp;
        const size_t n = (unsigned char)s[i] < 0x80
                             ? 1
                             : infer_utf8_next(s + i, len - i, &cp);

        if (n == 0)
            break;
        i += n;
    }
    return i;
}

/* A copy that is UTF-8 but for surrogates; malloc'd. */
static char *repair(const char *text, size_t len, size_t *out_len)
{
    char *out = malloc(3 * len + 4); /* a bad byte becomes three */
    size_t n = 0;

    if (!out)
        return NULL;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t k = infer_utf8_next(text + i, len - i, &cp);

        if (k == 0)
            k = infer_utf8_next_lax(text + i, len - i, &cp);
        n += infer_utf8_put(out + n, cp);
        i += k;
    }
    *out_len = n;
    return out;
}

int infer_bpe_encode(const struct infer_bpe *b, const char *text, size_t len,
                     struct infer_ids *out, struct infer_error *err)
{
    struct scratch s = {.bpe = b, .out = out, .err = err};
    char *copy = NULL;
    int status;

    if (valid_length(text, len) < len) {
        copy = repair(text, len, &len);
        if (!copy)
            return infer_fail(err, INFER_ENOMEM,
                              "out of memory repairing %zu bytes", len);
        text = copy;
    }
    status = infer_pretok_split(b->pretok, text, len, encode_word, &s, err);
    free(s.syms);
    free(s.heap);
    free(copy);
    return status;
}
