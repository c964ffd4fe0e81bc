# `make demo` and `make test` start from nothing: they make .venv, install the pinned versions and then do their
# job. Set-up is repeated only when pyproject.toml or constraints.txt change.

# Another interpreter:   make test PYTHON=python3.12
# Other pip options:     make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?=
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2 --dist loadfile
BENCH_FLAGS ?=
FUZZ_COUNT ?= 200
FUZZ_SEED ?= 0

BIN := .venv/bin
EXTRAS := data,exact,geo,onnx,adapters,bench,dev
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
READY := .venv/ready-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick test-nojit fuzz lint format types bench constraints clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(READY)  ## .venv with the pinned versions of everything

$(READY):
	@found=; \
	for python in $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14 python; do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No Python 3.11 or newer with the venv module was found on PATH." >&2; \
	    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    echo "Making .venv with $$found ($$($$found -V))"; \
	    "$$found" -m venv --clear .venv; \
	fi
	@echo "Installing the versions pinned in constraints.txt (a few minutes the first time)"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@rm -f .venv/ready-*
	@touch $@

demo: $(READY)  ## train on real digits and follow the linear regions; the report is demo_out/report.html
	$(BIN)/splinecam-lite demo --out demo_out

test: $(READY)  ## every test, doctest, README block and example; the engine's also as plain Python
	@# Once, and not in every test process at the same time.
	$(BIN)/splinecam-lite warmup
	$(BIN)/python -m pytest $(PYTEST_FLAGS)
	$(MAKE) --no-print-directory test-nojit

fuzz: $(READY)  ## FUZZ_COUNT=200 hard cases from FUZZ_SEED=0 on, proved and held against the rational oracle
	$(BIN)/splinecam-lite warmup
	$(BIN)/python -m tests.fuzz --seed $(FUZZ_SEED) --count $(FUZZ_COUNT)

test-quick: $(READY)  ## the tests that take no more than a few seconds each
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not slow"

test-nojit: $(READY)  ## the engine's small tests as plain Python, which numba's indexing would not check
	NUMBA_DISABLE_JIT=1 HYPOTHESIS_PROFILE=nojit $(BIN)/python -m pytest $(PYTEST_FLAGS) tests/engine -m "not slow and not jit"

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## mypy on the public face
	$(BIN)/mypy

bench: $(READY)  ## engine against RegionCam and against one forward pass, as a table
	$(BIN)/python benchmarks/bench_engine.py $(BENCH_FLAGS)

constraints: $(READY)  ## write constraints.txt anew from what .venv holds
	@{ echo "# Every version the tests were run with; written by \`make constraints\`."; \
	   $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | LC_ALL=C sort -f; } > constraints.tmp
	@mv constraints.tmp constraints.txt

clean:  ## remove .venv, caches and results
	rm -rf .venv build dist demo_out .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
