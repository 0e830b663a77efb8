# `make` alone lists the targets. Each sets up what it needs on a machine that has Rust.

MANIFEST ?= examples/manifests.yaml
SETTINGS ?= examples/settings.yaml
CLUSTER  ?= examples/cluster
ARGS     ?=
# The advisories are on GitHub, which not every machine reaches.
DENY     ?= bans licenses sources

KWCTL_HINT = kwctl is not installed: download it from https://github.com/kubewarden/kwctl/releases (macOS: brew install kwctl)
POLICY_SERVER_HINT = policy-server is not in the PATH: build it from the sources of Kubewarden (cargo build -p policy-server), which are \
	at https://github.com/kubewarden/kubewarden-controller
BATS_HINT  = bats is not installed: apt-get install bats jq, or see https://bats-core.readthedocs.io

WORKSPACE_FILES := Cargo.toml Cargo.lock scripts/build-module.sh
sources_of = $(shell find $(1) -name '*.rs' -o -name Cargo.toml)

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The embedded host for `make run`: with an engine that compiles in a minute, and nothing else that the command does not need.
RUN    := $(TARGET)/run/image-pull-secrets-e2e
# The embedded host as `cargo test` leaves it, with the engine of policy-server.
HOST   := $(TARGET)/debug/image-pull-secrets-e2e

# Tests and benchmarks find the modules by these names.
export POLICY_WASM    := $(CURDIR)/policy.wasm
export YARDSTICK_WASM := $(CURDIR)/yardstick.wasm
export PROBE_WASM     := $(CURDIR)/probe.wasm

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: policy.wasm $(RUN) ## Show what the policy does with examples/ (MANIFEST=… SETTINGS=… CLUSTER=… ARGS='--output json')
	@$(RUN) run --module policy.wasm --metadata metadata.yml --settings $(SETTINGS) --cluster $(CLUSTER) $(ARGS) $(MANIFEST)

# cargo's progress is for terminals.
$(RUN): Cargo.toml Cargo.lock $(call sources_of,e2e-tests/src) e2e-tests/Cargo.toml
	@echo "Compiling the embedded host that runs the module: about a minute the first time" >&2
	@cargo build $$([ -t 2 ] || echo --quiet) --locked -p image-pull-secrets-e2e --no-default-features
	@mkdir -p $(@D)
	@cp $(HOST) $@

.PHONY: test
test: policy.wasm probe.wasm ## Unit tests and the module's end-to-end tests: everything that needs no cluster
	@$(if $(wildcard $(TARGET)/debug/deps/libwasmtime_provider-*),:,echo "Compiling wasmtime, the Kubernetes client and the tests: about six minutes the first time" >&2)
	cargo test --locked --workspace

.PHONY: fmt
fmt: ## Format check
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	cargo fmt --all --check

.PHONY: lint
lint: fmt ## Format check and lints
	scripts/check-shared-builds
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## Check licenses, bans and sources of every dependency (advisories too: make deny DENY=)
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2
	cargo deny --locked --workspace check --hide-inclusion-graph $(DENY)

.PHONY: bench
bench: policy.wasm yardstick.wasm ## Measure the module against the plain SDK way, in one run
	cargo bench --locked -p image-pull-secrets-e2e --bench module

# Whatever is built natively is built for the tests of the whole workspace: with other packages or features cargo would
# compile dependencies anew.
CLUSTER_TESTS = cargo test --locked --workspace --test sdk --test differential --test e2e --test cluster

.PHONY: e2e
e2e: policy.wasm ## Prove it on a real API server, and core/ against the kubelet's code (needs Go; see docs/testing.md)
	@e2e-tests/cluster/build.sh
	@# -trimpath, as the programs are built: Kubernetes is compiled once.
	cd e2e-tests/cluster && GOTOOLCHAIN=local $${GO:-go} test -trimpath -count=1 ./oracle ./cluster/registry ./smoke
	$(CLUSTER_TESTS) --no-run
	@# Most of a test is waiting for the API server, so that more run at a time than there are processors.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} $(HOST) with-cluster --nodes 2 --logs target/e2e-logs -- \
		$(CLUSTER_TESTS) --no-fail-fast $(if $(KUBECONFIG_E2E),-- --skip pull::)

.PHONY: e2e-kwctl
e2e-kwctl: policy.wasm ## Run e2e-tests/e2e.bats with kwctl
	@command -v kwctl >/dev/null || { echo "$(KWCTL_HINT)"; exit 1; }
	@command -v bats >/dev/null || { echo "$(BATS_HINT)"; exit 1; }
	$(MAKE) annotated-policy.wasm
	bats e2e-tests/e2e.bats

.PHONY: e2e-tests
e2e-tests: e2e-kwctl ## The same, by the name that Kubewarden's workflows call

.PHONY: e2e-policy-server
e2e-policy-server: ## Kubewarden's own policy-server on a real API server: it answers as the embedded host does (needs Go, kwctl)
	@command -v policy-server >/dev/null || { echo "$(POLICY_SERVER_HINT)"; exit 1; }
	$(MAKE) annotated-policy.wasm
	@e2e-tests/cluster/build.sh cluster
	$(CLUSTER_TESTS) --no-run
	$(HOST) with-cluster --nodes 2 --logs target/e2e-logs -- cargo test --locked --workspace --test e2e -- --ignored policy_server

policy.wasm: $(WORKSPACE_FILES) $(call sources_of,src core) ## Build the policy's module (wasm32-wasip1)
	@scripts/build-module.sh image-pull-secrets-policy $@

yardstick.wasm: $(WORKSPACE_FILES) $(call sources_of,e2e-tests/yardstick)
	@scripts/build-module.sh yardstick-policy $@

probe.wasm: $(WORKSPACE_FILES) $(call sources_of,e2e-tests/guests/probe)
	@scripts/build-module.sh probe-policy $@

annotated-policy.wasm: policy.wasm ## Add the metadata to the module (kwctl)
annotated-%.wasm: %.wasm metadata.yml README.md
	@command -v kwctl >/dev/null || { echo "$(KWCTL_HINT)"; exit 1; }
	kwctl annotate --metadata-path metadata.yml --usage-path README.md --output-path $@ $<

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean
	rm -rf *.wasm e2e-tests/cluster/bin

.PHONY: bench-generator
bench-generator: ## Measure the generator on the real API server, beside a plain loop (BENCH_NAMESPACES=100,1000)
	@e2e-tests/cluster/build.sh cluster
	$(CLUSTER_TESTS) --no-run
	$(HOST) with-cluster --logs target/e2e-logs -- \
		cargo bench --locked -p image-pull-secrets-generator --bench namespaces

.PHONY: bench-admission
bench-admission: policy.wasm yardstick.wasm ## Measure what admission costs on the real API server (needs Go; BENCH_SECONDS=3: docs/benchmarks.md)
	@e2e-tests/cluster/build.sh cluster
	@# The benchmark takes policy-server and Kyverno where they are.
	@if command -v policy-server >/dev/null; then $(MAKE) annotated-policy.wasm annotated-yardstick.wasm; fi
	$(CLUSTER_TESTS) --no-run
	PATH="$(TOOLS):$$PATH" $(HOST) with-cluster --logs target/e2e-logs -- \
		cargo bench --locked -p image-pull-secrets-e2e --bench admission

.PHONY: bench-pull
bench-pull: policy.wasm ## Measure how long a new namespace waits for its image (needs Go; BENCH_NAMESPACES=50: docs/benchmarks.md)
	@e2e-tests/cluster/build.sh cluster
	@if command -v policy-server >/dev/null; then $(MAKE) annotated-policy.wasm; fi
	cargo build --locked --profile bench -p image-pull-secrets-generator
	$(CLUSTER_TESTS) --no-run
	$(HOST) with-cluster --nodes 1 --logs target/e2e-logs -- cargo bench --locked -p image-pull-secrets-e2e --bench pull

include charts/charts.mk
