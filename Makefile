# Needs make, Python 3.11 or newer and a package index. Everything else is installed into .venv and .local.
# `make` lists the commands.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

# Passed in the environment, unchanged, so that there is nothing to quote.
export DAG CONF PORT PERCENT NAME SUBJECT FORMAT SQL PG PG_BIN
# $(value …) keeps dollar signs, which `make` would expand as variables.
override CONF := $(value CONF)
override SQL := $(value SQL)

PY := .venv/bin/python
HOST := 127.0.0.1
SANDBOX_PORT := 8765
ARGS :=
WORKERS := logical

# The tests use their own Airflow, never the user's ~/airflow.
test docs docs-check: export AIRFLOW_HOME := $(CURDIR)/.local/tests/airflow
test docs docs-check: export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN := sqlite:///$(CURDIR)/.local/tests/airflow/airflow.db
test docs docs-check: export AIRFLOW__CORE__LOAD_EXAMPLES := False
test docs docs-check: export PYTHONPATH := $(CURDIR)
docs docs-check: export AIRFLOW__LOGGING__LOGGING_LEVEL := WARNING

# `make` lists each target that has a `##` comment, under the preceding `##@` heading.
.PHONY: help venv run up test status problems psql sync replay migrate airflow advance rebuild sandbox new-provider lint types format docs docs-check bench soak lock clean

##@ Start here

run: venv ## run every DAG once through Airflow, show what each did, stop everything
	@exec $(PY) -m local run

up: venv ## run Airflow with its web UI at http://127.0.0.1:8080 and the DAGs on their schedules, until Ctrl-C; PORT=8080
	@exec $(PY) -m local up

test: venv ## run the tests, one process per core; ARGS='-k name' selects tests, PG=15 PostgreSQL 15 (16, 17, 18)
	@exec $(PY) -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal $(ARGS)

##@ Observe and repair

status: venv ## show the last sync of each venue, search index and target: DAG=titelive_stocks FORMAT=json
	@exec $(PY) -m local status

problems: venv ## show what fails or needs your action, with the next step; exit status 1 if any: DAG=… FORMAT=json
	@exec $(PY) -m local problems

psql: venv ## open psql on the database, or run one statement: SQL='SELECT * FROM load_report' ARGS='--csv'
	@exec $(PY) -m local psql $(ARGS)

sync: venv ## run one DAG once, also while `make up` runs: DAG=titelive_stocks CONF='{"limit": 10}'
	@exec $(PY) -m local sync

replay: venv ## run one inbound DAG over its unresolved rejected records: DAG=titelive_stocks
	@exec $(PY) -m local replay

migrate: venv ## migrate the database of AIRFLOW_CONN_SYNC_DB (default: the embedded one)
	@exec $(PY) -m local migrate

airflow: venv ## run Airflow's command line while `make up` runs: ARGS='backfill list'
	@exec $(PY) -m local airflow $(ARGS)

##@ Try the demo

advance: venv ## change PERCENT=1 of the sandbox's data and a few orders, for the next run to sync
	@exec $(PY) -m local advance

rebuild: venv ## rebuild the demo index while `make up` runs, as the external indexer does
	@exec $(PY) -m local rebuild

sandbox: venv ## serve the stand-ins for the external services, until Ctrl-C; HOST=127.0.0.1 SANDBOX_PORT=8765
	@exec $(PY) -m sandbox --host $(HOST) --port $(SANDBOX_PORT)

##@ Develop

new-provider: venv ## generate a new inbound provider that already runs: NAME=acme SUBJECT=stocks
	@exec $(PY) -m scaffold

lint: venv ## check the code with ruff
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: venv ## check the types with mypy
	@exec $(PY) -m mypy

format: venv ## fix and format the code with ruff
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: venv ## regenerate the generated parts of README.md and docs/
	@exec $(PY) -W ignore -m local.docs

docs-check: venv ## fail if the generated parts of README.md and docs/ are out of date
	@exec $(PY) -W ignore -m local.docs --check

bench: venv ## run the benchmarks against other tools
	@exec $(PY) -m bench $(ARGS)

soak: venv ## run the long tests: many kills, many records
	@exec $(PY) -m soak $(ARGS)

lock: venv ## regenerate requirements.lock from requirements-dev.txt
	@test -x .local/uv/bin/uv || { $(PY) -m venv .local/uv && .local/uv/bin/pip install -q uv; }
	@.local/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" requirements-dev.txt -o requirements.lock

clean: ## remove .venv, .local (including the embedded database) and caches
	@if [ -x $(PY) ]; then $(PY) -m local stop; fi
	@rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the commands
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "%s%s\n", separator, substr($$0, 5); separator = "\n" } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# .venv contains exactly the locked packages. It is rebuilt when the lock or the interpreter named by PYTHON changes.
# The locked packages support these interpreters.
INTERPRETER := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
IDENTITY := import sys; print(sys.version, sys.base_prefix)
venv:
	@cmp -s requirements.lock .venv/requirements.lock && { [ -z "$(PYTHON)" ] || \
		[ "$$("$(PYTHON)" -c '$(IDENTITY)' 2>/dev/null)" = "$$($(PY) -c '$(IDENTITY)')" ]; } || { \
		for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
			"$$python" -c '$(INTERPRETER)' 2>/dev/null && break; python=; done; \
		[ -n "$$python" ] || { echo "$(if $(PYTHON),PYTHON=$(PYTHON) is not,There is no) Python 3.11 to 3.14:" \
			"install one, or set PYTHON to its path" >&2; exit 1; }; \
		echo "Building .venv with $$("$$python" -V) from requirements.lock, which takes about a minute"; \
		"$$python" -m venv --clear .venv && \
		.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
		cp requirements.lock .venv/requirements.lock; }
