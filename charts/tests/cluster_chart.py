"""The chart on a real API server, with the generator at work under the rights that the chart grants it."""

import json
import shlex
import subprocess
import tempfile
import unittest

import yaml

import chart
import documentation
import test_rendering
from chart import MATRIX, NAMESPACE, RELEASE, render
from cluster import GENERATOR, PATIENCE, Cluster, eventually

SOURCE = ["create", "secret", "docker-registry", "--docker-server=ghcr.io", "--docker-username=user",
          "--docker-password=hunter2", "--namespace"]
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


class OnARealApiServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(Cluster())
        for namespace in ["kubewarden", "policies", "vault", "team-a", "team-b", "1", "1234", NAMESPACE]:
            cls.cluster.kubectl("create", "namespace", namespace)
        # Every Pod of the chart has to pass it, and what makes Pods has to pass without a warning.
        cls.cluster.kubectl("label", "namespace", NAMESPACE, RESTRICTED, RESTRICTED.replace("enforce", "warn"))
        cls.cluster.kubectl("create", "serviceaccount", "policy-server", "--namespace", "kubewarden")
        cls.cluster.kubectl("create", "priorityclass", "7", "--value=1")

    def test_every_object_is_accepted(self):
        # A Pod by itself is refused, even in a dry run, where its ServiceAccount is not there.
        for namespace, account in [(NAMESPACE, f"{RELEASE}-generator"), (NAMESPACE, "own"), (NAMESPACE, "8"),
                                   ("vault", "credentials-generator")]:
            self.cluster.kubectl("create", "serviceaccount", account, "--namespace", namespace)
            self.addCleanup(self.cluster.kubectl, "delete", "serviceaccount", account, "--namespace", namespace)
        for name, values in MATRIX.items():
            with self.subTest(name):
                documents = [d for d in render(values) if d["kind"] != "ServiceAccount"]
                applied = self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", check=False,
                                               input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
                self.assertEqual(applied.returncode, 0, applied.stderr)
                self.assertEqual(applied.stderr, "")

    def test_the_notes_fit_the_values(self):
        for name, contains, lacks in [
            ("no generator", ["PolicyUniquelyReachable"], ["helm test", "removes all copies"]),
            ("no policy", ["helm test"], ["clusteradmissionpolicy"]),
            ("a cron job", ["helm test"], ["kubectl exec"]),
            ("pods are rejected", ["failurePolicy is Fail"], ["kube-system is NOT"]),
            ("pods are rejected in kube-system too", ["failurePolicy is Fail", "kube-system is NOT"], []),
            ("several secrets with every form of source",
             ["docker-registry docker-hub --namespace vault", "--namespace=default --image=example.com/check"], [" ecr "]),
            ("patterns of every form", ["--image=x.dkr.ecr.x.amazonaws.com/check"], []),
            ("a list of images that is empty", ["--image=example.com/check"], []),
            ("namespaces are selected and excluded", ["--namespace=NAMESPACE"], []),
            ("only watching", ["PolicyUniquelyReachable"], ["kubectl run check"]),
        ]:
            with self.subTest(name):
                notes = self.cluster.helm("install", RELEASE, str(chart.CHART), "--namespace", NAMESPACE, "--dry-run=server",
                                          values=MATRIX[name]).split("NOTES:")[1]
                for text in contains:
                    self.assertIn(text, notes)
                for text in lacks:
                    self.assertNotIn(text, notes)

    def test_the_check_in_the_notes_shows_what_a_policy_adds_and_nothing_else(self):
        notes = self.cluster.helm("install", RELEASE, str(chart.CHART), "--namespace", NAMESPACE, "--dry-run=server",
                                  values={}).split("NOTES:")[1]
        [command] = [line for line in documentation.lines(notes) if line.strip().startswith("kubectl run check ")]
        arguments = shlex.split(command)[1:]
        # The ServiceAccount refers to the secret already, and there is no policy.
        self.cluster.kubectl("patch", "serviceaccount", "default", "--namespace", "default",
                             "--patch", '{"imagePullSecrets": [{"name": "registry-credentials"}]}')
        self.addCleanup(self.cluster.kubectl, "patch", "serviceaccount", "default", "--namespace", "default",
                        "--type=json", "--patch", '[{"op": "remove", "path": "/imagePullSecrets"}]')
        inherited = [argument for argument in arguments if not argument.startswith("--overrides")]
        self.assertEqual(self.cluster.kubectl(*inherited).stdout, '[{"name":"registry-credentials"}]\n')
        self.assertEqual(self.cluster.kubectl(*arguments).stdout, '[{"name":"check"}]\n')

    def test_the_kustomization_is_accepted(self):
        for directory in ["deploy", "deploy/generator-only"]:
            with self.subTest(directory):
                applied = self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--server-side",
                                               "--force-conflicts", "-k", str(chart.ROOT / directory))
                self.assertEqual(applied.stderr, "")

    def test_the_api_server_matches_images_as_the_kubelet_does(self):
        """The rows are those of core/src/settings/pattern.rs, and the places of e2e-tests/tests/module/policy/matches.rs."""
        rows = [
            ("docker.io", "nginx", True),
            ("docker.io/acme", "acme/app", True),
            ("docker.io/library", "nginx:1.27", True),
            ("docker.io/library", "docker.io/nginx", True),
            ("docker.io/acme", "index.docker.io/acme/app", True),
            ("docker.io/acme", "ghcr.io/acme/app", False),
            ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/app", True),
            ("*.io", "a.b.io/x", False),
            ("ghcr.io/acme", "ghcr.io/acme/app:1", True),
            ("ghcr.io/acme", "ghcr.io/acme-labs/app", True),
            ("ghcr.io/acme/", "ghcr.io/acme-labs/app", False),
            ("ghcr.io", "ghcr.io.example.com/app", False),
            ("registry.local:5000", "registry.local:5000/app", True),
            ("registry.local", "registry.local:5000/app", False),
            ("registry:5000", "registry:5000/app", True),
            ("localhost/acme", "localhost/acme/app", True),
            ("*", "localhost/app", True),
            ("Registry", "Registry/app", True),
        ]
        self.cluster.kubectl("create", "namespace", "native")
        account = ["get", "serviceaccount", "default", "--namespace", "native"]
        self.assertTrue(eventually(lambda: self.cluster.kubectl(*account, check=False).returncode == 0))
        secrets = [{"name": f"s{i}", "matchImages": [pattern]} for i, (pattern, _, _) in enumerate(rows)]
        selector = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["native"]}]
        values = {"policy": {"engine": "native", "namespaceSelector": selector}, "settings": {"secrets": secrets}}
        policies = yaml.safe_dump_all(d for d in render(values) if d["kind"].startswith("MutatingAdmissionPolicy"))
        self.cluster.kubectl("create", "-f", "-", input=policies)
        self.addCleanup(self.cluster.kubectl, "delete", "-f", "-", input=policies)

        def listed(*specs):
            """What Pods would come to list."""
            pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{i}", "namespace": "native"}, "spec": spec}
                    for i, spec in enumerate(specs)]
            created = self.cluster.kubectl("create", "--dry-run=server", "--output=json", "-f", "-",
                                           input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
            # It is YAML too, and kubectl writes a document for each.
            answers = yaml.safe_load_all(created.stdout.replace("\n}\n{", "\n}\n---\n{"))
            return [[entry["name"] for entry in pod["spec"].get("imagePullSecrets", [])] for pod in answers]

        def containers(*images):
            return [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]

        of_rows = [{"containers": containers(image)} for _, image, _ in rows]
        expected = [matches for _, _, matches in rows]
        self.assertTrue(eventually(lambda: sum(f"s{i}" in found for i, found in enumerate(listed(*of_rows))) >= sum(expected)))
        for (pattern, image, matches), i, found in zip(rows, range(len(rows)), listed(*of_rows)):
            with self.subTest(f"{pattern}: {image}"):
                self.assertEqual(f"s{i}" in found, matches)
        other = "quay.example.com/x"
        volumes = [{"name": "a", "emptyDir": {}}, {"name": "b", "image": {"reference": "registry:5000/m"}}]
        self.assertEqual(listed(
            {"containers": containers(other), "initContainers": [{"name": "i", "image": "registry:5000/app"}]},
            {"containers": containers(other), "volumes": volumes},
            {"containers": containers(other, "registry:5000/app")},
            {"containers": containers(other)},
        ), [["s14"], ["s14"], ["s14"], []])

    def test_the_api_server_denies_leaves_out_and_chooses_namespaces(self):
        exclude = "example.com/exclude"
        namespaces = {"native-a": ("a", {}), "native-b": ("b", {}), "native-x": ("a", {exclude: "true"})}
        for name, (team, annotations) in namespaces.items():
            metadata = {"name": name, "labels": {"team": team}, "annotations": annotations}
            self.cluster.kubectl("create", "-f", "-", input=json.dumps(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
            account = ["get", "serviceaccount", "default", "--namespace", name]
            self.assertTrue(eventually(lambda: self.cluster.kubectl(*account, check=False).returncode == 0))
        selector = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}]
        values = {"policy": {"engine": "native", "namespaceSelector": selector}, "settings": {
            "onMissingSecret": "reject", "exclude": {"namespaces": ["kube-*"], "annotation": exclude}, "serviceAccounts": [],
            "secrets": [{"name": "creds", "namespaceSelector": {"matchLabels": {"team": "a"}}}]}}
        policies = yaml.safe_dump_all(d for d in render(values) if d["kind"].startswith("MutatingAdmissionPolicy"))
        self.cluster.kubectl("create", "-f", "-", input=policies)
        self.addCleanup(self.cluster.kubectl, "delete", "-f", "-", input=policies)

        def pod(namespace, **annotations):
            """What a Pod would come to list, or why it is denied."""
            metadata = {"name": "web", "namespace": namespace, "annotations": annotations}
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                        "spec": {"containers": [{"name": "web", "image": "ghcr.io/acme/app"}]}}
            created = self.cluster.kubectl("create", "--dry-run=server", "--output=json", "-f", "-",
                                           input=json.dumps(manifest), check=False)
            if created.returncode:
                return created.stderr
            return [entry["name"] for entry in json.loads(created.stdout)["spec"].get("imagePullSecrets", [])]

        denied = "policy 'image-pull-secrets-creds-pods' with binding 'image-pull-secrets-creds-pods' denied request"
        self.assertTrue(eventually(lambda: denied in pod("native-a")), pod("native-a"))
        self.assertEqual(pod("native-b"), [], "it is not for this namespace")
        # The Secret is looked up before the annotation is looked at.
        self.assertIn(denied, pod("native-x"))
        for namespace in ["native-a", "native-x"]:
            self.cluster.kubectl("create", "secret", "docker-registry", "creds", "--namespace", namespace,
                                 "--docker-server=ghcr.io", "--docker-username=user", "--docker-password=hunter2")
        self.assertTrue(eventually(lambda: pod("native-a") == ["creds"]), pod("native-a"))
        self.assertTrue(eventually(lambda: pod("native-x") == []), pod("native-x"))
        self.assertEqual(pod("native-a", **{exclude: "true"}), [])

    def test_settings_are_refused_by_the_schema_as_by_the_generator(self):
        """values.schema.json repeats what core/ checks: each takes what the other takes."""
        def exit_code(settings):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(settings, file)
                file.flush()
                return subprocess.run([GENERATOR, "run", "--dry-run", "--settings", file.name], capture_output=True,
                                      env={"KUBECONFIG": self.cluster.admin}, timeout=PATIENCE).returncode

        for name, values in MATRIX.items():
            documents = [d for d in render(values | {"policy": {}}) if d["kind"] == "ClusterAdmissionPolicy"]
            with self.subTest(name):
                self.assertEqual(exit_code(documents[0]["spec"]["settings"]), 0)
        for name, (values, _) in test_rendering.Refusals.CASES.items():
            if set(values) == {"settings"}:
                with self.subTest(name):
                    self.assertEqual(exit_code({"secrets": [{"name": "a"}]} | values["settings"]), 2)

    def test_install_upgrade_uninstall(self):
        cluster = self.cluster
        cluster.kubectl(*SOURCE, NAMESPACE, "registry-credentials")
        cluster.kubectl(*SOURCE, "vault", "docker-hub")
        before = self.everything()

        notes = cluster.helm("install", RELEASE, str(chart.CHART), "--namespace", NAMESPACE, values={})
        for command in [f"helm test {RELEASE} --namespace {NAMESPACE} --logs",
                        f"kubectl wait clusteradmissionpolicy/{RELEASE}",
                        f"kubectl create secret docker-registry registry-credentials --namespace {NAMESPACE}",
                        f"helm uninstall {RELEASE} --namespace {NAMESPACE}"]:
            self.assertIn(command, notes)
        self.check_rights()
        self.check_what_the_generators_token_is_good_for()
        generator = cluster.generator(self.deployment())
        try:
            self.assertTrue(eventually(lambda: self.has("team-a", "registry-credentials")), cluster.log())
            self.assertTrue(eventually(lambda: self.references("team-b") == ["registry-credentials"]), cluster.log())
            self.assertFalse(self.has("kube-public", "registry-credentials"), "an excluded namespace")
            cluster.kubectl("create", "namespace", "new")
            self.assertTrue(eventually(lambda: self.has("new", "registry-credentials")), cluster.log())
            self.assertEqual(self.status(), 0, cluster.log())

            changed = {"settings": {
                "secrets": [{"name": "hub", "source": {"namespace": "vault", "name": "docker-hub"}}],
                "serviceAccounts": ["*"]}}
            cluster.helm("upgrade", RELEASE, str(chart.CHART), "--namespace", NAMESPACE, values=changed)
            self.assertTrue(eventually(lambda: self.has("new", "hub")), cluster.log())
            self.assertTrue(eventually(lambda: not self.has("new", "registry-credentials")), cluster.log())
            self.assertTrue(eventually(lambda: self.references("team-a") == ["hub"]), cluster.log())
            self.assertTrue(self.has(NAMESPACE, "registry-credentials"), "it is nobody's copy")
            self.assertTrue(eventually(lambda: self.status() == 0), cluster.log())
        finally:
            generator.terminate()
            self.assertEqual(generator.wait(PATIENCE), 0)

        # There is no kubelet to run the hook's Job: it is run here, with the rights of the hook.
        hooks = [d for d in yaml.safe_load_all(cluster.helm("get", "hooks", RELEASE, "--namespace", NAMESPACE))
                 if d and d["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"]
        cluster.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--no-hooks")
        cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(d for d in hooks if d["kind"] != "Job"))
        job = next(d for d in hooks if d["kind"] == "Job")
        self.assertEqual(cluster.generator(job).wait(PATIENCE), 0, cluster.log())
        cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(d for d in hooks if d["kind"] != "Job"))
        cluster.kubectl("delete", "namespace", "new")

        # Garbage goes in its own time.
        self.assertTrue(eventually(lambda: self.everything() == before), self.everything() ^ before)
        for account in cluster.get("serviceaccounts", "--all-namespaces")["items"]:
            self.assertFalse(account.get("imagePullSecrets"), account["metadata"])
            self.assertNotIn("annotations", account["metadata"])
        self.assertNotIn("RBAC", cluster.log())
        self.assertNotIn("hunter2", cluster.log())

    def check_rights(self):
        def policy(verb, what, where="team-a"):
            return self.cluster.can("kubewarden", "policy-server", verb, what, where)

        def generator(verb, what, where="team-a"):
            return self.cluster.can(NAMESPACE, f"{RELEASE}-generator", verb, what, where)

        self.assertTrue(policy("get", "secret/registry-credentials"))
        for verb, what in [("get", "secret/other"), ("list", "secrets"), ("watch", "secrets"), ("get", "namespace/team-a"),
                           ("update", "secret/registry-credentials"), ("create", "secrets")]:
            self.assertFalse(policy(verb, what), f"policy-server: {verb} {what}")

        for verb, what in [("get", "secret/registry-credentials"), ("create", "secrets"), ("list", "namespaces"),
                           ("patch", "serviceaccount/default")]:
            self.assertTrue(generator(verb, what), f"generator: {verb} {what}")
        for verb, what in [("get", "secret/other"), ("list", "secrets"), ("update", "namespaces"), ("list", "pods"),
                           ("patch", "serviceaccount/other"), ("create", "pods"), ("get", "configmaps")]:
            self.assertFalse(generator(verb, what), f"generator: {verb} {what}")

    def check_what_the_generators_token_is_good_for(self):
        """RBAC lets the generator create any Secret, and read those of a name: together a way to every ServiceAccount's
        token, were it not for the ValidatingAdmissionPolicy."""
        def create(name, kind, key, *flags):
            secret = {"apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": {key: '{"auths": {}}'},
                      "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": "default"}}}
            return self.cluster.kubectl("create", "--filename=-", "--namespace=kube-system", "--dry-run=server", *flags,
                                        input=json.dumps(secret), check=False).stderr

        pull, token = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/service-account-token", "extra")
        generator = f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}-generator"
        # A policy that was made just now takes a moment.
        self.assertTrue(eventually(lambda: "for pulling images only" in create("registry-credentials", *token, generator)))
        self.assertIn("of the configured names only", create("other", *pull, generator))
        self.assertEqual(create("registry-credentials", *pull, generator), "")
        self.assertEqual(create("other", *token), "", "it is about the generator alone")

    def test_the_generator_copies_a_secret_only_into_namespaces_that_it_is_for(self):
        """The API server sees to it, whatever the generator is told; and it is in nobody's way when labels change."""
        cluster, release = self.cluster, "guarded"
        for namespace in ["guarded", "guarded-a", "guarded-b", "guarded-x"]:
            cluster.kubectl("create", "namespace", namespace)
            self.addCleanup(cluster.kubectl, "delete", "namespace", namespace, "--wait=false")
        cluster.kubectl("label", "namespace", "guarded-a", "team=a")
        cluster.kubectl(*SOURCE, "guarded", "creds")
        secret = {"name": "creds", "source": {}, "namespaces": ["guarded-[ab]"],
                  "namespaceSelector": {"matchLabels": {"team": "a"}}}
        cluster.helm("install", release, str(chart.CHART), "--namespace", "guarded",
                     values={"policy": {"engine": "none"}, "settings": {"secrets": [secret]}})
        self.addCleanup(cluster.helm, "uninstall", release, "--namespace", "guarded", "--no-hooks")
        name = f"{release}-image-pull-secrets-generator"
        manifest = json.dumps({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
                               "metadata": {"name": "creds"}, "stringData": {".dockerconfigjson": '{"auths": {}}'}})

        def written(namespace):
            """What the API server says to a copy by the generator."""
            return cluster.kubectl("create", "--filename=-", f"--namespace={namespace}", "--dry-run=server",
                                   f"--as=system:serviceaccount:guarded:{name}", input=manifest, check=False).stderr

        refused = "the generator writes Secret creds only into namespaces that the chart's values have it for"
        self.assertTrue(eventually(lambda: refused in written("guarded-b")), written("guarded-b"))
        self.assertEqual(written("guarded-a"), "")
        cluster.kubectl("label", "namespace", "guarded-x", "team=a")
        self.assertIn(refused, written("guarded-x"), "the label alone is not enough")

        with open(f"{cluster.directory.name}/settings.yaml", "w") as file:
            file.write(cluster.get("configmap", name, "--namespace", "guarded")["data"]["settings.yaml"])
        generator = cluster.generator(cluster.get("deployment", name, "--namespace", "guarded"),
                                      directory=cluster.directory.name)
        try:
            self.assertTrue(eventually(lambda: self.has("guarded-a", "creds")), cluster.log())
            cluster.kubectl("label", "namespace", "guarded-a", "team-")
            self.assertTrue(eventually(lambda: not self.has("guarded-a", "creds")), "an orphan may be deleted")
            cluster.kubectl("label", "namespace", "guarded-b", "team=a")
            self.assertTrue(eventually(lambda: self.has("guarded-b", "creds")), cluster.log())
            self.assertFalse(self.has("guarded-x", "creds"))
            # A change of the source is an update of the copy.
            changed = cluster.kubectl(*SOURCE, "guarded", "creds", "--docker-username=other", "--dry-run=client", "--output=yaml")
            cluster.kubectl("replace", "--filename=-", input=changed.stdout)
            copied = eventually(lambda: cluster.get("secret", "creds", "--namespace", "guarded-b")["data"] ==
                                cluster.get("secret", "creds", "--namespace", "guarded")["data"])
            self.assertTrue(copied, cluster.log())
        finally:
            generator.terminate()
            self.assertEqual(generator.wait(PATIENCE), 0)

    def deployment(self):
        return self.cluster.get("deployment", f"{RELEASE}-generator", "--namespace", NAMESPACE)

    def status(self):
        return self.cluster.generator(self.deployment(), arguments=["status"]).wait(PATIENCE)

    def has(self, namespace, secret):
        return self.cluster.kubectl("get", "secret", secret, "--namespace", namespace, check=False).returncode == 0

    def references(self, namespace):
        account = self.cluster.get("serviceaccount", "default", "--namespace", namespace)
        return [reference["name"] for reference in account.get("imagePullSecrets", [])]

    def everything(self):
        """The names of all objects that the chart or the generator could leave behind."""
        kinds = ("secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,deployments,services,"
                 "endpointslices,poddisruptionbudgets,jobs,configmaps,leases,clusteradmissionpolicies,pods,replicasets,"
                 "validatingadmissionpolicies,validatingadmissionpolicybindings")

        def names():
            return {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"])
                    for d in self.cluster.get(kinds, "--all-namespaces")["items"]
                    if d["metadata"].get("namespace") != "new" and "ownerReferences" not in d["metadata"]}

        # What controllers make and what is garbage takes a moment.
        last = [None]

        def settled():
            before, last[0] = last[0], names()
            return before == last[0]

        eventually(settled)
        return last[0]


class WithoutKubewarden(unittest.TestCase):
    """The generator alone, as a CronJob: no ClusterAdmissionPolicy, and no right to see one."""

    def test_it_runs_once(self):
        with Cluster() as cluster:
            cluster.kubectl("delete", "crd", "clusteradmissionpolicies.policies.kubewarden.io")
            cluster.kubectl("create", "namespace", NAMESPACE)
            cluster.kubectl(*SOURCE, NAMESPACE, "registry-credentials")
            install = ["install", RELEASE, str(chart.CHART), "--namespace", NAMESPACE]
            refused = chart.helm(*install, values={}, env={"KUBECONFIG": cluster.admin})
            self.assertIn("Kubewarden is not installed in this cluster", refused.stderr)
            self.assertIn("--set policy.engine=none", refused.stderr)
            cluster.helm(*install, values=MATRIX["no policy, a cron job"])
            settings = cluster.get("configmap", f"{RELEASE}-generator", "--namespace", NAMESPACE)["data"]["settings.yaml"]
            with open(f"{cluster.directory.name}/settings.yaml", "w") as file:
                file.write(settings)
            cronjob = cluster.get("cronjob", f"{RELEASE}-generator", "--namespace", NAMESPACE)
            run = cluster.generator(cronjob, directory=cluster.directory.name)
            self.assertEqual(run.wait(PATIENCE), 0, cluster.log())
            cluster.kubectl("get", "secret", "registry-credentials", "--namespace", "default")
            self.assertNotIn("RBAC", cluster.log())


if __name__ == "__main__":
    unittest.main()
