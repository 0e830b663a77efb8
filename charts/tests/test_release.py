"""What is published: one version everywhere, one owner, and descriptions that agree."""

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


class Repository(unittest.TestCase):
    def test_it_is_put_in_everywhere_that_is_published(self):
        with tempfile.TemporaryDirectory() as directory:
            copy = pathlib.Path(directory)
            for name in ["metadata.yml", "artifacthub-pkg.yml", "artifacthub-repo.yml", "charts", "scripts"]:
                source = ROOT / name
                (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
            subprocess.run([copy / "scripts/set-repository", "Acme-Labs/pull-secrets"], check=True)
            published = ["metadata.yml", "artifacthub-pkg.yml", "artifacthub-repo.yml",
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
            values = yaml.safe_load((copy / "charts/image-pull-secrets/values.yaml").read_text())
            self.assertEqual(values["registry"], "ghcr.io/acme-labs")


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

    def test_what_is_published_is_signed_and_has_its_provenance(self):
        jobs = yaml.safe_load(self.WORKFLOWS["release.yml"].read_text())["jobs"]
        for job in ["module", "manifest", "chart"]:
            with self.subTest(job):
                steps = jobs[job]["steps"]
                self.assertEqual(sum("cosign sign --yes " in step.get("run", "") for step in steps), 1)
                self.assertEqual(sum("attest-build-provenance@" in step.get("uses", "") for step in steps), 1)
                self.assertEqual(jobs[job]["permissions"]["attestations"], "write")

    def test_kubewarden_can_read_the_signature_of_the_module(self):
        # It looks for the tag sha256-….sig, which cosign 3 writes only when told to.
        script = "".join(step.get("run", "") for step in
                         yaml.safe_load(self.WORKFLOWS["release.yml"].read_text())["jobs"]["module"]["steps"])
        self.assertIn("cosign sign --yes --new-bundle-format=false --use-signing-config=false ", script)

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
