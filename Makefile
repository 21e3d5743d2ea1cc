# One virtual environment in the checkout; everything below installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench clean

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready       ## solve real input beside scipy and pyamg
	$(BIN)/krylearn bench demo

test: lint                 ## everything that CI runs
	$(BIN)/python -m pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check krylearn tests
	$(BIN)/mypy

bench: $(VENV)/.ready      ## the speed figures of the README
	$(BIN)/krylearn bench foundation

clean:
	rm -rf $(VENV) build dist results
