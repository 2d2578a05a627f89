# Each target sets up .venv by itself, and only when setup.py or constraints.txt has changed.
PYTHON ?= python3
DEMO_OUTPUT ?= demo
VENV := .venv
BIN := $(VENV)/bin
# Python compiles a library when it is first imported: compiling all of them takes longer, and most are never imported.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: help demo test test-fast coverage faults style quality bench bench_growth bench_celeba bench_training docs site constraints clean

help:
	@echo "make demo       set up, build shards from a built-in sample, print where the report is"
	@echo "make test       set up, run all tests in parallel"
	@echo "make test-fast  the same without the slow tests"
	@echo "make coverage   all tests, and which lines they reach: takes half as long again"
	@echo "make faults     kill, starve and feed every command with hostile files, for at most 15 minutes (FAULTS='--seed N')"
	@echo "make style      format and lint the code"
	@echo "make quality    check format, lint, types and import directions, as CI does"
	@echo "make bench      compare speed and size with other ways (BENCH='--images DIR --labels F --bboxes F --points F')"
	@echo "make bench_growth    runs over 1, 2, 4 and 8 thousand images: time and memory (BENCH='--sizes N,N,N')"
	@echo "make bench_celeba    rehearse a run over 202,599 images (BENCH='--rows N --interrupt --scratch DIR')"
	@echo "make bench_training  time the loader and a training step (BENCH='--data OUT --channels ...')"
	@echo "make docs       draw (and overwrite) the images of README.md and docs/"
	@echo "make site       build the documentation site: site/index.html"

demo: $(VENV)/demo.stamp
	$(BIN)/attparse demo --output $(DEMO_OUTPUT)

# A file's tests stay in one process, as they share what its fixtures have built; tests/conftest.py orders the files.
PYTEST := $(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

test: $(VENV)/dev.stamp
	$(PYTEST)

coverage: $(VENV)/dev.stamp
	$(PYTEST) --cov --cov-report=term

test-fast: $(VENV)/dev.stamp
	$(PYTEST) -m "not slow" --hypothesis-profile=fast

faults: $(VENV)/faults.stamp
	$(BIN)/python -m tests.faults $(FAULTS)

style: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

quality: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks $(BENCH)

bench_growth bench_celeba: bench_%: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.$* $(BENCH)

bench_training: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.bench_training $(BENCH)

docs: $(VENV)/demo.stamp
	$(BIN)/python tools/draw_docs.py

site: $(VENV)/site.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

# Pins that still fit are kept; empty constraints.txt first to take the newest releases.
constraints: $(VENV)/demo.stamp
	$(BIN)/pip install --quiet uv
	cp constraints.txt constraints.new
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-annotate --no-header \
		--custom-compile-command "make constraints" setup.py -o constraints.new
	$(BIN)/python tools/tidy_constraints.py constraints.new constraints.txt
	rm constraints.new

clean:
	rm -rf $(VENV) site *.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 12) or sys.exit("attparse needs Python 3.10 to 3.12, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: setup.py constraints.txt | $(VENV)/bin/pip
	$(INSTALL) -e ".[demo]"
	touch $@

$(VENV)/dev.stamp: setup.py constraints.txt | $(VENV)/bin/pip
	$(INSTALL) -e ".[demo,dev,gcp,dlib,training]"
	touch $(VENV)/demo.stamp $@

$(VENV)/faults.stamp: $(VENV)/dev.stamp
	$(INSTALL) -e ".[fuzz]"
	touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(INSTALL) -e ".[bench]"
	touch $@

$(VENV)/site.stamp: setup.py constraints.txt | $(VENV)/bin/pip
	$(INSTALL) -e ".[site]"
	touch $@
