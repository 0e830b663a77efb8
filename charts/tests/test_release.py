"""What is published: one version everywhere, one owner, and descriptions that agree."""

import fnmatch
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest

import jsonschema
import yaml

import chart
from chart import ROOT


def load(name):
    return yaml.safe_load((ROOT / name).read_text())


METADATA = load("metadata.yml")
VERSION = METADATA["annotations"]["io.kubewarden.policy.version"]


class Versions(unittest.TestCase):
    def test_they_are_equal(self):
        description = load("charts/image-pull-secrets/Chart.yaml")
        found = {
            "Cargo.toml": tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"],
            "artifacthub-pkg.yml": load("artifacthub-pkg.yml")["version"],
            "Chart.yaml version": description["version"],
            "Chart.yaml appVersion": description["appVersion"],
            "Chart.yaml image": yaml.safe_load(description["annotations"]["artifacthub.io/images"])[0]["image"].split(":v")[1],
            "CHANGELOG.md": re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1),
        }
        self.assertEqual(found, dict.fromkeys(found, VERSION))

    def test_every_package_has_that_of_the_workspace(self):
        for package in ["", "core", "generator"]:
            manifest = tomllib.loads((ROOT / package / "Cargo.toml").read_text())
            self.assertEqual(manifest["package"]["version"], {"workspace": True}, package)


class ArtifactHub(unittest.TestCase):
    """artifacthub-pkg.yml is what `kwctl scaffold artifacthub` makes of metadata.yml."""

    PACKAGE = load("artifacthub-pkg.yml")
    ANNOTATIONS = METADATA["annotations"]

    def test_it_says_what_the_metadata_say(self):
        said = self.ANNOTATIONS
        self.assertEqual(self.PACKAGE["name"], said["io.kubewarden.policy.title"])
        self.assertEqual(self.PACKAGE["displayName"], said["io.artifacthub.displayName"])
        self.assertEqual(self.PACKAGE["description"], said["io.kubewarden.policy.description"])
        self.assertEqual(self.PACKAGE["keywords"], said["io.artifacthub.keywords"].split(", "))
        image = f'{said["io.kubewarden.policy.ociUrl"]}:v{VERSION}'
        self.assertEqual(self.PACKAGE["containersImages"], [{"name": "policy", "image": image}])
        self.assertIn(f"kwctl pull {image}\n", self.PACKAGE["install"])
        self.assertIn(f"/releases/download/v{VERSION}/policy.wasm", self.PACKAGE["links"][0]["url"])

    def test_its_annotations_say_what_the_metadata_say(self):
        said = self.PACKAGE["annotations"]
        self.assertEqual(yaml.safe_load(said["kubewarden/rules"]), METADATA["rules"])
        self.assertEqual(yaml.safe_load(said["kubewarden/contextAwareResources"]), METADATA["contextAwareResources"])
        self.assertEqual(said["kubewarden/mutation"], json.dumps(METADATA["mutating"]))
        self.assertEqual(said["kubewarden/questions-ui"], (ROOT / "questions-ui.yml").read_text())

    def test_the_author_has_an_address(self):
        # kwctl scaffold artifacthub refuses one that has none.
        author = re.fullmatch(r"(.+) <(.+@.+)>", self.ANNOTATIONS["io.kubewarden.policy.author"])
        self.assertEqual(self.PACKAGE["maintainers"], [{"name": author[1], "email": author[2]}])


class Questions(unittest.TestCase):
    """The form of questions-ui.yml makes settings that are valid."""

    def test_its_defaults_are_settings(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        settings = schema["properties"]["settings"] | {"definitions": schema["definitions"]}
        document = {}

        def fill(questions):
            for question in questions:
                *path, last = question["variable"].split(".")
                node = document
                for key in path:
                    node = node.setdefault(key, {})
                if question.get("default") is not None:
                    node[last] = question["default"]
                fill(question.get("subquestions", []))

        questions = load("questions-ui.yml")["questions"]
        fill(questions)
        # A row is filled in with all of its defaults at once.
        row = next(q["sequence_questions"] for q in questions if q["variable"] == "secrets")
        document["secrets"] = [{q["variable"]: q["default"] for q in row} | {"name": "registry-credentials"}]
        jsonschema.validate(document, settings)

    def test_every_question_is_about_a_setting(self):
        known = set(json.loads((chart.CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"])
        asked = {q["variable"].split(".")[0] for q in load("questions-ui.yml")["questions"]}
        # The first is the text at the head of the form; conflicts are the generator's.
        self.assertEqual(asked, known - {"conflicts"} | {"description"})

    def test_whatever_is_asked_is_explained(self):
        def check(questions):
            for question in questions:
                if question["variable"] not in ("description", "exclude"):
                    self.assertIn("tooltip", question, question["variable"])
                check(question.get("sequence_questions", []) + question.get("subquestions", []))

        check(load("questions-ui.yml")["questions"])

    def test_every_property_of_a_secret_is_asked_about_that_the_policy_reads(self):
        secret = json.loads((chart.CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"]["secrets"]
        questions = next(q for q in load("questions-ui.yml")["questions"] if q["variable"] == "secrets")["sequence_questions"]
        asked = {question["variable"].split(".")[0] for question in questions}
        # A source, and a label selector, are more than the form can ask for.
        self.assertEqual(asked, set(secret["items"]["properties"]) - {"source", "namespaceSelector"})


class Kubewarden(unittest.TestCase):
    """What the workflows of kubewarden/github-actions take for granted of a policy's repository."""

    def test_the_targets_that_they_call_exist(self):
        makefile = (ROOT / "Makefile").read_text()
        for target in ["fmt", "lint", "test", "e2e-tests", "clean", "policy.wasm", "annotated-policy.wasm"]:
            self.assertRegex(makefile, rf"(?m)^{re.escape(target)}:", target)

    def test_they_find_one_version_in_the_manifest(self):
        found = re.findall(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)
        self.assertEqual(found, [VERSION])

    def test_it_is_listed_among_the_policies_that_mutate(self):
        self.assertEqual(METADATA["annotations"]["io.kubewarden.policy.category"], "Resource mutation")


class Repository(unittest.TestCase):
    def test_it_is_put_in_everywhere_that_is_published(self):
        with tempfile.TemporaryDirectory() as directory:
            copy = pathlib.Path(directory)
            for name in ["metadata.yml", "artifacthub-pkg.yml", "artifacthub-repo.yml", "book.toml", "README.md", "charts", "scripts"]:
                source = ROOT / name
                (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
            subprocess.run([copy / "scripts/set-repository", "Acme-Labs/pull-secrets"], check=True)
            published = ["metadata.yml", "artifacthub-pkg.yml", "artifacthub-repo.yml", "book.toml",
                         "charts/image-pull-secrets/Chart.yaml", "charts/image-pull-secrets/values.yaml"]
            for name in published:
                with self.subTest(name):
                    text = (copy / name).read_text()
                    self.assertIn("acme-labs", text.lower())
                    self.assertNotIn("Acme-Labs/image-pull-secrets", text)
                    self.assertIsNone(re.search(r"\bowner\b(?!s:| of)", text.replace("owners:", "")), text)
            said = yaml.safe_load((copy / "metadata.yml").read_text())["annotations"]
            self.assertEqual(said["io.kubewarden.policy.author"], "Acme-Labs <Acme-Labs@users.noreply.github.com>")
            self.assertEqual(said["io.kubewarden.policy.source"], "https://github.com/Acme-Labs/pull-secrets")
            self.assertEqual(said["io.kubewarden.policy.ociUrl"], "ghcr.io/acme-labs/policies/image-pull-secrets")
            description = yaml.safe_load((copy / "charts/image-pull-secrets/Chart.yaml").read_text())
            self.assertEqual(description["icon"], "https://raw.githubusercontent.com/Acme-Labs/pull-secrets/main/docs/icon.svg")
            values = yaml.safe_load((copy / "charts/image-pull-secrets/values.yaml").read_text())
            self.assertEqual(values["registry"], "ghcr.io/acme-labs")
            self.assertIn("git clone https://github.com/Acme-Labs/pull-secrets && cd pull-secrets\n", (copy / "README.md").read_text())
            for page in ["README.md", "charts/image-pull-secrets/README.md"]:
                links = re.findall(r"\]\(([^)]*)\)", (copy / page).read_text())
                for link in links:
                    self.assertRegex(link, "^(https://|#)", page)
                ours = re.compile(
                    rf"https://(?:github\.com/Acme-Labs/pull-secrets/blob|raw\.githubusercontent\.com/Acme-Labs/pull-secrets)"
                    rf"/v{re.escape(VERSION)}/([^#]*)")
                paths = [found[1] for link in links if (found := ours.match(link))]
                self.assertTrue(paths, page)
                for path in paths:
                    self.assertTrue((ROOT / path).exists(), f"{page}: {path}")


class Chart(unittest.TestCase):
    DESCRIPTION = load("charts/image-pull-secrets/Chart.yaml")

    def test_its_icon_is_in_this_repository(self):
        path = self.DESCRIPTION["icon"].split("/main/")[1]
        self.assertIn("<svg", (ROOT / path).read_text())

    def test_artifact_hub_can_read_its_annotations(self):
        for name, text in self.DESCRIPTION["annotations"].items():
            self.assertIsInstance(text, str, name)
            self.assertTrue(name.startswith("artifacthub.io/"), name)
        [image] = yaml.safe_load(self.DESCRIPTION["annotations"]["artifacthub.io/images"])
        rendered = dict(chart.pod_specs(chart.render({"registry": "ghcr.io/owner"})))
        self.assertEqual(rendered["image-pull-secrets-generator"]["containers"][0]["image"], image["image"])
        for link in yaml.safe_load(self.DESCRIPTION["annotations"]["artifacthub.io/links"]):
            self.assertEqual(set(link), {"name", "url"})


class Workflows(unittest.TestCase):
    WORKFLOWS = {path.name: path for path in (ROOT / ".github/workflows").glob("*.yml")}

    def steps(self):
        for name, path in self.WORKFLOWS.items():
            for job, body in yaml.safe_load(path.read_text())["jobs"].items():
                for step in body.get("steps", []):
                    yield f"{name}: {job}", step

    def test_foreign_actions_are_pinned_by_commit(self):
        for where, step in self.steps():
            if "uses" in step and not step["uses"].startswith("./"):
                self.assertRegex(step["uses"], r"@[0-9a-f]{40}$", where)

    def test_scripts_are_valid_and_their_targets_exist(self):
        makefiles = (ROOT / "Makefile").read_text() + (ROOT / "charts/charts.mk").read_text()
        for where, step in self.steps():
            script = re.sub(r"\$\{\{.*?\}\}", "expression", step.get("run", ""))
            checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
            self.assertEqual(checked.returncode, 0, f"{where}: {checked.stderr}")
            for target in re.findall(r"\bmake ([a-z0-9.-]+)", script):
                self.assertTrue(re.search(rf"^{re.escape(target)}:", makefiles, re.M), f"{where}: there is no target {target}")

    def test_no_expression_of_somebody_elses_is_in_a_script(self):
        for where, step in self.steps():
            for expression in re.findall(r"\$\{\{\s*(.*?)\s*\}\}", step.get("run", "")):
                self.assertTrue(expression.startswith("matrix."), f"{where}: {expression}")

    RELEASE = yaml.safe_load(WORKFLOWS["release.yml"].read_text())["jobs"]
    PUBLISHING = ["publish-module", "publish-image", "publish-chart"]

    def script(self, job):
        return "\n".join(step.get("run", "") for step in self.RELEASE[job]["steps"])

    def test_what_is_published_is_signed_in_both_formats_and_has_its_provenance(self):
        # Kubewarden looks for the tag sha256-….sig, which cosign 3 writes only when told to.
        for job in self.PUBLISHING:
            with self.subTest(job):
                signing = re.findall(r"^cosign sign --yes (?:--recursive )?(\S+ \S+) (.*)$", self.script(job), re.M)
                self.assertEqual([flags for flags, _ in signing], [
                    f"--new-bundle-format={new} --use-signing-config={new}" for new in ["false", "true"]])
                self.assertEqual(len({subject for _, subject in signing}), 1)
                steps = self.RELEASE[job]["steps"]
                self.assertEqual(sum("attest-build-provenance@" in step.get("uses", "") for step in steps), 1)
                self.assertEqual(self.RELEASE[job]["permissions"], {
                    "packages": "write", "id-token": "write", "attestations": "write"})

    def test_the_sbom_of_the_module_is_published_as_kubewarden_does(self):
        names = ["policy-sbom.spdx.json", "policy-sbom.spdx.jsonl.bundle.sigstore"]
        self.assertRegex(self.script("publish-module"), rf"cosign sign-blob (?s:.*?)--bundle {names[1]} {names[0]}")
        for name in names:
            self.assertIn(f" {name}", self.script("release"))

    def test_what_builds_may_not_publish_and_what_publishes_does_not_build(self):
        for job, body in self.RELEASE.items():
            with self.subTest(job):
                if job.startswith("build-"):
                    self.assertEqual(body["permissions"], {"contents": "read"})
                    self.assertNotIn("github.token", yaml.safe_dump(body))
                elif job not in ("ci", "version"):
                    self.assertIsNone(re.search(r"\b(make|cargo|buildx build|helm package)\b", self.script(job)))
                    self.assertFalse([step for step in body["steps"] if "checkout@" in step.get("uses", "")])

    def test_what_a_job_downloads_was_uploaded_by_one_that_it_waits_for(self):
        def waits_for(job):
            needs = self.RELEASE[job].get("needs", [])
            for needed in [needs] if isinstance(needs, str) else needs:
                yield from [needed, *waits_for(needed)]

        def artifacts(job, action):
            return [step["with"] for step in self.RELEASE[job].get("steps", []) if f"/{action}-artifact@" in step.get("uses", "")]

        for job in self.RELEASE:
            uploaded = [a["name"] for needed in waits_for(job) for a in artifacts(needed, "upload")]
            for wanted in artifacts(job, "download"):
                pattern = wanted.get("name") or wanted["pattern"]
                self.assertTrue([name for name in uploaded if fnmatch.fnmatch(name, pattern)], f"{job}: {pattern}")

    def test_nothing_is_pushed_by_force(self):
        for where, step in self.steps():
            self.assertNotRegex(step.get("run", ""), r"git push .*(--force|-f\b|\+)", where)

    def test_every_job_ends(self):
        for name, path in self.WORKFLOWS.items():
            for job, body in yaml.safe_load(path.read_text())["jobs"].items():
                if "uses" not in body:
                    self.assertIn("timeout-minutes", body, f"{name}: {job}")

    def test_every_workflow_says_what_it_may(self):
        for path in self.WORKFLOWS.values():
            self.assertIn("permissions", yaml.safe_load(path.read_text()), path.name)


class Image(unittest.TestCase):
    def test_it_runs_as_the_user_of_the_chart_and_is_where_the_chart_says(self):
        dockerfile = (ROOT / "Dockerfile").read_text()
        pod = next(spec for name, spec in chart.pod_specs(chart.render({})) if name.endswith("-generator"))
        user, group = re.search(r"^USER (\d+):(\d+)$", dockerfile, re.M).groups()
        self.assertEqual(pod["securityContext"]["runAsUser"], int(user))
        self.assertEqual(pod["securityContext"]["runAsGroup"], int(group))
        entrypoint = json.loads(re.search(r"^ENTRYPOINT (.*)$", dockerfile, re.M).group(1))
        notes = (chart.CHART / "templates/NOTES.txt").read_text()
        self.assertIn(f"-- {entrypoint[0]} status", notes)

    def test_all_that_cargo_needs_is_sent_to_the_build(self):
        members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
        sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        self.assertLessEqual({member.split("/")[0] for member in members} | {"src", "Cargo.toml", "Cargo.lock"}, sent)


if __name__ == "__main__":
    unittest.main()
