# Everything a fresh machine needs is Python >= 3.11 and make.

PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

.PHONY: help setup demo serve test check lint format clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.ready ## create .venv with the locked dependencies and the console script in it

.venv/.ready: pyproject.toml uv.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv sync --quiet --frozen --all-extras --inexact --compile-bytecode
	@touch $@

demo: setup ## the main job end to end, then the proof: kill -9 with 200 jobs in flight, none lost
	$(BIN)/tidegate demo

serve: setup ## a gateway on http://127.0.0.1:8080 with data in ./tidegate-data
	$(BIN)/tidegate serve

test: setup ## all tests
	$(BIN)/pytest

check: lint test ## what a reviewer would run

lint: setup ## format, lint, strict types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## mend the format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only

clean: ## remove what can be made again
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
