# Every target bootstraps .venv from requirements.lock; only python3 (3.11 or later) and make are needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export DO_NOT_TRACK := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export GX_ANALYTICS_ENABLED := false

.PHONY: help run ui portals docs test test-fast test-real truth soak bench bench-warehouse bench-correlation bench-relay lint lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("citysignal needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	@echo "setting up .venv (once per change of requirements.lock)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@awk '/^uv==/{on=1} on{print} on&&!/\\$$/{exit}' requirements.lock > .venv/uv.lock
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: .venv/.ready ## the main job on the simulated city, from its portals over the wire to extracts
	@$(BIN)/citysignal run --city simulated

ui: .venv/.ready ## Dagster UI and daemon on 127.0.0.1:3000, with the simulated portals
	@$(BIN)/citysignal ui

portals: .venv/.ready ## the simulated portals alone, on 127.0.0.1:8311, with addresses to try
	@$(BIN)/citysignal portals

docs: .venv/.ready ## the catalogue of the warehouse as one page under var/docs, and docs/ from its definitions
	@$(BIN)/python -m orchestration.dbt_docs

test: .venv/.ready ## the test suite
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/integration tests/truth tests/real tests/contracts tests/unit

test-fast: .venv/.ready ## unit tests only
	@$(BIN)/pytest -n 2 --dist loadfile tests/unit

test-real: .venv/.ready ## the tests on real municipal files; fails where a file is missing
	@CITYSIGNAL_REQUIRE_REAL=1 $(BIN)/pytest tests/real

truth: .venv/.ready ## every scenario of the correlation method on 40 cities each, with a table; over an hour
	@CITYSIGNAL_TRUTH_SEEDS=$${CITYSIGNAL_TRUTH_SEEDS:-40} CITYSIGNAL_TRUTH_SCENARIOS=all $(BIN)/pytest --timeout 0 tests/truth; \
	status=$$?; cat var/truth/truth.txt; exit $$status

soak: .venv/.ready ## 500 sequences of edits and faults, 20 kills of a landing, 5 of a whole run; takes long
	@CITYSIGNAL_SOAK=500 CITYSIGNAL_SOAK_KILLS=20 CITYSIGNAL_KILLS=5 $(BIN)/pytest --timeout 0 tests/contracts/test_edit_sequences.py tests/contracts/test_kill_wire.py tests/integration/test_kill.py

bench: .venv/.ready ## memory, speed and bytes of landing over the wire, at full size; some ten minutes
	@$(BIN)/python -m bench.wire

bench-warehouse: .venv/.ready ## a day's delta against a whole build at 2 million events; some fifteen minutes
	@$(BIN)/python -m bench.warehouse

bench-correlation: .venv/.ready ## what the evidence of 36 questions costs at a million events, item by item; two minutes
	@$(BIN)/python -m bench.correlation

bench-relay: .venv/.ready ## seconds from a portal to a receiver while the bulk job runs; some ten minutes
	@$(BIN)/python -m bench.relay

lint: .venv/.ready ## ruff, import-linter, dbt parse, dagster definitions validate
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/citysignal check
	@$(BIN)/python -m orchestration.dbt_manifest
	@$(BIN)/dagster definitions validate --workspace workspace.yaml

lock: .venv/.ready ## renew requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --no-annotate --upgrade --quiet --output-file requirements.lock

clean: ## remove the environment and all state
	rm -rf .venv var dbt_project/target dbt_project/logs
