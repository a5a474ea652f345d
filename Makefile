# make run | test | check | bench | chaos: each makes the environment it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# Files of tests are shared out: many wait for servers.
IN_PARALLEL := --numprocesses 2 --dist loadfile
ROUNDS ?= 50
SEED := $(or $(SEED),$(shell date +%s))

.PHONY: env run test check format bench chaos lock clean

env: $(VENV)/.made

$(VENV)/.made: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Posthouse needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.made-dev: $(VENV)/.made
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

run: env
	@$(BIN)/posthouse serve --data ./var --demo

test: $(VENV)/.made-dev
	$(BIN)/pytest $(or $(PYTEST_ARGS),$(IN_PARALLEL))

check: $(VENV)/.made-dev
	$(BIN)/ruff format --check --quiet src tests bench
	$(BIN)/ruff check --quiet src tests bench
	@out=$$($(BIN)/lint-imports --no-cache) || { echo "$$out"; exit 1; }
	$(BIN)/pyright

format: $(VENV)/.made-dev
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

bench: env
	$(BIN)/python -m bench

chaos: $(VENV)/.made-dev
	@echo "make chaos ROUNDS=$(ROUNDS) SEED=$(SEED)"
	POSTHOUSE_CHAOS_ROUNDS=$(ROUNDS) POSTHOUSE_CHAOS_SEED=$(SEED) POSTHOUSE_QUEUE_MESSAGES=1000000 POSTHOUSE_TRANSACTIONS=100 \
		$(BIN)/pytest -s -m chaos $(PYTEST_ARGS)

# Newest versions that pyproject.toml allows, written down: then run make check test.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet --upgrade pip
	$(VENV)-lock/bin/pip install --quiet . && $(VENV)-lock/bin/pip freeze --exclude posthouse > requirements.lock
	$(VENV)-lock/bin/pip install --quiet --group dev && $(VENV)-lock/bin/pip freeze --exclude posthouse > requirements-dev.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .hypothesis
