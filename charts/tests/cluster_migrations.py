"""The pages about migrating, followed on the test cluster: with Secrets as the other tool leaves them, but without that tool."""

import json
import unittest

import yaml

import chart
import documentation
from reader import Reader

PATCHER, REFLECTOR, REPLICATOR = "app.kubernetes.io/managed-by", "reflector.v1.k8s.emberstack.com/", "replicator.v1.mittwald.de/"


class Migration(Reader):
    VARIABLES = {"REGISTRY": "ghcr.io/acme"}
    STAND_INS = [
        (r"(helm install image-pull-secrets .*)", "install"),
        ("helm test ", "ask_for_the_status"),
        (r"(helm upgrade image-pull-secrets .*)", "keep"),
    ]

    def setUp(self):
        super().setUp()
        for namespace in ["kubewarden", "shop", "team-a"]:
            self.cluster.kubectl("create", "namespace", namespace)
        self.cluster.kubectl("create", "serviceaccount", "policy-server", "--namespace", "kubewarden")

    def migrate(self, page, copy, annotations):
        """Follows a page that has the tool's copy in team-a taken over; gives that copy."""
        [values] = [block.text for block in documentation.blocks((chart.ROOT / page).read_text())
                    if block.language == "yaml" and "conflicts: adopt" in block.text]
        (self.directory / "values.yaml").write_text(values)
        before = self.pull_secret("team-a", copy, annotations)
        self.follow(page)
        after = self.cluster.get("secret", copy, "--namespace", "team-a")
        self.assertEqual(after["metadata"]["uid"], before["metadata"]["uid"])
        self.assertEqual(after["metadata"]["labels"]["app.kubernetes.io/managed-by"], "image-pull-secrets-generator")
        policy = self.cluster.get("clusteradmissionpolicy", "image-pull-secrets")
        self.assertEqual(policy["spec"]["settings"]["conflicts"], "keep")
        return after

    def install(self, command):
        done = self.shell(command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.start_generator()

    def keep(self, command):
        values = self.directory / "values.yaml"
        text = values.read_text()
        self.assertIn("conflicts: adopt", text)
        values.write_text(text.replace("conflicts: adopt", "conflicts: keep"))
        done = self.shell(command)
        self.assertEqual(done.returncode, 0, done.stderr)

    def pull_secret(self, namespace, name, annotations):
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
                  "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
                  "stringData": {".dockerconfigjson": '{"auths": {"ghcr.io": {"username": "a", "password": "b"}}}'}}
        return json.loads(self.cluster.kubectl("create", "-f", "-", "--output=json", input=json.dumps(secret)).stdout)

    def deployment(self, namespace, name, pull_secrets=()):
        self.cluster.kubectl("create", "deployment", name, "--namespace", namespace, "--image=example.com/x")
        if pull_secrets:
            spec = {"imagePullSecrets": [{"name": name} for name in pull_secrets]}
            self.cluster.kubectl("patch", "deployment", name, "--namespace", namespace,
                                 "--patch", json.dumps({"spec": {"template": {"spec": spec}}}))


class FromThePatcher(Migration):
    STAND_INS = [*Migration.STAND_INS, ("helm uninstall imagepullsecret-patcher ", "uninstall_the_patcher")]

    def test_its_page(self):
        self.cluster.kubectl("create", "namespace", "imagepullsecret-patcher")
        self.pull_secret("imagepullsecret-patcher", "image-pull-secret-src", {})
        self.deployment("imagepullsecret-patcher", "imagepullsecret-patcher")
        copy = self.migrate("docs/migrating-from-imagepullsecret-patcher.md", "image-pull-secret",
                            {PATCHER: "imagepullsecret-patcher"})
        source = self.cluster.get("secret", "image-pull-secret-source", "--namespace", "image-pull-secrets")
        self.assertEqual((copy["data"], copy["type"]), (source["data"], source["type"]))

    def uninstall_the_patcher(self):
        """Its Secret goes with it."""
        self.cluster.kubectl("delete", "secret", "image-pull-secret-src", "--namespace", "imagepullsecret-patcher")


class FromKyverno(Migration):
    STAND_INS = [*Migration.STAND_INS, ("kubectl patch clusterpolicy ", None), ("kubectl delete clusterpolicy ", None)]

    def test_its_page(self):
        self.pull_secret("default", "registry-credentials", {})
        self.deployment("shop", "web", ["registry-credentials"])
        self.migrate("docs/migrating-from-kyverno.md", "registry-credentials", {})
        web = self.cluster.get("deployment", "web", "--namespace", "shop")
        self.assertNotIn("imagePullSecrets", web["spec"]["template"]["spec"])


class FromReflector(Migration):
    def test_its_page(self):
        self.pull_secret("default", "registry-credentials",
                         {f"{REFLECTOR}reflection-allowed": "true", f"{REFLECTOR}reflection-auto-enabled": "true"})
        self.deployment("kube-system", "reflector")
        self.migrate("docs/migrating-from-reflector.md", "registry-credentials", {
            f"{REFLECTOR}reflects": "default/registry-credentials", f"{REFLECTOR}auto-reflects": "True",
            f"{REFLECTOR}reflected-version": "1", f"{REFLECTOR}reflected-at": "2026-01-01T00:00:00Z"})
        for namespace in ["default", "team-a"]:
            secret = self.cluster.get("secret", "registry-credentials", "--namespace", namespace)
            self.assertNotIn(REFLECTOR, yaml.safe_dump(secret["metadata"].get("annotations")))


class FromReplicator(Migration):
    def test_its_page(self):
        self.pull_secret("default", "registry-credentials", {f"{REPLICATOR}replicate-to": ".*"})
        self.deployment("kube-system", "kubernetes-replicator")
        self.migrate("docs/migrating-from-kubernetes-replicator.md", "registry-credentials", {
            f"{REPLICATOR}replicated-at": "2026-01-01T00:00:00Z", f"{REPLICATOR}replicated-from-version": "1",
            f"{REPLICATOR}replicated-keys": ".dockerconfigjson"})
        for namespace in ["default", "team-a"]:
            secret = self.cluster.get("secret", "registry-credentials", "--namespace", namespace)
            self.assertNotIn(REPLICATOR, yaml.safe_dump(secret["metadata"].get("annotations")))


if __name__ == "__main__":
    unittest.main()
