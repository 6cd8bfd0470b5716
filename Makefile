# build: the module for gdb's Python. demo: a tour on committed cores. test: all that CI runs.
# test-all: the whole matrix. bench: the numbers of the README.
export PATH := $(HOME)/.cargo/bin:$(PATH)
NATIVE := python/mapscope/_native.abi3.so
VENV := .venv
PYTEST := $(VENV)/bin/python -m pytest -q

.PHONY: build demo test test-all bench setup clean

setup:
	@tools/setup.sh cc:gcc gdb gdbserver git curl xz:xz-utils python3:python3

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

test: build $(VENV)/.ready
	cargo fmt --check
	cargo test --release
	$(PYTEST) tests

test-all: build $(VENV)/.ready
	cargo test --release
	MAPSCOPE_MATRIX=all $(PYTEST) tests

bench: build $(VENV)/.ready
	$(VENV)/bin/python benches/bench.py
	$(VENV)/bin/python benches/watch.py

clean:
	cargo clean
	rm -rf $(VENV) $(NATIVE)
