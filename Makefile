# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := homeserver storage federation bridge tests benchmarks setup.py

.PHONY: help run test test-long check format types docs proofs lock bench bench-full web clean
.DEFAULT_GOAL := help

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Start the server on homeserver.yaml, with its data in data/
	$(BIN)/python -m homeserver run -c homeserver.yaml

test: $(VENV)/.dev ## Run the tests, PostgreSQL's included (under 15 minutes); what CI runs
	$(BIN)/python -m tests.run

test-long: $(VENV)/.dev ## Run every matrix in full
	$(BIN)/python -m tests.run --long

check: $(VENV)/.dev ## Style, types, layers, house rules and the fast tests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.run tests.architecture tests.protocol tests.config tests.http

format: $(VENV)/.dev ## Format the code and sort its imports
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(VENV)/.dev ## Write the generated pages of docs/reference
	$(BIN)/python -m tests.architecture.pages

proofs: $(VENV)/.dev ## Run the tests and note which proves each operation; make docs shows it
	$(BIN)/python -m tests.architecture.proofs

bench: $(VENV)/.dev ## Measure Parley beside Synapse, small (under 15 minutes)
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/.dev ## Measure Parley beside Synapse, full size
	$(BIN)/python -m benchmarks --size full --rounds 3

lock: ## Write the lock files from pyproject.toml
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" --extra dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" tests/fuzz/requirements.in -o tests/fuzz/requirements.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" tests/clients/mautrix.in -o tests/clients/mautrix.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" tests/media/requirements.in -o tests/media/requirements.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" tests/clients/requirements.in -o tests/clients/requirements.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" tests/harness/synapse.in -o tests/harness/synapse.txt

web: ## Build the web client into web/dist (needs Node 20.19 or newer)
	cd web && npm ci && npm run build

clean: ## Remove what the commands made, but not data/
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis _trial_temp*

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock | $(BIN)/python
	$(PIP) install -q --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock | $(BIN)/python
	$(PIP) install -q --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@ $(VENV)/.run
