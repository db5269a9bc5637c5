# hastack: every target sets up what it needs (virtual environment, packages) and starts at once
# the next time. Only python3 (3.11 or newer, with venv), make and git are expected.
#
#   PYTHON=python3.12 make test     another interpreter (delete .venv, or set VENV=, to switch)
#   HASTACK_APT=0 make test         never install Debian packages, even as root
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# pyright comes whole in its wheels, node included; it has no reason to ask the network.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

BOOTSTRAP = $(PYTHON) scripts/bootstrap.py --venv $(VENV)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types contract docs bench chaos soak wheel extras surface fmt venv debian clean

help: ## say what the targets do
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## run the main job: one service under overload, once per strategy; then a whole one, broken (ARGS=--real: with etcd and Prometheus)
	@$(BOOTSTRAP) --extras cli,web,grpc,httpx,otel,logs,wasm,etcd
	@$(BIN)/hastack demo $(filter-out --real,$(ARGS))
	@$(BIN)/hastack demo scenario --quick $(filter --real,$(ARGS))

# Files go to workers in order, so that the long ones (tests/integration) do not come last. A worker that dies ends
# the run: xdist loses count of the tests of one that is replaced, and waits for ever.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

# The order is: what fails fastest first, and pytest last, so that its closing line ends the output.
test: debian venv ## everything CI runs: lint, types, import contract, docs, tests with coverage
	@$(MAKE) --no-print-directory -j2 -O lint types contract docs
	@$(BIN)/python -m pytest $(WORKERS) $$($(BIN)/python scripts/pure.py cov-flags) $(ARGS)

test-all: ## the tests on every Python found, and once more on a compiled build
	@$(PYTHON) scripts/test_all.py $(ARGS)

lint: venv ## ruff: rules and format
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .

types: venv ## mypy strict and pyright, over the sources and the typing tests
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python scripts/typed.py

contract: venv ## the layers of docs/architecture.md
	@$(BIN)/lint-imports

docs: venv ## build docs/_build/html; every warning is an error
	@$(BIN)/sphinx-build -q -n -W --keep-going -b html docs docs/_build/html

bench: ## run bench/bench_*.py on the pure and on the compiled build
	@$(PYTHON) scripts/bench.py $(ARGS)

chaos: debian venv ## 1,000 random fault schedules against real etcd servers (ARGS="--schedules 50")
	@$(BIN)/python bench/etcd_watch_chaos.py $(ARGS)

soak: debian venv ## everything on under load and faults, 3 minutes: does anything grow? (ARGS=60 for an hour)
	@$(BIN)/python bench/soak.py $(ARGS)

wheel: venv ## build dist/*.whl (ARGS="--libbpf FILE --licence FILE" puts a libbpf into it)
	@$(BIN)/python scripts/bundled_wheel.py $(ARGS)

extras: venv ## each extra alone in a clean environment, newest and oldest (ARGS="web --lowest --write")
	@$(BIN)/python scripts/extras.py $(or $(ARGS),--lowest)

surface: venv ## write tests/api_surface.txt anew
	@$(BIN)/python scripts/surface.py --write

fmt: venv ## format and fix what ruff can
	@$(BIN)/ruff check -q --fix .
	@$(BIN)/ruff format -q .

venv:
	@$(BOOTSTRAP) --extras all --groups dev

debian:
	@$(PYTHON) scripts/bootstrap.py --debian nginx,etcd-server,etcd-client,prometheus,clang,lld,wabt,libbpf-dev,iproute2,postgresql,chromium,curl

clean: ## remove everything the targets made
	rm -rf .venv* build dist docs/_build .coverage* .hypothesis .mypy_cache .pytest_cache \
	  .ruff_cache .import_linter_cache .benchmarks src/*.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
