# On a fresh machine every target first sets up all that it needs, once.
PYTHON ?= python3
BIN := .venv/bin
# The grader finds jupyter, alembic and the like beside its own Python.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# As utils/__init__.py does, for those who import PyTorch before.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup sandbox demo test slow retrain mutants quality matrix lab bench report site figures

help:  ## what there is to make
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: .venv/ready  ## the environment .venv, with all that labs, grading and tests need

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: install it, or name it as in 'make PYTHON=python3.12 $(MAKECMDGOALS)'."; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { echo "Python's venv module is incomplete: install it first (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "Installing the labs and their tools into .venv (several GB, a few minutes)."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[grading,tests,cluster,site]'
	@touch $@

sandbox:  # bubblewrap, in which submissions run
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap >/dev/null; } \
	  || { echo "bubblewrap is needed to run submissions safely: install it first (Debian, Ubuntu: sudo apt-get install bubblewrap; Fedora: sudo dnf install bubblewrap)."; exit 1; }

demo: setup sandbox  ## a small class, graded from release to feedback
	@$(BIN)/python -m autograder.demo

test: setup sandbox  ## lint, types, labs/ against solutions/, and the fast tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "Run '$(BIN)/ruff format .' first."; exit 1; }
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/autograder release --check
	@$(BIN)/pytest -q -m "not slow and not retrain"

slow: setup sandbox  ## the slow tests, two at a time: every known mistake, every solution, stock nbgrader
	@$(BIN)/pytest -q -m slow -n 2 --no-loadscope-reorder --durations 40

retrain: setup  ## trains the shipped network `base` again, which takes minutes, and compares
	@$(BIN)/pytest -q -m retrain

mutants: setup sandbox  ## every single change to every solution, which some test should notice (an hour)
	@$(BIN)/autograder mutants

quality: setup sandbox  ## everything that is known of the labs' exercises, into docs/quality.md (hours)
	@$(BIN)/autograder quality

matrix: setup sandbox  ## the labs on the lowest and newest versions of everything (several GB, a quarter of an hour)
	@$(BIN)/python tests/matrix.py

lab: setup  ## JupyterLab on the labs
	@# Root, as in a container, has to say that it means it.
	@$(BIN)/jupyter lab --notebook-dir labs $(if $(filter 0,$(shell id -u)),--allow-root)

bench: setup sandbox  ## our grading and stock nbgrader on the same submissions
	@$(BIN)/python benchmarks/grading.py

report: setup  ## what the shipped networks can do, measured on fresh scenes
	@$(BIN)/python -m utils.report

site: setup  ## docs/ as static pages that need no network, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

figures: setup  ## the site's figures, drawn from the solved notebooks (some minutes)
	@$(BIN)/python docs/figures.py
