"""Somebody who follows a page of the documentation on the test cluster, with the commands that the page shows."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import chart
import documentation
from cluster import PATIENCE, Cluster, eventually


class Reader(unittest.TestCase):
    """Follows a page. What the test cluster has not (Docker, Kubewarden, a node for the generator's Pods) has a stand-in."""

    # What begins with one of these patterns is done by that method, or not at all. Every other command is run as it stands.
    STAND_INS = []
    NODES = 0
    VARIABLES = {}

    def setUp(self):
        self.cluster = self.enterContext(Cluster(nodes=self.NODES))
        # Whatever the page writes does not go into the checkout.
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.directory / "charts").symlink_to(chart.ROOT / "charts")
        self.generator = self.policy = None

    def tearDown(self):
        self.stop()

    def stop(self):
        """Ends what plays the Pods of policy and generator."""
        for process in [self.generator, self.policy]:
            if process and process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)

    def follow(self, name):
        """Runs the commands of a page, and compares their output with the blocks of text behind them."""
        page = (chart.ROOT / name).read_text()
        unused = {pattern for pattern, _ in self.STAND_INS}
        last = compared = 0
        for block in documentation.blocks(page):
            if block.language == "text":
                # The copies follow their source a moment later.
                self.assertTrue(eventually(lambda: self.shell(last).stdout == block.text), self.shell(last).stdout)
                compared += 1
            for last in documentation.lines(block.text) if block.language == "sh" else []:
                with self.subTest(last):
                    self.run_or_stand_in(last, unused)
        self.assertEqual(unused, set(), "the page has no such command any more")
        self.assertEqual(compared, page.count("```text"))

    def run_or_stand_in(self, command, unused):
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
        """Runs a command as the reader does."""
        path = f"{pathlib.Path(chart.HELM).parent}:{os.environ['PATH']}"
        return subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self.directory, text=True, capture_output=True,
                              env=os.environ | self.VARIABLES | {"KUBECONFIG": self.cluster.admin, "PATH": path})

    # What the node does that would run the generator's image

    def start_generator(self):
        self.generator = self.cluster.generator(self.workload())

    def ask_for_the_status(self):
        def status():
            return self.cluster.generator(self.workload(), arguments=["status"]).wait(PATIENCE)
        self.assertTrue(eventually(lambda: status() == 0), self.cluster.log())

    def workload(self):
        return self.cluster.get("deployment", "image-pull-secrets-generator", "--namespace", "image-pull-secrets")
