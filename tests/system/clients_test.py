"""Real client libraries: the two JavaScript ones and the C one, each over its ordinary life and a restart of the server.

The programs in js/ and c/ make the assertions. Each prints `restart` when it wants the server stopped and started again on
the same port, and `ok` at its end.
"""

import os
import shlex
import shutil
import subprocess
import threading
import unittest

from harness import BUILD, ROOT, SLOWNESS, Server

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM_SECONDS = 40 * SLOWNESS


def run_client(command):
    """Runs a program over one server and the one that follows it."""
    server = Server()
    client = subprocess.Popen(command + [str(server.port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    too_long = threading.Timer(PROGRAM_SECONDS, client.kill)
    too_long.start()
    output = []
    try:
        for line in client.stdout:
            output.append(line)
            if line == "restart\n":
                server.stop()
                server = Server(port=server.port)
        status = client.wait()
    finally:
        too_long.cancel()
        client.kill()
        client.wait()
        client.stdout.close()
        server.stop()
    if status != 0 or output[-1:] != ["ok\n"]:
        raise AssertionError(f"{command} ended with {status}:\n" + "".join(output))


class JavaScriptTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (shutil.which("node") and shutil.which("npm")):
            raise unittest.SkipTest("node or npm is not installed")
        folder = os.path.join(HERE, "js")
        installed = os.path.join(folder, "node_modules", ".package-lock.json")
        wanted = os.path.join(folder, "package-lock.json")
        if not os.path.exists(installed) or os.path.getmtime(installed) < os.path.getmtime(wanted):
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def test_nats_2(self):
        run_client(["node", os.path.join(HERE, "js", "nats2.js")])

    def test_nats_3(self):
        run_client(["node", os.path.join(HERE, "js", "nats3.js")])


class CTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        source = os.path.join(HERE, "c", "libnats_client.c")
        cls.program = os.path.join(BUILD, "tests", "system", "libnats_client")
        if os.path.exists(cls.program) and os.path.getmtime(cls.program) > os.path.getmtime(source):
            return
        if not os.path.exists("/usr/include/nats/nats.h"):
            raise unittest.SkipTest("libnats-dev is not installed")
        os.makedirs(os.path.dirname(cls.program), exist_ok=True)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run(compiler + ["-std=gnu17", "-Wall", "-Wextra", "-o", cls.program, source, "-lnats", "-pthread"], check=True,
                       cwd=ROOT)

    def test_libnats(self):
        run_client([self.program])
