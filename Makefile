# SPDX-License-Identifier: Apache-2.0
#
# Two commands do everything on a fresh Debian machine with Go: make demo and
# make test. Both install what is missing, so both want root the first time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PREFIX ?= /usr
DESTDIR ?=
FUZZTIME ?= 10s
BENCHFLAGS ?=

# A clean environment (env -i, sudo, cron) has no HOME, without which Go has no
# cache, and a PATH without Go and sbin.
export PATH := $(or $(PATH),/usr/local/bin:/usr/bin:/bin):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
ifeq ($(HOME),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif

# Without .git (a tarball) git would look into the directories above.
VERSION ?= $(or $(shell test -e .git && git describe --tags --always --dirty 2>/dev/null),0.1.0-dev)
MODULE := github.com/userns-runtime/userns-runtime
# The version is in the link flags; Go's own stamp fails in a tree of another
# owner, and would make two builds of one commit differ.
GOBUILD := go build -trimpath -buildvcs=false
LDFLAGS := -s -w -X $(MODULE)/internal/shim.Version=$(VERSION)
MAIN_LDFLAGS := -s -w -X main.version=$(VERSION)

# Outside of the tree, so that `git clean` doesn't cost three minutes.
GOLANGCI_VERSION := v2.15.0
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/userns-runtime/tools
export GOLANGCI := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
export GOLANGCI_VERSION
# Without it, what is judged by the pinned runc is skipped.
export USERNS_TEST_RUNC := $(CURDIR)/bin/runc

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Go knows what is up to date, and does nothing then.
.PHONY: build build-userns-runtime build-userns build-usernsctl build-runc
build: build-userns-runtime build-userns build-usernsctl build-runc ## Build the programs, and bin/runc

build-userns-runtime:
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(LDFLAGS)' -o bin/userns-runtime ./cmd/userns-runtime

build-userns:
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(MAIN_LDFLAGS)' -o bin/userns ./cmd/userns

build-usernsctl:
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(MAIN_LDFLAGS)' -o bin/usernsctl ./cmd/usernsctl

build-runc:
	@pkg-config --exists libseccomp || { echo 'build: bin/runc needs libseccomp-dev, pkg-config and gcc: run `make deps` as root' >&2; exit 1; }
	CGO_ENABLED=1 $(GOBUILD) -ldflags '-s -w' -tags seccomp -o bin/runc github.com/opencontainers/runc

# What is installed must be there before a build starts, with -j too: hence the
# makes inside of recipes.
.PHONY: demo
demo: ## Run a real container in its own range, and prove it (root)
	@tests/install-deps demo
	@$(MAKE) --no-print-directory build
	@tests/demo

.PHONY: test
test: ## Install what is missing, build, run every suite (root)
	@tests/install-deps test
	@$(MAKE) --no-print-directory build
	@tests/run lint unit race bats

.PHONY: lint unit race bats
lint: ## golangci-lint and shellcheck
	@tests/run lint
unit: build ## Go tests, with the seeds of the fuzz tests
	@tests/run unit
race: build ## Go tests under the race detector
	@tests/run race
bats: build ## The built programs with real containers (root)
	@tests/run bats

# With a longer timeout than a test has otherwise: setup_suite.bash.
.PHONY: soak
soak: build ## 1,000 kills at every step of starts and ends; UR_SEED=N repeats one (root)
	UR_KILLS=$${UR_KILLS:-1000} BATS_TEST_TIMEOUT=$${BATS_TEST_TIMEOUT:-1500} bats --tap tests/bats/faults.bats

.PHONY: fuzz
fuzz: ## Every fuzz test for FUZZTIME each (10s)
	@grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file func; do \
		echo "$${file%/*} $${func#func }"; \
		go test -run='^$$' -fuzz="^$${func#func }\$$" -fuzztime=$(FUZZTIME) "$${file%/*}"; \
	done

.PHONY: bench
bench: build ## Time and memory against plain runc; BENCHFLAGS='-n 100 -json' (root)
	@go run ./tests/cmd/bench $(BENCHFLAGS)

# Hundreds of cases, with three daemons at once: half an hour on two cores. `make test` has a short cut of it.
.PHONY: matrix
matrix: build ## Each way of starting a container under runc and under this, compared (root)
	@tests/matrix/options
	@tests/matrix/run --remap

.PHONY: install
install: build ## Install to $(DESTDIR)$(PREFIX); the default is /usr
	install -D -m 0755 bin/userns-runtime '$(DESTDIR)$(PREFIX)/bin/userns-runtime'
	install -D -m 0755 bin/usernsctl '$(DESTDIR)$(PREFIX)/bin/usernsctl'
	install -D -m 0755 bin/userns '$(DESTDIR)$(PREFIX)/bin/userns'
	for name in newuidmap newgidmap; do install -D -m 0755 bin/userns "$(DESTDIR)$(PREFIX)/libexec/userns-runtime/$$name"; done
	@$(MAKE) --no-print-directory file-capabilities
	install -D -m 0755 bin/runc '$(DESTDIR)$(PREFIX)/libexec/userns-runtime/runc'
	sed 's,^ExecStart=/usr/,ExecStart=$(PREFIX)/,' dist/systemd/userns-pins.service | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/lib/systemd/system/userns-pins.service'
	install -D -m 0644 dist/tmpfiles.d/userns-runtime.conf '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/userns-runtime.conf'
	install -d -m 0755 '$(DESTDIR)$(PREFIX)/share/doc/userns-runtime/examples'
	install -m 0644 config/default.toml $(wildcard config/examples/*.toml) config/examples/usernamespaces '$(DESTDIR)$(PREFIX)/share/doc/userns-runtime/examples/'
	install -m 0644 $(wildcard config/examples/engines/*) '$(DESTDIR)$(PREFIX)/share/doc/userns-runtime/examples/'
	bin/usernsctl completion bash | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/usernsctl'
	bin/usernsctl completion zsh | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_usernsctl'
	bin/usernsctl completion fish | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/usernsctl.fish'
	for page in $(wildcard man/*.[1-8]); do install -D -m 0644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done

# Permitted, not effective: the program raises them around one write. A package built
# without root gives them in its own way when it is installed.
.PHONY: file-capabilities
file-capabilities:
	@for grant in cap_setuid,cap_setgid:bin/userns cap_setuid:libexec/userns-runtime/newuidmap cap_setgid:libexec/userns-runtime/newgidmap; do \
		setcap "$${grant%%:*}=p" "$(DESTDIR)$(PREFIX)/$${grant#*:}" || \
			echo "install: $(DESTDIR)$(PREFIX)/$${grant#*:} has no file capabilities, without which it maps its caller's own ID only: run as root: setcap $${grant%%:*}=p $(PREFIX)/$${grant#*:}" >&2; \
	done

.PHONY: deps
deps: ## Install what build, demo and test need (root)
	@tests/install-deps test

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin coverage.out
