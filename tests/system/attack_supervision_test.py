"""Parts of the server that crash in a loop, hang, or are killed while they are young: what is lost is that part, for a while.

Signals are sent by pid: SIGSEGV stands for a crash, SIGSTOP for a hang.
"""

import signal
import unittest

from family import kill, live_router, wait_family
from harness import Client, Server, bulkhead_only, wait_until

CRASHES = 12


@bulkhead_only("its parts are processes of their own")
class SupervisionCase(unittest.TestCase):
    def serve(self, **options):
        self.server = Server(**options)
        self.addCleanup(self.server.stop)

    def pids(self, role):
        return self.server.child_pids().get(role, [])

    def others(self, role, pids):
        return [pid for pid in self.pids(role) if pid not in pids]

    def check_serves(self, connections=1):
        for _ in range(connections):
            with Client(self.server, verbose=False) as client:
                client.fence()

    def crash(self, role, pid):
        """Returns the pid of the successor."""
        before = self.pids(role)
        self.assertTrue(kill(self.server, pid, signal.SIGSEGV))
        return wait_until(lambda: self.others(role, before), f"the next {role}")[0]


class CrashLoopTest(SupervisionCase):
    def test_the_only_frontend(self):
        """It rests for a second at most, and clients wait in its queue."""
        self.serve(frontends=1)
        pid = self.pids("frontend")[0]
        for _ in range(CRASHES):
            pid = self.crash("frontend", pid)
            self.check_serves()
        self.assertIn("frontend 0 dies again and again by its own fault", self.server.log())
        self.assertNotIn("rests for", self.server.log())

    def test_one_of_two_frontends(self):
        """It rests longer and longer, and the other one gets its share of the new connections meanwhile."""
        self.serve(frontends=2)
        other, pid = self.pids("frontend")
        for _ in range(5):
            pid = self.crash("frontend", pid)
        self.assertTrue(kill(self.server, pid, signal.SIGSEGV))
        self.server.wait_log("frontend 1 rests for 1600 ms")
        self.check_serves(32)
        self.assertEqual(self.pids("frontend"), [other])
        pid = wait_until(lambda: self.others("frontend", [other]), "its return")[0]

        def returned():
            with Client(self.server, verbose=False) as client:
                client.fence()
                kill(self.server, other, signal.SIGSTOP)
                try:
                    client.send(b"PING\r\n")
                    client.socket.settimeout(0.2)
                    return client.receive_bytes(6) == b"PONG\r\n"
                except AssertionError:
                    return False
                finally:
                    kill(self.server, other, signal.SIGCONT)
        wait_until(returned, "a client of the frontend that came back")

    def test_every_other_process(self):
        self.serve(frontends=1)
        for role in ("authd", "logd"):
            pid = self.pids(role)[0]
            for _ in range(5):
                pid = self.crash(role, pid)
        self.check_serves()


class YoungDeathTest(SupervisionCase):
    def test_spares(self):
        """A spare that somebody kills is replaced at once, and never counts as one that cannot start."""
        self.serve(frontends=1)
        wait_family(self.server, frontend=1)
        live = live_router(self.server)
        spare = self.others("router", [live])[0]
        for _ in range(CRASHES):
            self.assertTrue(kill(self.server, spare))
            spare = wait_until(lambda: self.others("router", [live, spare]), "the next spare")[0]
        log = self.server.log()
        self.assertNotIn("again and again", log)
        self.assertEqual(log.count(", the spare, (pid "), CRASHES)
        self.assertNotIn("clients stay connected", log)
        self.assertEqual(live_router(self.server), live)
        self.check_serves()
