# make test does all the set-up by itself: see tools/setup.sh.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build test setup check lint fmt vet staticcheck mod shell unit short cover fuzz bench cluster nemesis image clean

GO       ?= go
TOOLS    := $(shell tools/setup.sh dir)
PACKAGES ?= ./...
FUZZTIME ?= 10s
NEMESIS  ?= 10m
TIMEOUT  ?= 20m
STRICT   := $(if $(filter true,$(CI)),-strict)

export PATH := $(TOOLS):$(PATH)

help: ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

build: ## the two commands, static, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/ ./cmd/modgate ./cmd/modbench

test: setup ## everything: set-up, formatting, vet, staticcheck, modules, scripts, go test -race
	@$(MAKE) --no-print-directory -j2 check

setup: ## install what the tests need, say what is missing
	@tools/setup.sh install

# Two lanes beside each other: the linters wait for little, the tests for much.
check: lint unit

lint: fmt vet staticcheck mod shell ## all checks that run no test

fmt:
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt -w these:"; echo "$$out"; exit 1; }
	@echo "ok    gofmt"

vet:
	@$(GO) vet ./... && $(GO) vet -tags googleclouddns ./tlsmgr && cd tools && $(GO) vet ./...
	@echo "ok    go vet"

staticcheck: vet
	@if command -v staticcheck >/dev/null; then staticcheck ./...; (cd tools; staticcheck ./...); echo "ok    staticcheck"; \
	else echo "none  staticcheck is not there"; fi

mod:
	@$(GO) mod verify >/dev/null
	@if [ "$$(tools/setup.sh online)" = 1 ]; then \
		$(GO) mod tidy -diff; (cd tools; $(GO) mod tidy -diff); echo "ok    go mod tidy, verify"; \
	else echo "ok    go mod verify (go mod tidy not checked: the public mirror does not answer)"; fi

shell:
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run tools/*.sh; echo "ok    shellcheck"; \
	else echo "none  shellcheck is not installed"; fi

# The online suite needs the public mirror. It is part of the run where the
# mirror answers, and the run says so where it does not.
unit: ## go test -race, with the online suite if the public mirror answers
	@$(GO) build -C tools -o ../bin/testreport ./testreport
	@if [ -z "$${MODGATE_TEST_ONLINE+set}" ]; then \
		if [ "$$(tools/setup.sh online)" = 1 ]; then export MODGATE_TEST_ONLINE=1; \
		else echo "note: the public mirror does not answer: the online suite is left out"; fi; fi; \
	(cd tools && $(GO) test -race -json ./...) | bin/testreport $(STRICT); \
	$(GO) test -race -timeout $(TIMEOUT) -json $(PACKAGES) | bin/testreport $(STRICT)

short: ## go test -short without the race detector, for the loop while writing
	$(GO) test -short $(PACKAGES)

cover: ## statement coverage by package, and coverage.txt
	@$(GO) test -short -coverpkg=./... -coverprofile=coverage.txt $(PACKAGES) >/dev/null
	@$(GO) tool cover -func=coverage.txt | tail -1

fuzz: ## every fuzz target for FUZZTIME (10s)
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "$$p $$f"; $(GO) test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) $$p; done; done

bench: ## modgate beside its peers, in one run; writes a Markdown table
	@tools/setup.sh bench
	$(GO) run ./cmd/modbench compare

cluster: setup build ## three replicas that share a Redis and a bucket, behind nginx, on this machine
	@tools/cluster.sh

nemesis: setup ## for NEMESIS (10m) one trouble after the other for a fleet under load; SEED repeats an order
	MODGATE_TEST_NEMESIS=$(NEMESIS) MODGATE_TEST_NEMESIS_SEED=$(SEED) $(GO) test -race ./cmd/modgate -run '^TestFleetNemesis$$' -timeout 60m -v

image: ## both container images, with a Docker engine
	docker build --target modgate -t modgate:latest .
	docker build --target modgate-vcs -t modgate:vcs .

clean: ## what was built here, not the user's caches
	rm -rf bin coverage.txt
