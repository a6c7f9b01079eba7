# Needs make, Python 3.11 or newer and a package index; everything else comes into .venv and .local.
# `make` lists the commands.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

# Handed over in the environment, as they are: no quoting to get wrong.
export DAG CONF PORT PERCENT NAME SUBJECT FORMAT SQL PG PG_BIN
# Nor a dollar sign: `make` would take what follows it for a variable.
override CONF := $(value CONF)
override SQL := $(value SQL)

PY := .venv/bin/python
HOST := 127.0.0.1
SANDBOX_PORT := 8765
ARGS :=
WORKERS := logical

# An Airflow of the tests' own, never the user's ~/airflow.
test docs docs-check: export AIRFLOW_HOME := $(CURDIR)/.local/tests/airflow
test docs docs-check: export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN := sqlite:///$(CURDIR)/.local/tests/airflow/airflow.db
test docs docs-check: export AIRFLOW__CORE__LOAD_EXAMPLES := False
test docs docs-check: export PYTHONPATH := $(CURDIR)
docs docs-check: export AIRFLOW__LOGGING__LOGGING_LEVEL := WARNING

# `make` shows a line per target with `##`, below the `##@` it stands under.
.PHONY: help venv run up test status problems psql sync replay migrate airflow advance rebuild sandbox new-provider lint types format docs docs-check bench soak lock clean

##@ Start here

run: venv ## run every DAG once through Airflow, show what each did, leave nothing running
	@exec $(PY) -m local run

up: venv ## Airflow's web UI at http://127.0.0.1:8080 with the DAGs on their schedules, until Ctrl-C; PORT=8080
	@exec $(PY) -m local up

test: venv ## the tests, one process per core; ARGS='-k name' narrows them, PG=15 chooses PostgreSQL 15 (16, 17, 18)
	@exec $(PY) -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal $(ARGS)

##@ See and repair

status: venv ## when each venue, search index and target was last synchronised, and how: DAG=titelive_stocks FORMAT=json
	@exec $(PY) -m local status

problems: venv ## what fails or waits for a person, and what to do about it; fails if there is anything: DAG=… FORMAT=json
	@exec $(PY) -m local problems

psql: venv ## psql on the database, or one statement: SQL='SELECT * FROM load_report' ARGS='--csv'
	@exec $(PY) -m local psql $(ARGS)

sync: venv ## run one DAG once, also while `make up` runs: DAG=titelive_stocks CONF='{"limit": 10}'
	@exec $(PY) -m local sync

replay: venv ## run one inbound DAG over the rejected records that wait, as sync does: DAG=titelive_stocks
	@exec $(PY) -m local replay

migrate: venv ## bring the database of AIRFLOW_CONN_SYNC_DB up to date (default: the embedded one)
	@exec $(PY) -m local migrate

airflow: venv ## Airflow's own command line while `make up` runs: ARGS='backfill list'
	@exec $(PY) -m local airflow $(ARGS)

##@ Play with the demo

advance: venv ## change PERCENT=1 of what the sandbox lists and a few orders, so that the next run finds something
	@exec $(PY) -m local advance

rebuild: venv ## rebuild the demo index while `make up` runs, as the external indexer does; the next minute patches it
	@exec $(PY) -m local rebuild

sandbox: venv ## the stand-ins for the outside services, until Ctrl-C; HOST=127.0.0.1 SANDBOX_PORT=8765
	@exec $(PY) -m sandbox --host $(HOST) --port $(SANDBOX_PORT)

##@ Develop

new-provider: venv ## write a new inbound provider that already runs: NAME=acme SUBJECT=stocks
	@exec $(PY) -m scaffold

lint: venv ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: venv ## mypy
	@exec $(PY) -m mypy

format: venv ## bring the code into ruff's format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: venv ## write the generated parts of README.md and docs/ from the code
	@exec $(PY) -W ignore -m local.docs

docs-check: venv ## fail if the generated parts of README.md and docs/ are out of date
	@exec $(PY) -W ignore -m local.docs --check

bench: venv ## the benchmarks beside their peers
	@exec $(PY) -m bench $(ARGS)

soak: venv ## the long runs: many kills, many records
	@exec $(PY) -m bench.soak $(ARGS)

lock: venv ## write requirements.lock anew from requirements-dev.txt
	@test -x .local/uv/bin/uv || { $(PY) -m venv .local/uv && .local/uv/bin/pip install -q uv; }
	@.local/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" requirements-dev.txt -o requirements.lock

clean: ## remove .venv, .local (also the embedded database) and caches
	@if [ -x $(PY) ]; then $(PY) -m local stop; fi
	@rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the commands
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "%s%s\n", separator, substr($$0, 5); separator = "\n" } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# .venv holds exactly what the lock says: it is rebuilt when the lock, or the interpreter that PYTHON names, is another.
# The interpreters are those that the locked packages support.
INTERPRETER := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
IDENTITY := import sys; print(sys.version, sys.base_prefix)
venv:
	@cmp -s requirements.lock .venv/requirements.lock && { [ -z "$(PYTHON)" ] || \
		[ "$$("$(PYTHON)" -c '$(IDENTITY)' 2>/dev/null)" = "$$($(PY) -c '$(IDENTITY)')" ]; } || { \
		for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
			"$$python" -c '$(INTERPRETER)' 2>/dev/null && break; python=; done; \
		[ -n "$$python" ] || { echo "$(if $(PYTHON),PYTHON=$(PYTHON) is not,There is no) Python 3.11 to 3.14:" \
			"install one or set PYTHON to the path of one" >&2; exit 1; }; \
		echo "Building .venv with $$("$$python" -V) from requirements.lock: takes about a minute"; \
		"$$python" -m venv --clear .venv && \
		.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
		cp requirements.lock .venv/requirements.lock; }
