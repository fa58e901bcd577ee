# `make` alone says what there is. Two commands do all the set-up: `make serve` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help install serve chat bench test test-slow test-ray test-live lint clean examples check-system

DEVICE ?= auto
# Some shells export HOST as the name of the machine: only `make serve HOST=…` counts.
ifeq ($(origin HOST),environment)
override HOST :=
endif

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
LOCK := $(if $(filter auto,$(DEVICE)),$(shell command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu),$(DEVICE))
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALLED := .venv/.installed-$(LOCK)
TORCH_CPU := torch==2.13.0+cpu
# PyTorch's own index has its CPU builds. One short try: where it cannot be reached, pip's other sources are used.
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

help: ## this list
	@echo "Serve the XuanYuan-6B family. Variables: MODEL HOST PORT DEVICE=auto|cpu|cuda ARGS"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(INSTALLED) ## start the server (no GPU and no MODEL: a small demo model) on http://127.0.0.1:8000
	@exec .venv/bin/xuanyuan serve $(if $(MODEL),"$(MODEL)") $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port $(PORT)) $(if $(filter auto,$(DEVICE)),,--device $(DEVICE)) $(ARGS)

chat: $(INSTALLED) ## talk to the running server in the terminal
	@exec .venv/bin/xuanyuan chat $(if $(HOST)$(PORT),--url http://$(or $(HOST),127.0.0.1):$(or $(PORT),8000)) $(ARGS)

bench: $(INSTALLED) ## measure the speed, at most 10 minutes (MODEL=…): a table, report.html and report.json
	@exec .venv/bin/python -m benchmarks quick $(if $(MODEL),--model $(MODEL)) $(ARGS)

test: .venv/.installed-dev ## all tests but the slow ones (under 15 minutes on two cores)
	.venv/bin/python -m pytest -m "not slow and not ray and not live" $(ARGS)

test-slow: .venv/.installed-dev ## the slow ones: long property runs, faults, signals under load
	.venv/bin/python -m pytest -m "slow and not ray and not live" $(ARGS)

test-ray: .venv/.installed-dev ## those that need minutes of real Ray: faults, updates, scaling, several machines
	.venv/bin/python -m pytest -m ray $(ARGS)

test-live: .venv/.installed-dev ## Prometheus, systemd, rollouts, random values; clocks, full disks, more signals
	.venv/bin/python -m pytest -m live $(ARGS)

lint: .venv/.installed-dev ## style, types and the direction of imports
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

install: $(INSTALLED) ## what .venv needs to serve

examples: .venv-examples/.installed ## the clients that examples/ shows, into .venv-examples

clean: ## remove .venv and everything generated here (not the model cache)
	rm -rf .venv .venv-examples examples/javascript/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-system:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 to 3.13 is needed and none was found: apt-get install python3 python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed; $(PYTHON) is $$("$(PYTHON)" --version): name another with PYTHON=…"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	@case "$(LOCK)" in cpu|cuda) ;; *) echo "DEVICE=$(DEVICE): expected auto, cpu or cuda"; exit 1;; esac
	@[ "$(LOCK)" = cuda ] || "$(PYTHON)" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || \
	  { echo "The CPU engine needs libnuma: apt-get install libnuma1"; exit 1; }

# The locks are complete, so --no-deps: what a package's metadata asks for beyond them would break the engine.
.venv/.installed-%: requirements/%.txt pyproject.toml | check-system
	@if [ ! -x .venv/bin/python ] || [ -n "$$(find .venv -maxdepth 1 -name '.installed-c*' ! -name '.installed-$*')" ]; then \
	  echo "[1/4] Making .venv with $(PYTHON)"; "$(PYTHON)" -m venv --clear .venv; fi
	@if [ "$*" = cpu ]; then echo "[2/4] Installing PyTorch for the CPU (200 MB)"; \
	  $(PIP) install -qq --no-deps --retries 1 --timeout 15 --extra-index-url $(TORCH_CPU_INDEX) "$(TORCH_CPU)"; fi
	@echo "[3/4] Installing the engine and what it needs, $$(grep -c '==' $<) packages: one to three minutes, once"
	@$(PIP) install -qq --no-deps --require-hashes -r $<
	@echo "[4/4] Installing this project"
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

.venv/.installed-dev: requirements/dev.txt $(INSTALLED)
	@echo "Installing what checks and tests need"
	@$(PIP) install -qq --no-deps --require-hashes -r $<
	@touch $@

# The clients need no engine, and the engine none of the clients.
.venv-examples/.installed: requirements/examples.txt examples/javascript/package-lock.json
	@echo "Installing the clients of examples/, $$(grep -c '==' $<) packages: one to two minutes, once"
	@"$(PYTHON)" -m venv --clear .venv-examples
	@.venv-examples/bin/python -m pip --disable-pip-version-check install -qq --no-deps --require-hashes -r $<
	@if command -v npm >/dev/null; then npm ci --prefix examples/javascript --no-audit --no-fund --loglevel=error; \
	  else echo "npm was not found: examples/javascript was left out (apt-get install npm)"; fi
	@touch $@
