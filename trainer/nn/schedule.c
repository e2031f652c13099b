/* schedule.c - the learning rate over a run. */
#include "trainer/nn/schedule.h"

#include "core/base/error.h"

#include <math.h>
#include <string.h>

int schedule_parse(const char *text, enum schedule_kind *kind,
                   struct infer_error *err)
{
    static const char *const names[] = {"constant", "cosine", "linear", "wsd"};

    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *kind = (enum schedule_kind)i;
            return INFER_OK;
        }
    return infer_fail(err, INFER_EINVAL,
                      "unknown schedule '%s': use constant, cosine, linear or "
                      "wsd",
                      text);
}

int schedule_check(const struct schedule *s, struct infer_error *err)
{
    if (!(s->warmup >= 0 && s->total > 0 && s->warmup <= s->total))
        return infer_fail(err, INFER_EINVAL,
                          "a warm-up of %g does not fit a run of %g", s->warmup,
                          s->total);
    if (!(s->final >= 0 && s->final <= 1))
        return infer_fail(err, INFER_EINVAL,
                          "the final learning rate is %g of its peak, not 0..1",
                          s->final);
    if (s->kind == SCHEDULE_WSD &&
        !(s->decay >= 0 && s->decay <= s->total - s->warmup))
        return infer_fail(err, INFER_EINVAL,
                          "a warm-up of %g and a decay of %g do not fit a run "
                          "of %g",
                          s->warmup, s->decay, s->total);
    return INFER_OK;
}

/* 0 before `from`, 1 from `to` on. */
static double progress(double at, double from, double to)
{
    if (at <= from)
        return 0.0;
    return at < to ? (at - from) / (to - from) : 1.0;
}

double schedule_at(const struct schedule *s, double at)
{
    const double drop = 1.0 - s->final;

    if (at < s->warmup)
        return (at + 1.0 < s->warmup ? at + 1.0 : s->warmup) / s->warmup;
    switch (s->kind) {
    case SCHEDULE_CONSTANT:
        break;
    case SCHEDULE_COSINE:
        return s->final + drop * 0.5 *
                              (1.0 + cos(3.141592653589793 *
                                         progress(at, s->warmup, s->total)));
    case SCHEDULE_LINEAR:
        return 1.0 - drop * progress(at, s->warmup, s->total);
    case SCHEDULE_WSD:
        return 1.0 - drop * progress(at, s->total - s->decay, s->total);
    }
    return 1.0;
}
