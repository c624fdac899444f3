# make demo, make test and make bench set up all that they need in $(VENV), and again only when pyproject.toml has changed.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PYTEST_ARGS ?=

NEEDED = 3.11
BIN = $(VENV)/bin

# In a recipe: stop with one sentence where this Python is too old, or is none.
new_enough = @$(1) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(NEEDED)".split("."))))' 2>/dev/null || \
	{ echo "contextengine needs Python $(NEEDED) or newer, and $(1) is not; name one: make PYTHON=python$(NEEDED) ..." >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench check clean

help: ## print this
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  VENV=$(VENV) is where they install what they need, PYTHON=$(PYTHON) what makes it."

demo: $(VENV)/.installed-demo ## record conversations, kill the server, compare (ARGS="--input FILE.jsonl")
	@$(BIN)/python scripts/demo.py $(ARGS)

test: $(VENV)/.installed-dev ## run the tests (PYTEST_ARGS="-k append")
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(VENV)/.installed-bench ## measure it against raw Redis, in 4 to 6 minutes (ARGS="--quick")
	@$(BIN)/python scripts/bench.py $(ARGS)

check: $(VENV)/.installed-dev ## check style and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

clean: ## remove caches, build output, the demo's data, and the virtual environment if make has made it
	@if [ -e "$(VENV)/.made-by-make" ]; then rm -rf "$(VENV)"; fi
	@rm -rf .demo build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.*' -prune -exec rm -rf {} +

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(call new_enough,$(BIN)/python)
	@echo "Installing contextengine and what make $(patsubst dev,test,$*) needs into $(VENV) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/python:
	$(call new_enough,$(PYTHON))
	@$(PYTHON) -m venv $(VENV)
	@touch $(VENV)/.made-by-make
