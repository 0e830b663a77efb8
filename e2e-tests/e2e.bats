#!/usr/bin/env bats
# The policy in kwctl, on recorded sessions: no cluster needed. `make e2e-kwctl` runs it.
#
# What each case is and what must come of it stands in fixtures/cases.json; tests/module/fixtures.rs checks the same cases in the
# embedded host.

bats_require_minimum_version 1.5.0

setup_file() {
  cd "$BATS_TEST_DIRNAME"
  export POLICY="${POLICY:-$BATS_TEST_DIRNAME/../annotated-policy.wasm}"
}

# check NAME: evaluates the case, and compares verdict, added names, warnings, message and the rest of the object.
check() {
  local case request response
  case=$(jq -ec --arg name "$1" '.[] | select(.name == $name)' fixtures/cases.json)
  request=fixtures/requests/$(jq -r .request <<<"$case").json

  run --separate-stderr kwctl run "$POLICY" \
    --request-path "$request" \
    --settings-path "fixtures/settings/$(jq -r .settings <<<"$case").yaml" \
    --allow-context-aware \
    --replay-host-capabilities-interactions "fixtures/sessions/$(jq -r .session <<<"$case").yaml"
  [ "$status" -eq 0 ] || { echo "$stderr" >&2; return 1; }
  response=$(tail -n 1 <<<"$output")

  compare verdict "$(jq -r .verdict <<<"$case")" \
    "$(jq -r 'if .allowed | not then "rejected" elif .patch == null then "accepted" else "mutated" end' <<<"$response")"
  compare warnings "$(jq -c .warnings <<<"$case")" "$(jq -c '.warnings // []' <<<"$response")"
  compare message "$(jq -r .message <<<"$case")" "$(jq -r '.status.message // ""' <<<"$response")"
  compare added "$(jq -c .added <<<"$case")" "$(added "$response")"
  ! grep -qE 'not-a-password|bm90LWEtcGFzc3dvcmQ' <<<"$output$stderr"
}

# The names that the patch adds; fails where it does anything but add under imagePullSecrets.
added() {
  jq -ec '[(.patch // "W10=") | @base64d | fromjson | .[]
    | if .op == "add" and (.path | test("^(/spec)?/imagePullSecrets(/[0-9]+)?$")) then .value else error("\(.)") end
    | if type == "array" then .[] else . end | .name]' <<<"$1"
}

compare() {
  [ "$2" = "$3" ] || { printf '%s\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3" >&2; return 1; }
}

@test "adds the secret" {
  check adds_the_secret
}

@test "appends behind the pods own" {
  check appends_behind_the_pods_own
}

@test "adds the secret to a service account" {
  check adds_the_secret_to_a_service_account
}

@test "leaves a pod that lists it" {
  check leaves_a_pod_that_lists_it
}

@test "leaves a pod that lists a usable secret" {
  check leaves_a_pod_that_lists_a_usable_secret
}

@test "leaves a mirror pod" {
  check leaves_a_mirror_pod
}

@test "leaves an excluded namespace" {
  check leaves_an_excluded_namespace
}

@test "leaves a deployment" {
  check leaves_a_deployment
}

@test "adds a missing secret and warns" {
  check adds_a_missing_secret_and_warns
}

@test "leaves a missing secret out and warns" {
  check leaves_a_missing_secret_out_and_warns
}

@test "denies without the secret" {
  check denies_without_the_secret
}

@test "denies a pod that lists a missing secret" {
  check denies_a_pod_that_lists_a_missing_secret
}

@test "never denies a service account" {
  check never_denies_a_service_account
}

@test "leaves a missing secret out of a service account" {
  check leaves_a_missing_secret_out_of_a_service_account
}

@test "adds the secret without a question" {
  check adds_the_secret_without_a_question
}

@test "warns of an ephemeral container" {
  check warns_of_an_ephemeral_container
}

@test "leaves a secret of another type out" {
  check leaves_a_secret_of_another_type_out
}

@test "leaves a malformed secret out" {
  check leaves_a_malformed_secret_out
}

@test "denies a malformed secret" {
  check denies_a_malformed_secret
}

@test "denies a pod that lists a malformed secret" {
  check denies_a_pod_that_lists_a_malformed_secret
}

@test "adds a secret it may not read and warns" {
  check adds_a_secret_it_may_not_read_and_warns
}

@test "denies a secret it may not read" {
  check denies_a_secret_it_may_not_read
}

@test "refuses settings with every fault at once" {
  run kwctl run "$POLICY" --request-path fixtures/requests/plain-pod.json --allow-context-aware \
    --replay-host-capabilities-interactions fixtures/sessions/nothing-asked.yaml \
    --settings-json '{"secrets": [{"name": "A"}], "extra": 1}'
  [[ "$output" == *"extra: is no setting"* ]]
  [[ "$output" == *'secrets[0].name: "A" is no name of a Secret'* ]]
}
