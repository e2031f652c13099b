/*
 * grammar.c - building and checking grammars.
 *
 * A grammar is a graph of items made bottom up; rules close its cycles. finish
 * proves what the matcher relies on, so that it never distrusts a grammar:
 *
 *   every rule is defined and can end (need is finite);
 *   nothing recurses before it has taken a byte, nothing repeats nothing, so
 *   following items without taking a byte ends;
 *   need(x) rows of stack are enough to end x, so that the matcher can refuse
 *   whatever would not fit and yet never be stuck.
 */
#include "core/engine/grammar.h"

#include "core/base/error.h"
#include "core/engine/grammar_derive.h"

#include <stdlib.h>
#include <string.h>

int infer_grammar_create(struct infer_grammar **out, struct infer_error *err)
{
    static uint64_t last_uid;
    struct infer_grammar *g = calloc(1, sizeof(*g));

    if (g == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for a grammar");
    g->uid = __atomic_add_fetch(&last_uid, 1, __ATOMIC_RELAXED);
    g->n_items = 1;
    *out = g;
    return INFER_OK;
}

void infer_grammar_free(struct infer_grammar *g)
{
    if (g == NULL)
        return;
    free(g->items);
    free(g->parts);
    free(g->text);
    free(g->sets);
    free(g->set_slots);
    free(g);
}

/* ---- building ----------------------------------------------------------- */

/* Room for `more` elements behind the n of an array; NULL: remembered. */
static void *grown(struct infer_grammar *g, void *array, uint32_t n,
                   uint32_t *cap, size_t more, uint32_t limit, size_t size)
{
    size_t wanted = *cap != 0 ? *cap : 64;
    void *bigger;

    if (g->failed != INFER_OK)
        return NULL;
    if (more > limit - n) {
        g->failed = INFER_ETOOLONG;
        return NULL;
    }
    if (n + more <= *cap)
        return array;
    while (wanted < n + more)
        wanted *= 2;
    bigger = realloc(array, wanted * size);
    if (bigger == NULL) {
        g->failed = INFER_ENOMEM;
        return NULL;
    }
    *cap = (uint32_t)wanted;
    return bigger;
}

/* A part must have been made before it is used; 0 never was. */
static bool is_part(struct infer_grammar *g, uint32_t part)
{
    if (g->failed == INFER_OK && (part == 0 || part >= g->n_items))
        g->failed = INFER_EINVAL;
    return g->failed == INFER_OK;
}

static uint32_t add_item(struct infer_grammar *g, struct infer_item item)
{
    struct infer_item *items = grown(g, g->items, g->n_items, &g->cap_items, 1,
                                     INFER_GRAMMAR_MAX_ITEMS, sizeof(*items));

    if (items == NULL)
        return 0;
    if (g->items == NULL)
        items[0] = (struct infer_item){.kind = INFER_ITEM_NONE};
    g->items = items;
    items[g->n_items] = item;
    return g->n_items++;
}

/* Where a set stands among the slots, or would stand. The address is a seed
 * that whoever makes up the sets does not know. */
static uint32_t slot_of(const struct infer_grammar *g, const uint8_t *bits)
{
    uint64_t h = (uintptr_t)g, word;
    uint32_t i;

    for (size_t k = 0; k < sizeof(struct infer_set); k += sizeof(word)) {
        memcpy(&word, bits + k, sizeof(word));
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    i = (uint32_t)(h >> 32) & (g->n_slots - 1);
    while (g->set_slots[i] != 0 && memcmp(g->sets[g->set_slots[i] - 1].bits,
                                          bits, sizeof(struct infer_set)) != 0)
        i = (i + 1) & (g->n_slots - 1);
    return i;
}

/* Room for one more set, and twice as many slots as there is room for. */
static bool room_for_set(struct infer_grammar *g)
{
    struct infer_set *sets = grown(g, g->sets, g->n_sets, &g->cap_sets, 1,
                                   INFER_GRAMMAR_MAX_ITEMS, sizeof(*sets));
    uint32_t *slots;

    if (sets == NULL)
        return false;
    g->sets = sets;
    if (g->n_slots == 2 * g->cap_sets)
        return true;
    slots = calloc((size_t)2 * g->cap_sets, sizeof(*slots));
    if (slots == NULL) {
        g->failed = INFER_ENOMEM;
        return false;
    }
    free(g->set_slots);
    g->set_slots = slots;
    g->n_slots = 2 * g->cap_sets;
    for (uint32_t i = 0; i < g->n_sets; i++)
        slots[slot_of(g, sets[i].bits)] = i + 1;
    return true;
}

uint32_t infer_grammar_bytes(struct infer_grammar *g, const uint8_t set[32])
{
    uint32_t slot;

    if (!room_for_set(g))
        return 0;
    slot = slot_of(g, set);
    if (g->set_slots[slot] == 0) {
        memcpy(g->sets[g->n_sets++].bits, set, 32);
        g->set_slots[slot] = g->n_sets;
    }
    return add_item(g, (struct infer_item){.kind = INFER_ITEM_BYTES,
                                           .a = g->set_slots[slot] - 1});
}

uint32_t infer_grammar_text(struct infer_grammar *g, const char *text,
                            size_t len)
{
    char *all;

    if (len == 0)
        return infer_grammar_sequence(g, NULL, 0);
    all = grown(g, g->text, g->n_text, &g->cap_text, len,
                INFER_GRAMMAR_MAX_TEXT, 1);
    if (all == NULL)
        return 0;
    g->text = all;
    memcpy(all + g->n_text, text, len);
    g->n_text += (uint32_t)len;
    return add_item(g, (struct infer_item){.kind = INFER_ITEM_TEXT,
                                           .a = g->n_text - (uint32_t)len,
                                           .n = (uint32_t)len});
}

static uint32_t add_group(struct infer_grammar *g, enum infer_item_kind kind,
                          const uint32_t *list, size_t n)
{
    uint32_t *parts;

    for (size_t i = 0; i < n; i++)
        if (!is_part(g, list[i]))
            return 0;
    parts = grown(g, g->parts, g->n_parts, &g->cap_parts, n,
                  INFER_GRAMMAR_MAX_PARTS, sizeof(*parts));
    if (g->failed != INFER_OK)
        return 0;
    g->parts = parts;
    if (n > 0)
        memcpy(parts + g->n_parts, list, n * sizeof(*list));
    g->n_parts += (uint32_t)n;
    return add_item(g, (struct infer_item){.kind = (uint8_t)kind,
                                           .a = g->n_parts - (uint32_t)n,
                                           .n = (uint32_t)n});
}

uint32_t infer_grammar_sequence(struct infer_grammar *g, const uint32_t *parts,
                                size_t n)
{
    return n == 1 ? parts[0] : add_group(g, INFER_ITEM_SEQUENCE, parts, n);
}

uint32_t infer_grammar_choice(struct infer_grammar *g, const uint32_t *parts,
                              size_t n)
{
    return n == 1 ? parts[0] : add_group(g, INFER_ITEM_CHOICE, parts, n);
}

uint32_t infer_grammar_repeat(struct infer_grammar *g, uint32_t part,
                              uint32_t least, uint32_t most)
{
    if (least == 1 && most == 1)
        return part;
    if (most == 0)
        return infer_grammar_sequence(g, NULL, 0);
    if (!is_part(g, part))
        return 0;
    return add_item(
        g, (struct infer_item){
               .kind = INFER_ITEM_REPEAT, .a = part, .b = least, .n = most});
}

uint32_t infer_grammar_rule(struct infer_grammar *g)
{
    if (g->n_rules == INFER_GRAMMAR_MAX_RULES)
        g->failed = INFER_ETOOLONG;
    g->n_rules++;
    return add_item(g, (struct infer_item){.kind = INFER_ITEM_RULE});
}

void infer_grammar_define(struct infer_grammar *g, uint32_t rule, uint32_t part)
{
    if (is_part(g, rule) && is_part(g, part) &&
        g->items[rule].kind == INFER_ITEM_RULE)
        g->items[rule].a = part;
}

/* ---- chains without a byte ---------------------------------------------- */

static const uint32_t *parts_of(const struct infer_grammar *g, uint32_t i)
{
    return g->parts + g->items[i].a;
}

/* The k-th item that may begin with the first byte of item i; 0: no more. */
static uint32_t first_of(const struct infer_grammar *g, uint32_t i, uint32_t k)
{
    const struct infer_item *it = &g->items[i];

    switch (it->kind) {
    case INFER_ITEM_SEQUENCE:
        if (k >= it->n || (k > 0 && !g->items[parts_of(g, i)[k - 1]].nullable))
            return 0;
        return parts_of(g, i)[k];
    case INFER_ITEM_CHOICE:
        return k < it->n ? parts_of(g, i)[k] : 0;
    case INFER_ITEM_REPEAT:
    case INFER_ITEM_RULE:
        return k == 0 ? it->a : 0;
    default:
        return 0;
    }
}

struct frame {
    uint32_t item, k;
};

/* A cycle has a rule in it: the topmost on the way. */
static uint32_t rule_of_cycle(const struct infer_grammar *g,
                              const struct frame *stack, uint32_t n,
                              uint32_t next)
{
    while (n > 1 && stack[n - 1].item != next &&
           g->items[stack[n - 1].item].kind != INFER_ITEM_RULE)
        n--;
    return stack[n - 1].item;
}

/* Walk depth first with an own stack. mark: 0 new, 1 on the way, else 2 and
 * chain[] is the length. Returns the item where it goes wrong, or 0. */
static uint32_t walk(const struct infer_grammar *g, uint32_t root,
                     uint8_t *mark, uint16_t *chain, struct frame *stack)
{
    uint32_t n = 0;

    stack[n++] = (struct frame){root, 0};
    mark[root] = 1;
    while (n > 0) {
        struct frame *f = &stack[n - 1];
        const uint32_t next = first_of(g, f->item, f->k);

        if (next == 0) {
            mark[f->item] = 2;
            n--;
            if (n > 0 && chain[stack[n - 1].item] < chain[f->item] + 1)
                chain[stack[n - 1].item] = (uint16_t)(chain[f->item] + 1);
            continue;
        }
        f->k++;
        if (mark[next] == 1)
            return rule_of_cycle(g, stack, n, next);
        if (mark[next] == 2) {
            if (chain[f->item] < chain[next] + 1)
                chain[f->item] = (uint16_t)(chain[next] + 1);
        } else if (n == INFER_GRAMMAR_MAX_CHAIN) {
            return next;
        } else {
            mark[next] = 1;
            stack[n++] = (struct frame){next, 0};
        }
        if (chain[f->item] >= INFER_GRAMMAR_MAX_CHAIN)
            return f->item;
    }
    return 0;
}

/* No item may come back to itself before a byte was taken. */
static int check_chains(const struct infer_grammar *g, uint32_t *culprit,
                        struct infer_error *err)
{
    uint8_t *mark = calloc(g->n_items, sizeof(*mark));
    uint16_t *chain = calloc(g->n_items, sizeof(*chain));
    struct frame *stack = calloc(INFER_GRAMMAR_MAX_CHAIN, sizeof(*stack));
    int status = INFER_OK;

    if (mark == NULL || chain == NULL || stack == NULL)
        status = infer_fail(err, INFER_ENOMEM, "no memory for a grammar");
    for (uint32_t i = 1; status == INFER_OK && i < g->n_items; i++) {
        if (mark[i] != 0)
            continue;
        *culprit = walk(g, i, mark, chain, stack);
        if (*culprit != 0)
            status = infer_fail(err, INFER_EINVAL,
                                "it refers to itself before anything is "
                                "written");
    }
    free(mark);
    free(chain);
    free(stack);
    return status;
}

/* ---- the end ------------------------------------------------------------ */

static int check_items(const struct infer_grammar *g, uint32_t *culprit,
                       struct infer_error *err)
{
    for (uint32_t i = 1; i < g->n_items; i++) {
        const struct infer_item *it = &g->items[i];

        *culprit = i;
        if (it->kind == INFER_ITEM_RULE && it->a == 0)
            return infer_fail(err, INFER_EINVAL, "a rule is not defined");
        if (it->kind == INFER_ITEM_REPEAT && it->b > it->n)
            return infer_fail(err, INFER_EINVAL, "at least %u of at most %u",
                              it->b, it->n);
        if (it->kind == INFER_ITEM_REPEAT && g->items[it->a].nullable)
            return infer_fail(err, INFER_EINVAL,
                              "what may be empty is repeated");
    }
    return INFER_OK;
}

int infer_grammar_finish(struct infer_grammar *g, uint32_t start,
                         uint32_t *culprit, struct infer_error *err)
{
    uint32_t ignored;
    int status;

    if (culprit == NULL)
        culprit = &ignored;
    *culprit = 0;
    is_part(g, start);
    if (g->failed == INFER_EINVAL)
        return infer_fail(err, INFER_EINVAL, "a part was never made");
    if (g->failed == INFER_ETOOLONG)
        return infer_fail(err, INFER_ETOOLONG, "the grammar is too large");
    if (g->failed != INFER_OK)
        return infer_fail(err, g->failed, "no memory for a grammar");
    for (uint32_t i = 1; i < g->n_items; i++)
        if (g->items[i].kind == INFER_ITEM_RULE && g->items[i].a == 0) {
            *culprit = i;
            return infer_fail(err, INFER_EINVAL, "a rule is not defined");
        }
    status = infer_grammar_derive(g, err);
    if (status == INFER_OK)
        status = check_items(g, culprit, err);
    if (status == INFER_OK)
        status = check_chains(g, culprit, err);
    if (status != INFER_OK)
        return status;
    *culprit = start;
    if (g->items[start].need == INFER_NEED_UNKNOWN)
        return infer_fail(err, INFER_EINVAL,
                          "nothing satisfies it within %d levels",
                          (int)INFER_GRAMMAR_MAX_DEPTH);
    g->start = start;
    g->finished = true;
    return INFER_OK;
}
