# SPDX-License-Identifier: Apache-2.0
# The part of the Makefile that builds and runs tests: unit tests, fuzzers, check, soak, bench.

# tests/unit mirrors the tree: shm/ring.c has tests/unit/shm/ring_test.c, one Check program each. Message types that only
# tests use lie beside them.
UNIT_SRC   := $(wildcard tests/unit/$(if $(filter thread,$(SAN)),shm,*)/*_test.c)
UNIT       := $(UNIT_SRC:%.c=$(B)/%)
TEST_PROTO := $(wildcard tests/unit/*/*.proto)
TEST_GEN   := $(TEST_PROTO:%.proto=$(B)/gen/%.pb-c.c)
TEST_OBJ   := $(TEST_GEN:$(B)/gen/%.c=$(B)/obj/gen/%.o)
CHECK_LIBS = $(shell pkg-config --libs check)
# The world around a frontend, and the world around a router: what both daemons name alike keeps them apart.
FRONT_OBJ   := $(B)/obj/tests/support/front.o
SUPPORT_OBJ := $(filter-out $(FRONT_OBJ),$(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/support/*.c)))
.SECONDARY: $(GEN) $(TEST_GEN) $(TEST_OBJ) $(SUPPORT_OBJ) $(FRONT_OBJ)
# Where a marker message kills the router: a fault of its own, without a hook in the product.
$(B)/tests/unit/router/router_poison_test: LDFLAGS += -Wl,--wrap=sublist_match,--wrap=sublist_insert,--wrap=binding_open
$(B)/tests/unit/router/router_box_test: LDFLAGS += -Wl,--wrap=sublist_hint
# It starts the executable.
$(B)/tests/unit/authd/authd_test: | $(B)/bulkhead-authd
# Where allocations fail.
FAILING_ALLOCS := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(B)/tests/unit/frontend/memory_test: LDFLAGS += $(FAILING_ALLOCS)
# Where authd dies at every store.
$(B)/tests/unit/authd/identity_test: LDFLAGS += -Wl,--wrap=book_append,--wrap=ledger_new_principal,--wrap=ledger_put
$(B)/tests/unit/%: tests/unit/%.c $(LIBS) $(TEST_OBJ) $(SUPPORT_OBJ) $(FRONT_OBJ)
	@mkdir -p $(@D)
	@$(call say,TEST,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -fno-lto -o $@ $< $(TEST_OBJ) $(if $(findstring tests/unit/router/,$<),$(SUPPORT_OBJ)) $(if $(findstring tests/unit/frontend/,$<),$(FRONT_OBJ)) -Wl,--start-group $(LIBS) -Wl,--end-group $(CHECK_LIBS) $(LDLIBS)

# A hand-made family around a real frontend and a real signer, for tests/system/tls_test.py.
TLS_WORLD := $(B)/tests/system/tls_world
$(TLS_WORLD): tests/system/c/tls_world.c $(LIBS) $(SUPPORT_OBJ)
	@mkdir -p $(@D)
	@$(call say,TEST,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -fno-lto -o $@ $< $(SUPPORT_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)

# A supervisor with one row more in its tables, and the daemon of that row, for tests/system/child_row_test.py.
IDLE := $(B)/tests/idle/bulkhead
IDLE_OBJ := $(B)/tests/idle/family.o $(B)/tests/idle/roles.o
$(IDLE_OBJ): $(B)/tests/idle/%.o: supervisor/%.c tests/system/c/idle.h | $(GEN)
	@mkdir -p $(@D)
	@$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -include tests/system/c/idle.h -MMD -MP -c -o $@ $<
$(IDLE): $(B)/obj/supervisor/main.o $(IDLE_OBJ) $(B)/libsupervisor.a $(LOWLIBS) tests/system/c/idle_main.c $(BINS)
	@$(call say,TEST,$@)
	@cp $(filter-out $(B)/bulkhead,$(BINS)) $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $(@D)/bulkhead-idle tests/system/c/idle_main.c $(LOWLIBS) $(LDLIBS)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(B)/obj/supervisor/main.o $(IDLE_OBJ) $(B)/libsupervisor.a $(LOWLIBS) $(LDLIBS)
	@chmod go-w $(@D)/bulkhead*

unit: $(UNIT)
	tests/run-unit $(UNIT)

# Which file may call which; the names of the objects say it.
layers: $(BINS) $(LIBS)
	tests/layers $(B)

# Every file that clang-format would change, and how (.clang-format), and every source without the line of its licence. Comments
# are wrapped by hand.
format-check:
	@! git grep -L 'SPDX-License-Identifier: Apache-2.0' -- '*.c' '*.h' '*.py' '*.proto' '*.js' '*.mk' Makefile | sed 's/$$/: no SPDX line/' | grep .
	@git ls-files '*.c' '*.h' | xargs -P 2 -n 40 clang-format --dry-run -Werror

# Fuzz targets need clang's libFuzzer, whatever $(CC) is; each has a committed corpus, tests/fuzz/corpus/NAME for NAME_fuzz.c.
FUZZ_SRC  := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ      := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/fuzz/%)
FUZZ_OBJ  := $(foreach d,$(DAEMONS) $(LOWER),$(patsubst %.c,$(B)/fuzz/obj/%.o,$(call lib_src,$(d)))) \
             $(patsubst %.c,$(B)/fuzz/obj/%.o,$(wildcard tests/support/*.c)) \
             $(patsubst $(B)/gen/%.c,$(B)/fuzz/obj/gen/%.o,$(GEN) $(TEST_GEN))
FUZZ_FLAGS = $(CPPFLAGS) -std=gnu17 -g -O1 $(shell pkg-config --cflags $(PKGS)) -fsanitize=address,undefined -fno-sanitize-recover=undefined -DBULKHEAD_SANITIZED
.SECONDARY: $(FUZZ_OBJ)
$(B)/fuzz/obj/gen/%.o: $(B)/gen/%.c
	@mkdir -p $(@D)
	@$(call say,CLANG,$<)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
$(B)/fuzz/obj/%.o: %.c | $(GEN) $(TEST_GEN)
	@mkdir -p $(@D)
	@$(call say,CLANG,$<)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
$(B)/fuzz/lib.a: $(FUZZ_OBJ)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
$(B)/fuzz/conn_fuzz: WRAP = $(FAILING_ALLOCS)
$(B)/fuzz/%: tests/fuzz/%.c $(B)/fuzz/lib.a
	@mkdir -p $(@D)
	@$(call say,FUZZ,$@)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -MMD -MP $(WRAP) -o $@ $< $(B)/fuzz/lib.a $(LDLIBS)

fuzz: $(FUZZ)
	tests/run-fuzz $(FUZZ_SECONDS) $(FUZZ)

# ThreadSanitizer does not understand memory that two processes share: there only the unit tests of shm say something. The
# fuzzers bring their own sanitizers.
CHECK_STEPS = $(if $(filter thread,$(SAN)),,layers="tests/layers $(B)") unit="tests/run-unit $(UNIT)" \
	$(if $(filter thread,$(SAN)),,system="tests/system/run") \
	$(if $(SAN),,fuzz="tests/run-fuzz $(CHECK_FUZZ_SECONDS) $(FUZZ)")
check: deps
	@$(MAKE) --no-print-directory $(JOBS) check-built
check-built: $(MAN) $(if $(filter thread,$(SAN)),,$(BINS) $(TRY) $(TOOLS) $(TLS_WORLD) $(IDLE)) $(UNIT) $(if $(SAN),,$(FUZZ))
	@BULKHEAD_BUILD=$(B) CC="$(CC)" TEST_SLOWNESS=$(if $(SAN),10,1) tests/run-steps $(CHECK_STEPS)

# Each program of tests/soak ends as the other tests do; the system tests take their long forms with BULKHEAD_SOAK.
SOAK := $(patsubst %.c,$(B)/%,$(wildcard tests/soak/*_soak.c))
$(SOAK): $(B)/%: $(B)/obj/%.o $(LIBS)
	@mkdir -p $(@D)
	@$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
soak: deps
	@$(MAKE) --no-print-directory soak-built
soak-built: $(BINS) $(TOOLS) $(SOAK) $(FUZZ)
	@BULKHEAD_BUILD=$(B) CC="$(CC)" BULKHEAD_SOAK=1 tests/run-steps $(foreach p,$(SOAK) $(wildcard tests/soak/*_soak.py),$(notdir $(p))=$(p)) \
	    system="tests/system/run" fuzz="tests/run-fuzz $(FUZZ_SECONDS) $(FUZZ)"

# The load generator is made of load*.c; every other file of tests/bench is a program of its own.
BENCH_LOAD  := $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/bench/load*.c))
BENCH_ALONE := $(patsubst %.c,$(B)/%,$(filter-out tests/bench/load%,$(wildcard tests/bench/*.c)))
$(B)/tests/bench/load: $(BENCH_LOAD) $(B)/libnats.a $(B)/libbase.a
	@mkdir -p $(@D)
	@$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(shell pkg-config --libs openssl libsodium) -pthread
$(BENCH_ALONE): $(B)/%: $(B)/obj/%.o $(LIBS)
	@mkdir -p $(@D)
	@$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
bench-built: $(BINS) $(B)/tests/bench/load $(BENCH_ALONE)
bench: deps
	@$(MAKE) --no-print-directory bench-built
	BULKHEAD_BUILD=$(B) tests/bench/budget
	BULKHEAD_BUILD=$(B) tests/bench/run $(BENCH)

.PHONY: unit layers format-check fuzz check check-built soak soak-built bench bench-built
