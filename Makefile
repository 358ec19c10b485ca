# Every command that a person or CI runs. `make` alone prints them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# No bytecode of examples and tests in the tree; progress output is not wanted in logs.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Length of each fuzz target; they run side by side.
FUZZ_SECONDS ?= 60

EXTRAS := bench,contract,demo,dev,test

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Train a model on images streamed from an emulated bucket
	$(BIN)/python examples/train_digits.py

.PHONY: test
test: build test-rust test-python ## Run all tests, Rust and Python

.PHONY: test-rust
test-rust: toolchain ## Run the Rust tests
	cargo test --workspace --quiet

.PHONY: test-python
test-python: build ## Run the Python tests
	$(BIN)/python -m pytest

.PHONY: check
check: format-check lint types test ## All that has to pass before a commit

.PHONY: format
format: build ## Format all code
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only --quiet

.PHONY: format-check
format-check: build
	cargo fmt --all --check
	$(BIN)/ruff format --check

.PHONY: lint
lint: build ## clippy and ruff, warnings are errors; dependency arrows; documentation
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet --document-private-items
	$(BIN)/ruff check
	$(BIN)/python tools/check_layers.py

.PHONY: types
types: build ## mypy --strict, and the stub of the native module against the module
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest osstorchconnector._native --mypy-config-file pyproject.toml

.PHONY: size
size: ## Files with more lines before their tests than a file should have
	@git ls-files '*.rs' '*.py' | while read -r file; do \
	  lines=$$(sed '/#\[cfg(test)\]/,$$d' "$$file" | wc -l); \
	  if [ "$$lines" -gt 500 ]; then echo "$$lines $$file"; fi; \
	done

.PHONY: wheel
wheel: toolchain $(VENV)/.installed ## Build the wheel into dist/, run the main job from it alone, print its size
	rm -rf dist
	$(BIN)/maturin build --release --out dist --quiet
	$(BIN)/python tools/try_wheel.py dist/*.whl
	@ls -l dist/*.whl | awk '{printf "%s: %.1f MiB\n", $$NF, $$5 / 1048576}'

.PHONY: bench
bench: build ## Beside the peers and the floor: all parts, or PARTS="small large"; writes benchmarks/report; needs nginx and wrk
	$(BIN)/python -m benchmarks.suite $(PARTS)

.PHONY: bench-scale
bench-scale: build ## Time and memory per key of listings up to a hundred million keys; a million objects end to end
	$(BIN)/python benchmarks/scale.py --objects 1000000

.PHONY: bench-listing
bench-listing: build ## Keys listed per second and CPU per key, in several places at once and one page after the other
	$(BIN)/python benchmarks/listing.py

.PHONY: bench-range-gaps
bench-range-gaps: build ## Partial loads of distributed checkpoints with several gaps between the ranges that are read together
	$(BIN)/python benchmarks/range_gaps.py

.PHONY: bench-emulator
bench-emulator: build ## The emulator's rates beside nginx's on one core, and its memory per object; needs nginx and wrk
	$(BIN)/python benchmarks/emulator.py

.PHONY: fuzz
fuzz: toolchain ## Mutated input for FUZZ_SECONDS (60): XML, Authorization and range parsers, and the whole emulator
	OSS_FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --package oss-emulator --test fuzz -- --nocapture --test-threads=4

.PHONY: test-torch-oldest
test-torch-oldest: build ## Run the Python tests with the oldest supported torch, in an environment of its own
	$(BIN)/python tools/test_torch_oldest.py

.PHONY: build
build: toolchain $(VENV)/.installed ## Create .venv and build the native module into the package
	@$(BIN)/maturin develop --release --skip-install --quiet

# Dependencies and the editable installation; again only when what they are made from changes.
$(VENV)/.installed: pyproject.toml
	$(MAKE) --no-print-directory toolchain
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "maturin>=1.9,<2"
	$(BIN)/maturin develop --release --extras $(EXTRAS) --quiet
	@touch $@

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { \
	  echo "error: cargo is missing; install Rust 1.89 or newer (rustup, or your distribution's cargo package)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is older than Python 3.11; run make PYTHON=/path/to/python3.11" >&2; exit 1; }

.PHONY: clean
clean: ## Remove what was built, but not .venv
	rm -rf target dist python/osstorchconnector/*.so
