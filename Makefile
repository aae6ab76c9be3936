# Everything from a fresh clone: needs Python 3.11 to 3.13, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo dev test test-all check coverage floors pythons lint lock docs pictures clean

demo: $(READY)
	$(BIN)/fflab demo --output demo-output

dev: $(READY)
	$(BIN)/python -m scripts.dev

# Two lanes: tests of real processes mostly wait, beside tests that compute.
PYTEST := $(BIN)/python -m pytest -n 2
FAST := -m "not stack and not soak and not browser and not slow" --hypothesis-profile=few
COMPUTING := -m "not stack and not soak and not browser" --hypothesis-profile=few

test: $(READY)
	$(PYTEST) -m "not soak" --durations=20

test-all: $(READY)
	$(PYTEST) --durations=20 $(MEASURED)

check: lint
	$(PYTEST) $(FAST)

# Which lines and branches the tests reach. `make test-all floors MEASURED=--cov` measures them beside all tests.
MEASURED :=

coverage: $(READY)
	$(PYTEST) $(COMPUTING) --cov
	$(MAKE) floors

floors: $(READY)
	$(BIN)/coverage report --include='service/store/*' --fail-under=98
	$(BIN)/coverage report --include='ffengine/*' --fail-under=97

# Each of the declared Pythons that is here, pyenv's too, runs the tests of the service ([tool.tox] in pyproject.toml).
pythons: $(READY)
	PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | paste -sd:)" $(BIN)/tox run

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

# Exactly what the lock files say, PyTorch from wherever pip is set up to look; then the checkout itself.
LOCKED := requirements/dev.txt requirements/torch.txt

$(READY): pyproject.toml $(LOCKED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fflab needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --requirement requirements/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Write the lock files anew; with UPGRADE=--upgrade for the newest versions that pyproject.toml allows.
UPGRADE :=

lock:
	$(PYTHON) -m scripts.lock $(UPGRADE)

clean:
	rm -rf $(VENV) .tox .dev demo-output site
