# SPDX-License-Identifier: Apache-2.0
# Bulkhead's one Makefile.
#
#   make          build (V=1 shows the commands; LTO= builds quicker, for work on the code: see HACKING.md)
#   make run      install what is missing, build, serve on port 4222 (ARGS="-p 4333" passes options on)
#   make check    install what is missing (as root or by sudo), build, run every test but the long ones; the last line has the totals
#   make check-built   the same, but installs nothing
#   make unit     the unit tests alone; make layers: what calls what; make format-check: what clang-format would change
#   make soak     the long tests; make fuzz: the fuzzers, FUZZ_SECONDS each
#   make bench    the budget of instructions, then the comparison with nats-server (BENCH="--quick" passes options on)
#   make install  DESTDIR and prefix as usual
#   make deps     only install what is missing
#   make peers    put newer servers and tools for comparisons into build/peers, as far as they can be had
#   make compile_commands.json   how each file is compiled, for editors and clangd
#   make clean    remove the build folder
#   make help     this list
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
LOWER   := edge config ipc shm nats base
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

include tests/tests.mk

# How each file is compiled, for editors and clangd. sed puts the name of the file in.
COMPILE = $(filter-out -flto% -ffat-lto%,$(CC) $(CPPFLAGS) $(CFLAGS))
compile_commands.json: $(GEN) $(TEST_GEN) FORCE
	@git ls-files '*.c' | sed '$(subst ','\'',s|.*|  {"directory": "$(CURDIR)", "file": "&", "command": "$(subst ",\\",$(COMPILE)) -c &"},|); 1s/^ /[/; $$s/,$$/]/' > $@
	@echo '$@: $(B), '$$(grep -c '"file"' $@)' files'

-include $(shell find $(B) -name '*.d' 2>/dev/null)

.PHONY: all help deps peers run install clean FORCE
