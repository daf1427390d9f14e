# Each target is a shorthand for the commands below it; nothing needs make.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The modules of the repository, without those that only pin a tool.
MODULES := $(patsubst %/go.mod,%,$(wildcard ./go.mod internal/codegen/go.mod e2e/go.mod bench/go.mod deploy/go.mod))
GOLANGCI_LINT := go tool -modfile=$(CURDIR)/internal/tools/lint/go.mod golangci-lint

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 16

.PHONY: test
test: ## Run the tests of the main module, which need Go alone
	go test ./...

.PHONY: e2e
e2e: ## Run the black-box tests, which drive browsers, Node.js and Python
	@test -f e2e/go.mod || { echo 'make e2e: there is no module e2e/ in this checkout' >&2; exit 1; }
	go -C e2e test ./...

.PHONY: codegen
codegen: ## Run the tests of the code generator
	go -C internal/codegen test ./...

.PHONY: lint
lint: ## Run gofmt, go vet and golangci-lint on every module
	@files=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); test -z "$$files" || { printf 'run gofmt -w on:\n%s\n' "$$files" >&2; exit 1; }
	for module in $(MODULES); do go -C $$module vet ./... && (cd $$module && $(GOLANGCI_LINT) run ./...) || exit 1; done

.PHONY: generate
generate: ## Regenerate the Go code and the OpenAPI documents from proto/
	go generate ./...

.PHONY: bench
bench: ## Run the benchmarks of the main module and of bench/
	for module in $(filter . bench,$(MODULES)); do go -C $$module test -run '^$$' -bench . -benchmem ./... || exit 1; done

.PHONY: licenses
licenses: ## Rewrite THIRD_PARTY_LICENSES
	@text=$$(internal/tools/licenses/collect); printf '%s\n' "$$text" >THIRD_PARTY_LICENSES

.PHONY: licenses-check
licenses-check: ## Check that THIRD_PARTY_LICENSES is current
	@text=$$(internal/tools/licenses/collect); diff THIRD_PARTY_LICENSES - <<<"$$text" || { echo 'THIRD_PARTY_LICENSES is not current: run make licenses' >&2; exit 1; }

.PHONY: deploy
deploy: ## Check the Helm chart, the compose file, the systemd unit, the rules and the dashboards
	.ci/deploy

.PHONY: release
release: ## Build what a release consists of into dist/
	.ci/release

.PHONY: ci
ci: ## Run every check that a change must pass
	.ci/run

.PHONY: nightly
nightly: ## Run the checks that take too long for every change
	@test -x .ci/nightly || { echo 'make nightly: there is no .ci/nightly in this checkout' >&2; exit 1; }
	.ci/nightly
