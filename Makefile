# Two commands do all the set-up: `make run` and `make test`. `make` alone checks and tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export CYCLEALIGN_HOME ?= runs
export TOKENIZERS_PARALLELISM := false
export GOMP_SPINCOUNT ?= 3000

.PHONY: all run test check install up down smollm2 bench chaos faults fuzz clean
all: check test

install: $(STAMP)

# DeepSpeed is built from source, without the operations that it would compile: none is used.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 setuptools
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

run: $(STAMP)
	$(BIN)/cyclealign train --profile laptop

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint --disable-progress-bar sql

smollm2: $(STAMP)
	$(BIN)/python -m cyclealign.offline.smollm2 $(CYCLEALIGN_HOME)/models/smollm2-135m-instruct

# Half an hour on two cores; `make bench NAMES=whole_round` runs some, REPEATS=n sets how often. Exit code 1: a bar missed.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(NAMES) $(if $(REPEATS),--repeats $(REPEATS))

# Random SIGKILLs and full disks in appends and postings, then SIGKILLs over laptop runs, which are compared with
# uninterrupted ones: ten take ten minutes, a hundred most of an hour.
chaos: $(STAMP)
	$(BIN)/python -m benchmarks.journal $(if $(KILLS),--kills $(KILLS))
	$(BIN)/python -m benchmarks.chaos $(if $(KILLS),--kills $(KILLS))

# A thousand questions to servers that fail half of the time: ours, and one from npm (needs Node.js). Three minutes.
faults: $(STAMP)
	$(BIN)/python -m benchmarks.faults

# Malformed answers, read and held against an oracle: `make fuzz ANSWERS=100000 SEED=1`.
fuzz: $(STAMP)
	$(BIN)/python -m benchmarks.fuzz_answers $(if $(ANSWERS),--answers $(ANSWERS)) $(if $(SEED),--seed $(SEED))

up: $(STAMP)
	$(BIN)/python -m cli.service up

down: $(STAMP)
	$(BIN)/python -m cli.service down

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
