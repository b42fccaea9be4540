# Everything a fresh machine needs is Python >= 3.11 and make.

PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

# What computes, or waits for others, goes in three lanes side by side; what looks at the clock comes after them, alone.
LANE_1 := tests/properties tests/fleet/test_processes.py
LANE_2 := tests/simulation tests/store tests/domain tests/settings tests/providers tests/deploy tests/test_supply_chain.py \
	tests/scenarios/test_fault_points.py tests/fleet/test_store_copy.py tests/fleet/test_upgrade.py
LANE_3 := tests/test_benchmarks.py \
	$(addprefix tests/fleet/test_,careless.py failover.py lost_claims.py plans.py restarts.py start.py watch.py)

.PHONY: help setup demo serve test security chaos check lint format audit bench bench-compare bench-peers soak schemas clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: .venv/.ready ## create .venv with the locked dependencies and the console script in it

.venv/.ready: pyproject.toml uv.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv sync --quiet --frozen --all-extras --inexact --compile-bytecode
	@touch $@

.venv/.deploy: .venv/.ready # what tests of deploy/ need; four hundred megabytes that a first look does not need
	$(BIN)/uv sync --quiet --frozen --all-extras --group deploy --inexact
	@touch $@

demo: setup ## the main job end to end, then the proof: kill -9 with 200 jobs in flight, none lost
	$(BIN)/tidegate demo

serve: setup ## a gateway on http://127.0.0.1:8080 with data in ./tidegate-data
	$(BIN)/tidegate serve

test: setup .venv/.deploy ## all tests: three lanes side by side, then those that look at the clock
	@mkdir -p .cache
	@$(BIN)/pytest -q $(LANE_1) > .cache/lane-1.log 2>&1 & first=$$!; \
	$(BIN)/pytest -q $(LANE_2) > .cache/lane-2.log 2>&1 & second=$$!; \
	$(BIN)/pytest -q $(LANE_3); third=$$?; \
	wait $$first; first=$$?; wait $$second; second=$$?; cat .cache/lane-1.log .cache/lane-2.log; \
	$(BIN)/pytest $(addprefix --ignore=,$(LANE_1) $(LANE_2) $(LANE_3)) && exit $$((first | second | third))

security: setup ## the attacks alone: tokens, sockets, bodies, isolation, secrets, supply chain
	$(BIN)/pytest tests/security tests/api/test_protocol.py tests/api/test_slow_clients.py tests/api/test_bombs*.py \
		tests/api/test_jwt.py tests/api/test_jwt_forged.py tests/test_supply_chain.py

chaos: setup ## the long versions: power cuts, failing disks, flipped bits, kills, fleets, failovers, simulated lives; an hour and more
	$(BIN)/python tests/support/chaos.py

check: lint test ## what a reviewer would run

lint: setup .venv/.deploy ## format, lint, strict types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## mend the format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only

audit: setup ## known holes in what is locked; needs an index that tells of them
	@mkdir -p .cache
	$(BIN)/uv export --quiet --frozen --no-dev --no-emit-project > .cache/requirements.txt
	$(BIN)/uv tool run pip-audit --disable-pip --require-hashes --strict -r .cache/requirements.txt

bench: setup ## every figure beside its yardsticks; a quarter of an hour, on an otherwise idle machine
	$(BIN)/python -m benchmarks run

bench-compare: setup ## this tree against another commit, in turns: make bench-compare BASE=v0.1.0
	$(BIN)/python -m benchmarks compare $(BASE)

bench-peers: setup ## other gateways on the same vendor, job queues on the same PostgreSQL; installs them under .cache
	$(BIN)/python -m benchmarks peers

soak: setup ## half load for ten minutes, nothing may grow or get lost: make soak MINUTES=5 STORE=postgres RATE=1000
	$(BIN)/python -m benchmarks soak --minutes $(or $(MINUTES),10) $(if $(RATE),--rate $(RATE)) \
		$(if $(filter postgres,$(STORE)),--postgres)

schemas: setup ## with each release: databases of its schema with jobs in flight, for the upgrade tests of later ones
	PYTHONPATH=tests:. $(BIN)/python -m support.stored_schemas

clean: ## remove what can be made again
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
