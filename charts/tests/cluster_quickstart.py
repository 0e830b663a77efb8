"""docs/quickstart.md, followed on the test cluster: the commands are taken from the page, in its order.

The test cluster is there already, and there is neither Docker nor Kubewarden. What these do is done by a stand-in or left out:
STAND_INS says which for each command. Every other command is run as it stands, and its output is compared with the page's.
"""

import os
import pathlib
import re
import subprocess
import unittest

import yaml

import chart
import documentation
from cluster import Cluster, eventually

REGISTRY = "localhost:5001"
RELEASE = ["image-pull-secrets", "--namespace", "image-pull-secrets"]


class Quickstart(unittest.TestCase):
    # What begins with this is done in another way: by a method, or not at all.
    STAND_INS = [
        ("git clone ", None),
        ("kind create cluster ", None),
        ("mkdir auth", None),
        (r"docker run --rm --entrypoint htpasswd httpd:2 -Bbn (\S+) (\S+) (>+)auth/htpasswd", "set_password"),
        ("docker run --detach --name kind-registry ", None),
        ("docker exec pull-secrets-control-plane ", None),
        ("echo .* docker exec --interactive pull-secrets-control-plane ", None),
        ("docker login ", None),
        ("docker pull ", None),
        ("docker tag ", None),
        (r"docker push (\S+)", "push"),
        ("helm repo add kubewarden ", None),
        ("helm upgrade --install kubewarden-controller ", "install_kubewarden"),
        ("echo .*auth/sources.yaml", None),
        ("make push ", None),
        ("docker build ", None),
        ("kind load docker-image ", None),
        ("kubectl rollout status deployment/image-pull-secrets-generator ", "start_generator"),
        ("kubectl wait clusteradmissionpolicy/image-pull-secrets ", "start_policy"),
        ("helm test ", "ask_for_the_status"),
        ("helm uninstall image-pull-secrets ", "uninstall"),
        ("kind delete cluster ", None),
        ("docker rm --force kind-registry", None),
        ("rm -r auth", None),
    ]

    def setUp(self):
        self.cluster = self.enterContext(Cluster(nodes=1))
        self.accounts = {}
        self.generator = self.policy = None
        self.cluster.give_nodes_to("shop", "team-a")

    def tearDown(self):
        for process in [self.generator, self.policy]:
            if process and process.poll() is None:
                process.terminate()
                process.wait(20)

    def test_its_commands_do_what_it_says(self):
        page = (chart.ROOT / "docs/quickstart.md").read_text()
        unused = {pattern for pattern, _ in self.STAND_INS}
        last = compared = 0
        for block in documentation.blocks(page):
            if block.language == "text":
                # The copies follow their source a moment later.
                self.assertTrue(eventually(lambda: self.shell(last).stdout == block.text), self.shell(last).stdout)
                compared += 1
            for last in documentation.lines(block.text) if block.language == "sh" else []:
                with self.subTest(last):
                    self.follow(last, unused)
        self.assertEqual(unused, set(), "the page has no such command any more")
        self.assertEqual(compared, page.count("```text"))

    def follow(self, command, unused):
        for pattern, method in self.STAND_INS:
            found = re.match(pattern, command)
            if found:
                unused.discard(pattern)
                if method:
                    getattr(self, method)(*found.groups())
                return
        done = self.shell(command)
        self.assertEqual(done.returncode, 0, f"{done.stdout}{done.stderr}{self.cluster.log()}")

    def shell(self, command):
        """Runs a command as the reader does, in the checkout."""
        path = f"{pathlib.Path(chart.HELM).parent}:{os.environ['PATH']}"
        return subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=chart.ROOT, text=True, capture_output=True,
                              env=os.environ | {"KUBECONFIG": self.cluster.admin, "PATH": path})

    # What the registry does

    def set_password(self, user, password, redirection):
        if redirection == ">":
            self.accounts = {}
        self.accounts[user] = password
        self.cluster.ask_registry("PUT", f"/hosts/{REGISTRY}", {"auth": "basic", "accounts": self.accounts})

    def push(self, image):
        self.cluster.ask_registry("POST", "/images", {"image": image})

    # What Kubewarden does

    def install_kubewarden(self):
        self.cluster.kubectl("create", "serviceaccount", "policy-server", "--namespace", "kubewarden")

    def start_policy(self):
        self.policy = self.cluster.serve_policy("image-pull-secrets")

    # What the node does that would run the generator's image

    def start_generator(self):
        self.generator = self.cluster.generator(self.workload())

    def ask_for_the_status(self):
        def status():
            return self.cluster.generator(self.workload(), arguments=["status"]).wait(30)
        self.assertTrue(eventually(lambda: status() == 0), self.cluster.log())

    def workload(self):
        return self.cluster.get("deployment", "image-pull-secrets-generator", "--namespace", "image-pull-secrets")

    def uninstall(self):
        hooks = [document for document in yaml.safe_load_all(self.cluster.helm("get", "hooks", *RELEASE))
                 if document and document["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"]
        job = next(document for document in hooks if document["kind"] == "Job")
        rights = yaml.safe_dump_all(document for document in hooks if document["kind"] != "Job")
        self.cluster.helm("uninstall", *RELEASE, "--no-hooks")
        for process in [self.generator, self.policy]:
            process.terminate()
            process.wait(20)
        # With the policy, Kubewarden's controller deletes its webhook.
        self.cluster.kubectl("delete", "mutatingwebhookconfiguration", "image-pull-secrets")
        self.cluster.kubectl("apply", "-f", "-", input=rights)
        self.assertEqual(self.cluster.generator(job).wait(60), 0, self.cluster.log())


if __name__ == "__main__":
    unittest.main()
