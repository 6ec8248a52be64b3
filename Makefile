# `make help` lists what there is. Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SBOM := $(VENV)/sbom
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA ?= headgate-data
IMAGE ?= headgate:0.1.0
SOURCE ?= unknown
KAFKA_PORT ?= 29092
MINUTES ?= 30
SEED ?= 7
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  --no-emit-package headgate-client
EDITABLE := --no-deps --no-build-isolation --editable . --editable clients/python

.DEFAULT_GOAL := help
.PHONY: help run demo test soak chaos gameday slo bench attack mutants check lint docs format kafka image image-test chart cluster-test sbom release-files checksums version lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## headgate dev on http://127.0.0.1:8080, data in headgate-data
	@exec $(BIN)/headgate dev --data $(DATA)

demo: $(VENV)/.run ## the same, with a chat on http://127.0.0.1:8080/ for two browsers
	@exec $(BIN)/headgate dev --demo --data $(DATA)

test: $(VENV)/.dev ## every test, on real Kafka too
	$(BIN)/python -m tests

soak: $(VENV)/.dev ## random faults on three brokers for MINUTES (30)
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

chaos: $(VENV)/.dev ## the same with SEED (7), for MINUTES (30); writes which fault struck when, what became of the messages, and availability: docs/project/chaos.md
	$(BIN)/python -m tests.soak --seed $(SEED) --minutes $(MINUTES) $(if $(RATE),--rate $(RATE)) --write

gameday: $(VENV)/.dev ## which alerts fire after how long: faults on a real Kafka and Prometheus, 10 minutes; writes docs/project/game-day.md
	$(BIN)/python -m tests.gameday --write

slo: $(VENV)/.dev ## measures the service levels, 75 minutes; writes docs/project/slo.md: ONLY=history for one run, SCALE=0.1
	$(BIN)/python -m bench.slo $(if $(ONLY),--only $(ONLY)) --scale $(or $(SCALE),1)

bench: $(VENV)/.dev ## what has become dearer: ratios to floor programs beside those of bench/ratchet.toml, 5 minutes
	$(BIN)/python -m bench.ratchet

attack: $(VENV)/.dev ## what was attacked once, and odd input through every entry: 60 s each, on this machine only
	HEADGATE_ATTACK_S=$(or $(SECONDS),60) $(BIN)/python -m pytest -s tests/attack

mutants: $(VENV)/mutants/.done ## changes in the core that no test notices: WING=fanout; MODULE=hub for one file, SAMPLE=37 for a fifth of them
	$(VENV)/mutants/bin/python -m tests.mutants $(or $(WING),fanout) $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE))

check: lint docs test ## what CI does

lint: $(VENV)/.dev ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

docs: $(VENV)/.docs ## the documentation as a site, in build/docs; a dead link or a page nobody reaches is an error
	$(BIN)/python -m sphinx --builder html --fresh-env --fail-on-warning --keep-going --quiet docs build/docs
	$(BIN)/python -m docs.site.check build/docs

format: $(VENV)/.dev ## writes what `ruff format` wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

kafka: $(VENV)/.dev ## one real Kafka node on 127.0.0.1:29092 until Ctrl-C
	@exec $(BIN)/python -m tests.kafka --port $(KAFKA_PORT)

image: ## builds the image with your Docker engine
	docker build --tag $(IMAGE) --build-arg VERSION="$(lastword $(subst :, ,$(IMAGE)))" \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" --build-arg CREATED="$$(git log -1 --format=%cI 2>/dev/null)" \
	  --build-arg SOURCE="$(SOURCE)" .

image-test: $(VENV)/.dev ## runs the image and docker-compose.yml on your Docker engine
	HEADGATE_IMAGE=$(IMAGE) $(BIN)/python -m pytest -s tests/deploy/on_engine.py

cluster-test: $(VENV)/.dev ## the chart on the cluster of KUBECONFIG, see docs/operations.md
	$(BIN)/python -m pytest -s tests/deploy/on_cluster.py

chart: $(VENV)/.dev ## the chart with every value set, compose, image recipe, rules, dashboards and workflows: no engine, no cluster
	$(BIN)/python -m pytest -q tests/deploy

sbom: $(VENV)/sbom/.done ## what the image has in it, as CycloneDX, in build/headgate.cdx.json
	@mkdir -p build
	$(SBOM)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file build/headgate.cdx.json $(SBOM)/shipped/bin/python
	$(SBOM)/tools/bin/python -m release.sbom build/headgate.cdx.json

release-files: sbom ## wheels, source archives and the list of components, in build/release
	rm -rf build/release && mkdir -p build/release
	$(SBOM)/tools/bin/python -m hatchling build --directory $(CURDIR)/build/release
	cd clients/python && $(CURDIR)/$(SBOM)/tools/bin/python -m hatchling build --directory $(CURDIR)/build/release
	cp build/headgate.cdx.json build/release/

checksums: ## SHA256SUMS of all files in build/release, once the last one is there
	cd build/release && rm -f SHA256SUMS && sha256sum -- * > ../SHA256SUMS && mv ../SHA256SUMS .

version: $(VENV)/bin/python ## the version that all files agree on; TO=1.2.0 writes the next one, see docs/project/releasing.md
	@$(BIN)/python -m release.version $(TO)

lock: $(VENV)/.dev ## writes requirements/*.lock anew from pyproject.toml
	$(PIP) 'uv>=0.9,<1'
	$(LOCK) pyproject.toml --output-file requirements/run.lock
	$(LOCK) pyproject.toml --extra tracing --constraint requirements/run.lock --output-file requirements/image.lock
	$(LOCK) pyproject.toml --group dev --output-file requirements/dev.lock
	$(LOCK) pyproject.toml --group docs --constraint requirements/dev.lock --output-file requirements/docs.lock
	$(LOCK) pyproject.toml --group mutants --constraint requirements/dev.lock --output-file requirements/mutants.lock
	$(LOCK) --group pyproject.toml:build --output-file requirements/build.lock
	$(LOCK) --group pyproject.toml:release --constraint requirements/build.lock --output-file requirements/release.lock

clean: ## removes .venv and caches, never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

$(VENV)/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headgate needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run: requirements/run.lock requirements/build.lock pyproject.toml clients/python/pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/run.lock -r requirements/build.lock
	$(PIP) $(EDITABLE)
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml clients/python/pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/dev.lock
	$(PIP) $(EDITABLE)
	@touch $@ $(VENV)/.run

$(VENV)/.docs: requirements/docs.lock pyproject.toml clients/python/pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/docs.lock
	$(PIP) $(EDITABLE)
	@touch $@ $(VENV)/.run

# An environment of its own: what mutmut brings is not in the one that the other commands use.
$(VENV)/mutants/.done: requirements/mutants.lock requirements/dev.lock | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/mutants
	$(VENV)/mutants/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock -r $<
	@touch $@

# Two environments, as in the Dockerfile: what is listed, and what lists it.
$(VENV)/sbom/.done: requirements/image.lock requirements/release.lock pyproject.toml clients/python/pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m venv $(SBOM)/tools
	$(BIN)/python -m venv --clear --without-pip $(SBOM)/shipped
	$(SBOM)/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/release.lock
	$(SBOM)/tools/bin/python -m pip --python $(SBOM)/shipped/bin/python install --quiet --disable-pip-version-check \
	  --require-hashes -r requirements/image.lock
	$(SBOM)/tools/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --wheel-dir $(SBOM)/wheels . ./clients/python
	$(SBOM)/tools/bin/python -m pip --python $(SBOM)/shipped/bin/python install --quiet --disable-pip-version-check \
	  --no-deps --no-index $(SBOM)/wheels/*.whl
	@touch $@
