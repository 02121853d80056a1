# Everything that a developer or a CI machine runs.  `make VENV=... PYTHON=...` chooses
# the environment and the Python that makes it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# Not benchmarks themselves: the package, and the page made of their figures.
HELPERS := __init__ results
BENCHMARKS := $(filter-out $(HELPERS),$(basename $(notdir $(wildcard simulations/benchmarks/*.py))))

# Flower and Ray call nobody; one thread per process, as in every run.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0
export OMP_NUM_THREADS := 1

.PHONY: install simulate test test-fast e2e e2e-faults lint format type imports bench bench-nncodec docs
.DEFAULT_GOAL := install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

simulate: install
	$(BIN)/fedprune simulate $(ARGS)

test: install
	$(BIN)/pytest $(ARGS)

test-fast: install
	$(BIN)/pytest -m "not slow" $(ARGS)

# Devices over TLS with node keys, on this machine's loopback.
e2e: install
	$(BIN)/pytest -m e2e tests/e2e $(ARGS)

e2e-faults: install
	$(BIN)/pytest -m faults tests/e2e $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

type: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

bench: install
	mkdir -p docs/results
	set -e; for name in $(BENCHMARKS); do \
		$(BIN)/python -m "fedprune.simulations.benchmarks.$$name" \
			--json "docs/results/$$name.json"; \
	done
	$(BIN)/python -m fedprune.simulations.benchmarks.results

# A rival with pins of its own (numpy < 2), built from source beside our environment.
bench-nncodec:
	$(PYTHON) -m venv build/nncodec
	build/nncodec/bin/pip install --quiet numpy==1.26.4 torch==2.13.0 h5py tqdm
	build/nncodec/bin/pip install --quiet --no-deps nncodec==2.1.3

# A warning is an error; pages of the modules are written to docs/api, which git ignores.
docs: install  ## this documentation as HTML, in build/docs
	rm -rf docs/api build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs
