# SPDX-License-Identifier: Apache-2.0
"""Parts of the server that crash in a loop, hang, or are killed while they are young: what is lost is that part, for a while.

Signals are sent by pid: CRASH stands for a crash, SIGSTOP for a hang.
"""

import os
import platform
import shutil
import signal
import socket
import tempfile
import threading
import time
import unittest

from certificates import Authority
from family import counters, kill, live_router, wait_family
from harness import SLOWNESS, Client, Server, bulkhead_only, wait_until

CRASH = signal.SIGILL  # a sanitizer would catch SIGSEGV, and report it
CRASHES = 12
SECONDS = 2
HANG_MS = int(400 * SLOWNESS)


def make_spin(pid):
    """A process that sleeps in a system call will loop for ever where it comes out of it."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        position = int(file.read().split()[-1], 16)
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(position)
        memory.write(b"\xeb\xfe")  # jmp to itself


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
        self.assertTrue(kill(self.server, pid, CRASH))
        successor = wait_until(lambda: self.others(role, before), f"the next {role}")[0]
        self.server.wait_log(f"(pid {successor}) in place of the one that died")
        return successor


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
        self.assertTrue(kill(self.server, pid, CRASH))
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
            for _ in range(4):
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


class HangTest(SupervisionCase):
    """Each part is stopped once, in a family that is idle but for one client on each of its frontends."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="bulkhead-hang-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        os.chmod(cls.folder, 0o755)
        cls.ca = Authority(cls.folder)
        pair = cls.ca.server()
        cls.server = Server(frontends=2, hang_ms=HANG_MS, config="allow_non_tls: true\n"
                            f"tls {{ cert_file: {pair.cert}, key_file: {pair.key} }}")
        cls.addClassCleanup(cls.server.stop)

    def stop(self, role, pid, words, successors=1):
        """Returns the pids of the role when the successor is there."""
        wait_family(self.server, frontend=2, signer=1)
        before, begun = self.pids(role), time.monotonic()
        self.assertTrue(kill(self.server, pid, signal.SIGSTOP))
        line = self.server.wait_log(f"(pid {pid}) hangs: for ")
        print(f"{role} found after {1000 * (time.monotonic() - begun):.0f} ms")
        self.assertRegex(line, words + r" \(pid \d+\) hangs: for \d+ ms it has stood stopped. It is killed")
        wait_until(lambda: len(self.others(role, before)) == successors, f"the next {role}")
        wait_family(self.server, frontend=2, signer=1)
        self.assertNotIn(pid, self.pids(role))
        self.check_serves(4)

    def test_router(self):
        with Client(self.server, verbose=False) as client:
            client.send(b"SUB a 1\r\n")
            client.fence()
            self.stop("router", live_router(self.server), r"router \d")
            client.send(b"PUB a 2\r\nhi\r\n")
            self.assertEqual(client.receive_message(), (b"a", b"1", b"hi"))

    def test_spare(self):
        wait_family(self.server, frontend=2, signer=1)
        live = live_router(self.server)
        seen = self.server.log().count(" took over ")
        self.stop("router", self.others("router", [live])[0], ", the spare,")
        self.assertEqual(live_router(self.server), live)
        self.assertEqual(self.server.log().count(" took over "), seen)

    def test_authd(self):
        self.stop("authd", self.pids("authd")[0], "authd 0")

    def test_signer(self):
        with Client(self.server, tls=self.ca.context(), verbose=False) as client:
            client.fence()
            self.stop("signer", self.pids("signer")[0], "signer 0")
            client.fence()
        with Client(self.server, tls=self.ca.context(), verbose=False) as client:
            client.fence()

    def test_logd(self):
        self.stop("logd", self.pids("logd")[0], "logd 0")

    def test_frontend(self):
        """Its clients reconnect."""
        self.stop("frontend", self.pids("frontend")[1], r"frontend \d")

    @unittest.skipUnless(os.geteuid() == 0 and platform.machine() == "x86_64", "writes into the text of a process")
    def test_endless_loop(self):
        """That is a fault of its own, other than a stop; clients of a router that spins are served by the next one."""
        for role, pid in (("frontend", self.pids("frontend")[1]), ("router", live_router(self.server))):
            wait_family(self.server, frontend=2, signer=1)
            before = self.pids(role)
            try:
                make_spin(pid)
            except OSError as error:
                self.skipTest(f"the kernel does not allow it: {error}")
            line = self.server.wait_log(f"(pid {pid}) hangs: for ")
            self.assertIn("it has run without end. It is killed", line)
            wait_until(lambda: self.others(role, before), f"the next {role}")
            wait_family(self.server, frontend=2, signer=1)
            self.check_serves(4)

    def test_idle_family_is_left_alone(self):
        """Nothing hangs while nothing is to do, and looking costs next to nothing."""
        wait_family(self.server, frontend=2, signer=1)
        before, begun = self.server.child_pids(), self.processor_ns()
        time.sleep(SECONDS)
        spent = self.processor_ns() - begun
        self.assertEqual(self.server.child_pids(), before)
        self.assertLess(spent, SECONDS * 1e9 / 20)
        print(f"{spent / 1e6:.1f} ms of processor in {SECONDS} s")

    def processor_ns(self):
        total = 0
        for pid in [self.server.pid] + sum(self.server.child_pids().values(), []):
            with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total


class CulpritTest(SupervisionCase):
    """Frontends die of what comes from one address: its new connections wait, nobody else's do."""

    ATTACKER, NEIGHBOUR = "127.9.9.9", "127.9.9.10"

    def flood(self, stop):
        """Keeps the frontend at work on this address's bytes, over as many connections as that takes."""
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.server.port), source_address=(self.ATTACKER, 0)) as flooder:
                    flooder.settimeout(1)
                    while not stop.is_set():
                        flooder.sendall(b"PONG\r\n" * 20000)
            except OSError:
                pass  # the frontend has died

    def die_of_flood(self, times):
        """The frontend is killed in the midst of its work until it has died so often with the attacker's bytes in hand."""
        died = f"died of what came from {self.ATTACKER}"
        while self.server.log().count(died) < times:
            before = self.pids("frontend")
            wait_until(lambda: counters(self.server)["PEER_LOW"], "a flood that is parsed")
            self.crash("frontend", before[0])

    @unittest.skipUnless(os.geteuid() == 0, "only root sees the counters")
    def test_it_waits(self):
        self.serve(frontends=1, crash_exempt="none")
        stop = threading.Event()
        flooder = threading.Thread(target=self.flood, args=(stop,), daemon=True)
        flooder.start()
        self.addCleanup(flooder.join)
        self.addCleanup(stop.set)
        self.die_of_flood(3)
        self.server.wait_log(f"died of what came from {self.ATTACKER}, as others before it: new connections from there wait")
        stop.set()
        flooder.join()
        begun = time.monotonic()
        with Client(self.server, source=self.NEIGHBOUR, verbose=False) as client:
            client.fence()
            neighbour = time.monotonic() - begun
            with Client(self.server, source=self.ATTACKER, verbose=False) as attacker:
                attacker.fence()
        waited = time.monotonic() - begun - neighbour
        print(f"the address waited {waited:.2f} s, its neighbour {neighbour:.2f} s")
        self.assertGreaterEqual(waited, 0.99)
        self.assertLess(neighbour, waited)

    @unittest.skipUnless(os.geteuid() == 0, "only root sees the counters")
    def test_idle_frontend_blames_nobody(self):
        """What was parsed long ago is not to blame for a death; nor is anybody of an exempt network."""
        self.serve(frontends=1, crash_exempt="none")
        pid = self.pids("frontend")[0]
        for _ in range(4):
            with Client(self.server, source=self.ATTACKER, verbose=False) as client:
                client.fence()
                pid = self.crash("frontend", pid)
        self.assertNotIn("died of what came from", self.server.log())
