# One virtual environment in the checkout; everything below installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test slow lint bench cuda-test clean

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	    { apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready       ## solve real input beside scipy and pyamg
	$(BIN)/krylearn bench demo

test: lint                 ## everything that CI runs
	$(BIN)/python -m pytest

slow: $(VENV)/.ready       ## tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.ready      ## the speed figures of the README
	$(BIN)/krylearn bench foundation

cuda-test: $(VENV)/.ready  ## on a machine with a CUDA device: its tests and benchmarks
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[cuda]'
	$(BIN)/python -m pytest tests/test_cuda*.py
	$(BIN)/krylearn bench cuda

clean:
	rm -rf $(VENV) build dist results
