# A newcomer needs `make demo` and `make test`. Both set up .venv and require only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=
BENCH ?=
CHAOS ?= --events 500 --seed 0
FUZZ ?=
GPU ?= gpu13
TORCH ?= torch
PARALLEL := -n 2 --dist worksteal

.PHONY: demo test slow quality check format bench chaos fuzz gpu peers interop clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev
	touch $@

demo: $(BIN)/.ready  ## simulated scan, live picture, CXI file; DEMO="--rate 200" passes flags on
	$(BIN)/streamptycho demo $(DEMO)

test: $(BIN)/.ready  ## the default tests
	$(BIN)/python -m pytest $(PARALLEL)

slow: $(BIN)/.ready  ## the tests marked slow, some 12 minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL) -m "slow and not quality"

quality: $(BIN)/.ready  ## convergence on benchmark scans, which differs from processor to processor; not in CI
	$(BIN)/python -m pytest -m quality

check: $(BIN)/.ready  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

PEERS := .peers
peers: $(BIN)/.ready $(PEERS)/.ready  ## other people's detectors and DAQs, as they are installed, against ours; builds environments for them
	$(BIN)/python -m pytest -m peers

$(PEERS)/.ready: Makefile
	for peer in eiger daq bluesky; do $(PYTHON) -m venv $(PEERS)/$$peer; done
	$(PEERS)/eiger/bin/python -m pip install --quiet bitshuffle wheel "setuptools<80"
	$(PEERS)/eiger/bin/python -m pip install --quiet --no-build-isolation eiger-simulator==0.5.1
	$(PEERS)/daq/bin/python -m pip install --quiet tickit-devices==0.4.1 "cbor2<6" pandablocks==0.10.4
	$(PEERS)/bluesky/bin/python -m pip install --quiet "ophyd-async[sim]==0.21.3" bluesky==1.15.1 pyzmq msgpack
	touch $@

interop: $(BIN)/.ready $(PEERS)/.interop  ## our files in other people's programs, and theirs in our reader; builds environments for them
	$(BIN)/python -m pytest -m peers tests/interop

$(PEERS)/.interop: Makefile
	for peer in interop interop-cdtools interop-ptylab; do $(PYTHON) -m venv $(PEERS)/$$peer; done
	$(PEERS)/interop/bin/python -m pip install --quiet silx==3.1.3 nexusformat==2.1.0 ptychodus==1.7.0 hdf5plugin==7.1.0
	$(PEERS)/interop-cdtools/bin/python -m pip install --quiet $(TORCH) cdtools-py==0.3.2 hdf5plugin==7.1.0
	$(PEERS)/interop-ptylab/bin/python -m pip install --quiet ptylab==0.3.7
	touch $@

bench: $(BIN)/.ready  ## costs and live quality on this CPU, compared with transforms and peers; BENCH="--peers ptylab" passes flags on
	$(BIN)/python -m tests.bench.cpu $(BENCH)

chaos: $(BIN)/.ready  ## kills, stops, cuts and full disks against the real services; CHAOS="--events 100 --short" or "--soak 30" passes flags on
	$(BIN)/python -m tests.chaos $(CHAOS)

fuzz: $(BIN)/.ready  ## a million bad messages to every port, good scans between them; FUZZ="--messages 50000 --resume state.json" passes flags on
	$(BIN)/python -m tests.fuzz $(FUZZ)

gpu: $(BIN)/.ready  ## on a CUDA device: correctness against NumPy, then figures; GPU=gpu12 for CUDA 12
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(GPU)]"
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m tests.bench.gpu

clean:
	rm -rf $(VENV) $(PEERS) .bench out dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
