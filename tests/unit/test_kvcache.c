/*
 * test_kvcache.c - the KV block pool against a model that remembers
 * everything: random sequences come, share, grow and go, and after each
 * operation the counts agree and no block serves two different texts.
 */
#include "core/engine/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCK = INFER_KV_BLOCK, MAX_BLOCKS = 12, N_SEQS = 10, POOL = 40 };

struct seq {
    bool live;
    uint64_t scope, chain;
    uint32_t n;
    int32_t ids[MAX_BLOCKS * BLOCK];
    uint32_t blocks[MAX_BLOCKS];
};

/* What a block was filled with, as the forward pass would have written it. */
struct content {
    uint64_t scope;
    uint32_t n; /* blocks of the prefix that ends here */
    int32_t ids[MAX_BLOCKS * BLOCK];
};

static uint64_t rng_state;

static uint32_t rnd(uint32_t n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % n;
}

static void write_content(struct content *c, const struct seq *s, uint32_t i)
{
    c->scope = s->scope;
    c->n = i + 1;
    memcpy(c->ids, s->ids, (size_t)(i + 1) * BLOCK * sizeof(*c->ids));
}

static void check_content(const struct content *c, const struct seq *s,
                          uint32_t i)
{
    assert_int_equal(c->scope, s->scope);
    assert_int_equal(c->n, i + 1);
    assert_memory_equal(c->ids, s->ids,
                        (size_t)(i + 1) * BLOCK * sizeof(*c->ids));
}

/* Few distinct blocks of ids, so that prefixes are often shared. */
static void random_ids(struct seq *s)
{
    for (uint32_t i = 0; i < MAX_BLOCKS; i++) {
        const int32_t kind = (int32_t)rnd(i < 3 ? 2 : 3);

        for (uint32_t j = 0; j < BLOCK; j++)
            s->ids[i * BLOCK + j] = kind * 1000 + (int32_t)j;
    }
}

static uint32_t n_referenced(const struct seq *seqs)
{
    bool used[POOL] = {false};
    uint32_t n = 0;

    for (int i = 0; i < N_SEQS; i++)
        for (uint32_t j = 0; seqs[i].live && j < seqs[i].n; j++) {
            n += !used[seqs[i].blocks[j]];
            used[seqs[i].blocks[j]] = true;
        }
    return n;
}

static void start(struct infer_blocks *b, struct seq *s,
                  const struct content *content)
{
    s->live = true;
    s->scope = rnd(2);
    random_ids(s);
    s->n = infer_blocks_lookup(b, s->scope, s->ids, MAX_BLOCKS - 1, s->blocks,
                               &s->chain);
    for (uint32_t i = 0; i < s->n; i++)
        check_content(&content[s->blocks[i]], s, i);
}

static void stop(struct infer_blocks *b, struct seq *s)
{
    for (uint32_t i = s->n; i-- > 0;)
        infer_blocks_release(b, s->blocks[i]);
    s->live = false;
}

static void grow(struct infer_blocks *b, struct seq *s, struct content *content)
{
    const uint32_t available = infer_blocks_available(b);
    const int64_t got = infer_blocks_take(b);

    assert_int_equal(got == INFER_NO_BLOCK, available == 0);
    if (got == INFER_NO_BLOCK) {
        stop(b, s);
        return;
    }
    s->blocks[s->n] = (uint32_t)got;
    write_content(&content[got], s, s->n);
    s->chain = infer_blocks_register(b, s->scope, s->chain,
                                     s->ids + s->n * BLOCK, (uint32_t)got);
    s->n++;
}

static void test_random_operations(void **state)
{
    struct seq *seqs = calloc(N_SEQS, sizeof(*seqs));
    struct content *content = calloc(POOL, sizeof(*content));
    struct infer_blocks *b = NULL;
    uint64_t n_shared = 0;

    (void)state;
    rng_state = 7;
    assert_int_equal(infer_blocks_create(&b, POOL, NULL), INFER_OK);
    assert_int_equal(infer_blocks_available(b), POOL);
    for (int step = 0; step < 200000; step++) {
        struct seq *s = &seqs[rnd(N_SEQS)];

        if (!s->live) {
            start(b, s, content);
            n_shared += s->n;
        } else if (s->n == MAX_BLOCKS || rnd(12) == 0) {
            stop(b, s);
        } else {
            grow(b, s, content);
        }
        assert_int_equal(infer_blocks_available(b), POOL - n_referenced(seqs));
        for (uint32_t j = 0; s->live && j < s->n; j++)
            check_content(&content[s->blocks[j]], s, j);
    }
    assert_true(n_shared > 10000); /* the test shares, else it proves little */
    for (int i = 0; i < N_SEQS; i++)
        if (seqs[i].live)
            stop(b, &seqs[i]);
    assert_int_equal(infer_blocks_available(b), POOL);
    infer_blocks_free(b);
    free(content);
    free(seqs);
}

static uint32_t fill(struct infer_blocks *b, uint64_t scope, const int32_t *ids,
                     uint32_t n, uint32_t *blocks)
{
    uint64_t chain = INFER_CHAIN_ROOT;
    uint32_t found = infer_blocks_lookup(b, scope, ids, n, blocks, &chain);

    for (uint32_t i = found; i < n; i++) {
        const int64_t got = infer_blocks_take(b);

        assert_true(got >= 0);
        blocks[i] = (uint32_t)got;
        chain =
            infer_blocks_register(b, scope, chain, ids + i * BLOCK, blocks[i]);
    }
    for (uint32_t i = n; i-- > 0;)
        infer_blocks_release(b, blocks[i]);
    return found;
}

static void test_scopes_share_nothing(void **state)
{
    int32_t ids[3 * BLOCK];
    uint32_t first[3], other[3];
    struct infer_blocks *b = NULL;

    (void)state;
    for (int i = 0; i < 3 * BLOCK; i++)
        ids[i] = i;
    assert_int_equal(infer_blocks_create(&b, 16, NULL), INFER_OK);
    assert_int_equal(fill(b, 1, ids, 3, first), 0);
    assert_int_equal(fill(b, 2, ids, 3, other), 0);
    for (int i = 0; i < 9; i++)
        assert_int_not_equal(first[i / 3], other[i % 3]);
    assert_int_equal(fill(b, 1, ids, 3, other), 3);
    assert_memory_equal(first, other, sizeof(first));
    infer_blocks_free(b);
}

/* Every block of a pool of one slot's worth collides; nothing gets mixed up.
 * (One block means one hash slot.) */
static void test_collisions_are_told_apart(void **state)
{
    int32_t ids[BLOCK] = {0};
    uint32_t block;
    uint64_t chain;
    struct infer_blocks *b = NULL;

    (void)state;
    assert_int_equal(infer_blocks_create(&b, 1, NULL), INFER_OK);
    for (int i = 0; i < 100; i++) {
        ids[0] = i;
        assert_int_equal(fill(b, (uint64_t)(i & 1), ids, 1, &block), 0);
        assert_int_equal(
            infer_blocks_lookup(b, (uint64_t)(~i & 1), ids, 1, &block, &chain),
            0);
        ids[BLOCK - 1] ^= 1;
        assert_int_equal(
            infer_blocks_lookup(b, (uint64_t)(i & 1), ids, 1, &block, &chain),
            0);
        ids[BLOCK - 1] ^= 1;
        assert_int_equal(fill(b, (uint64_t)(i & 1), ids, 1, &block), 1);
    }
    infer_blocks_free(b);
}

static void test_least_recently_used_goes_first(void **state)
{
    int32_t ids[4][2 * BLOCK];
    uint32_t blocks[2];
    struct infer_blocks *b = NULL;

    (void)state;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2 * BLOCK; j++)
            ids[i][j] = i * 100 + j;
    assert_int_equal(infer_blocks_create(&b, 6, NULL), INFER_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fill(b, 0, ids[i], 2, blocks), 0);
    assert_int_equal(fill(b, 0, ids[0], 2, blocks), 2); /* 1 is oldest now */
    assert_int_equal(fill(b, 0, ids[3], 1, blocks), 0); /* takes 1's tail */
    assert_int_equal(fill(b, 0, ids[1], 1, blocks), 1);
    assert_int_equal(fill(b, 0, ids[0], 2, blocks), 2);
    assert_int_equal(fill(b, 0, ids[2], 2, blocks), 2);
    infer_blocks_free(b);
}

static void test_refuses_silly_sizes(void **state)
{
    struct infer_blocks *b = NULL;
    struct infer_error err;

    (void)state;
    assert_int_equal(infer_blocks_create(&b, 0, &err), INFER_EINVAL);
    assert_null(b);
    infer_blocks_free(NULL);
    assert_true(infer_blocks_bytes(1000) > 64000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_scopes_share_nothing),
        cmocka_unit_test(test_collisions_are_told_apart),
        cmocka_unit_test(test_least_recently_used_goes_first),
        cmocka_unit_test(test_refuses_silly_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
