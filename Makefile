# build: the module for gdb's Python. demo: a tour on committed cores. test: all that CI runs.
# test-all: the whole matrix. bench: the numbers of the README. fuzz: each parser of evidence, FUZZ_SECONDS long.
export PATH := $(HOME)/.cargo/bin:$(PATH)
NATIVE := python/mapscope/_native.abi3.so
VENV := .venv
PYTEST := $(VENV)/bin/python -m pytest -q

.PHONY: build demo test test-all bench fuzz setup toolchains tracefs clean

setup:
	@tools/setup.sh cc:gcc /usr/include/stdio.h:libc6-dev gdb gdbserver git curl xz:xz-utils python3:python3

build: setup
	cargo build --release --features python
	@cp target/release/libmapscope.so $(NATIVE).new && mv $(NATIVE).new $(NATIVE)

demo: build
	@sh core-samples/demo.sh

$(VENV)/.ready: tests/requirements.txt
	@python3 -c 'import venv, ensurepip' 2>/dev/null || tools/setup.sh python3-venv-missing:python3-venv
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r tests/requirements.txt
	@touch $@

toolchains: $(VENV)/.ready
	@tools/setup.sh strip:binutils /usr/lib/go-1.19/bin/go:golang-1.19-go
	@$(VENV)/bin/python core-samples/toolchains.py >/dev/null

# The kernel's probes are tested where root can have them: tracefs is not mounted everywhere.
tracefs:
	@[ -e /sys/kernel/tracing/uprobe_events ] || mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null || true

test: build toolchains tracefs
	cargo fmt --check
	cargo test --release
	$(PYTEST) tests

test-all: build toolchains tracefs
	cargo test --release
	MAPSCOPE_MATRIX=all $(PYTEST) tests

bench: build $(VENV)/.ready
	$(VENV)/bin/python benches/bench.py
	$(VENV)/bin/python benches/debugger.py
	$(VENV)/bin/python benches/watch.py
	$(VENV)/bin/python benches/evidence.py
	$(VENV)/bin/python benches/list.py
	$(VENV)/bin/python benches/goroutines.py

FUZZ_SECONDS := 60
FUZZERS := protobuf tracebacks trace

fuzz: setup
	@cargo +nightly fuzz --version >/dev/null 2>&1 || cargo install --locked --version 0.13.2 cargo-fuzz
	python3 fuzz/seeds.py
	@set -e; for fuzzer in $(FUZZERS); do \
		(cd fuzz && cargo +nightly fuzz run $$fuzzer -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10); \
	done

clean:
	cargo clean
	rm -rf $(VENV) $(NATIVE)
