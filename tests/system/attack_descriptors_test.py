# SPDX-License-Identifier: Apache-2.0
"""Limits of open files and of memory that are too low: said at the start, shared out, and no reason to spin or to fill a
disk."""

import os
import select
import socket
import subprocess
import threading
import time
import unittest

from attack_log_test import processor_seconds
from harness import DEADLINE, EXECUTABLE, SLOWNESS, Client, Server, bulkhead_only, free_port, is_sanitized, wait_until

REFUSED = b"-ERR 'maximum connections exceeded'\r\n"


NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []


def limited(limit, *words, kind="n"):
    """The command line of a server under that limit. Not as root, who raises that of open files."""
    return [*NOBODY, "sh", "-c", f'ulimit -{kind} {limit}; exec "$@"', "sh", EXECUTABLE, "-a", "127.0.0.1", *words]


@bulkhead_only("nats-server waits and refuses nobody")
class FewDescriptorsTest(unittest.TestCase):
    def serve(self, limit, *words, kind="n"):
        server = Server.__new__(Server)
        server.port = free_port()
        process = subprocess.Popen(limited(limit, "-p", str(server.port), *words, kind=kind), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        server.pid = process.pid
        server._process, server._lines = process, []
        server._more_lines = threading.Condition()
        server._log_reader = threading.Thread(target=server._read_log, daemon=True)
        server._log_reader.start()
        self.addCleanup(process.terminate)
        server.wait_log("Server is ready")
        return server

    def refused_start(self, limit, *words, kind="n"):
        result = subprocess.run(limited(limit, "-p", "-1", *words, kind=kind), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=DEADLINE, cwd="/")
        self.assertEqual(result.returncode, 1, result.stderr)
        return result.stderr

    def test_too_few_to_start(self):
        """One line says what is needed, at once."""
        self.assertIn("[FTL] Cannot start: a process may open 64 files here, but 1 frontend needs 94. ",
                      self.refused_start(64))
        self.assertIn("[FTL] Cannot start: a process may open 100 files here, but 4 frontends need 160. ",
                      self.refused_start(100, "--frontends", "4"))

    @unittest.skipIf(is_sanitized(), "a sanitizer takes all addresses")
    def test_too_little_memory_to_start(self):
        """The same of addresses: what each process may map."""
        self.assertRegex(self.refused_start(300000, "--frontends", "2", kind="v"),
                         r"\[FTL\] Cannot start: a process may take 292 MB of memory here \(ulimit -v, LimitAS\), but with 2 "
                         r"frontends the router needs 3\d\d MB, 1\d\d of them for each\. Raise the limit, ")
        server = self.serve(400000, "--frontends", "2", kind="v")
        client = Client(server, verbose=False)
        self.addCleanup(client.close)
        client.fence()

    def test_just_enough_to_start(self):
        server = self.serve(94, "--frontends", "1")
        self.assertIn("[WRN] max_connections is 65536, but 94 open files are enough for 66 connections of each frontend, "
                      "66 in all: that is the limit now. ", server.log())
        clients = [Client(server) for _ in range(66)]
        for client in clients:
            self.addCleanup(client.close)
            client.connect(verbose=False)
            client.fence()

    def crowd(self, server, count):
        """So many strangers; returns (served, refused, waiting)."""
        sockets = [socket.create_connection(("127.0.0.1", server.port), DEADLINE) for _ in range(count)]
        self.strangers = list(sockets)
        for stranger in sockets:
            self.addCleanup(stranger.close)
        received = {stranger: b"" for stranger in sockets}
        end = time.monotonic() + 2 * SLOWNESS
        while time.monotonic() < end and any(b"\n" not in text for text in received.values()):
            for stranger in select.select(sockets, [], [], 0.1)[0]:
                data = stranger.recv(4096)
                received[stranger] += data
                if not data:
                    sockets.remove(stranger)
        for stranger in select.select(sockets, [], [], 0.3)[0]:
            received[stranger] += stranger.recv(4096)
        texts = list(received.values())
        refused = sum(REFUSED in text for text in texts)
        return sum(text.startswith(b"INFO") for text in texts) - refused, refused, texts.count(b"")

    def test_crowd(self):
        """Strangers beyond what there are descriptors for are told so; nothing spins, no flood of lines, and all is well when
        they have gone."""
        server = self.serve(200, "--frontends", "2")
        first = Client(server, verbose=False)
        self.addCleanup(first.close)
        first.fence()
        family = [server.pid] + sum(server.child_pids().values(), [])
        lines = len(server.log().splitlines())
        served, refused, waiting = self.crowd(server, 600)
        used = sum(map(processor_seconds, family))
        time.sleep(0.5)
        used = sum(map(processor_seconds, family)) - used
        lines = len(server.log().splitlines()) - lines
        print(f"served {served}, refused {refused}, waiting {waiting}; {lines} lines; idle with them: {used:.2f} s of 0.5")
        self.assertGreater(served, 250)
        self.assertEqual(waiting, 0)
        self.assertEqual(served + refused, 600)
        self.assertLess(lines, 700)
        if not is_sanitized():
            self.assertLess(used, 0.25)
        first.fence()
        for stranger in self.strangers:
            stranger.close()

        def served():
            with Client(server, first=b"CONNECT {\"verbose\":false}\r\nPING\r\n") as client:
                return client.expect_until(b"\r\n") == b"PONG\r\n"
        wait_until(served, "a new client is served")

    @staticmethod
    def set_limit(pid, limit):
        subprocess.run([*NOBODY, "prlimit", "--pid", str(pid), f"--nofile={limit}:300"], check=True)

    def test_the_system_has_none(self):
        """accept itself fails: the listener rests, with a line a second at most."""
        server = self.serve(300, "--frontends", "1")
        frontend, = server.child_pids()["frontend"]
        held = Client(server, verbose=False)
        self.addCleanup(held.close)
        held.fence()
        self.set_limit(frontend, 3)
        late = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        self.addCleanup(late.close)
        server.wait_log("New connections wait in the listener's queue: Too many open files; 1 are open")
        used, begun = processor_seconds(frontend), time.monotonic()
        time.sleep(1.2)
        elapsed, used = time.monotonic() - begun, processor_seconds(frontend) - used
        held.fence()
        count = server.log().count("Too many open files")
        print(f"{count} lines and {used:.2f} s of processor in {elapsed:.1f} s")
        self.assertLessEqual(count, 2 + elapsed)
        self.assertLess(used, 0.3 * elapsed)
        self.set_limit(frontend, 300)
        late.settimeout(DEADLINE)
        self.assertTrue(late.recv(100).startswith(b"INFO"))


if __name__ == "__main__":
    unittest.main()
