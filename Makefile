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

EXTRAS := bench contract demo dev docs test

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

.PHONY: coverage
coverage: build ## Lines of Python that make test-fast runs in its own process, and those that it does not
	mkdir -p build
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest --numprocesses 0 --fast --quiet
	$(BIN)/coverage report

.PHONY: coverage-rust
coverage-rust: toolchain ## Lines of Rust that the Rust tests run; needs llvm-cov of rustc's LLVM; CRATES="oss-protocol" for some
	$(PYTHON) tools/rust_coverage.py $(CRATES)

.PHONY: check
check: format-check lint types docs hosting test ## All that has to pass before a commit

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
	$(BIN)/python tools/third_party.py --check

.PHONY: types
types: build ## mypy --strict, and the stub of the native module against the module
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest osstorchconnector._native --mypy-config-file pyproject.toml

.PHONY: docs
docs: build ## Build the documentation into build/site; warnings are errors, and so are links that lead nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python tools/check_site.py build/site
	@echo "open build/site/index.html"

.PHONY: hosting
hosting: build ## Workflows and templates of the hosted repository: their schemas, and what makes workflows unsafe
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
	  $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/zizmor --offline --quiet .github

.PHONY: size
size: ## Files with more lines before their tests than a file should have
	@git ls-files '*.rs' '*.py' | while read -r file; do \
	  lines=$$(sed '/#\[cfg(test)\]/,$$d' "$$file" | wc -l); \
	  if [ "$$lines" -gt 500 ]; then echo "$$lines $$file"; fi; \
	done

.PHONY: wheel
wheel: build ## Build the wheel into dist/, for old C libraries too; check it; run the client and the main job from it alone
	@$(PYTHON) tools/install.py $(VENV) $(EXTRAS) wheel
	rm -f dist/*.whl
	# maturin asks the python3 of PATH for zig.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/build_wheel.py --out dist $(WHEEL_OPTIONS)
	$(BIN)/python tools/check_wheel.py dist/*.whl
	$(BIN)/python tools/try_wheel.py dist/*.whl

.PHONY: sdist
sdist: build ## Build the source distribution into dist/, with all crates; build it offline, run the client from it alone
	rm -f dist/*.tar.gz
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/make_sdist.py
	$(BIN)/python tools/try_wheel.py --without-torch dist/*.tar.gz

.PHONY: package
package: build ## A wheel for systems like this one, of what is compiled already; check it, run the client from it alone
	rm -rf dist/here
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/build_wheel.py --here --out dist/here
	$(BIN)/python tools/check_wheel.py --here dist/here/*.whl
	$(BIN)/python tools/try_wheel.py --without-torch dist/here/*.whl

.PHONY: bench
bench: build ## Beside the peers and the floor: all parts, or PARTS="small large"; writes benchmarks/report; needs nginx and wrk
	$(BIN)/python -m benchmarks.suite $(PARTS)

.PHONY: bench-conditions
bench-conditions: build ## The main rows in named conditions: all, or CONDITIONS="nginx-nopush latency-35"; ROUNDS=7
	$(BIN)/python -m benchmarks.suite.in_conditions $(CONDITIONS) --rounds $(or $(ROUNDS),7)

.PHONY: bench-scale
bench-scale: build ## Time and memory per key of listings up to a hundred million keys; a million objects end to end
	$(BIN)/python benchmarks/scale.py --objects 1000000

.PHONY: bench-listing
bench-listing: build ## Keys listed per second and CPU per key, in several places at once and one page after the other
	$(BIN)/python benchmarks/listing.py

.PHONY: bench-range-gaps
bench-range-gaps: build ## Partial loads of distributed checkpoints with several gaps between the ranges that are read together
	$(BIN)/python benchmarks/range_gaps.py

.PHONY: bench-fsspec
bench-fsspec: build ## oss:// through fsspec beside the own interface and ossfs: fails if it is slower than it should be
	OSSTORCHCONNECTOR_COMPARE_TIMES=1 $(BIN)/python -m pytest -q -n 0 tests/fsspec/test_speed.py

.PHONY: bench-integrations
bench-integrations: build ## Images per second of the loaders of YOLO and MMDetection, from OSS and from local files
	$(PYTHON) tools/test_frameworks.py --install
	PYTHONPATH="$(CURDIR):$(CURDIR)/python" .venv-frameworks/bin/python benchmarks/integrations.py

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

.PHONY: test-frameworks
test-frameworks: build ## The whole table of docs/guides/frameworks.md, in an environment of its own; GROUPS="plain ray"
	$(PYTHON) tools/test_frameworks.py $(GROUPS)

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
