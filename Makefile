# Two commands do the work: `make train` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Words after ARGS= go to train.py: make train ARGS="sample=mos2 focal=3"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all docs lint format benchmark benchmark-speed clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

# The stamp is younger than the pins it was made from; a changed pin installs again.
$(VENV)/.runtime: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hrtem needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

setup: $(VENV)/.dev  ## make .venv with everything in it

train: $(VENV)/.runtime  ## set up, simulate, train and test on this machine (ARGS="sample=mos2 focal=3")
	$(BIN)/python train.py $(ARGS)

test: $(VENV)/.dev  ## set up and run the fast tests
	$(BIN)/python -m pytest -n auto

test-all: $(VENV)/.dev  ## run the slow tests too
	$(BIN)/python -m pytest -m ''

docs: $(VENV)/.docs  ## build the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.runtime  ## the models that come with the package on all test sets, beside limits and classical methods
	$(BIN)/python -m benchmarks models

benchmark-speed: $(VENV)/.runtime  ## speed of simulation, imaging and training beside others', and the limits of an oracle
	$(BIN)/python -m benchmarks imaging
	$(BIN)/python -m benchmarks waves
	$(BIN)/python -m benchmarks limits
	$(BIN)/python -m benchmarks training

clean:  ## remove the environment, the caches and the runs
	rm -rf $(VENV) cache runs predictions site .pytest_cache .mypy_cache .ruff_cache
