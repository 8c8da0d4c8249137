# SPDX-License-Identifier: Apache-2.0 OR MIT
# Thin front: the build itself is meson.build, the rest is in scripts/ and tools/.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

FUZZ_TIME ?= 60
export FUZZ_TIME

.DEFAULT_GOAL := help
.PHONY: help deps build build-asan run demo test lint format docs bench fuzz test-kernels clean

help:
	@echo 'usage: make TARGET'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

deps: ## install the Debian packages that are missing (all groups: build, test, lint)
	@scripts/deps build test lint

build: ## build build/aperture-agent and build/aperture-cli
	@scripts/deps build
	@scripts/build build

build-asan: ## the same with address and undefined-behaviour sanitizers, in build-asan/
	@scripts/deps build
	@scripts/build build-asan

run: build ## aggregator with its store and agent on this machine, until Ctrl-C
	@scripts/run

demo: build ## profile a demo load for 15 seconds into flamegraph.svg
	@scripts/run-demo

test: ## everything that CI checks
	@scripts/test

lint: ## format, static analysis, layers
	@scripts/deps build test lint
	@scripts/build build
	@scripts/lint build

format: ## format all C files in place
	@scripts/deps lint
	@git ls-files -z --cached --others --exclude-standard '*.c' '*.h' | xargs -0 clang-format -i

docs: build ## write docs/options.md from the option tables
	@ninja -C build options-doc >/dev/null
	@build/options-doc >docs/options.md

bench: build ## measure the agent's own cost (20 minutes; BENCH=quick: 3)
	@scripts/deps bench
	@scripts/bench

fuzz: ## fuzz each target for FUZZ_TIME seconds
	@scripts/deps build test
	@scripts/fuzz

test-kernels: build ## capture on other kernels, in emulated machines
	@scripts/deps test
	@tools/test-kernels

clean: ## remove what was built (the caches of cargo and the test environment stay)
	rm -rf build build-asan build-fuzz
