/*
 * matcher.c - grammars as automata: stacks and states.
 *
 * A stack is a chain of rows (item, k, rows below): a sequence whose k-th part
 * comes next, or a repetition that has begun its k-th round. Equal chains are
 * the same row, so comparing stacks is comparing numbers. A state is a list of
 * positions: the byte sets and texts that may take the next byte, each with
 * its stack.
 *
 * Each row also knows its stack with rounded counts: see matcher_mask.c.
 *
 * Whatever would need more rows than there are is refused where it begins:
 * need (grammar_derive.c) says what is certain to fit, so a way on remains.
 */
#include "core/engine/matcher_parts.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

enum { WORK_ROOM = MAX_WORK + INFER_GRAMMAR_MAX_PARTS };

/* ---- arenas ------------------------------------------------------------- */

static void empty(struct infer_matcher *m)
{
    memset(m->row_heads, 0xff, 2 * MAX_ROWS * sizeof(*m->row_heads));
    memset(m->state_heads, 0xff, 2 * MAX_STATES * sizeof(*m->state_heads));
    memset(m->mask_owner, 0xff, m->n_masks * sizeof(*m->mask_owner));
    m->n_rows = m->n_states = 1;
    m->n_positions = m->n_tables = m->n_grammars = 0;
    m->rows[0] = (struct row){0};
    m->states[DEAD] =
        (struct state){.rounded = NOTHING, .table = NOTHING, .mask = NOTHING};
    m->epoch++;
    m->full = false;
}

void infer_matcher_free(struct infer_matcher *m)
{
    if (m == NULL)
        return;
    infer_trie_release(&m->trie);
    free(m->masks);
    free(m->mask_owner);
    free(m->rows);
    free(m->row_heads);
    free(m->states);
    free(m->state_heads);
    free(m->positions);
    free(m->tables);
    free(m->work);
    free(m->seen);
    free(m->seen_at);
    free(m->saved_rows);
    free(m);
}

int infer_matcher_create(struct infer_matcher **out,
                         const struct infer_tokenizer *tok, uint32_t n_vocab,
                         uint32_t n_live, struct infer_error *err)
{
    struct infer_matcher *m = calloc(1, sizeof(*m));
    int status;

    if (m == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for a matcher");
    m->tok = tok;
    m->mask_words = (n_vocab + 63) / 64;
    m->n_live = n_live;
    m->n_masks = n_live + SPARE_MASKS;
    status = infer_trie_create(&m->trie, tok, n_vocab, err);
    if (status != INFER_OK)
        goto out;
    m->masks = malloc((size_t)m->n_masks * m->mask_words * sizeof(*m->masks));
    m->mask_owner = malloc(m->n_masks * sizeof(*m->mask_owner));
    m->rows = malloc(MAX_ROWS * sizeof(*m->rows));
    m->row_heads = malloc(2 * MAX_ROWS * sizeof(*m->row_heads));
    m->states = malloc(MAX_STATES * sizeof(*m->states));
    m->state_heads = malloc(2 * MAX_STATES * sizeof(*m->state_heads));
    m->positions = malloc(MAX_POSITIONS * sizeof(*m->positions));
    m->tables = malloc(MAX_TABLES * sizeof(*m->tables));
    m->work = malloc(WORK_ROOM * sizeof(*m->work));
    m->seen = malloc(2 * MAX_WORK * sizeof(*m->seen));
    m->seen_at = calloc(2 * MAX_WORK, sizeof(*m->seen_at));
    m->saved_rows = malloc(SAVED * sizeof(*m->saved_rows));
    if (m->masks == NULL || m->mask_owner == NULL || m->rows == NULL ||
        m->row_heads == NULL || m->states == NULL || m->state_heads == NULL ||
        m->positions == NULL || m->tables == NULL || m->work == NULL ||
        m->seen == NULL || m->seen_at == NULL || m->saved_rows == NULL) {
        status = infer_fail(err, INFER_ENOMEM, "no memory for a matcher");
        goto out;
    }
    empty(m);
    *out = m;
    m = NULL;
out:
    infer_matcher_free(m);
    return status;
}

int infer_matcher_check(const struct infer_matcher *m, struct infer_error *err)
{
    for (int byte = 0x20; byte < 0x7f; byte++)
        if (!m->trie.single[byte])
            return infer_fail(err, INFER_EUNSUPPORTED,
                              "the model's vocabulary has no '%c': it cannot "
                              "write JSON",
                              byte);
    return INFER_OK;
}

/* ---- rows --------------------------------------------------------------- */

static uint32_t hash_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint64_t h = a;

    h = (h ^ b) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ c) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 31 ^ d) * 0x94d049bb133111ebu;
    return (uint32_t)(h >> 32);
}

/* See matcher_mask.c. */
static uint32_t rounded_count(const struct infer_matcher *m,
                              const struct infer_item *it, uint32_t k)
{
    const uint32_t reach = m->trie.longest;
    uint32_t left, power = 1;

    if (it->kind != INFER_ITEM_REPEAT)
        return k;
    if (k < it->b)
        return it->b - k > reach ? it->b - reach - 1 : k;
    if (it->n == UINT32_MAX || k >= it->n)
        return k;
    left = it->n - k;
    while (power <= left / 2)
        power *= 2;
    return it->n - power;
}

static uint32_t push(struct infer_matcher *m, uint32_t slot, uint32_t item,
                     uint32_t k, uint32_t below)
{
    const struct infer_item *it = &m->grammars[slot]->items[item];
    uint32_t *head =
        &m->row_heads[hash_of(slot, item, k, below) % (2 * MAX_ROWS)];
    uint32_t i = *head, count, base;

    while (i != NOTHING) {
        const struct row *r = &m->rows[i];

        if (r->item == item && r->k == k && r->below == below &&
            r->slot == slot)
            return i;
        i = r->chain;
    }
    if (m->n_rows == MAX_ROWS) {
        m->full = true;
        return NOTHING;
    }
    i = m->n_rows++;
    m->rows[i] = (struct row){
        .slot = slot,
        .item = item,
        .k = k,
        .below = below,
        .rounded = i,
        .chain = *head,
        .depth = (uint16_t)(m->rows[below].depth + 1),
    };
    *head = i;
    count = rounded_count(m, it, k);
    base = m->rows[below].rounded;
    if (count != k || base != below) {
        const uint32_t same = push(m, slot, item, count, base);

        if (same != NOTHING) /* else the arenas are about to be emptied */
            m->rows[i].rounded = same;
    }
    return i;
}

/* ---- states ------------------------------------------------------------- */

/* The state of m->found; DEAD when it is empty and not complete. */
uint32_t infer_matcher_intern(struct infer_matcher *m, uint32_t slot)
{
    const size_t bytes = m->n_found * sizeof(m->found[0]);
    uint32_t h = hash_of(slot, m->n_found, m->complete, 0), i;
    uint32_t *head;

    if (m->n_found == 0 && !m->complete)
        return DEAD;
    for (uint32_t k = 0; k < m->n_found; k++)
        h = hash_of(h, m->found[k].item, m->found[k].k, m->found[k].row);
    head = &m->state_heads[h % (2 * MAX_STATES)];
    for (i = *head; i != NOTHING; i = m->states[i].chain) {
        const struct state *s = &m->states[i];

        if (s->n == m->n_found && s->complete == m->complete &&
            s->slot == slot &&
            memcmp(m->positions + s->first, m->found, bytes) == 0)
            return i;
    }
    if (m->n_states == MAX_STATES ||
        m->n_found > MAX_POSITIONS - m->n_positions) {
        m->full = true;
        return DEAD;
    }
    i = m->n_states++;
    m->states[i] = (struct state){
        .first = m->n_positions,
        .n = (uint16_t)m->n_found,
        .complete = m->complete,
        .slot = slot,
        .rounded = NOTHING,
        .table = NOTHING,
        .mask = NOTHING,
        .chain = *head,
    };
    *head = i;
    memcpy(m->positions + m->n_positions, m->found, bytes);
    m->n_positions += m->n_found;
    return i;
}

void infer_matcher_find(struct infer_matcher *m, uint32_t item, uint32_t k,
                        uint32_t row)
{
    if (m->n_found < STATE_POSITIONS)
        m->found[m->n_found++] = (struct position){item, k, row};
}

/* ---- following items without a byte ------------------------------------- */

void infer_matcher_begin(struct infer_matcher *m)
{
    m->n_work = m->n_seen = m->n_found = 0;
    m->complete = false;
    if (++m->stamp == 0) { /* once in 2^32 steps */
        memset(m->seen_at, 0, 2 * MAX_WORK * sizeof(*m->seen_at));
        m->stamp = 1;
    }
}

/* Later added is done first. */
static void add(struct infer_matcher *m, uint32_t item, uint32_t k,
                uint32_t row)
{
    if (row != NOTHING && m->n_work < WORK_ROOM)
        m->work[m->n_work++] = (struct work){item, k, row};
}

/* Whether this was done in this step already, or too much was. */
static bool seen(struct infer_matcher *m, struct work w)
{
    uint32_t i = hash_of(w.item, w.k, w.row, 1) % (2 * MAX_WORK);

    for (; m->seen_at[i] == m->stamp; i = (i + 1) % (2 * MAX_WORK))
        if (m->seen[i].item == w.item && m->seen[i].k == w.k &&
            m->seen[i].row == w.row)
            return true;
    if (m->n_seen == MAX_WORK)
        return true;
    m->n_seen++;
    m->seen[i] = w;
    m->seen_at[i] = m->stamp;
    return false;
}

/* A repetition that has ended k rounds (counted up to what matters). */
static void rounds(struct infer_matcher *m, uint32_t slot, uint32_t item,
                   uint32_t k, uint32_t row)
{
    const struct infer_grammar *g = m->grammars[slot];
    const struct infer_item *it = &g->items[item];
    const uint32_t room = INFER_GRAMMAR_MAX_DEPTH - m->rows[row].depth;

    if (k >= it->b)
        add(m, 0, 0, row);
    if (k < it->n && 1u + g->items[it->a].need <= room) {
        const uint32_t next = it->n == UINT32_MAX && k >= it->b ? k : k + 1;

        add(m, it->a, 0, push(m, slot, item, next, row));
    }
}

static void come_back(struct infer_matcher *m, uint32_t slot, uint32_t row)
{
    const struct row r = m->rows[row];
    const struct infer_grammar *g = m->grammars[slot];
    const struct infer_item *it = &g->items[r.item];

    if (row == 0) {
        m->complete = true;
    } else if (it->kind == INFER_ITEM_REPEAT) {
        rounds(m, slot, r.item, r.k, r.below);
    } else {
        const uint32_t below =
            r.k + 1 < it->n ? push(m, slot, r.item, r.k + 1, r.below) : r.below;

        add(m, g->parts[it->a + r.k], 0, below);
    }
}

static void enter(struct infer_matcher *m, uint32_t slot, struct work w)
{
    const struct infer_grammar *g = m->grammars[slot];
    const struct infer_item *it = &g->items[w.item];
    const uint32_t room = INFER_GRAMMAR_MAX_DEPTH - m->rows[w.row].depth;

    switch (it->kind) {
    case INFER_ITEM_BYTES:
    case INFER_ITEM_TEXT:
        infer_matcher_find(m, w.item, 0, w.row);
        break;
    case INFER_ITEM_SEQUENCE:
        if (it->n == 0)
            add(m, 0, 0, w.row);
        else /* of two parts at least */
            add(m, g->parts[it->a], 0, push(m, slot, w.item, 1, w.row));
        break;
    case INFER_ITEM_CHOICE:
        for (uint32_t k = it->n; k-- > 0;)
            if (g->items[g->parts[it->a + k]].need <= room)
                add(m, g->parts[it->a + k], 0, w.row);
        break;
    case INFER_ITEM_REPEAT:
        rounds(m, slot, w.item, 0, w.row);
        break;
    case INFER_ITEM_RULE:
        add(m, it->a, 0, w.row);
        break;
    default:
        break;
    }
}

static uint32_t settle(struct infer_matcher *m, uint32_t slot)
{
    while (m->n_work > 0 && !m->full) {
        const struct work w = m->work[--m->n_work];

        if (seen(m, w))
            continue;
        if (w.item == 0)
            come_back(m, slot, w.row);
        else
            enter(m, slot, w);
    }
    return m->full ? DEAD : infer_matcher_intern(m, slot);
}

/* ---- steps -------------------------------------------------------------- */

static uint32_t compute(struct infer_matcher *m, uint32_t from, uint8_t byte)
{
    const struct state s = m->states[from];
    const struct infer_grammar *g = m->grammars[s.slot];
    uint32_t kept = 0;

    infer_matcher_begin(m);
    for (uint32_t i = s.n; i-- > 0;) { /* the first is done first */
        const struct position p = m->positions[s.first + i];
        const struct infer_item *it = &g->items[p.item];

        if (it->kind == INFER_ITEM_BYTES
                ? infer_set_has(&g->sets[it->a], byte)
                : (uint8_t)g->text[it->a + p.k] == byte) {
            if (it->kind == INFER_ITEM_BYTES || p.k + 1 == it->n)
                add(m, 0, 0, p.row);
            else
                kept++;
        }
    }
    if (kept > 0)
        for (uint32_t i = 0; i < s.n; i++) {
            const struct position p = m->positions[s.first + i];
            const struct infer_item *it = &g->items[p.item];

            if (it->kind == INFER_ITEM_TEXT && p.k + 1 < it->n &&
                (uint8_t)g->text[it->a + p.k] == byte)
                infer_matcher_find(m, p.item, p.k + 1, p.row);
        }
    return settle(m, s.slot);
}

/* Bytes that no position takes lead nowhere; the others are to be found. */
static void open_table(const struct infer_matcher *m, const struct state *s,
                       uint32_t *table)
{
    const struct infer_grammar *g = m->grammars[s->slot];

    for (uint32_t b = 0; b < 256; b++)
        table[b] = DEAD;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct position *p = &m->positions[s->first + i];
        const struct infer_item *it = &g->items[p->item];

        if (it->kind == INFER_ITEM_TEXT)
            table[(uint8_t)g->text[it->a + p->k]] = NOTHING;
        else
            for (uint32_t b = 0; b < 256; b++)
                if (infer_set_has(&g->sets[it->a], (uint8_t)b))
                    table[b] = NOTHING;
    }
}

/* Where a byte leads. remember: also for the next time. */
uint32_t infer_matcher_step(struct infer_matcher *m, uint32_t from,
                            uint8_t byte, bool remember)
{
    struct state *s = &m->states[from];
    uint32_t to;

    if (from == DEAD || !m->trie.single[byte])
        return DEAD;
    if (s->table == NOTHING && remember && m->n_tables < MAX_TABLES) {
        s->table = m->n_tables++;
        open_table(m, s, m->tables[s->table]);
    }
    if (s->table != NOTHING && m->tables[s->table][byte] != NOTHING)
        return m->tables[s->table][byte];
    to = compute(m, from, byte);
    if (s->table != NOTHING && !m->full)
        m->tables[s->table][byte] = to;
    return to;
}

static uint32_t slot_of(struct infer_matcher *m, const struct infer_grammar *g)
{
    uint32_t i = m->n_grammars;

    while (i > 0 && m->uids[i - 1] != g->uid)
        i--;
    if (i > 0) {
        m->grammars[i - 1] = g;
        return i - 1;
    }
    if (m->n_grammars == MAX_GRAMMARS)
        empty(m);
    m->uids[m->n_grammars] = g->uid;
    m->grammars[m->n_grammars] = g;
    return m->n_grammars++;
}

static uint32_t start_state(struct infer_matcher *m,
                            const struct infer_grammar *g)
{
    const uint32_t slot = slot_of(m, g);

    infer_matcher_begin(m);
    add(m, g->start, 0, 0);
    return settle(m, slot);
}

/* ---- emptying ----------------------------------------------------------- */

/* Empty the arenas but for one state, whose new number is returned. Positions
 * whose stacks have no room in `saved_rows` are dropped: later ones. */
uint32_t infer_matcher_keep(struct infer_matcher *m, uint32_t from)
{
    const struct state s = m->states[from];
    const struct infer_grammar *g = m->grammars[s.slot];
    uint32_t n = 0, n_rows = 0, slot;

    for (; n < s.n; n++) {
        const struct position p = m->positions[s.first + n];

        if (m->rows[p.row].depth > SAVED - n_rows)
            break;
        m->saved[n] = p;
        m->saved[n].row = m->rows[p.row].depth;
        for (uint32_t r = p.row; r != 0; r = m->rows[r].below)
            m->saved_rows[n_rows++] =
                (struct position){m->rows[r].item, m->rows[r].k, 0};
    }
    empty(m);
    slot = slot_of(m, g);
    infer_matcher_begin(m);
    m->complete = s.complete;
    n_rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = 0;

        n_rows += m->saved[i].row;
        for (uint32_t k = 1; k <= m->saved[i].row; k++) { /* bottom first */
            const struct position *r = &m->saved_rows[n_rows - k];

            row = push(m, slot, r->item, r->k, row);
        }
        infer_matcher_find(m, m->saved[i].item, m->saved[i].k, row);
    }
    return infer_matcher_intern(m, slot);
}

/* ---- texts -------------------------------------------------------------- */

static void advance(struct infer_matcher *m, struct infer_match *match,
                    int32_t id)
{
    size_t n;
    const char *bytes = infer_tokenizer_bytes(m->tok, id, false, &n);

    for (size_t i = 0; bytes != NULL && i < n; i++) {
        uint32_t to =
            infer_matcher_step(m, match->state, (uint8_t)bytes[i], false);

        if (m->full) {
            match->state = infer_matcher_keep(m, match->state);
            match->epoch = m->epoch;
            to = infer_matcher_step(m, match->state, (uint8_t)bytes[i], false);
            m->full = false;
        }
        match->state = to;
    }
}

/* Find the state after the first n tokens, from the beginning if need be. */
void infer_matcher_sync(struct infer_matcher *m, struct infer_match *match,
                        const int32_t *tokens, uint32_t n)
{
    if (match->epoch != m->epoch) {
        match->state = start_state(m, match->grammar);
        if (m->full) {
            empty(m);
            match->state = start_state(m, match->grammar);
            m->full = false;
        }
        match->epoch = m->epoch;
        match->n_tokens = 0;
    }
    while (match->n_tokens < n)
        advance(m, match, tokens[match->n_tokens++]);
    match->complete = m->states[match->state].complete;
    match->final = match->complete && m->states[match->state].n == 0;
}

void infer_matcher_take(struct infer_matcher *m, struct infer_match *match,
                        const int32_t *tokens, uint32_t n)
{
    infer_matcher_sync(m, match, tokens, n);
}
