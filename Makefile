# The commands of this repository; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
RUN := $(VENV)/bin
RUST_PATH = PATH="$$(. setup/common.sh; find_rust):$$PATH"

PROTOS := $(shell find proto -name '*.proto')
CRATE := $(shell find media -name target -prune -o -type f \( -name '*.rs' -o -name 'Cargo.*' \) -print)
PYTHON_ROOMS := agents cti demo domain ivr loadtest node recording reports routing tests

.PHONY: help setup setup-tests setup-check packages packages-tests packages-check
.PHONY: demo run test lint check bench soak clean FORCE

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

# ── Set-up ────────────────────────────────────────────────────────────────────────────────────────
setup: packages $(VENV)/.built ## Install what is missing, build, and stop there

setup-tests: packages-tests $(VENV)/.built
setup-check: packages-check $(VENV)/.built

packages:
	@setup/packages.sh
packages-tests:
	@setup/packages.sh tests
packages-check:
	@setup/packages.sh tests linters

# The stamps come after `packages` but are not remade because of it.
$(VENV)/.installed: requirements.lock setup/environment.sh | packages
	@setup/environment.sh
	@touch $@

$(VENV)/.generated: $(PROTOS) $(VENV)/.installed setup/stubs.sh $(if $(wildcard cti95598/__init__.py),,FORCE)
	@setup/stubs.sh
	@touch $@

$(VENV)/.built: $(CRATE) pyproject.toml $(VENV)/.generated setup/crate.sh $(if $(wildcard cti/_media*.so),,FORCE)
	@setup/crate.sh
	@touch $@

FORCE:

# ── Use ───────────────────────────────────────────────────────────────────────────────────────────
demo: setup ## Show the main job on a real call, checked step by step
	@$(RUN)/python -m demo.run

run: setup ## Start the platform on its demo configuration and stay
	@# The demo's business system, for the flows to ask; it ends with this shell.
	@setpriv --pdeathsig TERM -- $(RUN)/python -m demo.business & exec $(RUN)/cti95598 serve

# ── Proof ─────────────────────────────────────────────────────────────────────────────────────────
test: setup-tests ## Pass all tests, Rust and Python
	$(RUST_PATH) cargo test --locked --quiet --manifest-path media/Cargo.toml
	$(RUN)/python -m pytest -n auto

lint: setup-check ## Linters and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy $(PYTHON_ROOMS)
	$(RUST_PATH) cargo fmt --manifest-path media/Cargo.toml --check
	$(RUST_PATH) cargo clippy --locked --quiet --manifest-path media/Cargo.toml --all-targets -- -D warnings

check: lint test ## Linters, types and all tests: what CI runs

bench: setup-tests ## Repeat the figures of docs/benchmarks.md
	$(RUN)/python -m loadtest.bench_sip
	$(RUN)/python -m loadtest acd
	$(RUN)/python -m loadtest records
	for load in '2000 20 ivr' '2000 20 ivr-recorded' '2000 20 recorded' '4000 20 ivr'; do \
		$(RUST_PATH) cargo run --locked --release --quiet --no-default-features \
			--manifest-path media/Cargo.toml --example rtp_load -- $$load; done
	$(RUN)/python -m loadtest flood --rate 50 --seconds 20 --flood-rate 5000
	$(RUN)/python -m loadtest overload --rate 400 --seconds 15
	$(RUN)/python -m loadtest failover --rate 50 --seconds 20
	$(RUN)/python -m loadtest failover --rate 50 --seconds 20 --freeze
	failed=0; for target in loadtest/targets/*.yaml; do \
		$(RUN)/cti95598 loadtest run $$target || failed=1; done; exit $$failed

soak: setup-tests ## What takes minutes or an hour: broken messages, calls that come and go
	$(RUN)/python -m loadtest.fuzz_sip --messages 1000000 --seed 1
	$(RUN)/python -m loadtest media_soak --calls 1000 --minutes 30
	$(RUN)/cti95598 loadtest run loadtest/soaks/half-load.yaml
	$(RUN)/python -m loadtest.fuzz_sdp --descriptions 300000 --seed 1
	$(RUST_PATH) cargo run --locked --release --quiet --no-default-features \
		--manifest-path media/Cargo.toml --example fuzz_wire -- 5000000 1

clean: ## Remove what set-up and runs have made, but not recordings and records in .data
	rm -rf $(VENV) cti95598 media/target cti/_media*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
