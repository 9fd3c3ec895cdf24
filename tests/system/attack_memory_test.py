# SPDX-License-Identifier: Apache-2.0
"""What clients may make the server hold: who takes too much is refused or closed, the others lose nothing, and no process ends."""

import re
import signal
import threading
import unittest

from family import counters, kill, live_router, read_proc, take_over_count, wait_family
from harness import QUIET, Client, Server, bulkhead_only, is_sanitized, wait_until

MEGABYTE = 1 << 20
REFUSED = b"-ERR 'maximum subscriptions exceeded'\r\n"


def private_bytes(pid):
    return int(re.search(r"^RssAnon:\s+(\d+) kB", read_proc(pid, "status"), re.MULTILINE)[1]) * 1024


def deep(number, tokens):
    """A pattern of so many tokens that shares two with others."""
    return b"x%d.*" % number + b".a" * (tokens - 2)


class Honest:
    """Two clients that exchange numbered messages until finish(), which looks whether all have come, in order."""

    def __init__(self, server):
        self.reader = Client(server, first=QUIET + b"SUB honest.> 1\r\nSUB *.*.honest 2\r\nPING\r\n")
        self.reader.expect_exact(b"PONG\r\n")
        self.writer = Client(server, first=QUIET)
        self.count, self.error = 0, None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            while not self._ends.is_set():
                text = b"%08d" % self.count
                self.writer.send(b"PUB honest.%d 8\r\n%s\r\nPING\r\n" % (self.count, text))
                self.reader.expect_exact(b"MSG honest.%d 1 8\r\n%s\r\n" % (self.count, text))
                self.writer.expect_exact(b"PONG\r\n")
                self.count += 1
        except BaseException as error:
            self.error = error

    def finish(self):
        self._ends.set()
        self._thread.join()
        if self.error:
            raise self.error


class MemoryCase(unittest.TestCase):
    def serve(self, **options):
        self.server = Server(**options)
        self.addCleanup(self.server.stop)
        self.honest = Honest(self.server)
        self.addCleanup(self.honest.finish)

    def counted(self, name):
        return counters(self.server)[name]

    def wait_counted(self, name, least):
        wait_until(lambda: self.counted(name) >= least, f"{name} is {least}")

    def flood(self, lines):
        """A client that sends all this; it may be closed meanwhile."""
        client = Client(self.server, first=QUIET)
        try:
            client.send(lines)
        except OSError:
            pass
        return client


@bulkhead_only("its memory")
@unittest.skipIf(is_sanitized(), "a sanitizer's memory says nothing")
class DefaultsTest(MemoryCase):
    def test_deep_subjects(self):
        """20 MB of SUBs that would take 530 MB."""
        self.serve()
        router = live_router(self.server)
        before = private_bytes(router)
        attacker = self.flood(b"".join(b"SUB %s %d\r\n" % (deep(n, 2000), n) for n in range(5000)) + b"PING\r\n")
        errors = attacker.expect_until(b"PONG\r\n").count(REFUSED)
        grown = private_bytes(router) - before
        self.assertGreater(errors, 3000)
        self.assertEqual(self.counted("MEMORY_REFUSED"), errors)
        self.assertLess(grown, 150 * MEGABYTE)
        self.honest.finish()
        attacker.send(b"UNSUB 0\r\nSUB more 9999\r\nPUB more 2\r\nhi\r\n")
        attacker.expect_exact(b"MSG more 9999 2\r\nhi\r\n")  # it goes on with what it has
        self.server.check()

    def test_a_million(self):
        """Ordinary subjects, half of them patterns, in one connection."""
        self.serve()
        before = self.server.memory_bytes()
        client = self.flood(b"".join(b"SUB orders.%d.item 1%d\r\nSUB _INBOX.abcdefghijklmnopqrstuv.%d.* 2%d\r\n" % (n, n, n, n)
                                     for n in range(500_000)) + b"PING\r\n")
        client.expect_exact(b"PONG\r\n")
        print(f"{(self.server.memory_bytes() - before) / 1e6:.0f} bytes a subscription")
        client.send(b"PUB orders.499999.item 2\r\nhi\r\n")
        client.expect_exact(b"MSG orders.499999.item 1499999 2\r\nhi\r\n")
        self.assertEqual(self.counted("MEMORY_REFUSED") + self.counted("MEMORY_KICKED"), 0)
        self.honest.finish()
        self.server.check()


@bulkhead_only("its memory")
class BoundsTest(MemoryCase):
    def test_long_sids(self):
        """Names that only the frontend keeps count there."""
        self.serve(memory_connection=1 << 20, max_control_line=65535)
        sid = b"s" * 30000
        client = Client(self.server, first=QUIET)
        client.send(b"".join(b"SUB a.%d %s%d\r\n" % (n, sid, n) for n in range(60)) + b"PING\r\n")
        refused = client.expect_until(b"PONG\r\n")
        errors = refused.count(REFUSED)
        self.assertEqual(refused, REFUSED * errors + b"PONG\r\n")
        self.assertIn(errors, range(25, 35))
        for _ in range(3):  # room comes back, even for a SUB that follows at once
            client.send(b"UNSUB %s0\r\nSUB a.0 %s0\r\nPING\r\n" % (sid, sid))
            client.expect_exact(b"PONG\r\n")
        client.send(b"SUB b %s\r\nPING\r\n" % sid)
        client.expect_exact(REFUSED + b"PONG\r\n")
        self.assertEqual(self.counted("MEMORY_REFUSED"), errors + 1)
        self.assertTrue(kill(self.server, live_router(self.server)))  # the next one learns the long ones too
        wait_until(lambda: take_over_count(self.server) == 1, "another router takes over")
        client.send(b"PUB a.0 2\r\nhi\r\n")
        client.expect_exact(b"MSG a.0 %s0 2\r\nhi\r\n" % sid)
        wait_family(self.server, frontend=len(self.server.child_pids()["frontend"]))
        self.server.check()

    def test_account(self):
        """Many connections of one account are refused together; another account is not."""
        users = "".join(f'{name} {{ users [ {{ user: {name}, password: {name} }} ] }}\n' for name in ("one", "two"))
        server = Server(config=f"accounts {{ {users} }}\nmemory {{ account: 1mb }}")
        self.addCleanup(server.stop)
        clients = [Client(server) for _ in range(4)]
        errors = 0
        for n, client in enumerate(clients):
            client.connect(user="one", pass_="one", verbose=False)
            client.send(b"".join(b"SUB %s %d\r\n" % (deep(1000 * n + i, 16), i) for i in range(500)) + b"PING\r\n")
            errors += client.expect_until(b"PONG\r\n").count(REFUSED)
        self.assertGreater(errors, 500)
        client = Client(server)
        client.connect(user="two", pass_="two", verbose=False)
        client.send(b"SUB a 1\r\nPUB a 2\r\nhi\r\n")
        client.expect_exact(b"MSG a 1 2\r\nhi\r\n")
        server.write_config(f"accounts {{ {users} }}\nmemory {{ account: 100mb }}")
        server.signal(signal.SIGHUP)
        server.wait_log("Reloaded server configuration")
        client = Client(server)
        client.connect(user="one", pass_="one", verbose=False)
        client.send(b"SUB a 1\r\nPUB a 2\r\nhi\r\n")
        client.expect_exact(b"MSG a 1 2\r\nhi\r\n")
        server.check()


@bulkhead_only("its memory")
class LimitTest(MemoryCase):
    """A process at its limit closes who takes most."""

    def test_router(self):
        self.serve(memory_router=8 << 20, memory_connection=1 << 30, memory_account=1 << 30)
        bystander = Client(self.server, first=QUIET + b"".join(b"SUB by.%d %d\r\n" % (n, n) for n in range(1000)) + b"PING\r\n")
        bystander.expect_exact(b"PONG\r\n")
        for n in range(3):
            lines = b"".join(b"SUB %s %d\r\n" % (deep(100000 * n + i, 50), i) for i in range(5000))
            attacker = self.flood(lines)
            self.wait_counted("MEMORY_KICKED", n + 1)
            attacker.expect_closed()
        self.server.wait_log("more than the option `memory router` allows")
        wait_until(lambda: self.counted("MEMORY") < 8 << 20, "the router is below its limit")
        bystander.send(b"PUB by.999 2\r\nhi\r\n")
        bystander.expect_exact(b"MSG by.999 999 2\r\nhi\r\n")
        self.honest.finish()
        self.assertEqual(take_over_count(self.server), 0)
        self.server.check()

    def test_next_router(self):
        """The router dies while an attacker fills it, as if by the kernel for want of memory: the next one is filled by its
        replay and by the same attacker, and stays below."""
        self.serve(memory_router=8 << 20, memory_connection=1 << 30, memory_account=1 << 30)
        attackers = []
        for n in range(4):
            lines = b"".join(b"SUB %s %d\r\n" % (deep(100000 * n + i, 50), i) for i in range(2000))
            attackers.append(self.flood(lines))
            if n % 2 == 0:
                kill(self.server, live_router(self.server))
                wait_until(lambda: take_over_count(self.server) == n // 2 + 1, "another router takes over")
        self.wait_counted("MEMORY_KICKED", 2)
        wait_until(lambda: self.counted("MEMORY") < 10 << 20, "the router is below its limit")
        self.honest.finish()
        self.assertEqual(take_over_count(self.server), 2)
        wait_family(self.server, frontend=len(self.server.child_pids()["frontend"]))
        self.server.check()

    def test_frontend(self):
        """Clients that read nothing of what they asked for; a client that gets the same and reads loses nothing."""
        self.serve(frontends=1, memory_frontend=24 << 20)
        frontend, = self.server.child_pids()["frontend"]
        reader = Client(self.server, first=QUIET + b"SUB flood 1\r\nPING\r\n")
        reader.expect_exact(b"PONG\r\n")
        lazy = [Client(self.server, receive_buffer=4096, first=QUIET + b"SUB flood 1\r\nPING\r\n") for _ in range(8)]
        for client in lazy:
            client.expect_exact(b"PONG\r\n")
        writer = Client(self.server, first=QUIET)
        payload = b"x" * 10000
        for n in range(2000):
            writer.send(b"PUB flood 10008\r\n%08d%s\r\n" % (n, payload))
            reader.expect_exact(b"MSG flood 1 10008\r\n%08d%s\r\n" % (n, payload))
        self.server.wait_log("more than the option `memory frontend` allows")
        self.assertGreaterEqual(self.counted("MEMORY_KICKED"), 2)
        self.assertLess(self.counted("MEMORY"), 24 << 20)
        if not is_sanitized():
            self.assertLess(private_bytes(frontend), 64 * MEGABYTE)
        self.honest.finish()
        self.server.check()


if __name__ == "__main__":
    unittest.main()
