"""docs/quickstart.md, followed on the test cluster: the commands are taken from the page, in its order.

The test cluster is there already, and there is neither Docker nor Kubewarden. What these do is done by a stand-in or left out:
STAND_INS says which for each command. Every other command is run as it stands, and its output is compared with the page's.
"""

import unittest

import yaml

from cluster import PATIENCE
from reader import Reader

REGISTRY = "localhost:5001"
RELEASE = ["image-pull-secrets", "--namespace", "image-pull-secrets"]


class Quickstart(Reader):
    NODES = 1
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
        super().setUp()
        self.accounts = {}
        self.cluster.give_nodes_to("shop", "team-a")

    def test_its_commands_do_what_it_says(self):
        self.follow("docs/quickstart.md")

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

    def uninstall(self):
        hooks = [document for document in yaml.safe_load_all(self.cluster.helm("get", "hooks", *RELEASE))
                 if document and document["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"]
        job = next(document for document in hooks if document["kind"] == "Job")
        rights = yaml.safe_dump_all(document for document in hooks if document["kind"] != "Job")
        self.cluster.helm("uninstall", *RELEASE, "--no-hooks")
        self.stop()
        # With the policy, Kubewarden's controller deletes its webhook.
        self.cluster.kubectl("delete", "mutatingwebhookconfiguration", "image-pull-secrets")
        self.cluster.kubectl("apply", "-f", "-", input=rights)
        self.assertEqual(self.cluster.generator(job).wait(PATIENCE), 0, self.cluster.log())


if __name__ == "__main__":
    unittest.main()
