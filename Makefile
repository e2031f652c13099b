# Makefile - `make help` lists the targets. V=1 shows the commands; B names the
# build folder, so that flavours (asan, tsan, clang) never mix objects.
CC       ?= cc
CXX      ?= c++
B        ?= build/release
ARCH     ?= $(shell uname -m)
CFLAGS   ?= -O2 -g
Q        := $(if $(V),,@)

# OpenBLAS and its relatives obey these; a wrong core type halves them.
unexport OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla -Wconversion \
        -Wdouble-promotion -Wcast-qual -Wwrite-strings -Wpointer-arith \
        -Wformat=2
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
CPPFLAGS_ALL = -Iinclude -I. -D_GNU_SOURCE $(CPPFLAGS)
CFLAGS_ALL   = -std=c11 -pthread -ffp-contract=off -fno-math-errno $(CWARN) $(DEV) $(CFLAGS)
CXXFLAGS_ALL = -std=c++17 -pthread $(WARN) $(DEV) $(CFLAGS)

# One image runs on every x86-64 from v2 up: only kernel files may name more.
ifeq ($(ARCH),x86_64)
CFLAGS_ALL   += -march=x86-64-v2
CXXFLAGS_ALL += -march=x86-64-v2
endif

CORE_C   := $(wildcard core/*/*.c core/kernels/$(ARCH)/*.c)
CORE_CXX := $(wildcard core/*/*.cc)
SERVER_C := $(wildcard server/*.c)
HDRS     := $(wildcard include/*.h core/*/*.h core/kernels/$(ARCH)/*.h server/*.h bench/*.h tests/*.h)
CORE_OBJ := $(CORE_C:%.c=$B/%.o) $(CORE_CXX:%.cc=$B/%.o)
SERVER_OBJ := $(SERVER_C:%.c=$B/%.o)
BENCHES  := $(patsubst bench/%.c,%,$(wildcard bench/infer-*.c))
BENCH_OBJ := $(patsubst %.c,$B/%.o,$(filter-out $(wildcard bench/infer-*.c),$(wildcard bench/*.c)))
TESTS    := $(patsubst %.c,$B/%,$(wildcard tests/unit/*.c tests/kernels/*.c tests/golden/*.c))
TEST_OBJ := $(patsubst %.c,$B/%.o,$(wildcard tests/*.c))

CORE_LIBS   := -lsentencepiece -lpcre2-8 -lstdc++ -lm
SERVER_LIBS := -lmicrohttpd -luv -lcjson

.DEFAULT_GOAL := all
all: bin/inferd $(BENCHES:%=bin/%) ## build the programs into bin/

bin/%: $B/%
	@mkdir -p $(@D)
	$(Q)install -m 755 $< $@

# ---- objects and programs ---------------------------------------------------

$B/core/kernels/%.o: CFLAGS_ALL += -O3
$B/core/kernels/x86_64/avx2%.o: CFLAGS_ALL += -mavx2 -mfma -mf16c
$B/core/kernels/x86_64/avx512%.o: CFLAGS_ALL += -mavx2 -mfma -mf16c -mavx512f \
	-mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512
$B/core/kernels/x86_64/avx512bf16%.o: CFLAGS_ALL += -mavx512bf16

$B/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC   $<")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c $< -o $@
$B/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX  $<")
	$(Q)$(CXX) $(CPPFLAGS_ALL) $(CXXFLAGS_ALL) -MMD -MP -c $< -o $@
$B/libinfer.a: $(CORE_OBJ)
	$(if $(V),,@echo "  AR   $@")
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$B/inferd: $(SERVER_OBJ) $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ $(SERVER_LIBS) $(CORE_LIBS) -o $@
$B/infer-%: $B/bench/infer-%.o $(BENCH_OBJ) $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ -lcjson $(CORE_LIBS) -o $@
$B/tests/%: $B/tests/%.o $(TEST_OBJ) $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ -lcmocka -lcjson $(CORE_LIBS) -o $@

# ---- tests and checks ------------------------------------------------------

test-unit: $(TESTS) ## unit, kernel and golden tests (C)
	@set -e; for t in $(TESTS); do echo "== $$t"; ./$$t; done

check-headers: $(HDRS:%=%.check) ## every header compiles alone
%.h.check:
	$(Q)$(CC) $(CPPFLAGS_ALL) -std=c11 $(CWARN) -Werror -fsyntax-only -x c $*.h
check-layers: ## the includes point one way
	@! grep -nE '#include.*(microhttpd|uv\.h|cJSON|server/|trainer/)' $(CORE_C) $(CORE_CXX) $(wildcard core/*/*.h)
	@! grep -nE '\b(exit|abort|getenv|v?printf|puts|perror)\(' $(CORE_C) $(CORE_CXX)
	@! grep -nE '#include "core/' $(wildcard server/*.[ch])

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 18
clean: ## remove everything built
	rm -rf build bin
.PHONY: all test-unit check-headers check-layers help clean
.SECONDARY:
-include $(shell find $B -name '*.d' 2>/dev/null)
