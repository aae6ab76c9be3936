# Everything from a fresh clone: needs Python 3.11 or newer, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo dev test test-all check lint docs pictures clean

demo: $(READY)
	$(BIN)/fflab demo --output demo-output

dev: $(READY)
	$(BIN)/python -m scripts.dev

# Two lanes: tests of real processes mostly wait, beside tests that compute.
PYTEST := $(BIN)/python -m pytest -n 2

test: $(READY)
	$(PYTEST) -m "not soak" --durations=20

test-all: $(READY)
	$(PYTEST) --durations=20

check: lint
	$(PYTEST) -m "not stack and not soak and not browser and not slow" --hypothesis-profile=few

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: $(READY)
	$(BIN)/python -m scripts.theory_pictures
	$(BIN)/python scripts/screenshots.py

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fflab needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .dev demo-output site
