# Everything runs in .venv, which the first target makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Three processes, as some tests wait for others: with two, two cores wait a tenth of the time, and
# with four all is slower. A file's tests stay together, for what they share; tests/conftest.py puts
# the long files first.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test suite coverage lint benchmark docs clean

quickstart: $(VENV)/installed
	$(BIN)/python -m rllib_lpdm.tune tune_configs/quickstart.yaml --overwrite

# Both at once, as some tests wait for Ray and for Tune. What lint finds stands among the tests' lines,
# and fails this as well.
test: $(VENV)/installed
	$(MAKE) --jobs=2 lint suite

suite: $(VENV)/installed
	$(PYTEST)

coverage: $(VENV)/installed
	$(PYTEST) --cov

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/installed
	$(BIN)/python -m rllib_lpdm.benchmark

# Fails where a reference leads nowhere, formulas are not MathML, or a page loads what is elsewhere.
docs: $(VENV)/installed
	rm -rf docs/_build/html
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going docs docs/_build/html
	grep --quiet '<math' docs/_build/html/methods.html
	! grep -rE --include='*.html' '<(script|img)[^>]* src="(https?:)?//|<link[^>]* href="(https?:)?//' docs/_build/html

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build docs/api *.egg-info
