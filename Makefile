# The front door. `make` lists what it can do; CI calls the same targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# The suites look for target/release/sentry, whatever the machine's own cargo settings say.
export CARGO_TARGET_DIR := $(CURDIR)/target
CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2

VENV := .venv
PY := $(VENV)/bin/python
REQUIREMENTS := $(VENV)/requirements.stamp
PYTHON_REQUIREMENTS := $(VENV)/requirements-python.stamp
SENTRY := target/release/sentry

# More options for the Python programs: make evaluation ARGS=--quick
ARGS ?=

.PHONY: help build package stubs demo test lint fmt test-rust python reference vectors attacks interop kernels modules modules-check bench bench-datasets evaluation gpu gpu-load gpu-sanitize gpu-build fuzz deny clean

help: ## List the targets
	@printf 'usage: make TARGET\n\n'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 17

build: ## Build the command line: target/release/sentry
	$(CARGO) build --release --locked -p sentry-ml-cli

package: $(PYTHON_REQUIREMENTS) ## Build the Python package and install it into .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .

stubs: $(PYTHON_REQUIREMENTS) ## Write python/sentry/_native.pyi, the types of the extension, again
	scripts/stubs.sh

demo: package build ## Sign a real model, break it, see the rejection (downloads 84 MB once)
	@scripts/demo.sh

test: ## Everything: lint, test-rust, python, reference, attacks, interop, kernels
	@scripts/test.sh

lint: ## Formatting, clippy, documentation links, dependencies, scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --exclude sentry-ml-cli --no-deps --locked --quiet
	for script in .ci/run scripts/*.sh; do bash -n "$$script"; done
	@if command -v cargo-deny >/dev/null; then \
	  set -x; $(CARGO) deny --locked check bans licenses sources; \
	else \
	  echo 'cargo deny: not run, it is not installed here (`make deny` installs it)'; \
	fi

fmt: ## Format the Rust code
	$(CARGO) fmt --all

test-rust: ## Unit, vector and documentation tests of all crates; the kept inputs of the fuzzer
	$(CARGO) test --workspace --locked --no-fail-fast

python: package ## The Python package, with real torch, torchvision, transformers and vLLM's Python files; its types and stubs
	scripts/stubs.sh --check
	$(PY) -m mypy --config-file pyproject.toml python/sentry
	scripts/fetch-vllm.sh >/dev/null
	$(PY) -m pytest tests/python $(ARGS)

reference: $(REQUIREMENTS) ## The slow reference: its own tests, and vectors/sentry without a difference
	$(PY) reference/generate.py --check
	$(PY) -m pytest tests/reference $(ARGS)

vectors: $(REQUIREMENTS) ## Make vectors/sentry again from the slow reference
	$(PY) reference/generate.py

attacks: package build ## Every input that must be rejected, by command line and Python package, each with its own error (needs a C++ compiler)
	$(MAKE) --no-print-directory -C crates/cuda driver BUILD=$(CURDIR)/target/cuda
	$(PY) attacks/run.py $(ARGS)

interop: $(REQUIREMENTS) build ## Both ways with PyPI model-signing, and the published bundles
	$(PY) -m pytest tests/interop $(ARGS)

kernels: ## The CUDA kernels on the CPU under sanitizers; the host side over an emulated driver, with faults (needs a C++ compiler)
	$(MAKE) --no-print-directory -C crates/cuda emulate check-driver BUILD=$(CURDIR)/target/cuda
	LD_LIBRARY_PATH=$(CURDIR)/target/cuda/driver $(CARGO) test --locked --no-fail-fast -p sentry-ml-cuda -p sentry-ml-load --features sentry-ml-cuda/device-tests,sentry-ml-load/device-tests

modules: | $(PY) ## Compile the CUDA kernels again: crates/cuda/modules (fetches NVIDIA's compiler, 90 MB, once)
	$(MAKE) --no-print-directory -C crates/cuda modules PYTHON=$(CURDIR)/$(PY)

modules-check: | $(PY) ## Whether crates/cuda/modules is what the CUDA kernels compile to, within their budgets
	$(MAKE) --no-print-directory -C crates/cuda modules-check PYTHON=$(CURDIR)/$(PY)

bench: package ## Speed of each construction beside OpenSSL, and of verified loading beside unverified (writes benches/results)
	$(PY) benches/constructions.py $(ARGS)
	$(PY) benches/loading.py $(ARGS)

bench-datasets: package build ## Speed of checking samples, of an epoch, and of signing 10 GB of Parquet (needs 12 GB of disk)
	$(CARGO) build --release --locked -p sentry-ml-dataset --example reading
	$(PY) benches/datasets.py $(ARGS)

evaluation: $(REQUIREMENTS) build ## Time and memory beside model-signing, the table in README (writes benches/results)
	$(PY) benches/evaluation.py $(ARGS)

gpu: ## On a machine with a GPU and nvcc: all tests and benches that need one (CEILING=FILE for a program to compare with)
	scripts/gpu.sh run

gpu-load: ## On a machine with a GPU: loading to it, beside other loaders that are installed (LOAD_CEILING=FILE for a program to compare with)
	scripts/gpu.sh load

gpu-sanitize: ## On a machine with a GPU and nvcc: its tests under compute-sanitizer's four tools
	scripts/gpu.sh sanitize

gpu-build: $(PYTHON_REQUIREMENTS) ## What a GPU machine without cargo needs: target/gpu
	scripts/gpu.sh build

fuzz: ## Look for new inputs that break a parser or joiner: make fuzz ARGS='--seconds 3600' (needs a C++ compiler)
	scripts/fuzz.sh $(ARGS)

deny: ## Licences, sources and bans of the dependencies; installs cargo-deny if it is not there
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --version $(CARGO_DENY_VERSION) cargo-deny
	$(CARGO) deny --locked check bans licenses sources

clean: ## Remove all that these targets made
	rm -rf target $(VENV) .cache
	find . \( -name __pycache__ -o -name .pytest_cache \) -type d -prune -exec rm -rf {} +

$(PY):
	scripts/venv.sh

$(REQUIREMENTS): requirements-dev.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(PYTHON_REQUIREMENTS): requirements-python.txt $(REQUIREMENTS)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-python.txt
	touch $@
