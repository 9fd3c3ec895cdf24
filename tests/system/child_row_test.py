# SPDX-License-Identifier: Apache-2.0
"""A new daemon is one row in each of the supervisor's two tables: one that does nothing, in a build of its own (build/tests/idle)."""

import os
import signal
import time
import unittest

import harness
from family import kill
from harness import BUILD, Client, Server, bulkhead_only, wait_until

IDLE = os.path.join(BUILD, "tests", "idle", "bulkhead")


@bulkhead_only("its supervisor starts the daemon")
class ChildRowTest(unittest.TestCase):
    def setUp(self):
        real, harness.EXECUTABLE = harness.EXECUTABLE, IDLE
        self.addCleanup(setattr, harness, "EXECUTABLE", real)
        self.server = Server(config="patience { hang: 400ms }\n")
        self.addCleanup(self.server.stop)

    def idle(self):
        return self.server.child_pids().get("idle", [])

    def test_a_life(self):
        first = wait_until(self.idle, "the daemon")[0]
        time.sleep(1.5)  # some looks of the watch over hangs, each with a poke
        self.assertEqual(self.idle(), [first], self.server.log())
        with open(self.server.config_path, "a", encoding="ascii") as file:
            file.write("max_payload: 2000\n")
        os.kill(self.server.pid, signal.SIGHUP)
        self.server.wait_log("Reloaded server configuration")
        self.server.wait_log("idle: generation 1")
        self.assertTrue(kill(self.server, first))
        second = wait_until(lambda: [pid for pid in self.idle() if pid != first], "its successor")[0]
        self.server.wait_log("nobody misses it")
        kill(self.server, second, signal.SIGSTOP)
        self.server.wait_log("hangs")
        wait_until(lambda: [pid for pid in self.idle() if pid not in (first, second)], "the third")
        with Client(self.server, verbose=False) as client:
            client.fence()
