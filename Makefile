# `make help` lists the commands. Each installs what it needs into .venv, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CLI := $(BIN)/vlad-cli
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
WORKERS ?= 2
READERS := [easyocr,paddle]

export TOKENIZERS_PARALLELISM ?= false

# $(call install,EXTRAS): uv is several times faster than pip but does not read pip's configuration,
# so pip installs if an index is configured for it, and if uv fails. Unlike pip, uv leaves byte-compiling to the first
# import; if Python may not write the result (PYTHONDONTWRITEBYTECODE), each process would compile torch again.
define install
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	if ! $(BIN)/python -m pip config list | grep -E '[.]index-url=' > /dev/null \
		&& $(BIN)/python -m pip install --quiet --constraint constraints.txt uv \
		&& $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.$(1)'; then :; \
	else $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.$(1)'; fi
endef

.PHONY: help setup readers demo docs test coverage test-readers notebook test-distributed test-slurm test-studio faults lint bench gpu scaling ablations table1 table2 constraints clean

help:  ## list these commands
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

setup: $(DEV)  ## install everything for development into .venv (once)

$(RUNTIME): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once) ..."
	@$(call install,)
	@touch $@

$(DEV): pyproject.toml constraints.txt
	@echo "installing into $(VENV), with the development tools (once) ..."
	@$(call install,[dev])
	@touch $@ $(RUNTIME)

readers: $(DEV)  ## install PaddleOCR and EasyOCR, whose tests are skipped where they are missing (500 MB; needs libGL.so.1)
	@$(call install,$(READERS))

demo: $(RUNTIME)  ## run the whole demo on the CPU; writes runs/demo/results.md and samples.png
	$(CLI) run --config configs/pipeline_mini.yaml --out runs/demo

test: export OMP_NUM_THREADS ?= 1  # two processes with two threads each are very slow on two cores
test: $(DEV)  ## run the tests (WORKERS=2 processes)
	$(BIN)/pytest -m "not slurm" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --timeout 300

coverage: export OMP_NUM_THREADS ?= 1
coverage: $(DEV)  ## the same, and measure coverage, which takes about half as long again
	$(BIN)/pytest -m "not slurm" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --timeout 300 --cov --cov-report=term

docs: $(DEV)  ## build the documentation into build/site; open build/site/index.html
	$(BIN)/python docs/site/pages.py
	$(BIN)/zensical build --strict --clean

notebook: export OMP_NUM_THREADS ?= 1
notebook: $(DEV)  ## run docs/tour.ipynb, which fails if one of its cells does (about two minutes)
	$(BIN)/jupyter execute --timeout=600 docs/tour.ipynb

test-readers: readers  ## run the tests of the OCR readers, PaddleOCR and EasyOCR among them
	$(BIN)/pytest tests/metrics/test_ocr_engine.py tests/metrics/test_paddle_models.py tests/metrics/test_easyocr_engine.py tests/metrics/test_readers.py -rs --timeout 600

test-slurm: $(DEV)  ## run the sbatch files on a SLURM cluster of two nodes on this machine (needs root, slurm-wlm, munge)
	$(BIN)/pytest -m slurm tests/slurm -rs --timeout 1200

test-distributed: export OMP_NUM_THREADS ?= 1
test-distributed: $(DEV)  ## run the tests that start groups of processes, one after the other (about 12 minutes)
	$(BIN)/pytest tests/distributed --timeout 600

test-studio: export OMP_NUM_THREADS ?= 1
test-studio: $(DEV)  ## run the tests of the studio, with its page in a Chromium if one is installed
	$(BIN)/pytest tests/studio -rs --timeout 300

faults: export OMP_NUM_THREADS ?= 1
faults: $(DEV)  ## inject 120 faults into training runs and check that each resumes (24 take about half an hour)
	$(BIN)/python tests/distributed/fault_campaign.py --faults 120 --out runs/faults

lint: $(DEV)  ## run ruff, mypy and the import-layer check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(RUNTIME)  ## measure speeds on this machine
	$(BIN)/python benchmarks/speed.py

gpu: $(DEV)  ## test and measure this machine's GPU (under 8 minutes); writes runs/gpu.md
	$(BIN)/python benchmarks/gpu.py --out runs/gpu.md

scaling: $(RUNTIME)  ## count communication, fit step times and plan 8 to 512 GPUs: the tables of docs/planning.md
	$(BIN)/python benchmarks/scaling.py

ABLATIONS := vlad wo_ccm wo_hierarchical_guidance word_boxes_only narrow_fusion latent_autoencoder_wide latent_autoencoder_narrow
# Steps of stage 2 of each system; a comment after the value would add its spaces to the value.
ABLATION_STEPS ?= 700

ablations: demo  ## train and test the whole system and six ablations, 700 steps of stage 2 each (about 2 hours); writes runs/ablations.md
	for name in $(ABLATIONS); do $(CLI) run --config configs/ablations/pipeline_$$name.yaml \
		--stage2.trainer.max_steps=$(ABLATION_STEPS) --stage2.trainer.val_check_interval=$(ABLATION_STEPS) || exit 1; done
	$(BIN)/python benchmarks/ablations.py $(addprefix runs/,$(ABLATIONS)) | tee runs/ablations.md

TABLES := runs/table1
# Seeds beside 0, such as "1 2": their runs are runs/table1_seed1 and so on, and the tables are of all together, in runs/table1_seeds.
MORE_SEEDS ?=
SEED_RUNS := $(foreach seed,$(strip $(MORE_SEEDS)),$(TABLES)_seed$(seed))
TABLED := $(TABLES)$(if $(SEED_RUNS),_seeds)

.PHONY: compared
compared: $(RUNTIME)
	$(CLI) run --config configs/table1_mini.yaml --out $(TABLES)
	for seed in $(MORE_SEEDS); do \
		$(CLI) run --config configs/table1_mini.yaml --out $(TABLES)_seed$$seed --seed_everything $$seed || exit 1; done
	test -f $(TABLES)/compute.json || $(BIN)/python benchmarks/compute.py --out $(TABLES)/compute.json
	$(if $(SEED_RUNS),$(BIN)/python benchmarks/seeds.py $(TABLES) $(SEED_RUNS) --out $(TABLED))

table1: compared  ## train and test VLAD, its ablations and the baselines at the mini scale (many hours); writes runs/table1/table1.md; MORE_SEEDS="1 2": of three seeds, into runs/table1_seeds
	$(BIN)/python benchmarks/tables.py 1 --out $(TABLED)

table2: compared  ## the same runs; writes runs/table1/table2.md, the ablations
	$(BIN)/python benchmarks/tables.py 2 --out $(TABLED)

constraints: $(DEV)  ## write constraints.txt with the newest allowed versions
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11.9 --all-extras pyproject.toml \
		--no-annotate --no-header --output-file constraints.txt > /dev/null

clean:  ## remove .venv, caches and build products (keeps data/ and runs/)
	rm -rf $(VENV) build dist .cache .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
