/*
 * collect.c - see collect.h.
 */
#include "tests/collect.h"

#include "core/tokenizer/utf8.h"
#include "tests/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t n_completed;

/* Whole, valid characters. */
static void assert_utf8(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint32_t cp;
        const size_t n = infer_utf8_next(text + i, len - i, &cp);

        assert_true(n > 0);
        i += n;
    }
}

void collect(void *user, const struct infer_event *event)
{
    struct reply *r = user;
    struct said *s;

    assert_false(r->done);
    assert_true(event->choice < COLLECT_CHOICES);
    s = &r->choices[event->choice];
    assert_int_equal(s->finish, INFER_FINISH_NONE);
    assert_true(s->text_len + event->text_len < COLLECT_TEXT);
    assert_true(s->n_tokens + event->n_tokens <= COLLECT_TOKENS);
    assert_utf8(event->text, event->text_len);
    if (event->text_len > 0)
        memcpy(s->text + s->text_len, event->text, event->text_len);
    s->text_len += event->text_len;
    for (size_t i = 0; i < event->n_tokens; i++) {
        const struct infer_token_info *t = &event->tokens[i];

        assert_true(t->text_offset <= s->text_len);
        assert_true(t->n_top <= 4);
        for (uint32_t j = 0; j < t->n_top; j++)
            s->tops[s->n_tokens][j] = t->top[j];
        s->tokens[s->n_tokens] = *t;
        s->tokens[s->n_tokens++].top = NULL;
    }
    assert_true(event->n_generated >= s->n_generated);
    s->n_generated = event->n_generated;
    s->finish = event->finish;
    r->n_cached = event->n_cached;
    r->n_events++;
    r->done = event->request_done;
    if (r->done)
        r->order = ++n_completed;
    assert_true(event->submitted_ns <= event->now_ns);
    assert_true(event->started_ns <= event->now_ns);
    assert_true(event->first_token_ns <= event->now_ns);
}

void collect_submit(struct infer_engine *e, struct infer_request *req,
                    struct reply *r)
{
    struct infer_error err = {0};
    int status;

    memset(r, 0, sizeof(*r));
    req->on_event = collect;
    req->user = r;
    status = infer_engine_submit(e, req, &err);
    if (status != INFER_OK)
        fail_msg("submit: %s", err.text);
}

void collect_finish(struct infer_engine *e)
{
    for (int i = 0; infer_engine_step(e) > 0; i++)
        assert_true(i < 100000);
}

static bool same_float(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (a != a && b != b);
}

static void assert_same_said(const struct said *a, const struct said *b)
{
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->text_len, b->text_len);
    assert_memory_equal(a->text, b->text, a->text_len);
    assert_int_equal(a->n_generated, b->n_generated);
    assert_int_equal(a->n_tokens, b->n_tokens);
    for (size_t i = 0; i < a->n_tokens; i++) {
        const struct infer_token_info *x = &a->tokens[i], *y = &b->tokens[i];

        assert_int_equal(x->id, y->id);
        assert_int_equal(x->text_offset, y->text_offset);
        assert_true(same_float(x->logprob, y->logprob));
        assert_int_equal(x->n_top, y->n_top);
        for (uint32_t j = 0; j < x->n_top; j++) {
            assert_int_equal(a->tops[i][j].id, b->tops[i][j].id);
            assert_true(
                same_float(a->tops[i][j].logprob, b->tops[i][j].logprob));
        }
    }
}

void assert_same_reply(const struct reply *a, const struct reply *b)
{
    assert_int_equal(a->done, b->done);
    for (int i = 0; i < COLLECT_CHOICES; i++)
        assert_same_said(&a->choices[i], &b->choices[i]);
}

struct infer_model *collect_model(const char *file)
{
    struct infer_error err = {0};
    struct infer_model *m = NULL;
    char path[512];

    if (!oracle_present())
        return NULL;
    snprintf(path, sizeof(path), "%s/%s", ORACLE, file);
    if (infer_model_load(&m, path, NULL, &err) != INFER_OK)
        fail_msg("%s: %s", path, err.text);
    return m;
}
