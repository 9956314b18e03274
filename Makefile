# `make demo` shows what g4 does, `make test` runs the default tests, `make help` lists all targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The exact version that pyproject.toml requires.
LLAMA  := $(shell sed -n 's/^ *"\(llama-cpp-python==[0-9.]*\)",.*/\1/p' pyproject.toml)

.PHONY: demo test test-slow test-all unit setup check lint smoke tiny oracle bench picture clean help docs reference \
	coverage build lock

help:
	@sed -n 's/^## //p' Makefile

## make demo    install into .venv, then run the main commands on the bundled model, offline
demo: setup
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt openai
	@$(BIN)/python tools/demo.py

## make test    install into .venv, then all checks and the default tests (2 minutes on 2 cores)
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

## make test-slow  the tests that `make test` leaves out (10 minutes on 2 cores)
test-slow: $(VENV)/.test-tools
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

## make test-all   both
test-all: test test-slow

## make setup   create .venv and install g4 (compiles llama.cpp once: 4 to 8 minutes on 2 cores)
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml g4cli/core/build_flags.py
	@# Quiet at first: the flags are printed below. The second run prints what is missing, and fails.
	@$(PYTHON) g4cli/core/build_flags.py >/dev/null 2>&1 || \
		$(PYTHON) g4cli/core/build_flags.py >/dev/null
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Before 23.1, pip compiles llama.cpp again for each clone: --no-binary kept it from its cache.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=23.1"
	@CMAKE_ARGS="$$($(PYTHON) g4cli/core/build_flags.py)" $(BIN)/python tools/build_llama.py "$(LLAMA)"
	@echo "Installing g4 into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@# pip may have used a cached wheel that was compiled with other flags: test it.
	@$(BIN)/python -m g4cli.runtime.probes.kernels || \
		(echo "The cached llama.cpp build fails here; compiling it again." && \
		CMAKE_ARGS="$$($(PYTHON) g4cli/core/build_flags.py)" $(BIN)/python tools/build_llama.py \
		"$(LLAMA)" --force-reinstall --no-deps --no-cache-dir; \
		$(BIN)/python -m g4cli.runtime.probes.kernels || \
		echo "warning: some kernels fail on this CPU; g4 avoids them, which is slower (g4 doctor)")
	@touch $@

$(VENV)/.test-tools: $(VENV)/.installed
	@$(BIN)/pip install --quiet --disable-pip-version-check \
		--constraint requirements-dev.txt --editable '.[test]'
	@touch $@

## make unit    the quick tests of single parts: no llama.cpp, no other process (20 s on 2 cores)
unit: $(VENV)/.test-tools
	$(BIN)/python -m pytest -n logical --dist loadfile tests/unit

## make check   lint, types, and the wheel in an empty environment
check: lint smoke

lint: $(VENV)/.test-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke: $(VENV)/.test-tools
	$(BIN)/python tools/smoke.py

# --- Oracles. They need torch, transformers and llama.cpp's sources; using and testing g4 does not.
ORACLE  := .venv-oracle
OPY     := $(ORACLE)/bin/python
SOURCES  = $(wildcard $(ORACLE)/source/llama_cpp_python-*/vendor/llama.cpp)

$(ORACLE)/.installed:
	$(PYTHON) -m venv $(ORACLE)
	$(ORACLE)/bin/pip install --quiet torch==2.13.0 transformers==5.23.0 safetensors pillow \
		gguf==0.19.0
	mkdir -p $(ORACLE)/source
	$(ORACLE)/bin/pip download --quiet --no-deps --no-binary :all: -d $(ORACLE)/source "$(LLAMA)"
	cd $(ORACLE)/source && tar xzf llama_cpp_python-*.tar.gz && rm llama_cpp_python-*.tar.gz
	@touch $@

## make oracle  compare with llama.cpp's converter and quantizer and with transformers (10 minutes)
oracle: $(VENV)/.test-tools $(ORACLE)/.installed
	$(OPY) tests/oracle/compare_convert.py $(SOURCES) $(abspath $(BIN))/python
	$(BIN)/python tests/oracle/compare_quant.py
	$(BIN)/python tests/oracle/record_memory.py
	$(BIN)/python tests/oracle/record_encoders.py
	git diff --stat --exit-code -- tests/golden

## make tiny    train the bundled model again and record its golden files (15 minutes on 2 cores)
tiny: $(VENV)/.test-tools $(ORACLE)/.installed
	mkdir -p build
	$(OPY) tests/oracle/train_tiny.py
	$(OPY) tests/oracle/measure_tiny.py transformers
	$(OPY) tests/oracle/record_tiny.py
	$(OPY) tests/oracle/record_convert.py $(SOURCES) --keep build
	$(BIN)/python tests/oracle/measure_tiny.py llama build/tiny-bf16.gguf

## make bench   the benchmarks that need no other program and little disk; see --help of the others
bench: $(VENV)/.test-tools
	$(BIN)/python tests/bench/bench_loops.py
	$(BIN)/python tests/bench/bench_doctor.py
	$(BIN)/python tests/bench/bench_scan.py
	$(BIN)/python tests/bench/bench_pull.py speed
	$(BIN)/python tests/bench/tiny_types.py

## make picture draw the README's pictures: a chat in a terminal, the page (needs Chromium)
picture: $(VENV)/.test-tools
	$(BIN)/python -m tools.picture tests/golden/terminal.svg
	$(BIN)/python -m tools.page_pictures build/pictures
	cp build/pictures/page-chat-wide-light.png build/pictures/page-drawing-wide-dark.png docs/pictures/

$(VENV)/.docs-tools: $(VENV)/.installed
	@$(BIN)/pip install --quiet --disable-pip-version-check \
		--constraint requirements-dev.txt --editable '.[docs]'
	@touch $@

## make docs    build the documentation into build/docs; fails on a broken link or an outdated page
docs: $(VENV)/.docs-tools
	$(BIN)/python tools/make_reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

## make reference  generate commands, exit codes, environment, file map and man page
reference: $(VENV)/.installed
	$(BIN)/python tools/make_reference.py

## make coverage  run all tests with branch coverage and list the gaps
coverage: $(VENV)/.test-tools
	$(BIN)/python -m pytest -n 2 --dist loadfile --slow --cov --cov-report term-missing:skip-covered

## make build   the source distribution and the wheel, in dist/
build: $(VENV)/.test-tools
	$(BIN)/python -m build

## make lock    update requirements-dev.txt within the ranges of pyproject.toml (needs uv)
lock:
	uv pip compile --universal --python-version 3.10 --extra test --extra docs pyproject.toml \
		--output-file requirements-dev.txt --no-annotate --quiet \
		--custom-compile-command "make lock"

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
