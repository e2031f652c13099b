/*
 * emit.c - from sampled tokens to events.
 *
 * A token's bytes go into the choice's text, which says what may be shown. The
 * token itself waits in `pending` until the text that it ends is shown, and
 * travels with it. Tokens without text (control tokens, when the end of text is
 * ignored) may pile up behind held-back text without bound; when `pending` is
 * full they are delivered ahead of the text.
 */
#include "core/engine/engine.h"

#include <math.h>
#include <string.h>

void infer_emit_init(const struct infer_engine *e, struct infer_choice *c,
                     char *memory)
{
    infer_text_init(&c->text, &c->job->stops, e->max_token_bytes, memory);
    infer_decoder_init(&c->decoder, e->m->tokenizer);
    /* Without the prompt this is the middle of a text: a space that begins the
     * first word belongs to it. */
    c->decoder.started = !c->job->req.echo && !c->job->req.text_start;
}

/* ---- events ------------------------------------------------------------- */

static uint32_t n_generated(const struct infer_choice *c)
{
    return c->n_tokens - c->job->n_prompt;
}

static void deliver(const struct infer_engine *e, struct infer_choice *c,
                    const char *text, size_t text_len, uint32_t n_tokens,
                    enum infer_finish why)
{
    const struct infer_job *job = c->job;
    const struct infer_event event = {
        .choice = c->index,
        .text = text,
        .text_len = text_len,
        .tokens = c->infos,
        .n_tokens = n_tokens,
        .finish = why,
        .request_done = why != INFER_FINISH_NONE && job->n_done + 1 == job->n,
        .n_prompt = job->n_prompt,
        .n_cached = job->n_cached,
        .n_generated = n_generated(c),
        .submitted_ns = job->submitted_ns,
        .started_ns = c->started_ns,
        .first_token_ns = c->first_token_ns,
        .now_ns = e->now_ns,
    };

    job->req.on_event(job->req.user, &event);
}

/* Forget the first n pending tokens. */
static void drop_pending(struct infer_choice *c, uint32_t n)
{
    const size_t n_top = c->job->n_top;
    const uint32_t left = c->n_pending - n;

    memmove(c->pending, c->pending + n, left * sizeof(*c->pending));
    memmove(c->infos, c->infos + n, left * sizeof(*c->infos));
    if (n_top > 0)
        memmove(c->tops, c->tops + n * n_top, left * n_top * sizeof(*c->tops));
    for (uint32_t i = 0; i < left; i++)
        c->infos[i].top = c->tops + i * n_top;
    c->n_pending = left;
}

/* Tell the beginnings of pending tokens that lie in the text shown so far (all
 * of them at the end) as offsets into the text. */
static void place_tokens(struct infer_choice *c, bool all)
{
    const uint64_t shown = infer_text_raw_shown(&c->text);

    for (uint32_t i = 0; i < c->n_pending; i++) {
        struct infer_pending *p = &c->pending[i];

        if (p->placed || (p->raw_begin > shown && !all))
            continue;
        c->infos[i].text_offset =
            (uint32_t)infer_text_offset(&c->text, p->raw_begin);
        p->placed = true;
    }
}

/* Show the text that is ready, with the tokens that end in it. */
static void emit(const struct infer_engine *e, struct infer_choice *c,
                 enum infer_finish why)
{
    const uint64_t shown = infer_text_raw_shown(&c->text);
    const bool last = why != INFER_FINISH_NONE;
    uint32_t n = 0;

    place_tokens(c, last);
    while (n < c->n_pending && (last || c->pending[n].raw_end <= shown))
        n++;
    if (last || n > 0 || c->text.out_len > 0)
        deliver(e, c, c->text.out, c->text.out_len, n, why);
    infer_text_drop(&c->text);
    drop_pending(c, n);
}

/* Room for one more pending token. */
static void make_room(const struct infer_engine *e, struct infer_choice *c)
{
    if (c->n_pending < c->max_pending)
        return;
    place_tokens(c, true);
    deliver(e, c, c->text.out, 0, c->n_pending, INFER_FINISH_NONE);
    drop_pending(c, c->n_pending);
}

void infer_choice_finish(struct infer_engine *e, struct infer_choice *c,
                         enum infer_finish why)
{
    struct infer_job *job = c->job;

    if (!c->text.stopped)
        infer_text_finish(&c->text);
    infer_sched_remove(e, c);
    emit(e, c, why);
    if (++job->n_done < job->n)
        return;
    if (job->prev != NULL)
        job->prev->next = job->next;
    else
        e->first_job = job->next;
    if (job->next != NULL)
        job->next->prev = job->prev;
    else
        e->last_job = job->prev;
    e->n_jobs--;
    infer_job_free(job);
}

/* ---- tokens ------------------------------------------------------------- */

/* A token enters the text; sample NULL: without logprob. silent: its bytes
 * don't (it ends the text). */
static void add_token(const struct infer_engine *e, struct infer_choice *c,
                      int32_t id, const struct infer_sample *sample,
                      bool silent, bool echoed)
{
    struct infer_pending *p;
    struct infer_token_info *info;
    const char *bytes = "";
    size_t len = 0;

    make_room(e, c);
    if (!silent)
        bytes = infer_decoder_feed(&c->decoder, id, &len);
    if (bytes == NULL) { /* the model has more logits than words */
        bytes = "";
        len = 0;
    }
    p = &c->pending[c->n_pending];
    info = &c->infos[c->n_pending];
    *info = (struct infer_token_info){.id = id, .logprob = NAN};
    info->top = c->tops + (size_t)c->n_pending * c->job->n_top;
    if (sample != NULL && sample->n_top >= 0) {
        struct infer_logprob *top =
            c->tops + (size_t)c->n_pending * c->job->n_top;

        info->logprob = sample->logprob;
        info->n_top = sample->n_found;
        if (sample->n_found > 0)
            memcpy(top, sample->top, sample->n_found * sizeof(*top));
    }
    p->placed = false;
    p->raw_begin = infer_text_raw_end(&c->text);
    c->n_pending++;
    infer_text_feed(&c->text, bytes, len, echoed);
    p->raw_end = infer_text_raw_end(&c->text);
}

/* Prompt tokens up to `end` become text. Token i's logprob comes from the row
 * before it, so samples[] belong to tokens max(n_echoed, 1) onwards. */
static void echo(const struct infer_engine *e, struct infer_choice *c,
                 uint32_t end, const struct infer_sample *samples)
{
    while (c->n_echoed < end) {
        const uint32_t i = c->n_echoed++;
        const bool scored = samples != NULL && i > 0;

        add_token(e, c, c->tokens[i], scored ? samples++ : NULL, false, true);
        emit(e, c, INFER_FINISH_NONE);
    }
}

static bool is_stop_id(const struct infer_job *job, int32_t id)
{
    for (size_t i = 0; i < job->req.n_stop_ids; i++)
        if (job->req.stop_ids[i] == id)
            return true;
    return false;
}

/* Why a choice ends after its newest token, or NONE. ends: that is one that
 * ends a text. What a grammar's text lacks must not go unnoticed. */
static enum infer_finish must_end(struct infer_engine *e,
                                  struct infer_choice *c, bool ends)
{
    const struct infer_job *job = c->job;
    const uint32_t n = c->n_tokens - job->n_prompt;
    struct infer_match *match = &c->match;

    if (match->grammar != NULL && !ends)
        infer_matcher_take(e->matcher, match, c->tokens + job->n_prompt, n);
    if (match->grammar != NULL && c->text.stopped)
        return INFER_FINISH_LENGTH;
    if (match->grammar != NULL && ends)
        return match->complete ? INFER_FINISH_STOP : INFER_FINISH_LENGTH;
    if (ends || c->text.stopped || (match->grammar != NULL && match->final))
        return INFER_FINISH_STOP;
    return c->n_tokens == c->n_max ? INFER_FINISH_LENGTH : INFER_FINISH_NONE;
}

static void add_drawn(struct infer_engine *e, struct infer_choice *c,
                      const struct infer_sample *sample)
{
    const struct infer_job *job = c->job;
    const bool ends = is_stop_id(job, sample->id) ||
                      ((!job->req.ignore_eos || job->req.grammar != NULL) &&
                       infer_tokenizer_is_eog(e->m->tokenizer, sample->id));

    enum infer_finish why;

    if (sample->stuck) { /* no token writes what the grammar wants next */
        infer_choice_finish(e, c, INFER_FINISH_LENGTH);
        return;
    }
    c->tokens[c->n_tokens++] = sample->id;
    e->stats.generated_tokens++;
    if (c->first_token_ns == 0)
        c->first_token_ns = e->now_ns;
    add_token(e, c, sample->id, sample, ends, false);
    why = must_end(e, c, ends);
    if (why != INFER_FINISH_NONE)
        infer_choice_finish(e, c, why);
    else
        emit(e, c, INFER_FINISH_NONE);
}

/* ---- after a step ------------------------------------------------------- */

/* Offer the blocks that became full to others. */
static void share_blocks(struct infer_engine *e, struct infer_choice *c)
{
    if (!e->cfg.prefix_cache)
        return;
    while ((c->n_registered + 1) * INFER_KV_BLOCK <= c->n_computed) {
        const uint32_t i = c->n_registered++;

        c->chain =
            infer_blocks_register(e->blocks, c->job->req.cache_scope, c->chain,
                                  c->tokens + i * INFER_KV_BLOCK, c->blocks[i]);
    }
}

static bool any_broken(const struct infer_sample *samples, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (samples[i].broken)
            return true;
    return false;
}

void infer_choice_settle(struct infer_engine *e, const struct infer_share *s,
                         const struct infer_sample *samples)
{
    struct infer_choice *c = s->c;
    struct infer_job *job = c->job;
    const uint32_t before = c->n_computed;

    c->n_computed += s->n_rows;
    if (before < job->n_prompt)
        e->stats.prompt_tokens += s->n_rows;
    if (any_broken(samples, s->n_logits)) {
        infer_choice_finish(e, c, INFER_FINISH_ERROR);
        return;
    }
    share_blocks(e, c);
    if (c->n_computed >= job->n_prompt)
        job->shared = true;
    if (job->req.echo && c->n_echoed < job->n_prompt) {
        /* row p scores token p + 1; rows before the first unechoed token were
         * not asked for */
        const uint32_t end =
            c->n_computed < job->n_prompt ? c->n_computed + 1 : job->n_prompt;

        if (job->prompt_logprobs)
            echo(e, c, end, samples);
        else if (c->n_computed >= job->n_prompt)
            echo(e, c, job->n_prompt, NULL);
    }
    if (c->n_computed < c->n_tokens)
        return;
    if (job->req.max_tokens == 0)
        infer_choice_finish(e, c, INFER_FINISH_LENGTH);
    else
        add_drawn(e, c, &samples[s->n_logits - 1]);
}
