# `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# Two depths of the same environment: what the service needs, and what its developers need.
# Every version is the same in both; each package is checked against the hash in the lock.
PACKAGES := pyproject.toml protos/python/pyproject.toml
$(VENV)/.service: requirements.txt $(PACKAGES)
	@echo "setting up $(VENV) from $<"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-deps --no-build-isolation -e protos/python -e .
	@touch $@

$(VENV)/.developer: requirements-dev.txt $(VENV)/.service
	@echo "setting up $(VENV) from $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

.PHONY: setup
setup: $(VENV)/.developer  ## make .venv from the lock file

.PHONY: demo
demo: $(VENV)/.service  ## start the service, size a real book over gRPC, explain it, stop
	@$(BIN)/sizing demo

.PHONY: serve
serve: $(VENV)/.service  ## run the service on the embedded PostgreSQL, data in data/
	@$(BIN)/sizing serve

.PHONY: test
test: setup  ## run all tests but the slow ones, a process a core: ten minutes on two
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" --durations=20

.PHONY: test-all
test-all: setup  ## run all tests, as continuous integration does: three quarters of an hour on two cores
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=20

.PHONY: check
check: setup  ## format, lint, types, contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/baseline.binpb
	$(BIN)/python -m protos.generate --check

.PHONY: books
books: setup  ## a million random books against the limits (long)
	BOOKS=1000000 $(BIN)/python -m pytest tests/compute

.PHONY: fuzz
fuzz: setup  ## 10,000 random books through the RPC, with counts of what came of them (long)
	FUZZ_WIDE_BOOKS=6000 FUZZ_JOINT_BOOKS=2000 TRADER_SEEDS=3 $(BIN)/python -m pytest -s \
	  tests/server/fuzz/test_fuzz_wide.py tests/server/fuzz/test_fuzz_joint_books.py \
	  tests/server/fuzz/test_trader_books.py

.PHONY: chaos
chaos: setup  ## processes killed and connections cut, in full (long)
	CHAOS_SEEDS=30 CHAOS_DATABASE_CUT_S=10 CHAOS_EVENTS_CUT_S=60 CHAOS_SOAK_S=600 \
	  CHAOS_HALTS=50 CHAOS_HALT_MS=500 CHAOS_DRAIN_S=30 \
	  CHAOS_COMMAND="$(BIN)/sizing serve" CHAOS_REPORT=benchmarks/results/chaos.md \
	  $(BIN)/python -m pytest tests/chaos

.PHONY: bench-serving
bench-serving: setup  ## F1, F2, F10: the service against a bare gRPC echo
	$(BIN)/python -m benchmarks.serving

.PHONY: bench-archive
bench-archive: setup  ## F12: ten million recorded lines grouped by stage and strategy
	$(BIN)/python -m benchmarks.archive

.PHONY: bench-latency
bench-latency: setup  ## F7, F9: latency at half load with commits, time to start
	$(BIN)/python -m benchmarks.latency

.PHONY: bench-overload
bench-overload: setup  ## R6: goodput at twice the load that the service can take
	$(BIN)/python -m benchmarks.overload

.PHONY: bench-scale
bench-scale: setup  ## what a decision costs with one to four servers on one database
	$(BIN)/python -m benchmarks.scale

.PHONY: bench-streaming
bench-streaming: setup  ## a stream of requests against calls, the transport alone
	$(BIN)/python -m benchmarks.streaming

.PHONY: bench-beside
bench-beside: setup  ## latency of the closed form alone and while a long frontier is traced
	$(BIN)/python -m benchmarks.beside

.PHONY: bench-jobs
bench-jobs: setup  ## the same beside jobs: a backtest, a search of parameters
	$(BIN)/python -m benchmarks.beside --work backtest
	$(BIN)/python -m benchmarks.beside --work search

.PHONY: bench-correlation-cost
bench-correlation-cost: setup  ## F13: estimates and clusters of 500 names, the penalty of the closed form, calls beside DCC
	$(BIN)/python -m benchmarks.correlation_cost
	$(BIN)/python -m benchmarks.beside --work dcc
	$(BIN)/python -m benchmarks.beside --work risk

.PHONY: bench-models
bench-models: setup  ## the closed form with edges of a model against edges given
	$(BIN)/python -m benchmarks.model_edges

.PHONY: bench-states
bench-states: setup  ## volatility models moved by a snapshot of 10,000 instruments
	$(BIN)/python -m benchmarks.state_updates

.PHONY: bench-correlation
bench-correlation: setup  ## what each way to size by correlation wins back, on simulated truths and real closes
	$(BIN)/python -m benchmarks.correlation

.PHONY: bench-methods
bench-methods: .venv-bench  ## the plots of docs/methods.md, from the closes in examples/
	.venv-bench/bin/python -m benchmarks.methods

.PHONY: bench-joint
bench-joint: setup  ## F6: joint sizes of 500 lines over gRPC with commits
	$(BIN)/python -m benchmarks.joint_serving

.PHONY: bench-access
bench-access: setup  ## F14: what row security costs a commit
	$(BIN)/python -m benchmarks.row_security

.PHONY: bench-relay
bench-relay: setup  ## events a second from the outbox to a real broker, against bare sending
	$(BIN)/python -m benchmarks.relay

.venv-cluster: requirements-cluster.txt $(PACKAGES)
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation -e protos/python -e .
	@touch $@

.PHONY: test-cluster
test-cluster: .venv-cluster  ## backtests on a Ray cluster of two machines on this one, one killed (long)
	$</bin/python -m pytest tests/server/simulation/test_cluster.py

.venv-bench: requirements-bench.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: bench-optimizers
bench-optimizers: .venv-bench  ## F3-F5: the joint solver against libraries and direct solver calls
	OPENBLAS_NUM_THREADS=1 .venv-bench/bin/python -m benchmarks.optimizers tests/reference \
	  --synthetic 100 500 --seconds 1 --patience 40

.PHONY: bench-engines
bench-engines: .venv-bench  ## backtests against bt, vectorbt and backtesting.py: the same ends, and the time
	.venv-bench/bin/python -m benchmarks.engines

.PHONY: pulsar
pulsar: $(VENV)/.service  ## run a Pulsar broker on this machine (needs Java 17+ and Maven)
	@$(BIN)/python -m storage.events.broker

.PHONY: proto
proto: setup  ## regenerate the Python stubs from the contract, and the tables of the docs
	$(BIN)/python -m protos.generate
	$(BIN)/python -m protos.reference

# The widest lock first; the narrower ones take its versions.
EXTRAS := $(foreach extra,calendars fix gateway learn otel plugins reports,--extra $(extra))
LOCK := uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11
.PHONY: lock
lock: setup  ## resolve the dependencies again, with hashes
	$(INSTALL) uv
	$(BIN)/$(LOCK) --extra build --extra dev --extra bench $(EXTRAS) pyproject.toml -o requirements-bench.txt
	$(BIN)/$(LOCK) --extra build --extra dev $(EXTRAS) -c requirements-bench.txt pyproject.toml \
	  -o requirements-dev.txt
	$(BIN)/$(LOCK) --extra build --extra dev --extra cluster $(EXTRAS) -c requirements-dev.txt \
	  pyproject.toml -o requirements-cluster.txt
	$(BIN)/$(LOCK) --extra build $(EXTRAS) -c requirements-dev.txt pyproject.toml \
	  -o requirements-extras.txt
	$(BIN)/$(LOCK) --extra build -c requirements-extras.txt pyproject.toml -o requirements.txt
	$(BIN)/$(LOCK) --group ops -o requirements-ops.txt

.venv-ops: requirements-ops.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: check-kubernetes
check-kubernetes: .venv-ops  ## the manifests in ops/kubernetes against the schemas of Kubernetes
	.venv-ops/bin/kubernetes-validate --strict $(filter-out %/kustomization.yaml,$(wildcard ops/kubernetes/*.yaml))

.PHONY: sbom
sbom: .venv-ops  ## sbom.cdx.json: what an installation consists of, with hashes (CycloneDX)
	.venv-ops/bin/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml \
	  --output-reproducible -o sbom.cdx.json

.PHONY: clean
clean:  ## remove what the service and the tools have written here, but not .venv
	rm -rf data .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache
