# Both `make run` and `make test` do all the set-up that they need on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test lint fix bench lock clean
.DEFAULT_GOAL := test

# What the program needs, from the lock
$(VENV)/run.stamp: requirements.lock pyproject.toml
	@echo "setting up $(VENV)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) >&2 || { \
	  rm -rf $(VENV); echo "Debian's Python lacks venv: installing python3-venv" >&2; \
	  apt-get install -y -q python3-venv >&2 && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock >&2
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . >&2
	@touch $@

# What the tests need beside it; a broker is installed where that can be done, else its tests skip
$(VENV)/test.stamp: $(VENV)/run.stamp requirements-dev.lock
	@command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get update -q && apt-get install -y -q --no-install-recommends mosquitto; } >&2; } || \
	  echo "mosquitto is not at hand: tests with a broker are skipped" >&2
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	touch $@

# The demo: a simulated utility, the bridge, two devices. Only it writes to stdout.
run: $(VENV)/run.stamp
	@$(BIN)/openadr-bridge demo

# All tests, two files at a time for they wait a lot; e.g. make test ARGS='-k webhook'
test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n 2 --dist loadfile --no-loadscope-reorder --durations=20 --cov --cov-report=term)

# Style, types, the direction of imports
lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

# Put right what can be put right by itself
fix: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Measurements, each beside its goal
bench: $(VENV)/test.stamp
	$(BIN)/python -m tests.bench

# Work out the locks anew; they hold hashes and no addresses
lock: $(VENV)/test.stamp
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --group build --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV)
