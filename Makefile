# Every target is complete from nothing: it makes .venv and installs what it needs, once.
.DELETE_ON_ERROR:
.PHONY: demo test test-slow check format clean

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DEMO_OUT ?= demo

demo: .venv/.predict
	$(BIN)/profile-device --target cpu-x86 --configs 60 --minutes 3 --rivals --out $(DEMO_OUT)/profile
	$(BIN)/fit-predictor $(DEMO_OUT)/profile --report --out $(DEMO_OUT)/predictor
	@echo "Open $(DEMO_OUT)/predictor/report.html"

test: .venv/.dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info demo

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# The demo needs no torch, so it is set up in a fraction of the time.
.venv/.predict: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -c constraints.txt -e '.[predict]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -c constraints.txt -e '.[all,dev]'
	touch $@ .venv/.predict
