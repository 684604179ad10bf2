# make demo | test | lint | bench | results; each makes its own virtual environment. PYTHON=... picks the
# interpreter; ARGS=... is passed on. TORCH=... is where pip finds a PyTorch without CUDA, for bench.
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
TORCH ?= https://download.pytorch.org/whl/cpu
VENV := .venv-$(TAG)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: test lint demo bench results clean

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/.test
	$(BIN)/python examples/gmp_digits.py $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

results: $(VENV)/.test
	$(BIN)/python -m benchmarks.results $(ARGS)

$(VENV)/.venv: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.test: $(VENV)/.venv
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) '.[lint]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) --extra-index-url $(TORCH) --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv-* out build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
