#!/bin/sh
# Builds bin/oracle, bin/cluster and the credential providers that the tests of
# source.exec run; does nothing when they are up to date. `build.sh oracle`
# builds that one only (a tenth of the work).
#
# GO names another Go, GO_JOBS how many packages are compiled at once (default
# 2: each can take a gigabyte, the link two).
set -eu
cd "$(dirname "$0")"

go=${GO:-go}
wanted=$(sed -n 's/^go //p' go.mod)
up_to_date() {
	[ -x "bin/$1" ] && [ -z "$(find go.mod go.sum build.sh "$1" -newer "bin/$1" -print -quit)" ]
}

build() {
	if up_to_date "$1"; then
		return
	fi
	if ! command -v "$go" >/dev/null 2>&1; then
		echo "e2e-tests/cluster: '$go' is not installed, and bin/$1 is built with it: install Go $wanted or newer (https://go.dev/dl)." >&2
		echo "KUBEBUILDER_ASSETS and KUBECONFIG_E2E name another API server to test, and do not spare the build." >&2
		exit 1
	fi
	if [ -z "${kubernetes:-}" ]; then
		# Without GOTOOLCHAIN=local an older Go would fetch another one.
		kubernetes=$(GOTOOLCHAIN=local "$go" list -m -f '{{.Version}}' k8s.io/kubernetes) || {
			echo "e2e-tests/cluster: $("$go" version) cannot read go.mod, which needs Go $wanted or newer" >&2
			exit 1
		}
	fi
	echo "e2e-tests/cluster: building $1 (Kubernetes $kubernetes; minutes the first time)" >&2
	# The version is what the API server reports, and what `cluster` asks it for.
	GOTOOLCHAIN=local "$go" build -p "${GO_JOBS:-2}" -trimpath -buildvcs=false \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes" \
		-o "bin/$1" "./$1"
	touch "bin/$1"
}

# The name of a program, its package, and the directory of the module that has it.
build_provider() {
	if [ -x "bin/$1" ] && [ -z "$(find "$3/go.mod" "$3/go.sum" build.sh -newer "bin/$1" -print -quit)" ]; then
		return
	fi
	echo "e2e-tests/cluster: building $1" >&2
	(cd "$3" && GOTOOLCHAIN=local "$go" build -p "${GO_JOBS:-2}" -trimpath -buildvcs=false -ldflags "-s -w" \
		-o "$OLDPWD/bin/$1" "$2")
	touch "bin/$1"
}

build_providers() {
	build_provider ecr-credential-provider k8s.io/cloud-provider-aws/cmd/ecr-credential-provider providers
	build_provider gcp-credential-provider k8s.io/kubernetes/test/e2e_node/plugins/gcp-credential-provider .
}

mkdir -p bin
case "${1:-all}" in
all)
	build oracle
	build cluster
	build_providers
	;;
oracle | cluster)
	build "$1"
	;;
providers)
	build_providers
	;;
*)
	echo "usage: build.sh [oracle|cluster|providers]" >&2
	exit 2
	;;
esac
