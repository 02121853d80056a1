# Everything that a developer or a CI machine runs.  `make VENV=... PYTHON=...` chooses
# the environment and the Python that makes it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# Processes that share the tests; 0 runs them in pytest's own, as a debugger needs.
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS)
# Not in the loop: the package, the page of the figures, and the house, with an option.
HELPERS := __init__ results house
BENCHMARKS := $(filter-out $(HELPERS),$(basename $(notdir $(wildcard simulations/benchmarks/*.py))))

# Flower and Ray call no server; one thread per process, as in every run.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0
export OMP_NUM_THREADS := 1
# Compiled tests are kept: they are collected in two thirds of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install hooks simulate check test test-fast test-long coverage e2e e2e-faults browser lint format type \
	imports bench fuzz-sanitized rival-nncodec rival-pfl bench-pfl docs
.DEFAULT_GOAL := install

help:  ## these lines
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

install: $(STAMP)  ## make the environment and install FedPrune in it

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

hooks: install  ## check each commit (seconds) and each push (types) in this clone
	$(BIN)/pre-commit install

simulate: install  ## run a federation on this machine, some minutes; ARGS="--help"
	$(BIN)/fedprune simulate $(ARGS)

check: lint type imports test-fast  ## what to run before each commit

test: install  ## tests of what is on one machine; ARGS="tests/common -x"
	$(PYTEST) $(ARGS)

coverage: install  ## the same tests, and that they take 90 % of the branches
	$(PYTEST) --cov --cov-report=term --cov-report=json:build/coverage.json $(ARGS)
	$(BIN)/python .ci/branches.py build/coverage.json

test-fast: install  ## the tests without whole runs, Ray, Flower and subprocesses
	$(PYTEST) -m "not slow" $(ARGS)

test-long: install  ## more runs on Ray, nodes that die, kills at every moment, the site
	$(PYTEST) -m long $(ARGS)

e2e: install  ## devices over TLS with node keys, on this machine's loopback
	$(BIN)/pytest -m e2e tests/e2e $(ARGS)

e2e-faults: install  ## devices and servers that die and come back
	$(BIN)/pytest -m faults tests/e2e $(ARGS)

browser: install  ## pages of runs in Chromium, skipped where there is none
	$(BIN)/pytest -m browser tests/browser $(ARGS)

lint: install  ## ruff, its format, spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

format: install  ## rewrite the code in ruff's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

type: install  ## mypy
	$(BIN)/mypy

imports: install  ## which package may import which
	$(BIN)/lint-imports

bench: install  ## all benchmarks, and the page of their figures
	mkdir -p docs/results
	set -e; for name in $(BENCHMARKS); do \
		$(BIN)/python -m "fedprune.simulations.benchmarks.$$name" \
			--json "docs/results/$$name.json"; \
	done
	$(BIN)/python -m fedprune.simulations.benchmarks.house --tests \
		--json docs/results/house.json
	$(BIN)/python -m fedprune.simulations.benchmarks.results

# A rival with pins of its own (numpy < 2), built from source beside our environment.
rival-nncodec:  ## install the rival codec that the codec benchmark compares with
	$(PYTHON) -m venv build/nncodec
	build/nncodec/bin/pip install --quiet numpy==1.26.4 torch==2.13.0 h5py tqdm
	build/nncodec/bin/pip install --quiet --no-deps nncodec==2.1.3

# Its memory is that of the sanitizers; the figures of ``fuzz`` are measured without them.
MUTANTS ?= 1000000
fuzz-sanitized: install  ## mutants of messages on the kernels under ASan and UBSan
	$(BIN)/python common/native/build.py -fsanitize=address,undefined \
		-fno-sanitize-recover=undefined -g -O1
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 FEDPRUNE_CODER=native \
		$(BIN)/python -m fedprune.simulations.benchmarks.fuzz --mutants $(MUTANTS); \
		found=$$?; $(BIN)/python common/native/build.py; exit $$found

rival-pfl:  ## install the rival pfl-research beside our environment
	$(PYTHON) -m venv build/pfl
	build/pfl/bin/pip install --quiet pfl==0.6.0 torch==2.13.0

bench-pfl: install rival-pfl  ## rounds of FedPrune and pfl-research in turns
	mkdir -p docs/results
	$(BIN)/python -m fedprune.simulations.benchmarks.speed pfl \
		--json docs/results/speed.json

# A warning is an error; pages of the modules are written to docs/api, which git ignores.
docs: install  ## this documentation as HTML, in build/docs
	rm -rf docs/api build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs
