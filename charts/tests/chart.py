"""What the chart renders, for the tests beside this file."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/image-pull-secrets"
HELM = os.environ.get("HELM") or shutil.which("helm") or str(ROOT / "target/tools/helm")
RELEASE = NAMESPACE = "image-pull-secrets"

REGISTRY = {"registry": "ghcr.io/acme"}

SECRET = {"name": "registry-credentials", "source": {"namespace": "image-pull-secrets"}}

# Values that together use every branch of every template, by what they are about.
MATRIX = {
    "defaults": {},
    "several secrets with every form of source": {
        "settings": {"secrets": [
            SECRET,
            {"name": "hub", "source": {"namespace": "vault", "name": "docker-hub"}, "matchImages": ["docker.io/acme"]},
            {"name": "ecr", "source": {"file": "/etc/credentials/.dockerconfigjson"}, "matchCredentials": True},
            {"name": "ci", "source": {"env": "DOCKERCONFIGJSON"}},
            {"name": "minted", "source": {"exec": {
                "command": "/credential-providers/ecr/provider", "args": ["--verbose"],
                "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
                "images": ["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "quay.io/acme"],
                "defaultCacheDuration": "1h30m"}}},
            {"name": "theirs"},
        ]},
        "generator": {
            "extraEnv": [{"name": "DOCKERCONFIGJSON",
                          "valueFrom": {"secretKeyRef": {"name": "ci", "key": ".dockerconfigjson"}}}],
            "extraVolumes": [{"name": "credentials", "secret": {"secretName": "ecr"}}],
            "extraVolumeMounts": [{"name": "credentials", "mountPath": "/etc/credentials"}],
            "credentialProviders": [
                {"name": "ecr", "image": "registry.example.com/ecr:1", "command": ["cp", "/provider", "/credential-providers/ecr/"]},
                {"name": "gcp", "image": "registry.example.com/gcp:1", "pullPolicy": "Always"},
            ],
        },
    },
    "a provider for a cron job": {"generator": {"mode": "cronjob", "credentialProviders": [
        {"name": "ecr", "image": "registry.example.com/ecr:1", "command": ["cp", "/provider", "/credential-providers/ecr/"]}]}},
    "a cron job": {"generator": {"mode": "cronjob", "deleteWithSource": True, "podLabels": {"a": "b"}}},
    "copies with labels": {"generator": {"copyLabels": {"team": "a", "velero.io/exclude-from-backup": "true"},
                                         "copyAnnotations": {"example.com/note": "a=b, c"}}},
    "no generator": {"generator": {"mode": "disabled"}},
    "no policy": {"policy": {"enabled": False}, "generator": {"namespaceSelector": "team,env notin (prod)"}},
    "no policy, a cron job": {"policy": {"enabled": False}, "generator": {"mode": "cronjob"}},
    "pods are rejected": {"settings": {"onMissingSecret": "reject", "conflicts": "adopt", "verifyCredentials": "hold"}},
    "pods are rejected in kube-system too": {"settings": {"onMissingSecret": "reject", "exclude": {"namespaces": ["kube-*"]}}},
    "nothing is asked about": {"settings": {"onMissingSecret": "ignore"}},
    "only namespaces are asked about": {
        "settings": {"onMissingSecret": "ignore", "exclude": {"namespaces": [], "annotation": "example.com/exclude"}}},
    "only watching": {"policy": {"mode": "monitor"}},
    "names that look like numbers": {
        "settings": {"secrets": [{"name": "123", "source": {"namespace": "1234", "name": "1e3"}},
                                 {"name": "0", "source": {"namespace": "1"}}],
                     "serviceAccounts": ["5"], "exclude": {"namespaces": ["6"]}},
        "sourceSecrets": [{"name": "0", "namespace": "1", "dockerconfigjson": "{}"}],
        "policy": {"name": "2"}, "policyServer": {"name": "3", "serviceAccount": {"name": "4", "namespace": "1"}},
        "generator": {"priorityClassName": "7", "serviceAccount": {"name": "8"}, "former": {"secrets": ["9"]}}},
    "namespaces are selected and excluded": {
        "policy": {"namespaceSelector": [{"key": "team", "operator": "In", "values": ["a", "b"]}]},
        "settings": {"exclude": {"namespaces": ["kube-*"], "annotation": "example.com/exclude"}},
    },
    "all service accounts": {"settings": {"serviceAccounts": ["*"]}},
    "no service accounts": {"settings": {"serviceAccounts": []}, "generator": {"cleanupOnUninstall": False}},
    "everything optional": {
        "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
                          "extraEgress": [{"ports": [{"port": 80}]}]},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "generator": {
            "interval": "10m", "deleteWithSource": True, "restartStuckPods": True,
            "image": {"digest": "sha256:" + "0" * 64, "repository": "localhost:5000/generator"},
            "imagePullSecrets": [{"name": "own"}],
            "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "nodeSelector": {"kubernetes.io/os": "linux"},
            "priorityClassName": "system-cluster-critical",
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "serviceAccount": {"name": "own", "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}},
            "former": {"secrets": ["old"], "serviceAccounts": ["builder"]},
        },
    },
    "patterns of every form": {"settings": {
        "secrets": [{"name": "a", "matchImages": [
            "*.dkr.ecr.*.amazonaws.com", "[::1]:5000/x", "localhost:5000", "docker.io/acme/", "my_registry.local/a b",
            "localhost/acme", "registry:5000", "*", "Registry/acme"]}],
        "serviceAccounts": ["[a-z]*", "[^a-cx]?", "a\\*", "b[\\]*]"],
        "exclude": {"namespaces": ["*-system", "[[]", "]"]}}},
    "secrets for some namespaces": {"settings": {"secrets": [
        SECRET | {"namespaceSelector": {"matchLabels": {"team": "a"}}},
        {"name": "b", "namespaces": ["team-b", "ci-*"], "namespaceSelector": {
            "matchExpressions": [{"key": "example.com/env", "operator": "NotIn", "values": ["dev", ""]},
                                 {"key": "team", "operator": "Exists"}]}}]}},
    "secrets for some namespaces, by name": {"settings": {"onMissingSecret": "ignore", "secrets": [
        {"name": "a", "namespaces": ["team-a"]}, {"name": "b", "namespaces": [], "namespaceSelector": {}}]}},
    "the API server alone": {"policy": {"engine": "native"}},
    "the API server alone, which looks at the Secret": {
        "policy": {"engine": "native", "namespaceSelector": [{"key": "team", "operator": "In", "values": ["a", "b"]},
                                                             {"key": "old", "operator": "DoesNotExist"}]},
        "generator": {"namespaceSelector": "env!=dev"},
        "settings": {"onMissingSecret": "skip", "serviceAccounts": ["default", "build-[a-z]*"],
                     "exclude": {"namespaces": ["kube-*", "ci"], "annotation": "example.com/exclude"},
                     "secrets": [SECRET | {"namespaces": ["team-?"], "namespaceSelector": {"matchLabels": {"team": "a"}}},
                                 {"name": "hub", "matchImages": ["docker.io/acme", "*.dkr.ecr.*.amazonaws.com", "r.io:5000"]}]}},
    "the API server alone, which rejects": {
        "policy": {"engine": "native"}, "settings": {"onMissingSecret": "reject", "serviceAccounts": []}},
    "a list of images that is empty": {"settings": {"secrets": [{"name": "a", "matchImages": []}]}},
    "no admission policy": {"generator": {"admissionPolicy": {"enabled": False}}},
    "one replica": {"generator": {"replicas": 1}},
    "the source from values": {"sourceSecrets": [
        {"name": "registry-credentials",
         "registries": [{"server": "ghcr.io", "username": "user", "password": "pass:word"}]}]},
    "the source from values, as a document": {"sourceSecrets": [
        {"name": "registry-credentials", "namespace": "image-pull-secrets", "dockerconfigjson": '{"auths": {}}'}]},
    "other names, another namespace, labels for everything": {
        "nameOverride": "pull", "fullnameOverride": "credentials", "namespaceOverride": "vault",
        "commonLabels": {"team": "platform", "c": "everywhere"},
        "generator": {"podLabels": {"c": "pods"}},
        "serviceMonitor": {"enabled": True, "labels": {"c": "monitor"}}, "prometheusRule": {"enabled": True},
        "networkPolicy": {"enabled": True}},
    "a mirror for every chart": {
        "global": {"imageRegistry": "mirror.example.com:5000", "imagePullSecrets": ["mirror", {"name": "own"}]},
        "generator": {"imagePullSecrets": [{"name": "own"}]}},
    "a ServiceAccount that exists": {"generator": {"serviceAccount": {"create": False, "name": "own"}}},
    "the API server assigns the user": {"generator": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}}},
    "the source in the release's namespace": {"settings": {"secrets": [
        {"name": "registry-credentials", "source": {}}, {"name": "hub", "source": {"name": "docker-hub"}}]}},
    "a registry without a network": {"registry": "harbor.example.com/library", "policyServer": {
        "name": "reserved", "serviceAccount": {"name": "reserved", "namespace": "policies"}}},
}

# The manifests of native/, and the values that the chart renders them from.
NATIVE = {
    "policy.yaml": {"policy": {"engine": "native"}},
    "policy-with-parameter.yaml": {"policy": {"engine": "native"}, "settings": {"onMissingSecret": "skip"}},
}


def helm(*arguments, values=None, env=None):
    """Runs helm with values on standard input, and a registry where they have none; gives the finished process."""
    if values is not None:
        arguments += ("--values", "-")
    return subprocess.run([HELM, *arguments], input=json.dumps(REGISTRY | (values or {})), text=True, capture_output=True,
                          env=env and os.environ | env)


def template(values, release=RELEASE, kubernetes="1.36", api=()):
    """Runs `helm template` as if the API server had these versions and kinds as well; gives the finished process."""
    return helm("template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", kubernetes,
                *(f"--api-versions={version}" for version in api), values=values)


def render(values, release=RELEASE, kubernetes="1.36", api=()):
    """Gives the objects that the chart renders, hooks and tests included."""
    rendered = template(values, release, kubernetes, api)
    assert rendered.returncode == 0, rendered.stderr
    return [document for document in yaml.safe_load_all(rendered.stdout) if document]


def notes(values, kubernetes="1.36"):
    """Gives the notes. Helm renders them only where it installs; so a copy of the chart has an object that holds them."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(CHART, directory, dirs_exist_ok=True)
        templates = pathlib.Path(directory, "templates")
        text = (templates / "NOTES.txt").read_text()
        (templates / "_notes.tpl").write_text('{{ define "notes" }}' + text + "{{ end }}")
        (templates / "notes.yaml").write_text('kind: Notes\nmetadata: {name: notes}\nnotes: {{ include "notes" . | toJson }}\n')
        rendered = helm("template", RELEASE, directory, "--namespace", NAMESPACE, "--kube-version", kubernetes, values=values)
        assert rendered.returncode == 0, rendered.stderr
        return find(list(yaml.safe_load_all(rendered.stdout)), "Notes")["notes"]


def is_hook(document):
    """Whether Helm creates the object at some event only."""
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def find(documents, kind, name=None):
    """Gives the only object of a kind, and of a name where one is given."""
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects are {kind} {name or ''}"
    return found[0]


def pods(documents):
    """Gives (name, Pod or template of one) of everything that makes Pods."""
    for document in documents:
        match document["kind"]:
            case "Pod":
                yield document["metadata"]["name"], document
            case "Deployment" | "Job":
                yield document["metadata"]["name"], document["spec"]["template"]
            case "CronJob":
                yield document["metadata"]["name"], document["spec"]["jobTemplate"]["spec"]["template"]


def pod_specs(documents):
    """Gives (name, Pod spec) of everything that makes Pods."""
    return ((name, pod["spec"]) for name, pod in pods(documents))
