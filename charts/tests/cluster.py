"""A disposable cluster for tests: a real API server, and Nodes where they are asked for. See e2e-tests/cluster/README.md."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.request

import yaml

import chart

CLUSTER = chart.ROOT / "e2e-tests/cluster/bin/cluster"
HOST = os.environ.get("E2E_HOST") or str(chart.ROOT / "target/debug/image-pull-secrets-e2e")
GENERATOR = os.environ.get("GENERATOR") or str(chart.ROOT / "target/debug/image-pull-secrets-generator")

# How long something may take that is waited for, in seconds: much longer than ever seen, for the machine may be loaded.
PATIENCE = 300


class Cluster:
    """Runs while it is open."""

    def __init__(self, nodes=0):
        self.nodes = nodes

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        progress = pathlib.Path(self.directory.name) / "cluster.log"
        with open(progress, "w") as log:
            self.process = subprocess.Popen(
                [CLUSTER, "up", "--dir", f"{self.directory.name}/cluster", "--nodes", str(self.nodes)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert line, f"the cluster did not start:\n{progress.read_text()}"
        ready = json.loads(line)
        self.admin = ready["kubeconfig"]
        # With Nodes: the URL that says what the registry accepts, and what was pulled.
        self.registry = ready.get("registry")
        self.kubectl("apply", "-f", str(pathlib.Path(__file__).parent / "crds"))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={PATIENCE}s")
        return self

    def __exit__(self, *_):
        self.process.communicate()
        self.directory.cleanup()

    def kubectl(self, *arguments, input=None, check=True):
        """Runs kubectl as the administrator; gives the finished process."""
        done = subprocess.run(["kubectl", "--kubeconfig", self.admin, *arguments],
                              input=input, text=True, capture_output=True)
        assert done.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done

    def get(self, *arguments):
        """Gives what `kubectl get -o json` prints."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json").stdout)

    def helm(self, *arguments, values=None):
        """Runs helm as the administrator."""
        done = chart.helm(*arguments, values=values, env={"KUBECONFIG": self.admin})
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def kubeconfig_of(self, namespace, service_account):
        """Gives a kubeconfig with a token of this ServiceAccount, and nothing else."""
        token = self.kubectl("create", "token", service_account, "--namespace", namespace).stdout.strip()
        config = yaml.safe_load(pathlib.Path(self.admin).read_text())
        config["users"] = [{"name": "it", "user": {"token": token}}]
        config["contexts"] = [{"name": "it", "context": {"cluster": config["clusters"][0]["name"], "user": "it"}}]
        config["current-context"] = "it"
        path = pathlib.Path(self.directory.name) / f"{service_account}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def can(self, namespace, service_account, verb, what, where):
        """Whether a ServiceAccount may do something."""
        done = self.kubectl("auth", "can-i", verb, *what.split(), "--namespace", where,
                            "--as", f"system:serviceaccount:{namespace}:{service_account}", check=False)
        return done.stdout.strip() == "yes"

    def generator(self, workload, arguments=None, directory=None):
        """Starts the generator outside of the cluster as its container of `workload` would be started in it: the same
        arguments and environment, and the rights of the same ServiceAccount."""
        template = workload["spec"]
        while "containers" not in template:
            template = template.get("jobTemplate", template.get("template", template)).get("spec")
        container, namespace = template["containers"][0], workload["metadata"]["namespace"]
        fields = {"metadata.name": "generator-1", "metadata.namespace": namespace}
        env = {v["name"]: v["value"] if "value" in v else fields[v["valueFrom"]["fieldRef"]["fieldPath"]]
               for v in container["env"]}
        if "GENERATOR_SETTINGS" in env:
            env["GENERATOR_SETTINGS"] = f"{directory}/settings.yaml"
        env |= {"KUBECONFIG": self.kubeconfig_of(namespace, template["serviceAccountName"]),
                "GENERATOR_LISTEN": "127.0.0.1:0", "GENERATOR_LOG_LEVEL": "info"}
        with open(f"{self.directory.name}/generator.log", "a") as log:
            return subprocess.Popen([GENERATOR, *(arguments or container["args"])], env=env, stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL)

    def give_nodes_to(self, *namespaces):
        """Has the Pods of these namespaces scheduled, and those of `default`, where it is tried: the Nodes take only Pods
        that ask for their scheduler."""
        def object_of(kind, spec):
            return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "nodes"}, "spec": spec}

        policy = object_of("MutatingAdmissionPolicy", {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["default", *namespaces]}]},
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            },
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": 'Object{spec: Object.spec{schedulerName: "test-cluster"}}'}}],
        })
        binding = object_of("MutatingAdmissionPolicyBinding", {"policyName": "nodes"})
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([policy, binding]))
        # The API server takes a moment to follow it.
        pod = ["run", "probe", "--image=probe", "--dry-run=server", "--output=jsonpath={.spec.schedulerName}"]
        assert eventually(lambda: self.kubectl(*pod).stdout == "test-cluster")

    def ask_registry(self, method, path, body=None):
        """Asks the registry's control API; gives its answer. See e2e-tests/cluster/README.md."""
        request = urllib.request.Request(self.registry + path, method=method, data=json.dumps(body).encode() if body else None)
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read() or "null")

    def serve_policy(self, name):
        """Does what Kubewarden does for a ClusterAdmissionPolicy: serves it, with the rights of its policy-server, and
        registers it at the API server. Gives the process."""
        settings = pathlib.Path(self.directory.name) / "policy-settings.yaml"
        settings.write_text(yaml.safe_dump(self.get("clusteradmissionpolicy", name)["spec"]["settings"]))
        served = subprocess.Popen(
            [HOST, "serve", "--quiet", "--settings", str(settings), "--name", name,
             "--kubeconfig", self.kubeconfig_of("kubewarden", "policy-server")],
            cwd=chart.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.kubectl("apply", "-f", "-", input=served.stdout.readline())
        return served

    def log(self):
        """All that the generators of this cluster logged."""
        path = pathlib.Path(self.directory.name) / "generator.log"
        return path.read_text() if path.exists() else ""


def eventually(what, seconds=PATIENCE):
    """Waits until a function gives something true, and gives that."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.3)
