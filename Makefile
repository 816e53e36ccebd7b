# `make demo` and `make test` set everything up on a bare machine; a second run reuses it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
HAOPS := $(BIN)/haops

.PHONY: help
help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

.PHONY: setup
setup: engine venv images  ## Engine, virtual environment and images; what is there is reused.

.PHONY: engine
engine:  ## Use the container engine that runs, or install and start one.
	@bash compose/engine.sh start

.PHONY: engine-stop
engine-stop:  ## Stop the engine if it was started by `make engine`.
	@bash compose/engine.sh stop

.PHONY: venv
venv: $(BIN)/.ready  ## The virtual environment with haops, editable.

$(BIN)/.ready: pyproject.toml constraints.txt compose/venv.sh
	@bash compose/venv.sh $(PYTHON)
	@touch $@

.PHONY: images
images: engine venv  ## Build the images that are missing or out of date.
	@$(HAOPS) images build

.PHONY: demo
demo: setup  ## Three clusters up, a primary killed in each under load, the outage and the loss measured.
	@bash playbooks/demo.sh $(HAOPS)

.PHONY: test
test: setup  ## Lint, types, unit, contract and live tests.
	@$(HAOPS) images build s3
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest

.PHONY: test-unit
test-unit: venv  ## Unit and contract tests only; needs no engine.
	@# Their thousands of small synced files lie in memory where that can be had.
	@PYTEST_DEBUG_TEMPROOT="$$(test -w /dev/shm && echo /dev/shm)" $(BIN)/python -m pytest -n auto \
		-o tmp_path_retention_policy=failed tests/unit tests/contract

.PHONY: lint
lint: venv  ## ruff and mypy.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: bench
bench: setup  ## The figures of tests/benchmarks, each beside its plain alternative.
	@$(BIN)/python -m pytest tests/benchmarks -s -o timeout=1800

.PHONY: clean
clean:  ## Remove what was built here; clusters and the engine stay.
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: constraints
constraints:  ## Renew constraints.txt from what pip resolves today.
	@bash compose/venv.sh --renew $(PYTHON)
