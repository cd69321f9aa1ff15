# The front door. Every target first sees that the packages it needs are there.

SWIFT ?= swift
PREFIX ?= /usr/local
DESTDIR ?=
# No test uses @testable, so tests and programs share one set of optimised objects.
# Line by line, so that a run that is cut off shows how far it came; what failed is told once more at the end.
# Six at a time: with a thousand tests begun at once, what a test measures is how long it waits for the others.
TEST := SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=6 Tests/run stdbuf -oL $(SWIFT) test -c release --disable-testable-imports --disable-xctest
# Suites that run QEMU or the kernel gate, and time what they see: one at a time. The expression matches "Target.Suite/test()".
REAL := ^(TestBedTests|QEMUTests|IntegrationTests|KernelGateTests|TapDetourTests)\.
SOURCES := Package.swift Sources Tests

.DEFAULT_GOAL := help
.PHONY: help packages toolchain build release test shapes sim model chaos chaos-steps demo demo-levels bench lint check ci install clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

packages: ## Install the Debian packages that are missing
	@deploy/install-packages

toolchain:
	@command -v $(SWIFT) > /dev/null || { echo "make: there is no $(SWIFT); see https://www.swift.org/install (6.3 or later)." >&2; exit 1; }

build: packages toolchain ## Build everything for debugging
	@$(SWIFT) build

release: packages toolchain ## Build everything optimised, into .build/release
	@$(SWIFT) build -c release

test: release ## Run all tests, first without and then with real QEMU, of two versions (needs root)
	@deploy/newer-qemu > /dev/null
	@$(TEST) --skip '$(REAL)'
	@$(TEST) --skip-build --no-parallel --filter '$(REAL)'

shapes: release ## Protect and fail over guests with command lines of many origins (needs root)
	@ROMULUS_SHAPES=all $(TEST) --no-parallel --filter 'IntegrationTests\.ShapeTests'

model: packages ## Check the model of the arbitration, and that it notices every planted mistake
	@Tests/ArbitrationModel/run

chaos: release ## 50 runs of real guests, one fault each at a random moment (RUNS=, SEED=; needs root)
	@.build/release/romulus-chaos $(or $(RUNS),50) $(SEED)

chaos-steps: release ## An agent is killed at each step of each turn of the dial (WORDS="turn=component-system", SEED=; needs root)
	@.build/release/romulus-chaos steps $(SEED) $(WORDS)

demo: release ## Protect a guest, kill its host, show that nothing was lost (needs root)
	@.build/release/romulus-demo

demo-levels: release ## Turn the dial of one guest under load, and show what each level survives (needs root)
	@.build/release/romulus-demo levels

# One seed with its trace: make sim SEED=4711 (and MUTANT=name for a planted defect).
SEED ?=
MUTANT ?=
sim: toolchain ## Simulate the deciding core: 100,000 schedules, then the planted defects
	@$(SWIFT) build -c release --product romulus-sim
	@.build/release/romulus-sim $(if $(SEED),--seed $(SEED),--scenarios Tests/Simulator/Scenarios) $(if $(MUTANT),--mutant $(MUTANT))

bench: release ## Measure what protection costs (PARTS="pause idle", DOCS=1 writes docs/BENCHMARKS.md; needs root)
	@.build/release/romulus-bench $(PARTS) $(if $(DOCS),--write-docs)

lint: toolchain ## Check the formatting
	@$(SWIFT) format lint --strict --parallel --recursive $(SOURCES)

check: lint release ## Before each commit: formatting, build without warnings, tests that need neither root nor QEMU
	@$(TEST) --skip '$(REAL)'

ci: ## What CI runs, each step with a time limit: lint, demo, demo-levels, model, sim, test (needs root)
	@.ci/run

# Programs for other machines carry the Swift runtime with them: other objects, hence a build folder of their own.
install: packages toolchain ## Install romulus and romulusd below $(PREFIX)
	@$(SWIFT) build -c release --static-swift-stdlib --scratch-path .build/install --product romulus
	@$(SWIFT) build -c release --static-swift-stdlib --scratch-path .build/install --product romulusd
	install -D -m 0755 .build/install/release/romulus $(DESTDIR)$(PREFIX)/bin/romulus
	install -D -m 0755 .build/install/release/romulusd $(DESTDIR)$(PREFIX)/sbin/romulusd
	install -D -m 0755 deploy/libvirt-hook $(DESTDIR)/etc/libvirt/hooks/qemu.d/romulus
	@for unit in $(wildcard deploy/*.service); do \
	    install -D -m 0644 $$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename $$unit); \
	done

clean: ## Remove what was built (the test guest's image stays in its cache)
	@rm -rf .build
