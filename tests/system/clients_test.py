# SPDX-License-Identifier: Apache-2.0
"""Real client libraries: the two JavaScript ones and the C one, each over its ordinary life and a restart of the server.

The programs in js/ and c/ make the assertions. Each prints `restart` when it wants the server stopped and started again on
the same port, and `ok` at its end.
"""

import subprocess
import threading
import unittest

from harness import SLOWNESS, Server
from libraries import javascript, libnats

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
    def test_nats_2(self):
        run_client(javascript("nats2.js"))

    def test_nats_3(self):
        run_client(javascript("nats3.js"))


class CTest(unittest.TestCase):
    def test_libnats(self):
        run_client(libnats("libnats_client"))
