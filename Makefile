# make demo | test | lint | docs | wheel | bench | results | gallery; each makes its own virtual
# environment. PYTHON=... picks the interpreter; ARGS=... is passed on.
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(TAG)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: test lint docs wheel demo bench results gallery clean

test: $(VENV)/.test
	$(BIN)/python tests/run.py $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --builder html --nitpicky --fail-on-warning --keep-going --quiet \
		--fresh-env --doctree-dir out/.doctrees docs out/docs $(ARGS)
	$(BIN)/python docs/check_inventory.py out/docs/objects.inv

# As its user installs it: built, put into an environment of its own, and led through two pages.
wheel: $(VENV)/.venv
	rm -rf out/wheel
	$(PIP) wheel --no-deps --wheel-dir out/wheel .
	$(PYTHON) -m venv out/wheel/venv
	out/wheel/venv/bin/python -m pip --quiet --disable-pip-version-check install \
		"$$(echo out/wheel/*.whl)[report]"
	cd out/wheel && venv/bin/python -I ../../tests/pages.py ../../README.md ../../docs/start.md

demo: $(VENV)/.test
	$(BIN)/python examples/gmp_digits.py $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

results: $(VENV)/.test
	$(BIN)/python -m benchmarks.results $(ARGS)

gallery: $(VENV)/.test
	$(BIN)/python docs/make_gallery.py $(ARGS)

$(VENV)/.venv: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.test: $(VENV)/.venv
	$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) install --editable '.[lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/.venv
	$(PIP) install --editable '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) install --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv-* out build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
