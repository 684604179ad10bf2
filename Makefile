# make demo | test | lint | bench | gallery; each makes its own virtual environment. PYTHON=... picks the interpreter.
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(TAG)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: test lint demo bench gallery clean

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/.test
	$(BIN)/python examples/gmp_digits.py $(ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

gallery: $(VENV)/.test
	$(BIN)/python docs/make_gallery.py $(ARGS)

$(VENV)/.venv: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.test: $(VENV)/.venv
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) '.[lint]'
	@touch $@

clean:
	rm -rf .venv-* out build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
