# The commands that developers and CI run. The targets install what they need first, into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-days test-research test-wild test-export check check-style check-mypy check-workflows check-pyright coverage fuzz mutants accuracy install test-wheel test-lowest dist audit docs clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all,demo]" --group dev
	@touch $@

# Scripts and models of other projects, with FareMeter and before launch; prints the table.
test-wild: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group wild
	@$(BIN)/python -m pytest --quiet --capture=no tests/wild

# Asks SkyPilot's own loader and optimizer of exported tasks, offline; SkyPilot is installed into an environment of its own.
SKYPILOT := $(VENV)/.skypilot
test-export: $(STAMP)
	@test -x $(SKYPILOT)/bin/sky || { $(PYTHON) -m venv $(SKYPILOT) && $(SKYPILOT)/bin/python -m pip install --quiet "skypilot==0.14.*"; }
	@TRAINFARE_SKYPILOT_PYTHON=$(CURDIR)/$(SKYPILOT)/bin/python $(BIN)/python -m pytest --quiet tests/export_clients tests/plugin/export

demo: $(STAMP)
	@$(BIN)/trainfare demo

test: $(STAMP)
	@$(BIN)/python -m pytest --quiet --numprocesses=3 --dist=worksteal --junitxml=$(VENV)/test-results.xml
	@echo "make test: passed; results in $(VENV)/test-results.xml"

# The suite on a day to come, in its subprocesses too: no test knows the day. Takes Debian's package faketime, whose command
# takes a file descriptor in each process, and makes Python's locks fail.
DAYS ?= 400
test-days: $(STAMP)
	@LD_PRELOAD='/usr/$$LIB/faketime/libfaketime.so.1' FAKETIME=+$(DAYS)d FAKETIME_DISABLE_SHM=1 FAKETIME_DONT_FAKE_MONOTONIC=1 $(BIN)/python -m pytest --quiet --numprocesses=3 --dist=worksteal
	@echo "make test-days: passed with a clock $(DAYS) days ahead"

# The research stands beside the product, with settings and tests of its own; the product's venv has both.
RESEARCH := $(VENV)/.research
$(RESEARCH): research/pyproject.toml $(STAMP)
	@$(BIN)/python -m pip install --quiet --editable research
	@touch $@

test-research: $(RESEARCH)
	@cd research && ../$(BIN)/python -m pytest --quiet --numprocesses=3 --dist=worksteal --junitxml=../$(VENV)/test-research-results.xml
	@echo "make test-research: passed; results in $(VENV)/test-research-results.xml"

# Lines and branches that tests run, by file with what is left, in their subprocesses too. TESTS="tests/core" ONLY="core/*" for the core by its own tests.
TESTS ?= tests
ONLY ?= *
coverage: $(STAMP)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --quiet --numprocesses=3 --dist=worksteal $(TESTS); code=$$?; $(BIN)/coverage combine --quiet; \
		$(BIN)/coverage report --include="$(ONLY)"; exit $$code

check: $(STAMP) $(RESEARCH)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target check-pyright check-mypy check-style check-workflows
	@echo "make check: ruff, import-linter, mypy, pyright, zizmor and the schemas of CI systems found nothing; nothing was written"

check-style:
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/lint-imports research/pyproject.toml > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

check-mypy:
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file research/pyproject.toml

check-workflows:
	@bash scripts/check_workflows.sh $(VENV)

# pyright keeps no cache, so each half leaves a file and runs again where a source, a folder or a setting is newer.
sources = $(shell find $(1) -name __pycache__ -prune -o \( -type d -o -name '*.py' \) -print)
CORE := $(call sources,core)
OTHERS := $(call sources,providers plugin tests/typing)

check-pyright: $(VENV)/.pyright-core $(VENV)/.pyright-others
	@:

$(VENV)/.pyright-core: $(CORE) pyproject.toml $(STAMP)
	@touch $@.begun && $(BIN)/pyright --warnings core && mv $@.begun $@

$(VENV)/.pyright-others: $(CORE) $(OTHERS) pyproject.toml $(STAMP)
	@touch $@.begun && $(BIN)/pyright --warnings providers plugin tests/typing && mv $@.begun $@

# Breaks the sources one place at a time and runs the tests that should notice: some 20 minutes of one processor. ARGS="--package prices".
# SEED=N draws others at random, 60 a run, and goes on with that draw the next time.
ARGS ?=
SEED ?=
mutants: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m mutants $(if $(SEED),--seed $(SEED)) $(ARGS); code=$$?; $(BIN)/python tests/reliability.py; exit $$code

# Scores every table of measurements (the repository's own, else those in DATA) and writes docs/accuracy.md. The first run makes all traces, which takes
# most of its time; they are kept in CACHE.
# RESIDUALS has the held-out errors of one device, which `python -m trainfare_research.runners.fit_calibration --residuals` writes; NOTE goes into the page.
DATA ?=
CACHE ?= .cache/traces
NOTE ?=
RESIDUALS ?=
accuracy: $(RESEARCH)
	@$(BIN)/python -m trainfare_research.runners.all_tables $(if $(DATA),--data $(DATA)) --cache $(CACHE) --note "$(NOTE)" $(if $(RESIDUALS),--residuals $(RESIDUALS))

# Feeds every reader of files and answers with inputs that break parsers; FUZZ_S seconds each, FUZZ names some targets.
FUZZ_S ?= 600
FUZZ ?=
fuzz: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group fuzz
	@PYTHONPATH=tests $(BIN)/python -m fuzz.run --seconds $(FUZZ_S) $(FUZZ); code=$$?; $(BIN)/python tests/reliability.py; exit $$code

test-wheel:
	@PYTHON=$(PYTHON) bash scripts/test_wheel.sh

# Each family of packages at its lowest versions, in an environment of its own; FAMILY="base torch huggingface mcp" names some.
FAMILY ?=
test-lowest:
	@PYTHON=$(PYTHON) FAMILY="$(FAMILY)" bash scripts/test_lowest.sh

dist:
	@PYTHON=$(PYTHON) bash scripts/build_dist.sh

# Asks PyPI's advisories for every installed package; needs the network, so it is no part of `make check`.
audit: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group audit
	@$(BIN)/pip-audit --skip-editable --progress-spinner=off

# The site of docs/, into build/docs; a warning is an error.
docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group docs
	@$(BIN)/python -m sphinx --builder html -E -W -n --keep-going --quiet -d build/docs-doctrees docs build/docs
	@echo "make docs: build/docs/index.html"

clean:
	rm -rf $(VENV) dist build
