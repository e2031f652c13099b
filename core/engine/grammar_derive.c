/*
 * grammar_derive.c - which parts may be empty, and how deep a stack each needs.
 *
 * Both are least fixed points over the graph of items. Each item is settled
 * once, and settling one counts down those that use it, so the cost is that of
 * the graph: passes over all items would be as many as rules refer to later
 * ones, a second for a grammar that somebody made for that.
 *
 * need goes in the order of its values: what depends on an item needs no less
 * than it (Knuth 1977, "A generalization of Dijkstra's algorithm"), so the
 * first branch of a choice to be settled is its cheapest.
 */
#include "core/engine/grammar_derive.h"

#include "core/base/error.h"

#include <stdlib.h>

/* Where an item is a part. row: another part follows in the sequence, so the
 * stack has one more row. */
struct use {
    uint32_t user;
    uint32_t row; /* 0 or 1 */
};

struct derive {
    struct infer_grammar *g;
    uint32_t *first;  /* [n_items + 1] into uses, by part */
    struct use *uses; /* [uses of all] */
    uint32_t *left;   /* [n_items] parts to be settled before the item is */
    uint32_t *next;   /* [n_items] the list that an item stands in */
    uint32_t heads[INFER_GRAMMAR_MAX_DEPTH + 1]; /* by need; 0: the end */
};

/* ---- uses ---------------------------------------------------------------- */

static uint32_t n_parts(const struct infer_item *it)
{
    switch (it->kind) {
    case INFER_ITEM_SEQUENCE:
    case INFER_ITEM_CHOICE:
        return it->n;
    case INFER_ITEM_REPEAT:
    case INFER_ITEM_RULE:
        return 1;
    default:
        return 0;
    }
}

static uint32_t part_of(const struct infer_grammar *g,
                        const struct infer_item *it, uint32_t k)
{
    return it->kind == INFER_ITEM_SEQUENCE || it->kind == INFER_ITEM_CHOICE
               ? g->parts[it->a + k]
               : it->a;
}

/* Count, then place: the uses of one item lie together. */
static int list_uses(struct derive *d, struct infer_error *err)
{
    const struct infer_grammar *g = d->g;
    const size_t n = g->n_items;
    uint32_t total = 0;

    d->first = calloc(n + 1, sizeof(*d->first));
    d->left = calloc(n, sizeof(*d->left));
    d->next = calloc(n, sizeof(*d->next));
    if (d->first == NULL || d->left == NULL || d->next == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for a grammar");
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = 0; k < n_parts(&g->items[i]); k++, total++)
            d->first[part_of(g, &g->items[i], k)]++;
    d->uses = calloc((size_t)total + 1, sizeof(*d->uses));
    if (d->uses == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for a grammar");
    for (size_t i = 1; i <= n; i++)
        d->first[i] += d->first[i - 1];
    for (uint32_t i = 1; i < n; i++) {
        const struct infer_item *it = &g->items[i];
        const uint32_t parts = n_parts(it);

        for (uint32_t k = 0; k < parts; k++)
            d->uses[--d->first[part_of(g, it, k)]] = (struct use){
                i, it->kind == INFER_ITEM_REPEAT ||
                       (it->kind == INFER_ITEM_SEQUENCE && k + 1 < parts)};
    }
    return INFER_OK;
}

static void expect_all_parts(struct derive *d)
{
    for (uint32_t i = 1; i < d->g->n_items; i++) {
        const struct infer_item *it = &d->g->items[i];

        d->left[i] = it->kind == INFER_ITEM_SEQUENCE ? it->n : 1;
    }
}

/* ---- empty --------------------------------------------------------------- */

static void set_nullable(struct derive *d, uint32_t i, uint32_t *todo)
{
    if (d->g->items[i].nullable)
        return;
    d->g->items[i].nullable = true;
    d->next[i] = *todo;
    *todo = i;
}

static void derive_nullable(struct derive *d)
{
    struct infer_grammar *g = d->g;
    uint32_t todo = 0;

    expect_all_parts(d);
    for (uint32_t i = 1; i < g->n_items; i++) {
        const struct infer_item *it = &g->items[i];

        if ((it->kind == INFER_ITEM_SEQUENCE && it->n == 0) ||
            (it->kind == INFER_ITEM_REPEAT && it->b == 0))
            set_nullable(d, i, &todo);
    }
    while (todo != 0) {
        const uint32_t i = todo;

        todo = d->next[i];
        for (uint32_t k = d->first[i]; k < d->first[i + 1]; k++) {
            const uint32_t user = d->uses[k].user;

            if (d->left[user] > 0 && --d->left[user] == 0)
                set_nullable(d, user, &todo);
        }
    }
}

/* ---- need ---------------------------------------------------------------- */

static void settle(struct derive *d, uint32_t i, uint32_t need)
{
    d->left[i] = 0;
    d->g->items[i].need = (uint16_t)need;
    d->next[i] = d->heads[need];
    d->heads[need] = i;
}

/* A part of an item is settled. While parts are left, need is the greatest of
 * those that are. */
static void tell(struct derive *d, struct use use, uint32_t need)
{
    struct infer_item *it = &d->g->items[use.user];

    need += use.row;
    if (d->left[use.user] == 0 || need > INFER_GRAMMAR_MAX_DEPTH)
        return;
    if (d->left[use.user] == 1) {
        if (it->need != INFER_NEED_UNKNOWN && it->need > need)
            need = it->need;
        settle(d, use.user, need);
        return;
    }
    d->left[use.user]--;
    if (it->need == INFER_NEED_UNKNOWN || it->need < need)
        it->need = (uint16_t)need;
}

static void derive_need(struct derive *d)
{
    struct infer_grammar *g = d->g;

    expect_all_parts(d);
    for (uint32_t i = 1; i < g->n_items; i++) {
        const struct infer_item *it = &g->items[i];

        g->items[i].need = INFER_NEED_UNKNOWN;
        if (it->kind == INFER_ITEM_BYTES || it->kind == INFER_ITEM_TEXT ||
            (it->kind == INFER_ITEM_SEQUENCE && it->n == 0) ||
            (it->kind == INFER_ITEM_REPEAT && it->b == 0))
            settle(d, i, 0);
    }
    for (uint32_t need = 0; need <= INFER_GRAMMAR_MAX_DEPTH; need++)
        while (d->heads[need] != 0) { /* may grow meanwhile */
            const uint32_t i = d->heads[need];

            d->heads[need] = d->next[i];
            for (uint32_t k = d->first[i]; k < d->first[i + 1]; k++)
                tell(d, d->uses[k], need);
        }
    for (uint32_t i = 1; i < g->n_items; i++) /* some parts never end */
        if (d->left[i] > 0)
            g->items[i].need = INFER_NEED_UNKNOWN;
}

int infer_grammar_derive(struct infer_grammar *g, struct infer_error *err)
{
    struct derive d = {.g = g};
    const int status = list_uses(&d, err);

    if (status == INFER_OK) {
        derive_nullable(&d);
        derive_need(&d);
    }
    free(d.first);
    free(d.uses);
    free(d.left);
    free(d.next);
    return status;
}
