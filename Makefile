# The two commands: `make demo` and `make test`. Both set up all they need on a fresh Debian machine, as root.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV ?= .venv
PYTHON := $(VENV)/bin/python
WORKERS ?= 2

FUZZ_SECONDS ?= 900
FUZZ ?=

.PHONY: help demo test check lint unit unit-slow machine-tests soak fuzz bench rig rig-down clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | sort

demo: $(VENV)/ready ## run the examples on real VirtualBox, setting up all that is needed
	tools/with-virtualbox $(PYTHON) -m pytest examples --vbox=require -v -rA --durations=0

test: unit unit-slow machine-tests ## all tests

check: lint unit ## ruff, mypy and the quick unit tests: no VirtualBox, under a minute

lint: $(VENV)/ready
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

unit: $(VENV)/ready
	$(PYTHON) -m pytest tests/unit -q -m "not slow and not soak" -n $(WORKERS) --dist worksteal --timeout=60

unit-slow: $(VENV)/ready
	$(PYTHON) -m pytest tests/unit -q -m "slow and not soak" -n $(WORKERS) --dist worksteal --timeout=60

machine-tests: $(VENV)/ready
	tools/with-virtualbox $(PYTHON) -m pytest tests/integration examples --vbox=require -m "not soak" -n $(WORKERS) --durations=10

soak: $(VENV)/ready ## what takes long: something dies at every single call, hundreds of machines (hours)
	$(PYTHON) -m pytest tests/unit -q -m soak
	tools/with-virtualbox $(PYTHON) -m pytest tests/integration --vbox=require -m soak -n $(WORKERS) --durations=0

fuzz: $(VENV)/fuzz ## every reader with inputs made to break it, FUZZ_SECONDS (900) each; FUZZ="models box" for some
	HYPOTHESIS_PROFILE=fuzz $(PYTHON) -m pytest tests/unit/properties tests/unit/models/test_models_properties.py -q -n $(WORKERS)
	$(PYTHON) -m tests.fuzz --seconds $(FUZZ_SECONDS) --jobs 2 $(FUZZ)

bench: $(VENV)/bench ## all figures, beside raw API calls and VBoxManage scripts; BENCH="--quick" to try it
	tools/with-virtualbox $(PYTHON) -m benchmarks $(BENCH)

rig: ## real VirtualBox without a kernel module; prints the file to source
	@tools/rig/rig up

rig-down: ## end what `make rig` started
	@tools/rig/rig down

clean: ## remove what the other targets made in this folder
	rm -rf $(VENV) .tox build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .pytest_vbox .fuzz

$(VENV)/bench: $(VENV)/ready
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

$(VENV)/fuzz: $(VENV)/ready
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	touch $@

$(VENV)/ready: pyproject.toml tools/make-venv
	tools/make-venv $(VENV)
