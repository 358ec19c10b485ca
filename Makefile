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

# One process for each processor, which pytest-xdist starts; JOBS=0 runs the tests in pytest's own process.
JOBS ?= auto
# The processes share the processors, so torch and numpy start no threads of their own for each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

EXTRAS := bench contract demo dev test

# On Linux zig links against the oldest C library that Rust supports, so that the wheel runs on old images too.
WHEEL_OPTIONS := $(if $(filter Linux,$(shell uname -s)),--zig --compatibility manylinux2014)

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: toolchain ## Train a model on images streamed from an emulated bucket
	@$(PYTHON) tools/install.py $(VENV) demo
	$(BIN)/python examples/train_digits.py

.PHONY: test
test: build test-rust test-python ## Run all tests, Rust and Python

.PHONY: test-rust
test-rust: toolchain ## Run the Rust tests
	cargo test --workspace --quiet

.PHONY: test-python
test-python: build ## Run the Python tests, in JOBS processes (as many as processors)
	$(PYTEST)

.PHONY: test-fast
test-fast: build ## An answer in 90 seconds: one case of each quick Python test; unit tests of protocol and client if built
	@if ls $${CARGO_TARGET_DIR:-target}/debug/deps/oss_client-*.d >/dev/null 2>&1; then \
	  cargo test --package oss-protocol --package oss-client --lib --quiet; \
	else \
	  echo "without the Rust unit tests, because building them takes minutes: run make test-rust once"; \
	fi
	$(PYTEST) --fast

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
lint: build ## clippy and ruff, warnings are errors; dependency arrows; prose; documentation
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet --document-private-items
	$(BIN)/ruff check
	$(BIN)/python tools/check_layers.py
	$(BIN)/python tools/check_prose.py

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
wheel: build ## Build the wheel into dist/, for old C libraries too; run the client and the main job from it alone
	@$(PYTHON) tools/install.py $(VENV) $(EXTRAS) wheel
	rm -rf dist
	$(BIN)/maturin build --release --out dist --quiet $(WHEEL_OPTIONS)
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

.PHONY: test-suites
test-suites: build ## Run the suites of the SDKs, OpenDAL and ossfs against the emulator; SUITES=DIR holds their checkouts
	$(BIN)/python tools/test_suites.py $(SUITES)

.PHONY: test-torch-oldest
test-torch-oldest: build ## Run the Python tests with the oldest torch that each part supports, in environments of their own
	$(BIN)/python tools/test_torch_oldest.py

.PHONY: build
build: toolchain ## Create .venv, install what is missing for every target, build the native module into the package
	@$(PYTHON) tools/install.py $(VENV) $(EXTRAS)

# Before anything is downloaded.
.PHONY: toolchain
toolchain:
	@tools/toolchain.sh "$(PYTHON)"

.PHONY: clean
clean: ## Remove what was built, but not .venv
	rm -rf target dist python/osstorchconnector/*.so
