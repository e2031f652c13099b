/* progress.c - see progress.h. */
#include "trainer/run/progress.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { REDRAW_NS = 250 * 1000 * 1000 };

void train_meter_start(struct train_meter *m, const struct train_lm *o,
                       const struct net *net, uint64_t n_tokens)
{
    *m = (struct train_meter){.tty = isatty(STDOUT_FILENO),
                              .flops = net_flops_per_token(net, o->context),
                              .peak = o->peak * 1e9,
                              .start_done = -1.0};
    m->start_ns = m->row_ns = m->shown_ns = infer_clock_ns();
    m->row_tokens = n_tokens;
    printf("%.3f M parameters, %.1f MFLOP a token\n",
           (double)net_n_params(net) / 1e6, m->flops / 1e6);
    fflush(stdout);
}

double train_meter_speed(struct train_meter *m, uint64_t n_tokens)
{
    const uint64_t now = infer_clock_ns();
    const double s = (double)(now - m->row_ns) / 1e9;
    const double speed = s > 0.0 ? (double)(n_tokens - m->row_tokens) / s : 0.0;

    m->row_ns = now;
    m->row_tokens = n_tokens;
    return speed;
}

/* "3m20s" that the run still takes */
static void print_left(const struct train_meter *m, double done)
{
    const double share = done - m->start_done;
    const double passed = (double)(infer_clock_ns() - m->start_ns) / 1e9;
    const double left = share > 0.0 ? passed * (1.0 - done) / share : 0.0;

    if (left >= 1.0)
        printf("  %.0fm%02.0fs left", floor(left / 60.0), fmod(left, 60.0));
}

void train_meter_step(struct train_meter *m, const struct train_progress *p,
                      double done)
{
    const uint64_t now = infer_clock_ns();

    if (m->start_done < 0.0)
        m->start_done = done;
    if (!m->tty || now - m->shown_ns < REDRAW_NS)
        return;
    m->shown_ns = now;
    printf(
        "\r\033[Kstep %llu  loss %.4f  %3.0f %%", (unsigned long long)p->step,
        p->sum_steps ? p->sum_loss / (double)p->sum_steps : 0.0, 100.0 * done);
    print_left(m, done);
    fflush(stdout);
}

void train_meter_row(struct train_meter *m, const struct train_row *row,
                     double done)
{
    printf("%sstep %llu  loss %.4f", m->tty ? "\r\033[K" : "",
           (unsigned long long)row->step, row->loss);
    if (isfinite(row->val_loss))
        printf("  val %.4f", row->val_loss);
    printf("  %.0f tokens/s", row->speed);
    if (m->peak > 0.0)
        printf(" (%.0f %% of peak)", 100.0 * row->speed * m->flops / m->peak);
    print_left(m, done);
    putchar('\n');
    fflush(stdout);
}

void train_meter_end(struct train_meter *m)
{
    if (m->tty)
        printf("\r\033[K");
    fflush(stdout);
}
