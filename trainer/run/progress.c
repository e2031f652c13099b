/* progress.c - see progress.h. */
#include "trainer/run/progress.h"

#include "trainer/gemm/peak.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { REDRAW_NS = 250 * 1000 * 1000 };

void train_meter_start(struct train_meter *m, const struct train_lm *o,
                       const struct net *net, uint64_t n_tokens)
{
    const enum train_precision precision = train_gemm_precision(net_gemm(net));

    *m = (struct train_meter){.tty = isatty(STDOUT_FILENO),
                              .flops = net_flops_per_token(net, o->context),
                              .peak = o->peak * 1e9,
                              .start_done = -1.0};
    m->start_ns = m->row_ns = m->shown_ns = infer_clock_ns();
    m->row_tokens = n_tokens;
    if (m->peak <= 0.0)
        m->peak = train_peak(net_team(net), precision);
    printf("%.3f M parameters, %.1f MFLOP a token, %s, %d threads, peak %.0f "
           "GFLOP/s\n",
           (double)net_n_params(net) / 1e6, m->flops / 1e6,
           precision == TRAIN_BF16 ? "bf16" : "f32",
           infer_team_size(net_team(net)), m->peak / 1e9);
    fflush(stdout);
}

/* Tokens per second since the last row. */
static double speed_now(const struct train_meter *m, uint64_t n_tokens)
{
    const double s = (double)(infer_clock_ns() - m->row_ns) / 1e9;

    return s > 0.0 ? (double)(n_tokens - m->row_tokens) / s : 0.0;
}

double train_meter_speed(struct train_meter *m, uint64_t n_tokens)
{
    const double speed = speed_now(m, n_tokens);

    m->row_ns = infer_clock_ns();
    m->row_tokens = n_tokens;
    return speed;
}

static void print_speed(const struct train_meter *m, double speed)
{
    printf("  %.0f tokens/s", speed);
    if (m->peak > 0.0)
        printf(" (%.1f %% of peak)", 100.0 * speed * m->flops / m->peak);
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
    printf("\r\033[Kstep %llu  loss %.4f", (unsigned long long)p->step,
           p->sum_steps ? p->sum_loss / (double)p->sum_steps : 0.0);
    print_speed(m, speed_now(m, p->n_tokens));
    printf("  %.0f %% done", 100.0 * done);
    print_left(m, done);
    fflush(stdout);
}

void train_meter_row(struct train_meter *m, const struct train_row *row,
                     double done)
{
    printf("%sstep %llu", m->tty ? "\r\033[K" : "",
           (unsigned long long)row->step);
    if (isfinite(row->loss)) /* of no step yet, when it goes on from a model */
        printf("  loss %.4f", row->loss);
    if (isfinite(row->val_loss))
        printf("  val %.4f", row->val_loss);
    print_speed(m, row->speed);
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
