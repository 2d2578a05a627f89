# Each target sets up .venv by itself, and only when setup.py or constraints.txt has changed.
PYTHON ?= python3
DEMO_OUTPUT ?= demo
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test style quality bench bench_training docs constraints clean

help:
	@echo "make demo     set up, run the main job on a built-in sample, tell where to look"
	@echo "make test     set up, run all tests"
	@echo "make style    format and lint the code"
	@echo "make quality  check format, lint, types and import directions, as CI does"
	@echo "make bench    time each stage (other pictures: BENCH='--images DIR --labels F --bboxes F --points F')"
	@echo "make bench_training  time the loader and a training step (BENCH='--data OUT --channels ...')"
	@echo "make docs     draw the pictures of README.md and docs/ again"

demo: $(VENV)/demo.stamp
	$(BIN)/attparse demo --output $(DEMO_OUTPUT)

test: $(VENV)/dev.stamp
	$(BIN)/pytest --cov --cov-report=term

style: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

quality: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/bench_run.py $(BENCH)

bench_training: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/bench_training.py $(BENCH)

docs: $(VENV)/demo.stamp
	$(BIN)/python tools/draw_docs.py

constraints: $(VENV)/demo.stamp
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-annotate --no-header \
		--custom-compile-command "make constraints" setup.py -o constraints.new
	$(BIN)/python tools/tidy_constraints.py constraints.new constraints.txt
	rm constraints.new

clean:
	rm -rf $(VENV) *.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 12) or sys.exit("attparse needs Python 3.10 to 3.12, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: setup.py constraints.txt | $(VENV)/bin/pip
	$(INSTALL) -e ".[demo]"
	touch $@

$(VENV)/dev.stamp: setup.py constraints.txt | $(VENV)/bin/pip
	$(INSTALL) -e ".[demo,dev,gcp,dlib,training]"
	touch $(VENV)/demo.stamp $@
