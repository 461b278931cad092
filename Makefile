# `make demo` and `make test` need Python 3.11+ and nothing else; everything goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
	$${PIP_FIND_LINKS:+--find-links $$PIP_FIND_LINKS}
ROOMS := tandem_service tokenizer_service engine_service tandem_kernels tandem_demo tandem_bench tandem

.PHONY: demo test check lint types tree protos protos-check wheel-smoke clean

demo: .venv/serve.stamp  ## start both services with each model that ships, ask it something, stop
	$(BIN)/tandem demo

test: .venv/dev.stamp  ## the whole CPU test suite
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: lint types protos-check  ## what must hold besides the tests

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python .ci/readme_tree.py --check
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos

types: .venv/dev.stamp
	$(BIN)/mypy $(addprefix -p ,$(ROOMS))

tree:  ## rewrite the README's file tree
	python3 .ci/readme_tree.py

protos:  ## regenerate the committed stubs
	bash protos/generate.sh clients

protos-check: .venv/dev.stamp  ## stubs up to date, and no breaking change since the last landed contract
	bash protos/check.sh

wheel-smoke:  ## build a wheel and use it in an empty environment
	bash .ci/wheel_smoke

.venv/uv.stamp:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	@touch $@

.venv/serve.stamp: .venv/uv.stamp pyproject.toml constraints.txt
	$(INSTALL) -e '.[tokenizer,engine]'
	@touch $@

.venv/dev.stamp: .venv/uv.stamp pyproject.toml constraints.txt
	$(INSTALL) -e '.[tokenizer,engine,dev]'
	@touch $@ .venv/serve.stamp

clean:
	rm -rf .venv .venv-protos dist
