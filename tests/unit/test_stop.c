/*
 * test_stop.c - text release against a reference that sees the whole text:
 * wherever the bytes are cut into tokens, the same text comes out, it is valid
 * UTF-8, and nothing is ever shown that later turns out to be a stop string.
 */
#include "core/engine/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_TEXT = 256, MAX_STOP_LIST = 4 };

struct stop_list {
    const char *text[MAX_STOP_LIST];
    uint32_t len[MAX_STOP_LIST];
    struct infer_stops stops;
};

static void add_stop(struct stop_list *l, const char *text, size_t len)
{
    l->text[l->stops.n] = text;
    l->len[l->stops.n++] = (uint32_t)len;
    if (len > l->stops.longest)
        l->stops.longest = (uint32_t)len;
    l->stops.text = l->text;
    l->stops.len = l->len;
}

static void make_stops(struct stop_list *l, const char *const *text, size_t n)
{
    memset(l, 0, sizeof(*l));
    for (size_t i = 0; i < n; i++)
        add_stop(l, text[i], strlen(text[i]));
}

struct result {
    char text[3 * MAX_TEXT];
    size_t len;
    bool stopped;
};

/* Feed bytes[0..n) in pieces that end where cut[] says. */
static void stream(const struct infer_stops *stops, const char *bytes, size_t n,
                   const bool *cut, struct result *r)
{
    char *memory = malloc(infer_text_bytes(stops, MAX_TEXT));
    struct infer_text t;
    size_t begin = 0;

    infer_text_init(&t, stops, MAX_TEXT, memory);
    r->len = 0;
    for (size_t i = 1; i <= n && !t.stopped; i++) {
        if (i < n && !cut[i])
            continue;
        infer_text_feed(&t, bytes + begin, i - begin, false);
        memcpy(r->text + r->len, t.out, t.out_len);
        r->len += t.out_len;
        if (i & 1) /* on finishing, text that was not dropped stays */
            infer_text_drop(&t);
        begin = i;
    }
    if (!t.stopped) {
        r->len -= t.out_len;
        infer_text_finish(&t);
        memcpy(r->text + r->len, t.out, t.out_len);
        r->len += t.out_len;
    }
    r->stopped = t.stopped;
    free(memory);
}

/* Decoder of one code point, by value rather than by byte ranges. */
static size_t reference_char(const uint8_t *s, size_t n)
{
    const size_t want = s[0] < 0x80             ? 1
                        : (s[0] & 0xe0) == 0xc0 ? 2
                        : (s[0] & 0xf0) == 0xe0 ? 3
                        : (s[0] & 0xf8) == 0xf0 ? 4
                                                : 0;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c;

    if (want == 0 || want > n)
        return 0;
    c = want == 1 ? s[0] : s[0] & (0x7fu >> want);
    for (size_t i = 1; i < want; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[want] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    return want;
}

/* Does s[0..n) begin some valid character? Tries all that could follow. */
static bool begins_char(const uint8_t *s, size_t n)
{
    uint8_t buf[4];

    if (n > 3)
        return false;
    for (unsigned fill = 0x80; fill <= 0xbf; fill++)
        for (size_t len = n + 1; len <= 4; len++) {
            memcpy(buf, s, n);
            buf[n] = (uint8_t)fill;
            for (size_t i = n + 1; i < len; i++)
                buf[i] = 0x80;
            if (reference_char(buf, len) == len)
                return true;
        }
    return false;
}

/* The whole text at once: cut at the first stop to end, replace what is
 * invalid. */
static void reference(const struct infer_stops *stops, const char *bytes,
                      size_t n, struct result *r)
{
    const uint8_t *s = (const uint8_t *)bytes;

    r->stopped = false;
    for (size_t end = 1; end <= n && !r->stopped; end++) {
        size_t best = 0;

        for (uint32_t i = 0; i < stops->n; i++)
            if (stops->len[i] <= end && stops->len[i] > best &&
                memcmp(bytes + end - stops->len[i], stops->text[i],
                       stops->len[i]) == 0)
                best = stops->len[i];
        if (best > 0) {
            r->stopped = true;
            n = end - best;
        }
    }
    r->len = 0;
    for (size_t i = 0; i < n;) {
        size_t len = reference_char(s + i, n - i);

        if (len > 0) {
            memcpy(r->text + r->len, s + i, len);
            r->len += len;
        } else {
            memcpy(r->text + r->len, "\xef\xbf\xbd", 3);
            r->len += 3;
            len = 1;
            while (i + len < n && begins_char(s + i, len + 1))
                len++;
        }
        i += len;
    }
}

static void check_same(const struct result *a, const struct result *b)
{
    assert_int_equal(a->stopped, b->stopped);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->text, b->text, a->len);
}

static const char *const STOPS[][3] = {
    {"END"},
    {"\n\n", "abab", "b"},
    {"\xe2\x82\xac", "\xc3\xa9t\xc3\xa9"},
    {"aaaa", "aab", "caaa"},
    {"\x82\xac"}, /* not a character: bytes 2 and 3 of the euro sign */
};
static const char *const TEXTS[] = {
    "",
    "no stop here",
    "xxEND and more",
    "ENENEND",
    "EN",
    "aaabaaaa",
    "ababab\n\n",
    "caaab",
    "5 \xe2\x82\xac or \xc3\xa9t\xc3\xa9",
    "\xf0\x9f\x98\x80\xf0\x9f\x98",
    "\xc3\xa9t\xc3",
    "\xff\xe2\x82\xe2\x82\xac\xc0\xaf",
    "\xed\xa0\x80\xf4\x90\x80\x80",
};

static void test_every_split_of_two_and_single_bytes(void **state)
{
    static const bool all[MAX_TEXT + 1] = {false};
    bool each[MAX_TEXT + 1];

    (void)state;
    memset(each, true, sizeof(each));
    for (size_t s = 0; s < sizeof(STOPS) / sizeof(STOPS[0]); s++)
        for (size_t i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); i++) {
            const size_t n = strlen(TEXTS[i]);
            struct stop_list l;
            struct result want, got;
            size_t n_stops = 0;

            while (n_stops < 3 && STOPS[s][n_stops] != NULL)
                n_stops++;
            make_stops(&l, STOPS[s], n_stops);
            reference(&l.stops, TEXTS[i], n, &want);
            stream(&l.stops, TEXTS[i], n, all, &got);
            check_same(&want, &got);
            stream(&l.stops, TEXTS[i], n, each, &got);
            check_same(&want, &got);
            for (size_t cut = 1; cut < n; cut++) {
                bool at[MAX_TEXT + 1] = {false};

                at[cut] = true;
                stream(&l.stops, TEXTS[i], n, at, &got);
                check_same(&want, &got);
            }
        }
}

static uint64_t rng_state = 11;

static uint32_t rnd(uint32_t n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % n;
}

static size_t random_text(char *out, size_t max)
{
    static const char *const parts[] = {
        "a",    "b",    "ab",   "\xc3\xa9", "\xc3",     "\xa9", "\xe2\x82\xac",
        "\xe2", "\x82", "\xac", "\xf0\x9f", "\x98\x80", "\xff", "\xed\xa0"};
    const size_t goal = rnd((uint32_t)max);
    size_t n = 0;

    for (;;) {
        const char *p = parts[rnd(sizeof(parts) / sizeof(parts[0]))];

        if (n + strlen(p) > goal)
            return n;
        memcpy(out + n, p, strlen(p));
        n += strlen(p);
    }
}

static void test_random_texts_stops_and_splits(void **state)
{
    uint32_t n_stopped = 0;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[MAX_TEXT], stop[MAX_STOP_LIST][8];
        bool cut[MAX_TEXT + 1];
        struct stop_list l;
        struct result want, got;
        const size_t n = random_text(text, 40);

        memset(&l, 0, sizeof(l));
        for (int i = 0; i < MAX_STOP_LIST; i++) {
            const size_t len = random_text(stop[i], 8);

            if (len > 0)
                add_stop(&l, stop[i], len);
        }
        for (size_t i = 0; i <= n; i++)
            cut[i] = rnd(3) == 0;
        reference(&l.stops, text, n, &want);
        stream(&l.stops, text, n, cut, &got);
        check_same(&want, &got);
        n_stopped += want.stopped;
    }
    assert_true(n_stopped > 2000 && n_stopped < 18000);
}

static void test_prompt_bytes_are_exempt(void **state)
{
    const char *const stop[] = {"END"};
    struct stop_list l;
    struct infer_text t;
    char memory[256];

    (void)state;
    make_stops(&l, stop, 1);
    assert_true(infer_text_bytes(&l.stops, 16) <= sizeof(memory));
    infer_text_init(&t, &l.stops, 16, memory);
    infer_text_feed(&t, "END EN", 6, true);
    assert_int_equal(t.out_len, 6);
    infer_text_feed(&t, "D", 1, false);
    assert_false(t.stopped);
    assert_int_equal(t.out_len, 1);
    infer_text_feed(&t, "xE", 2, false);
    assert_int_equal(t.out_len, 1); /* the E is held back */
    infer_text_feed(&t, "ND", 2, false);
    assert_true(t.stopped);
    assert_int_equal(t.out_len, 0);
    assert_int_equal(t.out_base, 8);
}

static void test_offsets(void **state)
{
    const struct infer_stops none = {.n = 0};
    struct infer_text t;
    char memory[256];

    (void)state;
    infer_text_init(&t, &none, 16, memory);
    infer_text_feed(&t, "a\xff\xe2\x82\xac\xe2", 6, false);
    assert_int_equal(t.out_len, 7);
    assert_int_equal(infer_text_offset(&t, 0), 0);
    assert_int_equal(infer_text_offset(&t, 1), 1);
    assert_int_equal(infer_text_offset(&t, 2), 4);
    assert_int_equal(infer_text_offset(&t, 3), 5);
    assert_int_equal(infer_text_offset(&t, 5), 7);
    assert_int_equal(infer_text_raw_shown(&t), 5);
    assert_int_equal(infer_text_raw_end(&t), 6);
    infer_text_feed(&t, "\x82\xac", 2, false);
    assert_int_equal(t.out_len, 3);
    assert_int_equal(infer_text_offset(&t, 5), 7);
    assert_int_equal(infer_text_offset(&t, 7), 9);
    assert_int_equal(infer_text_offset(&t, 8), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_of_two_and_single_bytes),
        cmocka_unit_test(test_random_texts_stops_and_splits),
        cmocka_unit_test(test_prompt_bytes_are_exempt),
        cmocka_unit_test(test_offsets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
