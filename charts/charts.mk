# Chart, kustomization, Kyverno policies, registry and documentation: included by the Makefile.

# renovate: datasource=github-releases depName=helm/helm
HELM_VERSION     ?= v3.19.0
# renovate: datasource=github-releases depName=kyverno/kyverno
KYVERNO_VERSION  ?= v1.18.2
# renovate: datasource=github-releases depName=distribution/distribution
REGISTRY_VERSION ?= v3.0.0

TOOLS   := $(CURDIR)/target/tools
HELM    ?= $(or $(shell command -v helm),$(TOOLS)/helm)
KYVERNO ?= $(or $(shell command -v kyverno),$(TOOLS)/kyverno)
PYTHON  := $(TOOLS)/venv/bin/python
export HELM KYVERNO

.PHONY: chart-lint
chart-lint: $(HELM) $(PYTHON) ## Check chart, kustomization, versions, workflows and documentation, without a cluster
	$(PYTHON) -m unittest discover --start-directory charts/tests --pattern 'test_*.py'
	$(PYTHON) scripts/check-docs

.PHONY: chart-e2e
chart-e2e: policy.wasm $(HELM) $(PYTHON) e2e-tests/cluster/bin/cluster ## Install, upgrade and uninstall the chart on a real API server, and follow docs/quickstart.md there
	$(CLUSTER_TESTS) --no-run
	$(PYTHON) -m unittest discover --start-directory charts/tests --pattern 'cluster_*.py' --verbose
	$(PYTHON) scripts/check-docs --cluster

.PHONY: demo
demo: policy.wasm $(HELM) $(PYTHON) ## Record docs/demo.svg, a terminal at the test cluster
	@e2e-tests/cluster/build.sh cluster
	$(CLUSTER_TESTS) --no-run
	$(PYTHON) scripts/record-demo

.PHONY: site
site: ## Build the site of docs/ in target/site, which needs every page in docs/SUMMARY.md
	@cd docs && for page in $$(find . -name '*.md' ! -name SUMMARY.md | cut -c 3-); do \
		grep -q "($$page)" SUMMARY.md || { echo "docs/SUMMARY.md lacks $$page"; exit 1; }; done
	@command -v mdbook >/dev/null || cargo install --locked mdbook@0.5.4
	mdbook build

.PHONY: kyverno-test
kyverno-test: $(KYVERNO) ## Test kyverno/ with Kyverno's own command
	$(KYVERNO) test kyverno

.PHONY: kyverno-admission-controller
kyverno-admission-controller: $(TOOLS)/kyverno-admission-controller ## Build Kyverno's admission controller, for make bench-admission (needs Go)

REGISTRY    ?=
KWCTL_FLAGS ?=
version      = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: push
push: annotated-policy.wasm ## Push the module to a registry (REGISTRY=ghcr.io/OWNER; needs kwctl)
	@test -n "$(REGISTRY)" || { echo "say where to: make push REGISTRY=localhost:5000"; exit 1; }
	kwctl push $(KWCTL_FLAGS) annotated-policy.wasm registry://$(REGISTRY)/policies/image-pull-secrets:v$(version)

.PHONY: e2e-registry
e2e-registry: $(TOOLS)/registry ## Push the module to a registry on loopback, pull and run it from there (needs Go, kwctl, bats)
	@command -v bats >/dev/null || { echo "$(BATS_HINT)"; exit 1; }
	$(MAKE) annotated-policy.wasm
	PATH="$(TOOLS):$$PATH" bats e2e-tests/registry.bats

.PHONY: deploy
deploy: $(HELM) ## Write deploy/ and native/ anew from the chart
	scripts/render-deploy

.PHONY: e2e-tests/cluster/bin/cluster
e2e-tests/cluster/bin/cluster:
	@e2e-tests/cluster/build.sh cluster

$(TOOLS)/helm:
	@command -v go >/dev/null || { echo "helm is not installed, and neither is Go to build it with: https://helm.sh/docs/intro/install"; exit 1; }
	GOBIN=$(TOOLS) go install -trimpath helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

$(TOOLS)/registry:
	@command -v go >/dev/null || { echo "Go is not installed, to build a registry with: https://go.dev/doc/install"; exit 1; }
	GOBIN=$(TOOLS) go install -trimpath github.com/distribution/distribution/v3/cmd/registry@$(REGISTRY_VERSION)

# Not by go install: the module has a replace directive.
KYVERNO_SOURCE = $$(go mod download -json github.com/kyverno/kyverno@$(KYVERNO_VERSION) | sed -n 's/.*"Dir": "\(.*\)",/\1/p')

$(TOOLS)/kyverno:
	@command -v go >/dev/null || { echo "kyverno is not installed, and neither is Go to build it with: https://kyverno.io/docs/kyverno-cli"; exit 1; }
	cd "$(KYVERNO_SOURCE)" && go build -trimpath -o $@ ./cmd/cli/kubectl-kyverno

# With its CustomResourceDefinitions beside it.
$(TOOLS)/kyverno-admission-controller:
	@command -v go >/dev/null || { echo "Go is not installed, to build Kyverno with: https://go.dev/doc/install"; exit 1; }
	mkdir -p $(TOOLS)/kyverno-crds
	cd "$(KYVERNO_SOURCE)" && cp -R config/crds/. $(TOOLS)/kyverno-crds && go build -trimpath -o $@ ./cmd/kyverno
	chmod -R u+w $(TOOLS)/kyverno-crds

$(PYTHON): scripts/requirements.txt
	python3 -m venv $(TOOLS)/venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
