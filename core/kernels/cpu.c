/*
 * cpu.c - which instruction sets this machine has and lends, and their names.
 *
 * The compiler's own test covers everything but AMX, whose 8 KiB of tiles the
 * kernel hands out on request only (Linux 5.16): a process has to ask once,
 * before its first tile instruction, and may be refused. The leave is the whole
 * process's, so asking again costs a system call and changes nothing. Until a
 * thread loads a tile, it pays nothing for having the leave.
 */
#include "infer.h"

#include "core/base/error.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum {
    LEAF7_AMX_BF16 = 1 << 22, /* of edx */
    LEAF7_AMX_TILE = 1 << 24,
    LEAF7_AMX_INT8 = 1 << 25,
    LEAF1_OSXSAVE = 1 << 27, /* of ecx */
    XCR0_TILES = 1 << 17 | 1 << 18
};

/* Whether the system saves tiles when it switches threads. */
static bool tiles_are_saved(void)
{
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & LEAF1_OSXSAVE))
        return false;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & XCR0_TILES) == XCR0_TILES;
}

static bool ask_for_tiles(void)
{
#if defined(__linux__)
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 }; /* asm/prctl.h */

    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

static unsigned detect_amx(unsigned cpu)
{
    unsigned a, b, c, d, found = 0;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & LEAF7_AMX_TILE))
        return 0;
    if ((d & LEAF7_AMX_INT8) && (cpu & INFER_CPU_AVX512VNNI))
        found |= INFER_CPU_AMXINT8;
    if ((d & LEAF7_AMX_BF16) && (cpu & INFER_CPU_AVX512BF16))
        found |= INFER_CPU_AMXBF16;
    return found && tiles_are_saved() && ask_for_tiles() ? found : 0;
}
#endif

unsigned infer_cpu_detect(void)
{
    unsigned cpu = 0;

#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        cpu |= INFER_CPU_AVX2;
    if ((cpu & INFER_CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        cpu |= INFER_CPU_AVX512VNNI;
    if ((cpu & INFER_CPU_AVX512VNNI) && __builtin_cpu_supports("avx512bf16"))
        cpu |= INFER_CPU_AVX512BF16;
    cpu |= detect_amx(cpu);
#endif
    return cpu;
}

static const struct {
    const char *name;
    unsigned mask;
} words[] = {
    {"all", (unsigned)INFER_CPU_ALL},
    {"scalar", 0},
    {"avx2", INFER_CPU_AVX2},
    {"avx512vnni", INFER_CPU_AVX512VNNI},
    {"avx512bf16", INFER_CPU_AVX512BF16},
    {"amx", INFER_CPU_AMXINT8 | INFER_CPU_AMXBF16},
};

static bool find_word(const char *word, size_t len, unsigned *mask)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i].name) == len &&
            memcmp(words[i].name, word, len) == 0) {
            *mask |= words[i].mask;
            return true;
        }
    }
    return false;
}

int infer_cpu_parse(const char *text, unsigned *mask, struct infer_error *err)
{
    unsigned found = 0;

    for (const char *word = text;;) {
        const size_t len = strcspn(word, ",");

        if (!find_word(word, len, &found))
            return infer_fail(err, INFER_EINVAL,
                              "unknown instruction set '%.*s' (known: all, "
                              "scalar, avx2, avx512vnni, avx512bf16, amx)",
                              (int)(len < 40 ? len : 40), word);
        if (!word[len])
            break;
        word += len + 1;
    }
    *mask = found;
    return INFER_OK;
}
