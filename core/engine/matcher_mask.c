/*
 * matcher_mask.c - the tokens that a state allows: a walk of the vocabulary's
 * tree, kept for the next time.
 *
 * Masks ignore what cannot matter within one token. A repetition's count is
 * rounded for this: down to the longest token's reach where more are needed,
 * and to a power of two of rounds left. The latter refuses a token that holds
 * more rounds than that, which is a little less than the grammar allows and
 * never more, and keeps the number of masks of a bounded string small.
 *
 * Masks stand in a ring. One that was asked for is valid for n_live more.
 */
#include "core/engine/matcher_parts.h"

#include <string.h>

/* The state in which all counts are rounded. */
static uint32_t rounded(struct infer_matcher *m, uint32_t from)
{
    const struct state s = m->states[from];
    uint32_t to;

    if (s.rounded != NOTHING)
        return s.rounded;
    infer_matcher_begin(m);
    m->complete = s.complete;
    for (uint32_t i = 0; i < s.n; i++) {
        struct position p = m->positions[s.first + i];
        uint32_t k = 0;

        p.row = m->rows[p.row].rounded;
        while (k < m->n_found && memcmp(&m->found[k], &p, sizeof(p)) != 0)
            k++;
        if (k == m->n_found)
            infer_matcher_find(m, p.item, p.k, p.row);
    }
    to = infer_matcher_intern(m, s.slot);
    if (!m->full)
        m->states[from].rounded = to;
    return to;
}

/* Set the bits of all tokens that are accepted after a state. */
static void fill(struct infer_matcher *m, uint32_t from, uint64_t *mask)
{
    const struct infer_trie *t = &m->trie;
    uint32_t at[INFER_TRIE_MAX_BYTES + 1];

    memset(mask, 0, m->mask_words * sizeof(*mask));
    at[0] = from;
    for (uint32_t i = 0; i < t->n_nodes && !m->full;) {
        const struct infer_trie_node *node = &t->nodes[i];
        const uint32_t to =
            infer_matcher_step(m, at[node->depth], node->byte, true);

        if (to == DEAD) {
            i = node->skip;
            continue;
        }
        at[node->depth + 1] = to;
        for (uint32_t k = 0; k < node->n_tokens; k++) {
            const uint32_t id = (uint32_t)t->ids[node->token + k];

            mask[id / 64] |= UINT64_C(1) << id % 64;
        }
        i++;
    }
    if (m->states[from].complete)
        for (uint32_t i = 0; i < t->n_eog; i++)
            mask[t->eog[i] / 64] |= UINT64_C(1) << t->eog[i] % 64;
}

static uint64_t *take_mask(struct infer_matcher *m, uint32_t *index)
{
    const uint32_t i = m->next_mask;

    m->next_mask = (i + 1) % m->n_masks;
    if (m->mask_owner[i] != NOTHING)
        m->states[m->mask_owner[i]].mask = NOTHING;
    m->mask_owner[i] = NOTHING;
    *index = i;
    return m->masks + (size_t)i * m->mask_words;
}

/* A mask that is known. One whose turn to be overwritten is near moves. */
static const uint64_t *known_mask(struct infer_matcher *m, uint32_t state)
{
    uint32_t i = m->states[state].mask;
    const uint64_t *old = m->masks + (size_t)i * m->mask_words;
    uint64_t *mask;

    if ((i + m->n_masks - m->next_mask) % m->n_masks >= m->n_live)
        return old;
    mask = take_mask(m, &i);
    if (mask != old)
        memcpy(mask, old, m->mask_words * sizeof(*mask));
    m->mask_owner[m->states[state].mask == NOTHING ? i
                                                   : m->states[state].mask] =
        NOTHING;
    m->mask_owner[i] = state;
    m->states[state].mask = i;
    return mask;
}

const uint64_t *infer_matcher_mask(struct infer_matcher *m,
                                   struct infer_match *match,
                                   const int32_t *tokens, uint32_t n)
{
    uint64_t *mask;
    uint32_t state, i;

    infer_matcher_sync(m, match, tokens, n);
    state = rounded(m, match->state);
    if (!m->full && m->states[state].mask != NOTHING)
        return known_mask(m, state);
    mask = take_mask(m, &i);
    if (!m->full)
        fill(m, state, mask);
    if (m->full) { /* once more, in empty arenas: what is refused then depends
                      on nothing else */
        match->state = infer_matcher_keep(m, match->state);
        match->epoch = m->epoch;
        state = rounded(m, match->state);
        m->full = false;
        fill(m, state, mask);
        m->full = false;
    }
    m->mask_owner[i] = state;
    m->states[state].mask = i;
    return mask;
}
