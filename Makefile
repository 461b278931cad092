# `make demo` and `make test` need Python 3.11+ and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_INSTALL := $(BIN)/uv pip install -q --python $(BIN)/python --constraint constraints.txt \
	$${PIP_FIND_LINKS:+--find-links $$PIP_FIND_LINKS}

.PHONY: demo test check lint types protos protos-check wheel-smoke clean

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check uv

$(VENV)/serve.stamp: pyproject.toml constraints.txt | $(BIN)/uv
	$(UV_INSTALL) -e '.[tokenizer,engine]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/uv
	$(UV_INSTALL) -e '.[tokenizer,engine,dev]'
	@touch $@ $(VENV)/serve.stamp
