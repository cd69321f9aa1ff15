# The front door. Every target first sees that the packages it needs are there.

SWIFT ?= swift
PREFIX ?= /usr/local
DESTDIR ?=
# No test uses @testable, so tests and programs share one set of optimised objects.
TEST := $(SWIFT) test -c release --disable-testable-imports --disable-xctest
# Suites that run QEMU, and time what they see: one at a time. The expression matches "Target.Suite/test()".
REAL := ^(TestBedTests|QEMUTests|IntegrationTests)\.
SOURCES := Package.swift Sources Tests

.DEFAULT_GOAL := help
.PHONY: help packages toolchain build release test demo bench lint check install clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

packages: ## Install the Debian packages that are missing
	@deploy/install-packages

toolchain:
	@command -v $(SWIFT) > /dev/null || { echo "make: there is no $(SWIFT); see https://www.swift.org/install (6.3 or later)." >&2; exit 1; }

build: packages toolchain ## Build everything for debugging
	@$(SWIFT) build

release: packages toolchain ## Build everything optimised, into .build/release
	@$(SWIFT) build -c release

test: release ## Run all tests, first without and then with real QEMU (needs root)
	@$(TEST) --skip '$(REAL)'
	@$(TEST) --skip-build --no-parallel --filter '$(REAL)'

demo: release ## Protect a guest, kill its host, show that nothing was lost (needs root)
	@.build/release/romulus-demo

bench: release ## Measure; figures also go to .build/bench.json (needs root)
	@.build/release/romulus-bench

lint: toolchain ## Check the formatting
	@$(SWIFT) format lint --strict --parallel --recursive $(SOURCES)

check: ## What CI runs: lint, demo, test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory demo
	@$(MAKE) --no-print-directory test

# Programs for other machines carry the Swift runtime with them: other objects, hence a build folder of their own.
install: packages toolchain ## Install romulus and romulusd below $(PREFIX)
	@$(SWIFT) build -c release --static-swift-stdlib --scratch-path .build/install --product romulus
	@$(SWIFT) build -c release --static-swift-stdlib --scratch-path .build/install --product romulusd
	install -D -m 0755 .build/install/release/romulus $(DESTDIR)$(PREFIX)/bin/romulus
	install -D -m 0755 .build/install/release/romulusd $(DESTDIR)$(PREFIX)/sbin/romulusd
	@for unit in $(wildcard deploy/*.service); do \
	    install -D -m 0644 $$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename $$unit); \
	done

clean: ## Remove what was built (the test guest's image stays in its cache)
	@rm -rf .build
