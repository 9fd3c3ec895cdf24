# Bulkhead's one Makefile.
#
#   make run      install what is missing, build, serve on port 4222 (ARGS="-p 4333" passes options on)
#   make check    install what is missing, build, run every test but the long ones; the last line has the totals
#   make soak     the long tests; make fuzz: the fuzzers, FUZZ_SECONDS each
#   make bench    the budget of instructions, then the comparison with nats-server (BENCH="--quick" passes options on)
#   make install  DESTDIR and prefix as usual
#   make deps     only install what is missing
#   make help     this list
#   make peers    put newer servers and tools for comparisons into build/peers, as far as they can be had
#   make SAN=address,undefined check   the same under sanitizers (SAN=thread: the ring code only)
#   make CC=clang check
#
# Everything is built in $(B): objects mirror the tree, the executables lie side by side and find one another there.

# What is being made is said in a word; V=1 shows the commands.
#
.DEFAULT_GOAL := all
SAN    ?=
prefix ?= /usr/local
comma  := ,
empty  :=
space  := $(empty) $(empty)
B      ?= build$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(findstring clang,$(CC)),-clang)
FUZZ_SECONDS ?= 600
Q := $(if $(V),,@)
say = $(if $(V),:,printf '%-8s %s\n' '$(1)' '$(2)')
CHECK_FUZZ_SECONDS ?= 5

VERSION := 0.1.0
PKGS    := libsodium jansson libprotobuf-c libseccomp libcrypto libcrypt
libexecdir = $(prefix)/libexec/bulkhead
mandir     = $(prefix)/share/man
unitdir    = $(prefix)/lib/systemd/system
sysconfdir = $(if $(filter /usr,$(prefix)),/etc,$(prefix)/etc)
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -DBULKHEAD_VERSION='"$(VERSION)"' -DLIBEXECDIR='"$(libexecdir)"'
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wwrite-strings
HARDEN  := -fstack-protector-strong -fstack-clash-protection -fPIE -fcf-protection
FORTIFY := -D_FORTIFY_SOURCE=2
OPT     ?= -O2
# gcc inlines across files at the end; tests link without, which is quicker.
LTO     := $(if $(or $(SAN),$(findstring clang,$(CC))),,-flto=auto -ffat-lto-objects)
AR      := $(if $(LTO),gcc-ar,ar)
CFLAGS  += -std=gnu17 -g $(OPT) $(LTO) $(WARN) $(HARDEN) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -Wno-format-truncation $(if $(findstring thread,$(SAN)),$(if $(findstring clang,$(CC)),,-Wno-tsan)) -DBULKHEAD_SANITIZED,$(FORTIFY))
# An executable is bound to the libraries that it uses; a sanitizer's copy of crypt_r would hide that it uses that one.
LDFLAGS += -pie $(if $(SAN),,-Wl$(comma)--as-needed) -Wl,-z,relro,-z,now,-z,noexecstack $(if $(SAN),-fsanitize=$(SAN))
CFLAGS  += $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -pthread
TLSLIBS := $(shell pkg-config --libs openssl 2>/dev/null)

# A folder is a library of all its sources but the mains; an executable is one main and the libraries below it.
LOWER   := config ipc shm nats base
DAEMONS := supervisor frontend router authd
MAINS   := supervisor/main.c supervisor/logd_main.c frontend/main.c router/main.c authd/main.c authd/signer_main.c \
           config/reader_main.c config/print_main.c
PROTO   := $(wildcard ipc/*.proto)
GEN     := $(PROTO:%.proto=$(B)/gen/%.pb-c.c)
lib_src  = $(filter-out $(MAINS),$(wildcard $(1)/*.c))
lib_obj  = $(patsubst %.c,$(B)/obj/%.o,$(call lib_src,$(1)))
LIBS    := $(foreach d,$(DAEMONS) $(LOWER),$(B)/lib$(d).a)
LOWLIBS := $(foreach d,$(LOWER),$(B)/lib$(d).a)
BINS    := $(B)/bulkhead $(B)/bulkhead-logd $(B)/bulkhead-frontend $(B)/bulkhead-router $(B)/bulkhead-authd \
           $(B)/bulkhead-signer $(B)/bulkhead-config
# A tool of the build: the list of options for the manual.
TOOLS   := $(B)/config-print
# A small client, so that a first message needs nothing else.
TRY     := $(B)/bulkhead-try

MAN     := $(B)/man/bulkhead.8 $(B)/man/bulkhead.conf.5

all: $(BINS) $(TRY) $(TOOLS) $(MAN)

$(B)/bulkhead:          $(B)/obj/supervisor/main.o $(B)/libsupervisor.a $(LOWLIBS)
$(B)/bulkhead-logd:     $(B)/obj/supervisor/logd_main.o $(B)/libsupervisor.a $(LOWLIBS)
$(B)/bulkhead-frontend: $(B)/obj/frontend/main.o $(B)/libfrontend.a $(LOWLIBS)
$(B)/bulkhead-router:   $(B)/obj/router/main.o $(B)/librouter.a $(LOWLIBS)
$(B)/bulkhead-authd:    $(B)/obj/authd/main.o $(B)/libauthd.a $(LOWLIBS)
$(B)/bulkhead-signer:   $(B)/obj/authd/signer_main.o $(B)/libauthd.a $(LOWLIBS)
$(B)/bulkhead-config:   $(B)/obj/config/reader_main.o $(LOWLIBS)
$(B)/config-print:      $(B)/obj/config/print_main.o $(LOWLIBS)
$(B)/bulkhead-try:      $(B)/obj/tools/try.o
# These two speak TLS; so does what links the libraries of all daemons.
$(B)/bulkhead-frontend $(B)/bulkhead-signer $(B)/tests/% $(B)/fuzz/%: LDLIBS += $(TLSLIBS)
# The supervisor starts nothing that others may write, so a generous umask must not matter.
$(BINS) $(TRY) $(TOOLS):
	@$(call say,LINK,$(notdir $@))
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
	@chmod go-w $@

# Manual pages: the lists in them come from the option table.
$(B)/man/bulkhead.8: PRINT := flags
$(B)/man/bulkhead.conf.5: PRINT := man
$(B)/man/%: docs/man/%.in $(B)/config-print
	@mkdir -p $(@D)
	@$(B)/config-print $(PRINT) | sed 's/\\/\\e/g; s/-/\\-/g' > $@.list
	@sed -e 's/@VERSION@/$(VERSION)/' -e '/@LIST@/{r $@.list' -e 'd}' $< > $@
	@rm $@.list

define library
$(B)/lib$(1).a: $(call lib_obj,$(1)) $(if $(filter ipc,$(1)),$(GEN:$(B)/gen/%.c=$(B)/obj/gen/%.o))
	@rm -f $$@
	$(Q)$(AR) rcs $$@ $$^
endef
$(foreach d,$(DAEMONS) $(LOWER),$(eval $(call library,$(d))))

# The one object that knows where things are installed is made again when that changes.
$(B)/obj/supervisor/spawn.o: $(B)/libexecdir
$(B)/libexecdir: FORCE
	@mkdir -p $(@D)
	@echo '$(libexecdir)' | cmp -s - $@ || echo '$(libexecdir)' > $@

$(B)/obj/%.o: %.c | $(GEN)
	@mkdir -p $(@D)
	@$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/obj/gen/%.o: $(B)/gen/%.c
	@mkdir -p $(@D)
	@$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: %.proto
	@mkdir -p $(B)/gen
	@$(call say,PROTOC,$<)
	$(Q)protoc-c --c_out=$(B)/gen $<

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

unit: $(UNIT)
	tests/run-unit $(UNIT)

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

# What may be missing is installed before a second make looks for it.
deps:
	@packaging/deps

# They are the same for every kind of build.
peers:
	@packaging/peers build/peers

# A make that was not told how many jobs to run takes as many as there are processors.
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
run:
	@packaging/deps build
	@$(MAKE) --no-print-directory $(JOBS) all
	@echo 'A first message, from another terminal: $(TRY) sub greetings, and from a third: $(TRY) pub greetings hello'
	@$(B)/bulkhead $(ARGS)

help:
	@sed -n 's/^#   make/make/p' Makefile

# ThreadSanitizer does not understand memory that two processes share: there only the unit tests of shm say something. The
# fuzzers bring their own sanitizers.
CHECK_STEPS = unit="tests/run-unit $(UNIT)" \
	$(if $(filter thread,$(SAN)),,system="tests/system/run") \
	$(if $(SAN),,fuzz="tests/run-fuzz $(CHECK_FUZZ_SECONDS) $(FUZZ)")
check: deps
	@$(MAKE) --no-print-directory $(JOBS) check-built
check-built: $(MAN) $(if $(filter thread,$(SAN)),,$(BINS) $(TRY) $(TOOLS) $(TLS_WORLD)) $(UNIT) $(if $(SAN),,$(FUZZ))
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

install: all
	install -d $(DESTDIR)$(prefix)/sbin $(DESTDIR)$(prefix)/bin $(DESTDIR)$(libexecdir) $(DESTDIR)$(prefix)/share/doc/bulkhead \
	    $(DESTDIR)$(mandir)/man5 $(DESTDIR)$(mandir)/man8 $(DESTDIR)$(unitdir)
	install -m 755 $(B)/bulkhead $(DESTDIR)$(prefix)/sbin
	install -m 755 $(TRY) $(DESTDIR)$(prefix)/bin
	install -D -m 644 packaging/bulkhead.conf.example $(DESTDIR)$(sysconfdir)/bulkhead.conf.example
	install -m 755 $(filter-out $(B)/bulkhead,$(BINS)) $(DESTDIR)$(libexecdir)
	install -m 644 README.md $(wildcard docs/*.md) $(DESTDIR)$(prefix)/share/doc/bulkhead
	install -D -m 644 -t $(DESTDIR)$(prefix)/share/doc/bulkhead/models docs/models/*.md
	install -m 644 $(B)/man/bulkhead.8 $(DESTDIR)$(mandir)/man8
	install -m 644 $(B)/man/bulkhead.conf.5 $(DESTDIR)$(mandir)/man5
	for unit in bulkhead bulkhead-hardened; do \
	    sed 's|/usr/sbin/|$(prefix)/sbin/|' packaging/systemd/$$unit.service > $(DESTDIR)$(unitdir)/$$unit.service && \
	    chmod 644 $(DESTDIR)$(unitdir)/$$unit.service || exit 1; done

clean:
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

.PHONY: all help unit fuzz deps peers run check check-built bench bench-built soak soak-built install clean FORCE
