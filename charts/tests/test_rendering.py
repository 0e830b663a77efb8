"""What the chart renders, for which values; and what it refuses."""

import base64
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

import chart
import documentation
from chart import MATRIX, SECRET, find, is_hook, pod_specs, render


def rules(documents, name):
    return find(documents, "ClusterRole", name)["rules"]


def rule(documents, name, resource, verb):
    """The only rule of a ClusterRole that allows a verb on a resource."""
    found = [r for r in rules(documents, name) if resource in r["resources"] and verb in r["verbs"]]
    assert len(found) <= 1, found
    return found[0] if found else None


class Helm(unittest.TestCase):
    def test_lint_finds_nothing(self):
        for name, values in MATRIX.items():
            with self.subTest(name):
                lint = chart.helm("lint", "--strict", str(chart.CHART), "--kube-version", "1.36", values=values)
                self.assertEqual(lint.returncode, 0, lint.stdout)

    def test_every_combination_renders(self):
        for name, values in MATRIX.items():
            with self.subTest(name):
                documents = render(values)
                identities = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]
                self.assertEqual(len(identities), len(set(identities)), "two objects of one name")

    def test_another_release_name_keeps_two_releases_apart(self):
        one = {(d["kind"], d["metadata"]["name"]) for d in render({}, release="image-pull-secrets")}
        other = {(d["kind"], d["metadata"]["name"]) for d in render({}, release="second")}
        self.assertFalse(one & other)

    def test_names_namespace_and_labels_can_be_chosen(self):
        documents = render(MATRIX["other names, another namespace, labels for everything"])
        for document in documents:
            with self.subTest(f'{document["kind"]} {document["metadata"]["name"]}'):
                metadata = document["metadata"]
                self.assertTrue(metadata["name"].startswith("credentials"), metadata["name"])
                self.assertIn(metadata.get("namespace"), [None, "vault"])
                self.assertEqual(metadata["labels"]["team"], "platform")
                self.assertIn(metadata["labels"]["app.kubernetes.io/name"], ["pull-generator", "pull-policy"])
                for subject in document.get("subjects", []):
                    self.assertEqual(subject["namespace"], "kubewarden" if "-policy" in metadata["name"] else "vault")
        for name, pod in chart.pods(documents):
            self.assertEqual(pod["metadata"]["labels"]["c"], "pods", name)
        self.assertEqual(find(documents, "ServiceMonitor")["metadata"]["labels"]["c"], "monitor")
        self.assertEqual(find(documents, "ClusterAdmissionPolicy")["metadata"]["labels"]["c"], "everywhere")
        policy = find(documents, "ClusterAdmissionPolicy")["spec"]
        self.assertEqual(policy["objectSelector"]["matchExpressions"][0]["values"], ["pull-generator"])
        self.assertEqual(policy["settings"]["secrets"], [SECRET | {"source": {"namespace": "vault"}}])
        guard = find(documents, "ValidatingAdmissionPolicy", "credentials-generator")["spec"]
        self.assertIn("system:serviceaccount:vault:credentials-generator", guard["matchConditions"][0]["expression"])
        role = find(documents, "ClusterRole", "credentials-generator")
        self.assertIn(["credentials"], [r.get("resourceNames") for r in role["rules"]], "the policy that it follows")

    def test_without_a_namespace_a_source_is_in_that_of_the_release(self):
        for values, namespace in [({}, "image-pull-secrets"), ({"namespaceOverride": "vault"}, "vault")]:
            for policy in [True, False]:
                documents = render(MATRIX["the source in the release's namespace"] | values | {"policy": {"enabled": policy}})
                settings = find(documents, "ClusterAdmissionPolicy")["spec"]["settings"] if policy else \
                    yaml.safe_load(find(documents, "ConfigMap")["data"]["settings.yaml"])
                self.assertEqual(settings["secrets"], [
                    {"name": "registry-credentials", "source": {"namespace": namespace}},
                    {"name": "hub", "source": {"namespace": namespace, "name": "docker-hub"}}])
                role = find(documents, "Role", "image-pull-secrets-generator-source")
                self.assertEqual((role["metadata"]["namespace"], role["rules"][0]["resourceNames"]), (namespace, ["docker-hub"]))

    def test_a_mirror_takes_the_place_of_the_registrys_host(self):
        mirror = {"global": {"imageRegistry": "mirror.example.com:5000"}}
        for values, expected in [
            ({}, "mirror.example.com:5000/acme"),
            ({"registry": "localhost/acme"}, "mirror.example.com:5000/acme"),
            ({"registry": "harbor.example.com"}, "mirror.example.com:5000"),
            ({"registry": "acme"}, "mirror.example.com:5000/acme"),
            ({"registry": ""}, "mirror.example.com:5000"),
        ]:
            with self.subTest(values):
                documents = render(mirror | values)
                module = find(documents, "ClusterAdmissionPolicy")["spec"]["module"]
                self.assertRegex(module, f"^registry://{expected}/policies/image-pull-secrets:v[0-9]")
                for _, spec in pod_specs(documents):
                    self.assertRegex(spec["containers"][0]["image"], f"^{expected}/image-pull-secrets-generator:v[0-9]")
        own = {"generator": {"image": {"repository": "ghcr.io/acme/built-here", "tag": "1"}}}
        for _, spec in pod_specs(render(mirror | own)):
            self.assertEqual(spec["containers"][0]["image"], "mirror.example.com:5000/acme/built-here:1")
        providers = [{"name": "a", "image": "ghcr.io/acme/a:v1", "command": ["cp"]}, {"name": "b", "image": "acme/b:v1", "command": ["cp"]},
                     {"name": "c", "image": "c:1.2", "command": ["cp"]}, {"name": "d", "image": "ghcr.io/acme/d:v1"}]
        spec = find(render(mirror | {"generator": {"credentialProviders": providers}}), "Deployment")["spec"]["template"]["spec"]
        self.assertEqual([container["image"] for container in spec["initContainers"]], [
            f"mirror.example.com:5000/{path}" for path in ["acme/a:v1", "acme/b:v1", "library/c:1.2"]])
        self.assertEqual([v["image"]["reference"] for v in spec["volumes"] if "image" in v], ["mirror.example.com:5000/acme/d:v1"])
        for _, spec in pod_specs(render(MATRIX["a mirror for every chart"])):
            self.assertEqual(spec["imagePullSecrets"], [{"name": "mirror"}, {"name": "own"}])

    def test_names_that_look_like_numbers_stay_names(self):
        """Kubernetes takes 123 for the name of a Secret or of a namespace; YAML takes it for a number."""
        values = MATRIX["names that look like numbers"]
        rendered = chart.helm("template", "123", str(chart.CHART), "--namespace", "1234", "--kube-version", "1.36", values=values)
        self.assertEqual(rendered.returncode, 0, rendered.stderr)
        names = {"name", "namespace", "serviceAccountName", "priorityClassName", "policyServer", "policyName",
                 "app.kubernetes.io/instance"}

        def check(node, where):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
                if key in names:
                    self.assertIsInstance(value, str, where)
                check(value, f"{where}.{key}")

        for document in yaml.safe_load_all(rendered.stdout):
            check(document, document["kind"])


class Policy(unittest.TestCase):
    @staticmethod
    def with_its_namespace(secret):
        in_the_cluster = "source" in secret and not set(secret["source"]) - {"name"}
        return secret | {"source": {"namespace": chart.NAMESPACE} | secret["source"]} if in_the_cluster else secret

    def test_its_settings_are_those_of_the_values(self):
        for name, values in MATRIX.items():
            documents = [d for d in render(values) if d["kind"] == "ClusterAdmissionPolicy"]
            for document in documents:
                with self.subTest(name):
                    for key, value in values.get("settings", {}).items():
                        if key == "exclude":
                            value = {"annotation": ""} | value
                        if key == "secrets":
                            value = [self.with_its_namespace(secret) for secret in value]
                        self.assertEqual(document["spec"]["settings"][key], value)

    def test_the_failure_policy_follows_from_what_a_missing_secret_means(self):
        for values, expected in [
            ({}, "Ignore"),
            ({"settings": {"onMissingSecret": "skip"}}, "Ignore"),
            ({"settings": {"onMissingSecret": "reject"}}, "Fail"),
            ({"settings": {"onMissingSecret": "reject"}, "policy": {"failurePolicy": "Ignore"}}, "Ignore"),
            ({"policy": {"failurePolicy": "Fail"}}, "Fail"),
        ]:
            with self.subTest(values):
                spec = find(render(values), "ClusterAdmissionPolicy")["spec"]
                self.assertEqual(spec["failurePolicy"], expected)

    def test_it_is_what_the_module_says_of_itself(self):
        metadata = yaml.safe_load((chart.ROOT / "metadata.yml").read_text())
        spec = find(render({}), "ClusterAdmissionPolicy")["spec"]
        for key in ["rules", "mutating", "backgroundAudit", "contextAwareResources"]:
            self.assertEqual(spec[key], metadata[key], key)

    def test_the_api_server_never_waits_longer_than_the_policy_may_run(self):
        """What the policy-server interrupts is denied under failurePolicy Ignore too, unless nobody waits for it any more."""
        for values, expected in [
            ({}, (5, 5)),
            ({"policy": {"timeoutSeconds": 10}}, (10, 10)),
            ({"policyServer": {"policyTimeoutSeconds": 5}}, (5, 5)),
            ({"policyServer": {"policyTimeoutSeconds": 6}}, (5, None)),
            ({"policy": {"timeoutSeconds": 2}, "policyServer": {"policyTimeoutSeconds": 3}}, (2, None)),
        ]:
            with self.subTest(values):
                spec = find(render(values), "ClusterAdmissionPolicy")["spec"]
                self.assertEqual((spec["timeoutSeconds"], spec.get("timeoutEvalSeconds")), expected)

    def test_namespaces_are_selected_by_expressions_and_excluded_by_whole_names(self):
        team = {"key": "team", "operator": "In", "values": ["a", "b"]}

        def but(*names):
            return {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": list(names)}

        for selector, excluded, expected in [
            ([], ["kube-system", "kube-*", "ci", "a[b]", "No-Namespace"], [but("kube-system", "ci")]),
            ([team], ["kube-system"], [team, but("kube-system")]),
            ([team], ["kube-*"], [team]),
            ([], [], None),
        ]:
            with self.subTest(excluded):
                spec = find(render({"policy": {"namespaceSelector": selector},
                                    "settings": {"exclude": {"namespaces": excluded}}}), "ClusterAdmissionPolicy")["spec"]
                self.assertEqual(spec.get("namespaceSelector"), expected and {"matchExpressions": expected})
                self.assertEqual(spec["settings"]["exclude"]["namespaces"], excluded)

    def test_the_generator_can_start_before_there_is_a_secret(self):
        documents = render(MATRIX["pods are rejected"])
        expression = find(documents, "ClusterAdmissionPolicy")["spec"]["objectSelector"]["matchExpressions"][0]
        self.assertEqual(expression["operator"], "NotIn")
        template = find(documents, "Deployment")["spec"]["template"]
        self.assertIn(template["metadata"]["labels"][expression["key"]], expression["values"])


class Rights(unittest.TestCase):
    POLICY, GENERATOR = "image-pull-secrets-policy", "image-pull-secrets-generator"

    def test_no_secret_is_readable_that_is_not_named(self):
        for name, values in MATRIX.items():
            documents = render(values)
            secrets = values.get("settings", {}).get("secrets", [SECRET])
            of_others = {s["source"]["name"] for s in secrets if "name" in s.get("source", {})}
            named = {s["name"] for s in secrets}
            named |= set(values.get("generator", {}).get("former", {}).get("secrets", []))
            for document in documents:
                if document["kind"] not in ("ClusterRole", "Role"):
                    continue
                sources = of_others if document["kind"] == "Role" else set()
                for r in document["rules"]:
                    self.assertNotIn("*", r["verbs"] + r["resources"] + r["apiGroups"])
                    if "secrets" in r["resources"] and r["verbs"] != ["create"]:
                        with self.subTest(f'{name}: {document["metadata"]["name"]}'):
                            self.assertTrue(r.get("resourceNames"))
                            self.assertLessEqual(set(r["resourceNames"]), named | sources)

    def test_the_policy_server_reads_namespaces_only_where_an_annotation_or_a_label_counts(self):
        for values, expected in [
            ({}, False),
            ({"settings": {"exclude": {"annotation": "example.com/exclude"}}}, True),
            (MATRIX["secrets for some namespaces"], True),
            ({"settings": {"secrets": [SECRET | {"namespaces": ["team-a"], "namespaceSelector": {}}]}}, False),
        ]:
            with self.subTest(values):
                self.assertEqual(rule(render(values), self.POLICY, "namespaces", "get") is not None, expected)
        documents = render({"settings": {"onMissingSecret": "ignore", "secrets": [
            SECRET | {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}]}})
        self.assertEqual(rules(documents, self.POLICY), [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}])

    def test_where_missing_secrets_are_ignored_no_secret_is_readable(self):
        documents = render(MATRIX["nothing is asked about"])
        self.assertNotIn(self.POLICY, [d["metadata"]["name"] for d in documents if d["kind"].startswith("ClusterRole")])
        documents = render(MATRIX["only namespaces are asked about"])
        self.assertEqual(rules(documents, self.POLICY), [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}])
        spec = find(documents, "ClusterAdmissionPolicy")["spec"]
        self.assertEqual(spec["contextAwareResources"], [{"apiVersion": "v1", "kind": "Namespace"}])

    def test_the_policy_server_is_granted_get_and_nothing_else(self):
        for r in rules(render(MATRIX["namespaces are selected and excluded"]), self.POLICY):
            self.assertEqual(r["verbs"], ["get"])

    def test_a_source_of_another_name_is_readable_in_its_namespace_only(self):
        documents = render(MATRIX["several secrets with every form of source"])
        role = find(documents, "Role", f"{self.GENERATOR}-source")
        self.assertEqual(role["metadata"]["namespace"], "vault")
        self.assertEqual(role["rules"], [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["docker-hub"],
             "verbs": ["get", "list", "watch"]}])

    def test_service_accounts_are_named_where_the_generator_can_ask_by_name(self):
        for patterns, names in [(["default"], ["default"]), (["default", "x"], ["default", "x"]),
                                (["*"], None), (["default", "x*"], None), (["b?"], None)]:
            with self.subTest(patterns):
                documents = render({"settings": {"serviceAccounts": patterns}})
                found = rule(documents, self.GENERATOR, "serviceaccounts", "patch")
                self.assertEqual(found.get("resourceNames"), names)
        self.assertIsNone(rule(render({"settings": {"serviceAccounts": []}}), self.GENERATOR, "serviceaccounts", "patch"))

    def test_pods_are_touched_only_to_restart_stuck_ones(self):
        for values, expected in [
            ({}, False),
            ({"generator": {"restartStuckPods": True}}, True),
            ({"generator": {"restartStuckPods": True, "mode": "cronjob"}}, False),
        ]:
            documents = render(values)
            self.assertEqual(rule(documents, self.GENERATOR, "pods/eviction", "create") is not None, expected)
            self.assertEqual(rule(documents, self.GENERATOR, "pods", "list") is not None, expected)

    def test_what_left_the_settings_can_still_be_removed(self):
        documents = render({"generator": {"former": {"secrets": ["old"], "serviceAccounts": ["builder"]}}})
        for role in [self.GENERATOR, "image-pull-secrets-cleanup"]:
            self.assertEqual(rule(documents, role, "secrets", "delete")["resourceNames"], ["registry-credentials", "old"])
            self.assertEqual(rule(documents, role, "serviceaccounts", "patch")["resourceNames"], ["default", "builder"])

    def test_they_are_those_that_the_generator_documents(self):
        documentation = (chart.ROOT / "docs/generator.md").read_text()
        block = re.search(r"<!-- rbac -->\s*```yaml\n(.*?)```", documentation, re.S).group(1)
        documents = render({"policy": {"enabled": False}})

        def flat(rules, but=()):
            return {(g, r, v, n) for rule in rules for g in rule["apiGroups"] for r in rule["resources"]
                    for v in rule["verbs"] for n in rule.get("resourceNames", [None])} - set(but)

        for role in yaml.safe_load_all(block):
            name = role["metadata"]["name"]
            if name == f"{self.GENERATOR}-source":
                continue  # its source has the name of the copy: the ClusterRole holds it
            # cleanup has a Role of its own.
            lease = ("coordination.k8s.io", "leases", "delete", self.GENERATOR)
            ours = find(documents, role["kind"], name)["rules"]
            self.assertEqual(flat(ours), flat(role["rules"], [lease]), name)


class Notes(unittest.TestCase):
    """What is told after an installation; what limits the generator's token is under AdmissionPolicy."""

    def test_they_warn_of_images_that_only_the_policy_looks_at(self):
        for policy, secret, expected in [
            (False, {"matchImages": ["ghcr.io/acme"]}, "Nothing adds hub to a Pod. It has matchImages"),
            (False, {"matchCredentials": True}, "Nothing adds hub to a Pod. It has matchCredentials"),
            (False, {"matchImages": []}, None),
            (False, {}, None),
            (True, {"matchImages": ["ghcr.io/acme"]}, None),
        ]:
            with self.subTest(f"{policy} {secret}"):
                notes = chart.notes({"policy": {"enabled": policy}, "settings": {"secrets": [{"name": "hub"} | secret]}})
                if expected:
                    self.assertIn(expected, notes)
                    self.assertIn("or have something add it: policy.engine.", notes)
                else:
                    self.assertNotIn("Nothing adds", notes)

    def test_they_warn_of_what_is_removed_with_the_release(self):
        self.assertIn("those that somebody added by hand included", chart.notes({}))
        self.assertIn("--set generator.cleanupOnUninstall=false", chart.notes({}))
        self.assertNotIn("by hand", chart.notes({"generator": {"cleanupOnUninstall": False}}))

    def test_their_commands_are_about_the_namespace_of_the_objects(self):
        notes = chart.notes(MATRIX["other names, another namespace, labels for everything"])
        self.assertIn("kubectl exec --namespace vault deploy/credentials-generator", notes)
        self.assertIn("docker-registry registry-credentials --namespace vault", notes)
        # Helm looks for the release, and for the logs of its tests, in the release's own.
        self.assertIn("helm test image-pull-secrets --namespace image-pull-secrets\n", notes)
        self.assertIn("helm test image-pull-secrets --namespace image-pull-secrets --logs\n", chart.notes({}))


class Native(unittest.TestCase):
    """What the API server does by itself; e2e-tests/tests/e2e/native.rs has it do so."""

    def policies(self, values, kubernetes="1.36"):
        documents = [d for d in render(values, kubernetes=kubernetes) if d["kind"].startswith("MutatingAdmissionPolicy")]
        return {(d["kind"], d["metadata"]["name"].removeprefix("image-pull-secrets-")): d["spec"] for d in documents}

    def test_each_secret_has_a_policy_for_pods_and_what_is_for_every_pod_one_for_service_accounts(self):
        found = self.policies(MATRIX["the API server alone, which looks at the Secret"])
        names = ["hub-pods", "registry-credentials-pods", "registry-credentials-service-accounts"]
        for kind in ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]:
            self.assertEqual(sorted(name for of, name in found if of == kind), names)
        for (kind, name), spec in found.items():
            if kind == "MutatingAdmissionPolicyBinding":
                self.assertEqual(spec["policyName"], f"image-pull-secrets-{name}")
        self.assertEqual([name for _, name in self.policies(MATRIX["the API server alone, which rejects"])],
                         ["registry-credentials-pods"] * 2)

    def test_the_secret_is_a_parameter_where_it_matters_whether_it_is_there(self):
        for on_missing, pods, accounts, failure in [
            ("warn", None, None, "Ignore"), ("ignore", None, None, "Ignore"),
            ("skip", "Allow", "Allow", "Ignore"), ("reject", "Deny", None, "Fail"),
        ]:
            found = self.policies({"policy": {"engine": "native"}, "settings": {"onMissingSecret": on_missing}})
            for name, expected in [("pods", pods), ("service-accounts", accounts)]:
                with self.subTest(f"{on_missing}: {name}"):
                    policy = found["MutatingAdmissionPolicy", f"registry-credentials-{name}"]
                    reference = found["MutatingAdmissionPolicyBinding", f"registry-credentials-{name}"].get("paramRef")
                    self.assertEqual(policy["failurePolicy"], failure)
                    self.assertEqual(policy.get("paramKind"), expected and {"apiVersion": "v1", "kind": "Secret"})
                    self.assertEqual(reference, expected and {"name": "registry-credentials",
                                                              "parameterNotFoundAction": expected})

    def test_namespaces_are_those_of_the_secret_and_of_the_policy(self):
        found = self.policies(MATRIX["the API server alone, which looks at the Secret"])
        spec = found["MutatingAdmissionPolicy", "registry-credentials-pods"]
        self.assertEqual(spec["matchConstraints"]["namespaceSelector"], {
            "matchLabels": {"team": "a"},
            "matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]},
                                 {"key": "old", "operator": "DoesNotExist"}]})
        conditions = {c["name"]: c["expression"] for c in spec["matchConditions"]}
        self.assertEqual(conditions["secret-is-for-the-namespace"], 'request.namespace.matches("^(team-.)$")')
        self.assertEqual(conditions["namespace-is-not-excluded"],
                         '!(request.namespace in ["ci"] || request.namespace.matches("^(kube-.*)$"))')

    def test_the_generator_selects_as_they_do_and_reads_a_file(self):
        documents = render(MATRIX["the API server alone, which looks at the Secret"])
        env = {v["name"]: v.get("value") for v in
               find(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]}
        self.assertEqual(env["GENERATOR_NAMESPACE_SELECTOR"], "team in (a,b),!old,env!=dev")
        self.assertEqual(env["GENERATOR_SETTINGS"], "/etc/image-pull-secrets/settings.yaml")
        self.assertNotIn("ClusterAdmissionPolicy", {d["kind"] for d in documents})

    def test_without_kubewarden_nothing_of_it_is_there(self):
        for values in [{"policy": {"engine": "none"}}, {"policy": {"enabled": False}},
                       {"policy": {"enabled": False, "engine": "native"}}]:
            kinds = {d["kind"] for d in render(values)}
            self.assertFalse(kinds & {"ClusterAdmissionPolicy", "MutatingAdmissionPolicy"}, values)
        self.assertNotIn("policies.kubewarden.io", json.dumps(render(MATRIX["the API server alone"])))

    def test_an_older_api_server_needs_the_beta(self):
        values = MATRIX["the API server alone"]
        rendered = chart.template(values, kubernetes="1.35")
        self.assertNotEqual(rendered.returncode, 0)
        self.assertIn("policy.engine: native needs MutatingAdmissionPolicies", rendered.stderr)
        rendered = chart.helm("template", "r", str(chart.CHART), "--kube-version", "1.35", "--api-versions",
                              "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy", values=values)
        self.assertEqual(rendered.returncode, 0, rendered.stderr)
        self.assertIn("apiVersion: admissionregistration.k8s.io/v1beta1\nkind: MutatingAdmissionPolicy\n", rendered.stdout)

    def test_the_manifests_without_helm_do_not_drift(self):
        for name, values in chart.NATIVE.items():
            with self.subTest(name):
                written = list(yaml.safe_load_all((chart.ROOT / "native" / name).read_text()))
                rendered = [d for d in render(values | {"registry": "registry.invalid"})
                            if d["kind"].startswith("MutatingAdmissionPolicy")]
                for document in rendered:
                    for label in ["helm.sh/chart", "app.kubernetes.io/managed-by"]:
                        del document["metadata"]["labels"][label]
                self.assertEqual(written, rendered, "run `make deploy`")


class Alerts(unittest.TestCase):
    def test_they_are_about_the_policy_by_its_name(self):
        for values, release, name in [({}, "image-pull-secrets", "image-pull-secrets"), ({}, "second", "second-image-pull-secrets"),
                                      ({"policy": {"name": "pull"}}, "second", "pull")]:
            with self.subTest(name):
                documents = render(values | {"prometheusRule": {"enabled": True}}, release=release)
                self.assertEqual(find(documents, "ClusterAdmissionPolicy")["metadata"]["name"], name)
                expressions = " ".join(rule["expr"] for group in find(documents, "PrometheusRule")["spec"]["groups"]
                                       for rule in group["rules"])
                self.assertEqual(set(re.findall(r'policy_name="([^"]*)"', expressions)), {f"clusterwide-{name}"})


class AdmissionPolicy(unittest.TestCase):
    """What the API server lets the generator write; charts/tests/cluster_chart.py has it do so."""

    def test_it_is_about_the_generator_and_the_names_that_it_may_read(self):
        values = {"settings": {"secrets": [SECRET, {"name": "hub"}]},
                  "generator": {"former": {"secrets": ["old"]}, "serviceAccount": {"name": "own"}}}
        documents = render(values)
        for name in ["image-pull-secrets-generator", "image-pull-secrets-generator-service-accounts"]:
            spec = find(documents, "ValidatingAdmissionPolicy", name)["spec"]
            self.assertEqual(spec["failurePolicy"], "Fail")
            self.assertEqual([condition["expression"] for condition in spec["matchConditions"]],
                             ['request.userInfo.username == "system:serviceaccount:image-pull-secrets:own"'])
            self.assertEqual(find(documents, "ValidatingAdmissionPolicyBinding", name)["spec"]["policyName"], name)
        spec = find(documents, "ValidatingAdmissionPolicy", "image-pull-secrets-generator")["spec"]
        names = json.loads(spec["variables"][0]["expression"])
        self.assertEqual(names, ["registry-credentials", "hub", "old"])
        self.assertEqual(names, rule(documents, "image-pull-secrets-generator", "secrets", "patch")["resourceNames"])
        nothing = render({"settings": {"serviceAccounts": []}})
        policies = [d["metadata"]["name"] for d in nothing if d["kind"] == "ValidatingAdmissionPolicy"]
        self.assertEqual(policies, ["image-pull-secrets-generator"], "there is no right to limit")

    def test_each_secret_keeps_to_its_namespaces(self):
        labels = "namespaceObject.metadata.?labels"
        for name, secret, expected in [
            ("every namespace", {}, []),
            ("nothing is chosen", {"namespaces": [], "namespaceSelector": {}}, []),
            ("by name", {"namespaces": ["team-a", "ci-*"]},
             ['(request.namespace in ["team-a"] || request.namespace.matches("^(ci-.*)$"))']),
            ("by a name that the generator alone can read", {"namespaces": ["team\\-a"]}, []),
            ("by label", {"namespaceSelector": {"matchLabels": {"team": "a"}}},
             [f'({labels}[?"team"].hasValue() && namespaceObject.metadata.labels["team"] in ["a"])']),
            ("by name and label", {"namespaces": ["b"], "namespaceSelector": {"matchExpressions": [
                {"key": "env", "operator": "NotIn", "values": ["dev", ""]},
                {"key": "team", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist"}]}},
             ['(request.namespace in ["b"])',
              f'!({labels}[?"env"].hasValue() && namespaceObject.metadata.labels["env"] in ["dev",""])',
              f'({labels}[?"team"].hasValue())', f'!({labels}[?"old"].hasValue())']),
        ]:
            with self.subTest(name):
                documents = render({"settings": {"secrets": [{"name": "creds"} | secret]}})
                spec = find(documents, "ValidatingAdmissionPolicy", "image-pull-secrets-generator")["spec"]
                conditions = [f'object.metadata.name != "creds" || {" && ".join(expected)}'] if expected else []
                self.assertEqual([v["expression"] for v in spec["validations"][2:]], conditions)

    def test_the_notes_say_where_it_is_missing(self):
        for values, kubernetes, expected, way_out in [
            ({}, "1.36", None, None),
            ({}, "1.29", "Kubernetes v1.29 is older than 1.30", "upgrade the cluster"),
            (MATRIX["no admission policy"], "1.36", "generator.admissionPolicy.enabled is false", "generator.admissionPolicy.enabled to true"),
            (MATRIX["no generator"], "1.29", None, None),
        ]:
            with self.subTest(f"{values} {kubernetes}"):
                notes = chart.notes(values, kubernetes)
                if expected:
                    self.assertIn(f"Nothing limits what is written with the generator's token: {expected}", notes)
                    self.assertIn(way_out, notes)
                else:
                    self.assertNotIn("Nothing limits", notes)

    def test_it_is_there_wherever_it_can_be(self):
        for values, kubernetes, expected in [
            ({}, "1.36", True),
            ({}, "v1.30.4-eks-036c24b", True),
            ({}, "1.29", False),
            (MATRIX["a cron job"], "1.36", True),
            (MATRIX["no policy"], "1.36", True),
            (MATRIX["no admission policy"], "1.36", False),
            (MATRIX["no generator"], "1.36", False),
        ]:
            with self.subTest(f"{values} {kubernetes}"):
                kinds = {document["kind"] for document in render(values, kubernetes=kubernetes)}
                for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]:
                    self.assertEqual(kind in kinds, expected)


class Pods(unittest.TestCase):
    def test_whatever_runs_knows_what_copies_are_given(self):
        for mode in ["controller", "cronjob"]:
            values = MATRIX["copies with labels"]["generator"] | {"mode": mode}
            for pod, spec in pod_specs(render({"generator": values})):
                with self.subTest(f"{mode}: {pod}"):
                    env = {e["name"]: e.get("value") for e in spec["containers"][0]["env"]}
                    if "GENERATOR_POLICY" not in env:
                        continue  # the Job that cleans up has no settings
                    self.assertEqual(env["GENERATOR_COPY_LABELS"], "team=a\nvelero.io/exclude-from-backup=true")
                    self.assertEqual(env["GENERATOR_COPY_ANNOTATIONS"], "example.com/note=a=b, c")

    def test_they_keep_to_the_restricted_profile_and_have_resources(self):
        for name, values in MATRIX.items():
            for pod, spec in pod_specs(render(values)):
                with self.subTest(f"{name}: {pod}"):
                    self.assertTrue(spec["securityContext"]["runAsNonRoot"])
                    assigned = "null" if name == "the API server assigns the user" else 65532
                    self.assertEqual(spec["securityContext"].get("runAsUser", "null"), assigned)
                    self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                    for container in spec["containers"] + spec.get("initContainers", []):
                        self.assertEqual(container["securityContext"], {
                            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}})
                        self.assertIn("memory", container["resources"]["limits"])
                        self.assertIn("cpu", container["resources"]["requests"])

    def test_openshift_assigns_the_user(self):
        for pod, spec in pod_specs(render({}, api=["security.openshift.io/v1"])):
            with self.subTest(pod):
                self.assertEqual(spec["securityContext"], {
                    "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}})

    def test_security_contexts_are_those_of_the_values(self):
        values = {"generator": {"podSecurityContext": {"fsGroup": 1}, "securityContext": {"runAsUser": 2}}}
        for pod, spec in pod_specs(render(values)):
            with self.subTest(pod):
                self.assertEqual(spec["securityContext"]["fsGroup"], 1)
                self.assertEqual(spec["containers"][0]["securityContext"]["runAsUser"], 2)

    def test_a_service_account_that_exists_is_used_and_not_made(self):
        documents = render(MATRIX["a ServiceAccount that exists"])
        self.assertNotIn("ServiceAccount", [document["kind"] for document in documents])
        for pod, spec in pod_specs(documents):
            self.assertEqual(spec["serviceAccountName"], "own", pod)
        for document in documents:
            for subject in document.get("subjects", []):
                if subject["namespace"] == "image-pull-secrets":
                    self.assertEqual(subject["name"], "own", document["metadata"]["name"])

    def test_programs_that_mint_credentials_are_brought_where_the_generator_reads_them_and_writes_nothing(self):
        values = MATRIX["several secrets with every form of source"]
        spec = find(render(values), "Deployment")["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        self.assertEqual(volumes["provider-ecr"]["emptyDir"], {})
        self.assertEqual(volumes["provider-gcp"]["image"], {"reference": "registry.example.com/gcp:1", "pullPolicy": "Always"})
        mounts = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"].startswith("provider-")]
        self.assertEqual(mounts, [
            {"name": f"provider-{name}", "mountPath": f"/credential-providers/{name}", "readOnly": True} for name in ["ecr", "gcp"]])
        [init] = spec["initContainers"]
        self.assertEqual((init["image"], init["command"]),
                         ("registry.example.com/ecr:1", ["cp", "/provider", "/credential-providers/ecr/"]))
        self.assertEqual(init["volumeMounts"], [{"name": "provider-ecr", "mountPath": "/credential-providers/ecr"}])
        job = find(render(MATRIX["a provider for a cron job"]), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        self.assertEqual(len(job["initContainers"]), 1)
        self.assertNotIn("initContainers", find(render({}), "Deployment")["spec"]["template"]["spec"])

    def test_labels_and_annotations_from_values_reach_every_one(self):
        for mode in ["controller", "cronjob"]:
            documents = render({"generator": {"mode": mode, "podLabels": {"sidecar.istio.io/inject": "false"},
                                              "podAnnotations": {"example.com/a": "b"}}})
            pods = list(chart.pods(documents))
            self.assertEqual(len(pods), 3)
            for name, pod in pods:
                with self.subTest(name):
                    self.assertEqual(pod["metadata"]["labels"]["sidecar.istio.io/inject"], "false")
                    self.assertEqual(pod["metadata"]["annotations"]["example.com/a"], "b")

    def test_no_variable_is_set_twice(self):
        for name, values in MATRIX.items():
            for pod, spec in pod_specs(render(values)):
                variables = [variable["name"] for variable in spec["containers"][0]["env"]]
                self.assertEqual(len(variables), len(set(variables)), f"{name}: {pod}")

    def test_every_variable_is_one_that_the_generator_reads(self):
        read = set(re.findall(r'"((?:GENERATOR|POD)_[A-Z_]+)"', "".join(
            path.read_text() for path in (chart.ROOT / "generator/src").rglob("*.rs"))))
        for values in MATRIX.values():
            for pod, spec in pod_specs(render(values)):
                set_here = {v["name"] for v in spec["containers"][0]["env"]} - {"DOCKERCONFIGJSON"}
                self.assertLessEqual(set_here, read, pod)

    def test_service_and_budget_select_those_that_run_all_the_time(self):
        documents = render({})
        controller = find(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
        job = find(documents, "Job")["spec"]["template"]["metadata"]["labels"]
        for selector in [find(documents, "Service")["spec"]["selector"],
                         find(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]:
            self.assertLessEqual(selector.items(), controller.items())
            self.assertFalse(selector.items() <= job.items())

    def test_the_generator_reads_the_policy_or_else_a_file(self):
        def variables(values):
            spec = find(render(values), "Deployment")["spec"]["template"]["spec"]
            return {v["name"]: v.get("value") for v in spec["containers"][0]["env"]}

        self.assertEqual(variables({})["GENERATOR_POLICY"], "image-pull-secrets")
        self.assertNotIn("GENERATOR_SETTINGS", variables({}))
        alone = variables({"policy": {"enabled": False}})
        self.assertEqual(alone["GENERATOR_SETTINGS"], "/etc/image-pull-secrets/settings.yaml")
        self.assertNotIn("GENERATOR_POLICY", alone)
        written = find(render({"policy": {"enabled": False}}), "ConfigMap")["data"]["settings.yaml"]
        self.assertEqual(yaml.safe_load(written)["secrets"], [SECRET])


class SourceSecrets(unittest.TestCase):
    def test_they_hold_what_kubectl_would_write(self):
        data = find(render(MATRIX["the source from values"]), "Secret")["data"][".dockerconfigjson"]
        entry = json.loads(base64.b64decode(data))["auths"]["ghcr.io"]
        self.assertEqual(base64.b64decode(entry["auth"]), b"user:pass:word")

    def test_a_document_is_taken_as_it_is(self):
        data = find(render(MATRIX["the source from values, as a document"]), "Secret")["data"][".dockerconfigjson"]
        self.assertEqual(base64.b64decode(data), b'{"auths": {}}')


class Refusals(unittest.TestCase):
    """Values that are wrong, each with what the message must name."""

    CASES = {
        "an unknown value": ({"setings": {}}, "setings"),
        "an unknown setting": ({"settings": {"secret": []}}, "secret"),
        "no secret at all": ({"settings": {"secrets": []}}, "/settings/secrets"),
        "a secret without a name": ({"settings": {"secrets": [{"source": {"env": "A"}}]}}, "name"),
        "a name that no Secret can have": ({"settings": {"secrets": [{"name": "Registry"}]}}, "/settings/secrets/0/name"),
        "two forms of source": (
            {"settings": {"secrets": [{"name": "a", "source": {"env": "A", "file": "/a"}}]}}, "/settings/secrets/0/source"),
        "a program that is not absolute": (
            {"settings": {"secrets": [{"name": "a", "source": {"exec": {"command": "p", "images": ["r.io"]}}}]}},
            "/settings/secrets/0/source"),
        "a program that is asked for nothing": (
            {"settings": {"secrets": [{"name": "a", "source": {"exec": {"command": "/p", "images": []}}}]}},
            "/settings/secrets/0/source"),
        "a program that is asked for a pattern": (
            {"settings": {"secrets": [{"name": "a", "source": {"exec": {"command": "/p", "images": ["*.r.io"]}}}]}},
            "/settings/secrets/0/source"),
        "a duration without a unit": (
            {"settings": {"secrets": [{"name": "a", "source": {
                "exec": {"command": "/p", "images": ["r.io"], "defaultCacheDuration": "30"}}}]}},
            "/settings/secrets/0/source"),
        "two programs of a name": (
            {"generator": {"credentialProviders": [{"name": "a", "image": "r.io/a"}, {"name": "a", "image": "r.io/b"}]}},
            'generator.credentialProviders[1].name: "a" is there already'),
        "a file that is not absolute": (
            {"settings": {"secrets": [{"name": "a", "source": {"file": "a"}}]}}, "/settings/secrets/0/source"),
        "matchImages with matchCredentials": (
            {"settings": {"secrets": [{"name": "a", "matchImages": ["r.io"], "matchCredentials": True}]}},
            "/settings/secrets/0"),
        "a scheme in matchImages": (
            {"settings": {"secrets": [{"name": "a", "matchImages": ["https://r.io"]}]}}, "/matchImages/0"),
        "a glob in a path": ({"settings": {"secrets": [{"name": "a", "matchImages": ["r.io/*"]}]}}, "/matchImages/0"),
        "Docker Hub by the name that never matches": (
            {"settings": {"secrets": [{"name": "a", "matchImages": ["index.docker.io/acme"]}]}}, "/matchImages/0"),
        "an image of Docker Hub without docker.io": (
            {"settings": {"secrets": [{"name": "a", "matchImages": ["acme/app"]}]}}, "/matchImages/0"),
        "an official image": ({"settings": {"secrets": [{"name": "a", "matchImages": ["nginx"]}]}}, "/matchImages/0"),
        "upper case in a path": ({"settings": {"secrets": [{"name": "a", "matchImages": ["r.io/Acme"]}]}}, "/matchImages/0"),
        "credentials to read where nothing is asked": (
            {"settings": {"secrets": [{"name": "a", "matchCredentials": True}], "onMissingSecret": "ignore"}},
            "settings.secrets[0].matchCredentials: reads the Secret"),
        "a port that is a pattern": ({"settings": {"secrets": [{"name": "a", "matchImages": ["*.io:*"]}]}}, "/matchImages/0"),
        "an open class in matchImages": ({"settings": {"secrets": [{"name": "a", "matchImages": ["[.io"]}]}}, "/matchImages/0"),
        "a class in matchImages": ({"settings": {"secrets": [{"name": "a", "matchImages": ["x.[ab]"]}]}}, "/matchImages/0"),
        "a space in matchImages": ({"settings": {"secrets": [{"name": "a", "matchImages": [" ghcr.io"]}]}}, "/matchImages/0"),
        "a path alone": ({"settings": {"secrets": [{"name": "a", "matchImages": ["/x"]}]}}, "/matchImages/0"),
        "a tag": ({"settings": {"secrets": [{"name": "a", "matchImages": ["r.io/app:1"]}]}}, "/matchImages/0"),
        "one name twice": (
            {"settings": {"secrets": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}},
            'settings.secrets[2].name: "a" is configured already'),
        "an open class": ({"settings": {"serviceAccounts": ["[a"]}}, "/settings/serviceAccounts/0"),
        "an empty class": ({"settings": {"serviceAccounts": ["[]a]"]}}, "/settings/serviceAccounts/0"),
        "a negated class of nothing": ({"settings": {"serviceAccounts": ["[^]"]}}, "/settings/serviceAccounts/0"),
        "a range without its start": ({"settings": {"serviceAccounts": ["[^-x]"]}}, "/settings/serviceAccounts/0"),
        "a range without its end": ({"settings": {"exclude": {"namespaces": ["[z-"]}}}, "/settings/exclude/namespaces/0"),
        "a trailing backslash": ({"settings": {"exclude": {"namespaces": ["a\\"]}}}, "/settings/exclude/namespaces/0"),
        "an empty pattern": ({"settings": {"exclude": {"namespaces": [""]}}}, "/settings/exclude/namespaces/0"),
        "another word for a missing secret": ({"settings": {"onMissingSecret": "deny"}}, "/settings/onMissingSecret"),
        "matchLabels, which would be lost": (
            {"policy": {"namespaceSelector": [{"matchLabels": {"a": "b"}}]}}, "/policy/namespaceSelector/0"),
        "another failure policy": ({"policy": {"failurePolicy": "fail"}}, "/policy/failurePolicy"),
        "a module without a scheme": ({"policy": {"module": "ghcr.io/x"}}, "/policy/module"),
        "another mode": ({"generator": {"mode": "deployment"}}, "/generator/mode"),
        "no replica": ({"generator": {"replicas": 0}}, "/generator/replicas"),
        "a replica count as text": ({"generator": {"replicas": "2"}}, "/generator/replicas"),
        "a source from values of both forms": (
            {"sourceSecrets": [{"name": "registry-credentials", "dockerconfigjson": "{}", "registries": [
                {"server": "a", "username": "b", "password": "c"}]}]}, "/sourceSecrets/0"),
        "a user name with a colon": (
            {"sourceSecrets": [{"name": "registry-credentials", "registries": [
                {"server": "a", "username": "b:c", "password": "d"}]}]}, "/username"),
        "a source from values that nothing copies": (
            {"sourceSecrets": [{"name": "other", "dockerconfigjson": "{}"}]},
            "no entry of settings.secrets has image-pull-secrets/other as its source; they have: "
            "image-pull-secrets/registry-credentials"),
        "a part of the values taken away": ({"generator": {"former": None}}, "former"),
        "no registry": ({"registry": ""}, "registry is empty: say where module and image are"),
        "a glob that is none, for a secret": (
            {"settings": {"secrets": [{"name": "a", "namespaces": ["[a"]}]}}, "/settings/secrets/0/namespaces/0"),
        "a selector without its forms": (
            {"settings": {"secrets": [{"name": "a", "namespaceSelector": {"team": "a"}}]}},
            "/settings/secrets/0/namespaceSelector"),
        "a pattern as a label": (
            {"settings": {"secrets": [{"name": "a", "namespaceSelector": {"matchLabels": {"team": "a-*"}}}]}},
            "/settings/secrets/0/namespaceSelector/matchLabels/team"),
        "no value to be among": (
            {"settings": {"secrets": [{"name": "a", "namespaceSelector": {
                "matchExpressions": [{"key": "team", "operator": "In"}]}}]}},
            "/settings/secrets/0/namespaceSelector/matchExpressions/0"),
        "a value that nothing looks at": (
            {"settings": {"secrets": [{"name": "a", "namespaceSelector": {
                "matchExpressions": [{"key": "team", "operator": "Exists", "values": ["a"]}]}}]}},
            "/settings/secrets/0/namespaceSelector/matchExpressions/0/values"),
        "another engine": ({"policy": {"engine": "kyverno"}}, "/policy/engine"),
        "credentials that the API server cannot read": (
            {"policy": {"engine": "native"}, "settings": {"secrets": [{"name": "a", "matchCredentials": True}]}},
            "settings.secrets[0].matchCredentials: policy.engine: native cannot read"),
        "watching without Kubewarden": ({"policy": {"engine": "native", "mode": "monitor"}}, "only protect is possible"),
        "a pattern that CEL cannot have": (
            {"policy": {"engine": "native"}, "settings": {"serviceAccounts": ["a\\*"]}}, "cannot use a pattern with a '\\'"),
        "nothing to install": (
            {"policy": {"enabled": False}, "generator": {"mode": "disabled"}}, "nothing is left to install"),
        "a ServiceAccount that exists, without its name": (
            {"generator": {"serviceAccount": {"create": False}}}, "name the ServiceAccount that exists"),
        "a label that selects": ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "/commonLabels"),
        "the same for Pods": ({"generator": {"podLabels": {"app.kubernetes.io/component": "x"}}}, "/generator/podLabels"),
        "a name that leaves no room": ({"fullnameOverride": "a" * 41}, "/fullnameOverride"),
        "a selector without a policy": (
            {"policy": {"enabled": False, "namespaceSelector": [{"key": "a", "operator": "Exists"}]}},
            "use generator.namespaceSelector"),
    }

    def test_what_is_wrong_is_named(self):
        for name, (values, expected) in self.CASES.items():
            with self.subTest(name):
                rendered = chart.template(values)
                self.assertNotEqual(rendered.returncode, 0, "it was accepted")
                self.assertIn(expected, rendered.stderr)

    def test_a_cluster_without_kubewarden_is_told_what_to_do(self):
        """Only where a cluster was asked: with one, Helm knows its kinds."""
        kubewarden = ["policies.kubewarden.io/v1", "policies.kubewarden.io/v1/ClusterAdmissionPolicy"]
        self.assertEqual(chart.template({}, api=["v1/Pod", *kubewarden]).returncode, 0)
        self.assertEqual(chart.template({"policy": {"enabled": False}}, api=["v1/Pod"]).returncode, 0)
        refused = chart.template({}, api=["v1/Pod"])
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("Kubewarden is not installed in this cluster", refused.stderr)
        self.assertIn("--set policy.engine=none", refused.stderr)

    def test_a_credential_is_not_in_the_message(self):
        values = {"sourceSecrets": [{"name": "registry-credentials", "registries": [
            {"server": "a", "username": "b", "password": "hunter2", "pasword": "hunter2"}]}]}
        rendered = chart.template(values)
        self.assertNotEqual(rendered.returncode, 0)
        self.assertNotIn("hunter2", rendered.stderr)


def kustomize(directory):
    """Gives what `kubectl kustomize` prints."""
    built = subprocess.run(["kubectl", "kustomize", str(directory)], text=True, capture_output=True)
    assert built.returncode == 0, built.stderr
    return built.stdout


class Kustomization(unittest.TestCase):
    """deploy/ holds the same objects as the chart with its default values, deploy/generator-only those without the policy."""

    def test_it_does_not_drift(self):
        def without_helm(document):
            def visit(node):
                if isinstance(node, dict):
                    return {key: visit(value) for key, value in node.items()
                            if key != "helm.sh/chart" and (key, value) != ("app.kubernetes.io/managed-by", "Helm")}
                return [visit(item) for item in node] if isinstance(node, list) else node
            return visit(document)

        def by_identity(documents):
            return {(d["kind"], d["metadata"]["name"]): d for d in documents if d}

        for directory, values in [("deploy", {}), ("deploy/generator-only", {"policy": {"enabled": False}})]:
            with self.subTest(directory):
                of_deploy = by_identity(yaml.safe_load_all(kustomize(chart.ROOT / directory)))
                namespace = of_deploy.pop(("Namespace", "image-pull-secrets"))
                self.assertEqual(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted")
                rendered = render({"registry": "registry.invalid"} | values)
                of_chart = by_identity(without_helm(d) for d in rendered if not is_hook(d))
                self.maxDiff = None
                self.assertEqual(of_deploy, of_chart, "run `make deploy`")

    def test_the_samples_of_the_documentation_replace_the_placeholder_everywhere(self):
        page = documentation.blocks((chart.ROOT / "docs/install.md").read_text())
        written = [text for block in page for _, text in documentation.here_documents(block.text)]
        samples = {yaml.safe_load(text)["resources"][0]: text for text in written}
        self.assertEqual(set(samples), {"../deploy", "../deploy/generator-only"})
        version = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["appVersion"]
        registry = documentation.VARIABLES["REGISTRY"]
        for name, text in samples.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                shutil.copytree(chart.ROOT / "deploy", f"{directory}/deploy")
                sample = pathlib.Path(directory, "my-cluster/kustomization.yaml")
                sample.parent.mkdir()
                sample.write_text(text)
                documents = list(yaml.safe_load_all(kustomize(sample.parent)))
                self.assertNotIn("registry.invalid", yaml.safe_dump_all(documents))
                modules = [d["spec"]["module"] for d in documents if d["kind"] == "ClusterAdmissionPolicy"]
                expected = [f"registry://{registry}/policies/image-pull-secrets:v{version}"] if name == "../deploy" else []
                self.assertEqual(modules, expected)
                [(_, pod)] = pod_specs(documents)
                self.assertEqual(pod["containers"][0]["image"], f"{registry}/image-pull-secrets-generator:v{version}")


class Documentation(unittest.TestCase):
    def test_the_readme_has_every_value_with_its_default(self):
        readme = (chart.CHART / "README.md").read_text()
        rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", readme, re.M))
        defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())

        def leaves(node, path=()):
            if isinstance(node, dict) and node:
                for key, value in node.items():
                    yield from leaves(value, (*path, key))
            else:
                yield ".".join(path), node

        expected = {path: json.dumps(value, separators=(", ", ": ")) for path, value in leaves(defaults)}
        self.maxDiff = None
        self.assertEqual(rows, expected)

    def test_the_schema_knows_every_value(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())

        def compare(node, schema, path):
            # Other charts have values of their own in global.
            self.assertEqual(schema.get("additionalProperties", True), path == "values.global", path)
            self.assertEqual(set(node), set(schema["properties"]), path)
            for key, value in node.items():
                inner = schema["properties"][key]
                if isinstance(value, dict) and "properties" in inner and key != "resources":
                    compare(value, inner, f"{path}.{key}")

        compare(defaults, schema, "values")


if __name__ == "__main__":
    unittest.main()
