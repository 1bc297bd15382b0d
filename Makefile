# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv with nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=
BENCH ?=
GPU ?= gpu13

.PHONY: demo test slow check format bench gpu clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev
	touch $@

demo: $(BIN)/.ready  ## simulated scan, live picture, CXI file; DEMO="--rate 200" passes flags on
	$(BIN)/streamptycho demo $(DEMO)

test: $(BIN)/.ready  ## the default tests
	$(BIN)/python -m pytest

slow: $(BIN)/.ready  ## the long ones
	$(BIN)/python -m pytest -m slow

check: $(BIN)/.ready  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BIN)/.ready  ## costs and live quality on this CPU beside transforms and peers; BENCH="--peers ptylab" passes flags on
	$(BIN)/python -m tests.bench.cpu $(BENCH)

gpu: $(BIN)/.ready  ## on a machine with a CUDA device: correctness against NumPy first, then figures; GPU=gpu12 for CUDA 12
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(GPU)]"
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m tests.bench.gpu

clean:
	rm -rf $(VENV) .bench out dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
