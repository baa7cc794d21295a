# make demo and make test each do everything they need on a fresh Debian 12 or 13.

SHELL := /bin/bash
GDB ?= gdb
PYTHON := .venv/bin/python
export GDB

DEMO_PACKAGES := gdb:$(GDB) gcc:gcc libc6-dev python3-venv
CRASH_PACKAGES := make:make gcc:gcc g++:g++ crash libpython3-dev
# What makes and reads vmcores: tests/lab/README.md.
LAB_PACKAGES := debootstrap:debootstrap debian-archive-keyring qemu-system-x86:qemu-system-x86_64 \
	busybox-static cpio:cpio e2fsprogs:mkfs.ext4
TEST_PACKAGES := $(DEMO_PACKAGES) $(CRASH_PACKAGES) $(LAB_PACKAGES) g++:g++ libc6-dbg \
	musl-tools:musl-gcc golang-go:go rustc:rustc graphviz:dot procps:ps binutils:objcopy git:git \
	elfutils:eu-addr2line clang:clang llvm:llvm-symbolizer dwz:dwz
MATRIX := trixie bullseye bookworm

# For the Python that gdb embeds: the first `source` need not compile.
COMPILE = $$(tools/gdb-python) -m compileall -qq faultkit gdb_ext || true

.PHONY: help demo crash-ext test test-full lint pytest test-matrix bench docs clean

help:
	@echo "make demo         a program that deadlocks, and its diagnosis"
	@echo "make crash-ext    build crash_ext/faultkit.so, for crash's extend"
	@echo "make test         all the checks: ruff, mypy, pytest"
	@echo "make test-full    every scenario in every variant and mode: an hour"
	@echo "make lint         ruff and mypy only"
	@echo "make test-matrix  the tests in Debian roots ($(MATRIX)) and on all kernels' dumps"
	@echo "make bench        measure; writes docs/benchmarks.md"
	@echo "make docs         run the commands of the transcripts in the documents again"
	@echo "make clean        remove what was built here"

demo:
	@tools/apt $(DEMO_PACKAGES)
	@tools/venv || echo "no packages for gdb's Python: the report will be plainer"
	@$(COMPILE)
	@tools/demo

# What `extend crash_ext/faultkit.so` needs: crash's package brings defs.h.
crash-ext:
	@tools/apt $(CRASH_PACKAGES)
	@$(MAKE) --no-print-directory -C crash_ext/src

test: setup lint pytest

.PHONY: setup
setup:
	@tools/apt $(TEST_PACKAGES)
	@tools/venv test
	@$(MAKE) --no-print-directory -s -C crash_ext/src
	@$(COMPILE)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

# Real programs on a busy machine: what fails twice is broken, what fails once is listed as R.
pytest: setup
	$(PYTHON) -m pytest -n $$(nproc) --reruns 1 $(PYTEST_ARGS) </dev/null

# Every scenario in every variant and mode, where `make test` deals the variants out in turn.
test-full: setup lint
	FAULTKIT_FULL=1 $(PYTHON) -m pytest -n $$(nproc) $(PYTEST_ARGS) </dev/null

test-matrix: setup
	@set -e; for suite in $(MATRIX); do \
		echo "== $$suite"; \
		tests/roots/test $$suite -n $$(nproc) $(PYTEST_ARGS); \
	done
	$(PYTHON) -m pytest -m matrix -n $$(nproc) --reruns 1 $(PYTEST_ARGS) </dev/null

bench: setup
	$(PYTHON) -m pytest tests/bench -m bench $(PYTEST_ARGS) </dev/null

docs: setup build/transfer
	$(PYTHON) tools/transcripts

build/transfer: examples/transfer.c
	$(MAKE) -C examples

clean:
	$(MAKE) -C crash_ext/src clean
	rm -rf build dist *.egg-info .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
