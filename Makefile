# These targets set up everything they need; the machine needs Python 3.11 or newer.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.docs-installed
# CPU builds of torch print less and load faster; the pin in constraints.txt keeps the download small.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := true
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "compress needs Python 3.11 or newer; choose one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Only the targets that build the documentation install its tools (ten seconds, 140 MB).
$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

.PHONY: install
install: $(STAMP) ## Create the virtual environment .venv and install the project

.PHONY: demo
demo: $(STAMP) ## Run every stage on BBC News: train, prune, distill, export, quantize, measure (minutes)
	$(BIN)/compress run demo

.PHONY: auto
auto: $(STAMP) ## Let compress find the fastest model on BBC News that loses at most one point (minutes)
	$(BIN)/compress auto builtin:minilm-l6 --task bbc-news --max-length 80 --max-drop 1 --budget 20m -o runs/auto $(ARGS)

# `make sst2 DATA=DIR` reads DIR/sst2/train.parquet, validation.parquet and test.parquet, if present, instead of the Hub.
.PHONY: sst2 mrpc sick banking77 pos squad
sst2 mrpc sick banking77 pos squad: $(STAMP) ## Run a full recipe: [DATA=DIR] for local files (squad: hours)
	$(BIN)/compress run $@ $(foreach split,train validation test,$(if $(wildcard $(DATA)/$@/$(split).parquet),--$(split) "$(DATA)/$@/$(split).parquet")) $(ARGS)

# `make embedder DATA=DIR` reads DIR/scifact in BEIR's layout (corpus.jsonl, queries.jsonl, qrels) instead of the Hub.
.PHONY: embedder reranker
embedder reranker: $(STAMP) ## Run the recipe for search: [DATA=DIR] for local files
	$(BIN)/compress run $@ $(if $(DATA),--set task.beir="$(DATA)/scifact") $(ARGS)

# `make peers DATA=DIR` reads DIR/sst2/train.parquet and so on instead of the Hub; ARGS are passed on.
.PHONY: peers
peers: $(STAMP) ## Compare with other tools on SST-2: [DATA=DIR] (10 to 30 minutes)
	$(BIN)/python eval/run.py eval/suites/short.yaml $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: suite
suite: $(STAMP) ## Run another comparison: SUITE=eval/suites/glue.yaml [DATA=DIR]
	$(BIN)/python eval/run.py "$(or $(SUITE),eval/suites/glue.yaml)" $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: test
test: $(STAMP) ## Run the unit and integration tests (about eight minutes on two cores)
	$(BIN)/python -m pytest

.PHONY: test-unit
test-unit: $(STAMP) ## Run the unit tests only
	$(BIN)/python -m pytest tests/unit

.PHONY: regression
regression: $(STAMP) ## Run the recorded-accuracy tests (long; not part of 'make test')
	$(BIN)/python -m pytest -n 0 tests/regression

# `make torture ARGS="--part disk --scale 0.1 --seed 17"`; `python -m tests.torture --help` lists the options.
.PHONY: torture
torture: $(STAMP) ## Bad inputs, failing disks, kills, mutated files, odd texts, loaded servers, hostile names: [ARGS=...] (about an hour)
	$(BIN)/python -m tests.torture $(ARGS)

.PHONY: gpu-check
gpu-check: $(STAMP) ## Run the GPU tests; fails on a machine without a GPU
	COMPRESS_REQUIRE_GPU=1 $(BIN)/python -m pytest -n 0 tests/gpu

.PHONY: clients
clients: $(STAMP) ## Open what compress writes in sentence-transformers, fastembed and transformers.js (installs them; minutes)
	$(BIN)/python -m pytest -n 0 tests/clients

.PHONY: lint
lint: $(DOCS) ## Check style, types, formatting and the documentation's links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/mkdocs build --strict

.PHONY: format
format: $(STAMP) ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(DOCS) ## Build the documentation's site into build/site; a broken link fails
	$(BIN)/mkdocs build --strict

.PHONY: docs-serve
docs-serve: $(DOCS) ## Serve the documentation on http://127.0.0.1:8000 and rebuild it on changes
	$(BIN)/mkdocs serve

.PHONY: wheel
wheel: $(STAMP) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

.PHONY: doctor
doctor: $(STAMP) ## Show what this machine has and what is missing
	$(BIN)/compress doctor

.PHONY: clean
clean: ## Remove the environment, caches and builds (runs/ stays)
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
