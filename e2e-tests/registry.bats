#!/usr/bin/env bats
# The policy in an OCI registry on loopback, with the commands of docs/publishing.md. `make e2e-registry` runs it.

bats_require_minimum_version 1.5.0

setup() {
  cd "$BATS_TEST_DIRNAME"
}

setup_file() {
  # A policy store and a configuration of its own.
  export HOME=$BATS_FILE_TMPDIR XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache XDG_CONFIG_HOME=$BATS_FILE_TMPDIR/config
  PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  export REPOSITORY=localhost:$PORT/policies/image-pull-secrets:v0.1.0
  export SOURCES=$BATS_FILE_TMPDIR/sources.yaml
  echo "insecure_sources: [\"localhost:$PORT\"]" >"$SOURCES"
  cat >"$BATS_FILE_TMPDIR/registry.yaml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $BATS_FILE_TMPDIR/registry}}
http: {addr: "127.0.0.1:$PORT"}
YAML
  OTEL_TRACES_EXPORTER=none registry serve "$BATS_FILE_TMPDIR/registry.yaml" >"$BATS_FILE_TMPDIR/registry.log" 2>&1 3>&- &
  export REGISTRY_PID=$!
  while kill -0 "$REGISTRY_PID"; do
    (exec 2>/dev/null 4<>"/dev/tcp/127.0.0.1/$PORT") && return
    sleep 0.1
  done
  cat "$BATS_FILE_TMPDIR/registry.log" >&2
  return 1
}

teardown_file() {
  kill "$REGISTRY_PID"
}

@test "is pushed, with its metadata" {
  kwctl push --sources-path "$SOURCES" ../annotated-policy.wasm "registry://$REPOSITORY"
  kwctl pull --sources-path "$SOURCES" "registry://$REPOSITORY"
  run --separate-stderr kwctl inspect --sources-path "$SOURCES" --output yaml "registry://$REPOSITORY"
  [ "$status" -eq 0 ]
  [[ "$output" == *"mutating: true"* && "$output" == *"minimumKubewardenVersion: 1.33.0"* ]]
}

@test "runs from there" {
  run --separate-stderr kwctl run --sources-path "$SOURCES" "registry://$REPOSITORY" \
    -r fixtures/requests/plain-pod.json --settings-path fixtures/settings/warn.yaml \
    --allow-context-aware --replay-host-capabilities-interactions fixtures/sessions/usable.yaml
  [ "$status" -eq 0 ]
  [ "$(tail -n 1 <<<"$output" | jq -r '.patch | @base64d')" = \
    '[{"op":"add","path":"/spec/imagePullSecrets","value":[{"name":"registry-credentials"}]}]' ]
}

@test "is the same module after a way over a file, to another registry" {
  local archive=$BATS_FILE_TMPDIR/policies.tar.gz mirror=${REPOSITORY/policies/library/policies}
  kwctl pull --sources-path "$SOURCES" "registry://$REPOSITORY"
  kwctl save --output "$archive" "registry://$REPOSITORY"
  kwctl rm "registry://$REPOSITORY"
  run ! --separate-stderr grep -q image-pull-secrets <(kwctl policies)
  kwctl load --input "$archive"
  kwctl push --sources-path "$SOURCES" "registry://$REPOSITORY" "registry://$mirror"
  kwctl pull --sources-path "$SOURCES" --output-path "$BATS_FILE_TMPDIR/again.wasm" "registry://$mirror"
  cmp ../annotated-policy.wasm "$BATS_FILE_TMPDIR/again.wasm"
}

@test "becomes a ClusterAdmissionPolicy with the rules and rights of deploy/" {
  run --separate-stderr kwctl scaffold manifest --type ClusterAdmissionPolicy --allow-context-aware \
    --sources-path "$SOURCES" --settings-path ../examples/settings.yaml "registry://$REPOSITORY"
  [ "$status" -eq 0 ]
  for line in 'mutating: true' 'backgroundAudit: false' 'kind: Secret' 'kind: Namespace' '- serviceaccounts'; do
    [[ "$output" == *"$line"* ]] || { echo "lacks $line: $output" >&2; return 1; }
  done
}
