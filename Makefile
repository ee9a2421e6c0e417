# Needs Python >= 3.11, git and make; works with GNU make 3.81 and BSD tools.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PIP_INSTALL := -m pip install -qq --no-input --disable-pip-version-check

# The first interpreter that runs, is new enough and can make a virtual environment; `make PYTHON=...` overrides it. The
# system's own comes first: distributions build it with profile-guided optimisation, pyenv does not (15 % of all tests).
PYTHON ?= $(shell for python in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do \
	if "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo "$$python"; break; fi; done)

export SQLMESH__DISABLE_ANONYMIZED_ANALYTICS := 1
# Many containers set it. Here each process would compile dlt and SQLMesh again: 8 seconds instead of once.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-postgres test lint check bench image sbom lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv from the locked requirements, with .venv/bin/etl

# The lock names every package: no resolving; and two halves at once, because pip uses one processor. Of their many
# modules only what a run imports is compiled, and now: a user who runs the job without the right to write here would
# compile it in every run.
$(STAMP): pyproject.toml requirements/dev.txt requirements/pip.txt
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found; install one or say: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the locked requirements into $(VENV); the first time takes about a minute ..."
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/pip.txt
	@awk '/^[^ #]/ {n++} {print >("$(VENV)/" (n % 2 ? "odd" : "even") ".txt")}' requirements/dev.txt
	@printf '%s\n' odd even | xargs -P 2 -I @ \
		$(BIN)/python $(PIP_INSTALL) --no-compile --no-deps --require-hashes -r $(VENV)/@.txt
	@$(BIN)/python $(PIP_INSTALL) --no-index --no-deps --no-build-isolation -e .
	@$(BIN)/python -c "import tests.preload"
	@touch $@

demo: setup ## run the whole job on the data that comes with it
	ETL_LOG__FORMAT=text $(BIN)/etl run --profile demo

demo-postgres: setup ## the same, published to a PostgreSQL server that is started for it
	$(BIN)/python -m tests.demo_postgres

test: setup ## run all tests
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: setup ## check format, types, imports and SQL; change nothing
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/sqlmesh -p sqlmesh format --check
	$(BIN)/sqlmesh -p sqlmesh test

check: lint test ## all that a change must pass

bench: setup ## measure against the other ways of doing it
	$(BIN)/python -m bench.extract

image: ## build the container image with docker, podman or buildah; EXTRAS=mssql,otel adds optional dependencies
	@deploy/image/build

sbom: setup ## write sbom.cdx.json, the bill of materials of what the image installs (CycloneDX)
	$(BIN)/python deploy/image/sbom.py -r requirements/runtime.txt > sbom.cdx.json

# Versions stay unless pyproject.toml forbids them; `make lock UPGRADE=--upgrade` takes the newest.
UV := .lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" $(UPGRADE)

lock: ## (maintainers) write requirements/*.txt from pyproject.toml
	@$(PYTHON) -m venv --clear .lock-venv
	@.lock-venv/bin/python $(PIP_INSTALL) --require-hashes -r requirements/lock.txt
	$(UV) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(UV) pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
	$(UV) pyproject.toml --extra markets -c requirements/dev.txt -o requirements/markets.txt
	$(UV) pyproject.toml --extra mssql -c requirements/dev.txt -o requirements/mssql.txt
	$(UV) pyproject.toml --extra otel -c requirements/dev.txt -o requirements/otel.txt
	$(UV) pyproject.toml --extra postgres -c requirements/dev.txt -o requirements/postgres.txt
	$(UV) --group build -c requirements/dev.txt -o requirements/build.txt
	$(UV) --group deploy -c requirements/dev.txt -o requirements/deploy.txt
	$(UV) --group lock -o requirements/lock.txt
	$(UV) --group pip -o requirements/pip.txt
	@rm -rf .lock-venv

clean: ## remove .venv, caches and builds; data/ stays
	rm -rf $(VENV) .lock-venv .cache sqlmesh/.cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
