# Makefile - `make help` lists the targets. V=1 shows the commands; B names the
# build folder, so that flavours (asan, tsan, clang) never mix objects.
CC       ?= cc
CXX      ?= c++
B        ?= build/release
ARCH     ?= $(shell uname -m)
CFLAGS   ?= -O2 -g
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX   ?= /usr/local
# The one that Debian installs its packages for, not one of pyenv or conda.
PYTHON   ?= $(firstword $(wildcard /usr/bin/python3) python3)
Q        := $(if $(V),,@)
comma    := ,

# OpenBLAS and its relatives obey these; a wrong core type halves them.
unexport OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla -Wconversion \
        -Wdouble-promotion -Wcast-qual -Wwrite-strings -Wpointer-arith \
        -Wformat=2
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
CPPFLAGS_ALL = -Iinclude -I. -D_GNU_SOURCE $(CPPFLAGS)
CFLAGS_ALL   = -std=c11 -pthread -ffp-contract=off -fno-math-errno $(CWARN) $(DEV) $(CFLAGS)
# vptr checks need clang++ to link, and there are two C++ files
CXXFLAGS_ALL = -std=c++17 -pthread $(WARN) $(DEV) $(CFLAGS) -fno-sanitize=vptr

# One image runs on every x86-64 from v2 up: only kernel files may name more.
ifeq ($(ARCH),x86_64)
CFLAGS_ALL   += -march=x86-64-v2
CXXFLAGS_ALL += -march=x86-64-v2
endif

# Compilers before gcc 11 and clang 11 do not know AMX; its files stay out.
AMX      := -mamx-tile -mamx-int8 -mamx-bf16
ifneq ($(ARCH)$(shell $(CC) $(AMX) -E -x c /dev/null >/dev/null 2>&1 || echo -),x86_64)
LEFT_OUT := $(wildcard core/kernels/x86_64/amx*.c trainer/*/x86_64/amx*.c)
CPPFLAGS_ALL += -DINFER_NO_AMX
endif

CORE_C   := $(filter-out $(LEFT_OUT),$(wildcard core/*/*.c core/kernels/$(ARCH)/*.c))
CORE_CXX := $(wildcard core/*/*.cc)
SERVER_C := $(wildcard server/*.c)
TRAINER_C := $(filter-out $(LEFT_OUT),$(wildcard trainer/*.c trainer/*/*.c trainer/*/$(ARCH)/*.c))
TRAINER_CXX := $(wildcard trainer/*/*.cc)
HDRS     := $(wildcard include/*.h core/*/*.h core/kernels/$(ARCH)/*.h server/*.h bench/*.h tests/*.h \
            trainer/*.h trainer/*/*.h)
CORE_OBJ := $(CORE_C:%.c=$B/%.o) $(CORE_CXX:%.cc=$B/%.o)
SERVER_OBJ := $(filter-out $B/server/main.o,$(SERVER_C:%.c=$B/%.o))
TRAINER_OBJ := $(filter-out $B/trainer/main.o $B/trainer/commit.o,$(TRAINER_C:%.c=$B/%.o)) $(TRAINER_CXX:%.cc=$B/%.o)
BENCHES  := $(patsubst bench/%.c,%,$(wildcard bench/infer-*.c))
BENCH_OBJ := $(patsubst %.c,$B/%.o,$(filter-out $(wildcard bench/infer-*.c),$(wildcard bench/*.c)))
TESTS    := $(patsubst %.c,$B/%,$(wildcard tests/unit/*.c tests/kernels/*.c tests/golden/*.c))
TEST_OBJ := $(patsubst %.c,$B/%.o,$(wildcard tests/*.c))
FUZZERS  := $(patsubst %.c,$B/%,$(wildcard tests/fuzz/*.c))
SHELL_SCRIPTS := $(wildcard scripts/*.sh bench/*.sh tests/*/*.sh docs/*/*.sh) .ci/run

CORE_LIBS   := -lsentencepiece -lpcre2-8 -lutf8proc -lstdc++ -lm
SERVER_LIBS := -lmicrohttpd -luv -lcjson
TRAINER_LIBS := -lsentencepiece_train -lopenblas -lcjson
LDFLAGS_ALL  = -Wl,--as-needed $(LDFLAGS)

.DEFAULT_GOAL := all
# Only the release flavour leaves its programs in bin/.
PROGRAMS := inferd $(if $(wildcard trainer/main.c),infer-train) $(BENCHES)
all: $(PROGRAMS:%=$(if $(filter build/release,$B),bin,$B)/%) ## build the programs into bin/
debug: ## the same without optimisation, into build/debug
	@$(MAKE) -s B=build/debug CFLAGS='-O0 -g3'
dev: ## the same and the tests, warnings are errors, into build/dev
	@$(MAKE) -s B=build/dev DEV=-Werror all tests

bin/%: $B/%
	@mkdir -p $(@D)
	$(Q)install -m 755 $< $@

run: ## install what is missing, build, serve the default model
	@scripts/deps.sh build
	@$(MAKE) -s -j$(JOBS) all
	@MODEL='$(MODEL)' LISTEN='$(LISTEN)' scripts/run.sh

install: all ## into PREFIX (/usr/local), below DESTDIR if set; units, and /etc/inferd
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(PROGRAMS:%=bin/%) $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)/etc/inferd $(DESTDIR)$(PREFIX)/lib/systemd/system
	[ -e $(DESTDIR)/etc/inferd/inferd.json ] || \
	    install -m 644 config/inferd.json $(DESTDIR)/etc/inferd
	sed 's|@PREFIX@|$(PREFIX)|' docker/inferd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/inferd.service
	install -m 644 docker/inferd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system

# ---- objects and programs ---------------------------------------------------

# A kernel file's name says which instructions it may use.
AVX2     := -mavx2 -mfma -mf16c
AVX512   := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni \
            -mprefer-vector-width=512
kernel = $(if $(findstring core/kernels/,$1)$(findstring trainer/,$1), \
             $(if $(findstring -fsanitize,$(CFLAGS)),-DINFER_NO_UNROLL,-O3)) \
         $(if $(findstring x86_64/avx2,$1),$(AVX2)) \
         $(if $(findstring x86_64/avx512,$1),$(AVX512)) \
         $(if $(findstring x86_64/avx512bf16,$1),-mavx512bf16) \
         $(if $(findstring x86_64/amx,$1),$(AVX512) -mavx512bf16 $(AMX))

$B/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC   $<")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(call kernel,$<) -MMD -MP -c $< -o $@
$B/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX  $<")
	$(Q)$(CXX) $(CPPFLAGS_ALL) $(CXXFLAGS_ALL) -MMD -MP -c $< -o $@
$B/server/openapi.o: openapi.yaml # .incbin, unseen by -MMD and by ccache
$B/server/openapi.o: CPPFLAGS_ALL += -DOPENAPI_SUM=$(firstword $(shell cksum openapi.yaml))
$B/server/web.o: $(wildcard server/web/*)
$B/server/web.o: CPPFLAGS_ALL += -DWEB_SUM=$(firstword $(shell cat server/web/* | cksum))
$B/libinfer.a: $(CORE_OBJ)
	$(if $(V),,@echo "  AR   $@")
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$B/libserver.a: $(SERVER_OBJ)
	$(if $(V),,@echo "  AR   $@")
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$B/inferd: $B/server/main.o $B/libserver.a $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(SERVER_LIBS) $(CORE_LIBS) -o $@
$B/libtrainer.a: $(TRAINER_OBJ)
	$(if $(V),,@echo "  AR   $@")
	$(Q)rm -f $@ && $(AR) rcs $@ $^
# The commit that model cards name, in a file that changes only when it does.
COMMIT := $(or $(shell git describe --always --dirty --abbrev=12 2>/dev/null),unknown)
$B/commit: force
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@
$B/trainer/commit.o: $B/commit
$B/trainer/commit.o: CPPFLAGS += -DTRAIN_COMMIT='"$(COMMIT)"'
$B/infer-train: $B/trainer/main.o $B/trainer/commit.o $B/libtrainer.a $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(TRAINER_LIBS) $(CORE_LIBS) -o $@
$B/infer-gemm: $B/bench/infer-gemm.o $(BENCH_OBJ) $B/libtrainer.a $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(TRAINER_LIBS) $(CORE_LIBS) -o $@
$B/infer-structured: $B/bench/infer-structured.o $B/libserver.a $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(SERVER_LIBS) $(CORE_LIBS) -o $@
$B/infer-%: $B/bench/infer-%.o $(BENCH_OBJ) $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ -lcjson $(CORE_LIBS) -o $@
$B/tests/%: $B/tests/%.o $(TEST_OBJ) $B/libserver.a $B/libtrainer.a $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ -lcmocka $(SERVER_LIBS) $(TRAINER_LIBS) $(CORE_LIBS) -o $@
# It puts itself between the code and its memory.
$B/tests/unit/test_alloc: LDFLAGS_ALL += $(patsubst %,-Wl$(comma)--wrap=%, \
	malloc calloc realloc aligned_alloc strdup strndup mmap pthread_create _Znwm \
	pcre2_compile_8 pcre2_match_data_create_8)
$B/tests/fuzz/%: $B/tests/fuzz/%.o $B/libserver.a $B/libinfer.a
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -fsanitize=fuzzer $^ $(SERVER_LIBS) $(CORE_LIBS) -o $@

# ---- tests -------------------------------------------------------------------

INFERD ?= $(if $(filter build/release,$B),bin,$B)/inferd
TRAIN  ?= $(if $(filter build/release,$B),bin,$B)/infer-train
SAN    = -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize

test: ## install what is missing, build, run every fast test
	@scripts/deps.sh build test
	@$(MAKE) -s -j$(JOBS) all tests
	@rc=0; \
	for t in test-unit test-kernels test-golden test-http test-train; do \
	    echo "== $$t"; $(MAKE) -s $$t || rc=1; \
	done; \
	[ $$rc = 0 ] && echo "== all passed" || echo "== some failed"; exit $$rc
tests: $(TESTS)
test-unit: $(filter $B/tests/unit/%,$(TESTS)) ## one program per module
	@scripts/test-c.sh $^
test-kernels: $(filter $B/tests/kernels/%,$(TESTS)) ## each kernel against scalar
	@scripts/test-c.sh $^
test-golden: $(filter $B/tests/golden/%,$(TESTS)) ## against the reference, scalar to AMX
	@scripts/test-c.sh $^
test-http: all ## the program itself, over its socket
	@INFERD=$(INFERD) $(PYTHON) tests/http/run.py $(ARGS)
test-train: all $B/tests/unit/test_train_ranks ## infer-train itself: runs, kills, full disks, MPI
	@TRAIN=$(TRAIN) INFERD=$(INFERD) SEAM=$B/tests/unit/test_train_ranks $(PYTHON) tests/train/run.py $(ARGS)
test-openai: all ## the official openai client, from npm
	@INFERD=$(INFERD) PYTHON=$(PYTHON) tests/openai/run.sh
test-chat: $B/tests/chat/render ## chat prompts against Jinja's, from npm
	@RENDER=$< tests/chat/run.sh
test-web: all ## the pages in Chromium, with playwright-core from npm
	@INFERD=$(INFERD) PYTHON=$(PYTHON) tests/web/run.sh
test-load: all ## longer: leaks, overload, latency under load
	@INFERD=$(INFERD) $(PYTHON) tests/load/run.py $(ARGS)
test-load-curl: all ## the curl scripts of tests/load against a real server
	@INFERD=$(INFERD) $(PYTHON) tests/deploy/run.py Curl $(ARGS)
test-deploy: all ## with HAProxy, Prometheus, promtool: replicas, dashboards, manifests
	@scripts/deps.sh deploy
	@INFERD=$(INFERD) $(PYTHON) tests/deploy/run.py $(or $(ARGS),Observe Scale)
test-container: ## docker/Dockerfile, built and run (root; buildah, runc, debootstrap)
	@tests/container/run.sh
test-k8s: ## docker/k8s against Kubernetes' schemas, from npm
	@tests/k8s/run.sh
test-train-slow: all $B/tests/unit/test_train_ranks ## longer: 100 kills, every fault, texts of a gigabyte
	@KILLS=100 SLOW=1 TRAIN=$(TRAIN) INFERD=$(INFERD) SEAM=$B/tests/unit/test_train_ranks $(PYTHON) tests/train/run.py $(ARGS)
test-onnx: all ## exported models in onnxruntime, from npm
	@scripts/onnx.sh build/onnx
	@node tests/onnx/run.mjs bin/infer-train ../shared/oracle build/onnx
test-all: test test-openai test-chat test-web test-load test-load-curl test-deploy test-container test-k8s test-train-slow test-onnx asan tsan fuzz ## everything, with the sanitizers

asan: ## C, HTTP and trainer tests under ASan and UBSan
	@$(MAKE) -s -j$(JOBS) B=build/asan CFLAGS='$(SAN)=address,undefined' all tests
	@for t in test-unit test-kernels test-golden test-http test-train; do \
	    $(MAKE) -s B=build/asan CFLAGS='$(SAN)=address,undefined' CPUS=all $$t || exit 1; \
	done
ubsan: ## C tests under UBSan alone (quicker than asan)
	@$(MAKE) -s -j$(JOBS) B=build/ubsan CFLAGS='$(SAN)=undefined' tests
	@$(MAKE) -s B=build/ubsan CFLAGS='$(SAN)=undefined' CPUS=all test-unit test-kernels test-golden
tsan: ## unit tests and concurrent HTTP tests under TSan
	@$(MAKE) -s -j$(JOBS) B=build/tsan CFLAGS='$(SAN)=thread' all tests
	@$(MAKE) -s B=build/tsan CFLAGS='$(SAN)=thread' test-unit
	@$(MAKE) -s B=build/tsan CFLAGS='$(SAN)=thread' ARGS='Concurrency Disconnect Drain' test-http
fuzz: ## libFuzzer over every parser, SECONDS_EACH=20
	@$(MAKE) -s -j$(JOBS) B=build/fuzz CC=clang CXX=clang++ \
	    CFLAGS='$(SAN)=address,undefined,fuzzer-no-link' fuzzers
	@scripts/fuzz.sh $(FUZZERS:$B/%=build/fuzz/%)
fuzzers: $(FUZZERS)
cov: ## line coverage of the C tests
	@scripts/deps.sh build test cov
	@$(MAKE) -s -j$(JOBS) B=build/cov CFLAGS='-O0 -g --coverage' tests
	@$(MAKE) -s B=build/cov CFLAGS='-O0 -g --coverage' CPUS=all test-unit test-kernels test-golden
	@gcovr -r . --object-directory build/cov -f core/ -f server/ --print-summary

models: all ## train the models of models/ again, from ../shared/data
	@scripts/models.sh ../shared/data
	@scripts/encoders.sh
.PHONY: models

bench: all ## tokens per second of the default model
	@bin/infer-bench -m "$$(MODEL='$(MODEL)' scripts/model.sh)" $(ARGS)

# ---- checks ------------------------------------------------------------------

check: check-headers check-layers lint ## all checks that run nothing
check-headers: $(patsubst %,%.check,$(filter-out %.inc.h,$(HDRS))) ## every header compiles alone
core/kernels/x86_64/%.check: ISA = -mavx2 -mfma -mf16c -mavx512f -mavx512bw \
	-mavx512dq -mavx512vl -mavx512vnni -mavx512bf16
%.h.check:
	$(Q)printf '#include "$*.h"\nextern int not_empty;\n' | \
	    $(CC) $(CPPFLAGS_ALL) -std=c11 -O1 $(CWARN) $(ISA) -Werror -fsyntax-only -x c -
check-layers: ## the includes point one way
	@! grep -nE '#include.*(microhttpd|uv\.h|cJSON|server/|trainer/)' $(CORE_C) $(CORE_CXX) $(wildcard core/*/*.h)
	@! grep -nE '\b(exit|abort|getenv|v?f?printf|puts|perror)\(' $(CORE_C) $(CORE_CXX)
	@! grep -nE '#include "core/' $(wildcard server/*.[ch])

ALL_C = $(CORE_C) $(CORE_CXX) $(SERVER_C) $(TRAINER_C) $(HDRS) $(wildcard bench/*.c tests/*.c tests/*/*.c)
lint: ## scripts and the HTTP contract
	@shellcheck -S info $(SHELL_SCRIPTS)
	@$(PYTHON) scripts/lint-openapi.py openapi.yaml
format: ## clang-format everything
	@clang-format -i $(ALL_C)
check-format:
	@clang-format --dry-run -Werror $(ALL_C)
tidy: compdb ## clang-tidy: readability and the analyzer
	@clang-tidy --quiet -p . $(CORE_C) $(SERVER_C)
compdb: ## compile_commands.json for editors
	@$(MAKE) -Bn V=1 all tests | $(PYTHON) scripts/compdb.py > compile_commands.json

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 18
clean: ## remove everything built
	rm -rf build bin compile_commands.json
.PHONY: all force debug dev run install test tests test-unit test-kernels test-golden \
	test-http test-openai test-chat test-web test-train test-load test-load-curl test-deploy test-container test-k8s test-train-slow test-onnx test-all asan ubsan tsan fuzz fuzzers cov bench check \
	check-headers check-layers lint format check-format tidy compdb help clean
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $B -name '*.d' 2>/dev/null)
