"""The walls, seen from outside: what /proc says of each process of the server against the table of what its role may have.

The maps of shared memory are the ones that the design's section 2 allows: of what its peer writes a process has read-only
maps alone. A descriptor or a map that is not in the table is a failure: whoever needs it changes the table with the reason.
"""

import collections
import os
import re
import select
import subprocess
import time
import unittest

from family import kill, live_router, read_proc, take_over_count, wait_family
from harness import EXECUTABLE, SLOWNESS, Server, ServerCase, bulkhead_only, free_port, is_sanitized, wait_until

ROOT = os.geteuid() == 0
FRONTENDS = 3
LINKS = FRONTENDS
CONNECTIONS = 6  # so that a frontend may have client sockets

# Descriptors by kind. "r pipe" is a pipe's reading end, "w pipe" its writing end. A frontend has its clients' sockets beside.
DESCRIPTORS = {
    # its stderr is the server's; it reads the log pipes of the others and of the supervisor
    "logd": {"null": 2, "stderr": 1, "socket": 1, "eventpoll": 1, "r pipe": 1 + 1 + 2 + FRONTENDS},
    # control socket, and one to the router at work and to each frontend
    "authd": {"null": 2, "w pipe": 1, "socket": 1 + 1 + FRONTENDS, "eventpoll": 1},
    # control socket, and one to authd; two doorbells a link
    "router": {"null": 2, "w pipe": 1 + LINKS, "r pipe": LINKS, "socket": 2, "eventpoll": 1},
    "spare": {"null": 2, "w pipe": 1, "socket": 1, "eventpoll": 1},
    # control socket, one to authd, the listener
    "frontend": {"null": 2, "w pipe": 2, "r pipe": 1, "socket": 3, "eventpoll": 1},
}

# Shared memory by name: its permissions and in how many pieces it is mapped (a ring's record area twice, hence two more).
EDGE_MAPS = {
    "ingress": ("rw-s", 2), "ingress credit": ("r--s", 1),
    "egress": ("r--s", 2), "egress credit": ("rw-s", 1),
    "replay": ("rw-s", 2), "replay credit": ("r--s", 1),
    "counters": ("rw-s", 1),
}
ROUTER_LINK_MAPS = {
    "ingress": ("r--s", 2), "ingress credit": ("rw-s", 1),
    "egress": ("rw-s", 2), "egress credit": ("r--s", 1),
    "replay": ("r--s", 2), "replay credit": ("rw-s", 1),
    "overflow": ("rw-s", 2), "soft state": ("rw-s", 1),
}
MAPS = {
    "logd": {},
    "authd": {"book": ("rw-s", 1), "counters": ("rw-s", 1)},
    "router": {name: (mode, LINKS * count) for name, (mode, count) in ROUTER_LINK_MAPS.items()}
    | {"book": ("r--s", 1), "commit": ("rw-s", 1), "open replies": ("rw-s", 1), "counters": ("rw-s", 1)},
    "spare": {"counters": ("rw-s", 1)},
    "frontend": EDGE_MAPS,
}

UID_OFFSETS = {"logd": {0}, "router": {1, 2}, "spare": {1, 2}, "authd": {3}, "frontend": {16 + n for n in range(FRONTENDS)}}


def descriptors(pid):
    """Number of descriptors of each kind, and the inodes of the sockets."""
    kinds, sockets = collections.Counter(), []
    for number in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{number}")
        flags = int(re.search(r"flags:\s+(\d+)", read_proc(pid, f"fdinfo/{number}"))[1], 8)
        kind = {"/dev/null": "null", "anon_inode:[eventpoll]": "eventpoll"}.get(target)
        if target.startswith("socket:"):
            kind = "socket"
            sockets.append(re.search(r"\d+", target)[0])
        elif target.startswith("pipe:"):
            kind = "w pipe" if flags & os.O_ACCMODE == os.O_WRONLY else "r pipe"
        kinds[kind or target] += 1
    return kinds, sockets


def tcp_established(pid):
    """Inodes of the established TCP sockets of the network that a process sees."""
    inodes = set()
    for name in ("net/tcp", "net/tcp6"):
        for line in read_proc(pid, name).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "01":
                inodes.add(fields[9])
    return inodes


@bulkhead_only("nats-server has no walls")
class WallsTest(ServerCase):
    options = {"frontends": FRONTENDS}

    @classmethod
    def setUpClass(cls):
        if is_sanitized():
            raise unittest.SkipTest("a sanitizer needs what the walls forbid")
        super().setUpClass()

    def setUp(self):
        self.clients = [self.quiet_client() for _ in range(CONNECTIONS)]
        for client in self.clients:
            client.fence()

    def processes(self):
        """(role, pid) of every child; the router that waits has the role `spare`."""
        live = wait_until(lambda: live_router(self.server), "a router at work")
        return [("spare" if role == "router" and pid != live else role, pid)
                for role, pids in self.server.child_pids().items() for pid in pids]

    def check_each(self, check):
        processes = self.processes()
        self.assertEqual(collections.Counter(role for role, _ in processes),
                         {"logd": 1, "authd": 1, "router": 1, "spare": 1, "frontend": FRONTENDS})
        for role, pid in processes:
            with self.subTest(role, pid=pid):
                check(role, pid)

    def status(self, pid):
        return dict(re.findall(r"^(\w+):[ \t]*(.*)$", read_proc(pid, "status"), re.MULTILINE))

    def test_status(self):
        def check(role, pid):
            status = self.status(pid)
            self.assertEqual(status["NoNewPrivs"], "1")
            self.assertEqual(status["Seccomp"], "2")
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if ROOT else ()):
                self.assertEqual(int(status[name], 16), 0, name)
            self.assertEqual(status["Threads"], "1")
            if ROOT:
                self.assertEqual(status["Groups"].strip(), "")
        self.check_each(check)

    @unittest.skipUnless(ROOT, "only root can give each process a user id of its own")
    def test_user_ids(self):
        seen = []

        def check(role, pid):
            status = self.status(pid)
            uids, gids = status["Uid"].split(), status["Gid"].split()
            self.assertEqual(len(set(uids + gids)), 1, (uids, gids))
            self.assertIn(int(uids[0]) - 64100, UID_OFFSETS[role])
            seen.append(uids[0])
        self.check_each(check)
        self.assertEqual(len(seen), len(set(seen)), "a user id is shared")

    def test_environment_and_command_line(self):
        def check(role, pid):
            if ROOT:
                self.assertEqual(read_proc(pid, "environ"), "")
            self.assertEqual(read_proc(pid, "cmdline").rstrip("\0"), "bulkhead-" + role.replace("spare", "router"))
        self.check_each(check)

    @unittest.skipUnless(ROOT, "the owner of /proc/PID tells only for another user")
    def test_not_dumpable(self):
        """The files of a process that is not dumpable belong to root, not to its user."""
        def check(role, pid):
            self.assertEqual(os.stat(f"/proc/{pid}/maps").st_uid, 0)
            self.assertNotEqual(self.status(pid)["Uid"].split()[0], "0")
        self.check_each(check)

    @unittest.skipUnless(ROOT, "they are not dumpable")
    def test_descriptors(self):
        client_sockets = []

        def check(role, pid):
            kinds, sockets = descriptors(pid)
            clients = [inode for inode in sockets if inode in tcp_established(os.getpid())]
            kinds["socket"] -= len(clients)
            if role == "frontend":
                client_sockets.extend(clients)
            else:
                self.assertEqual(clients, [])
            if role == "logd":  # the test's own pipe, once as the log and once for last words
                stderr = os.readlink(f"/proc/{pid}/fd/2")
                self.assertEqual(stderr, os.readlink(f"/proc/{self.server.pid}/fd/1"))
                kinds["w pipe"] -= 2
                kinds["stderr"] += 1
            self.assertEqual(+kinds, DESCRIPTORS[role])
        self.check_each(check)
        self.assertEqual(len(client_sockets), CONNECTIONS)

    @unittest.skipUnless(ROOT, "they are not dumpable")
    def test_shared_memory(self):
        def check(role, pid):
            found = collections.defaultdict(list)
            for mode, name in re.findall(r"^\S+ (\S+) .*/memfd:(.*) \(deleted\)$", read_proc(pid, "maps"), re.MULTILINE):
                found[name].append(mode)
            self.assertEqual({name: sorted(modes) for name, modes in found.items()},
                             {name: count * [mode] for name, (mode, count) in MAPS[role].items()})
        self.check_each(check)

    @unittest.skipUnless(ROOT, "they are not dumpable")
    def test_no_memory_is_writable_and_executable(self):
        def check(role, pid):
            for line in read_proc(pid, "maps").splitlines():
                mode = line.split()[1]
                self.assertFalse("w" in mode and "x" in mode, line)
                self.assertFalse("s" in mode and "memfd" not in line, line)
        self.check_each(check)

    def test_limits(self):
        def check(role, pid):
            limits = {name.strip(): soft for name, soft in re.findall(r"^(Max .{22}) *(\S+)", read_proc(pid, "limits"), re.MULTILINE)}
            self.assertEqual(limits["Max core file size"], "0")
            if role != "frontend":
                self.assertLessEqual(int(limits["Max open files"]), 4096)
        self.check_each(check)

    def test_successors_have_the_same_walls(self):
        """A process that was started again, and a spare that has gone to work, have no more than the first ones."""
        for role in ("router", "authd", "logd", "frontend"):
            seen = take_over_count(self.server)
            pid = live_router(self.server) if role == "router" else self.server.child_pids()[role][0]
            kill(self.server, pid)
            wait_until(lambda: pid not in sum(self.server.child_pids().values(), []), "its end")
            if role == "router":
                wait_until(lambda: take_over_count(self.server) > seen, "a new router")
            wait_family(self.server, frontend=FRONTENDS)
        for client in self.clients:
            client.close()
        self.setUp()
        self.clients[0].send(b"SUB walls 1\r\n")
        self.clients[0].fence()
        for client in self.clients[1:]:
            client.send(b"PUB walls 1\r\nx\r\n")
            client.fence()
        self.clients[0].expect_exact((CONNECTIONS - 1) * b"MSG walls 1 1\r\nx\r\n")
        for test in (self.test_status, self.test_user_ids, self.test_not_dumpable, self.test_descriptors, self.test_shared_memory):
            if ROOT or test == self.test_status:
                test()


@bulkhead_only("its processes are a family")
class SupervisorDeathTest(unittest.TestCase):
    def test_every_child_ends_with_it(self):
        """kill -9 of the supervisor: no child is there a second later, and the port is free."""
        for _ in range(3):
            port = free_port()
            process = subprocess.Popen([EXECUTABLE, "-a", "127.0.0.1", "-p", str(port), "--frontends", "2"],
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                for line in process.stdout:
                    if b"Server is ready" in line:
                        break
                children = [int(pid) for pid in read_proc(process.pid, f"task/{process.pid}/children").split()]
                self.assertEqual(len(children), 6)
                descriptors = [os.pidfd_open(pid) for pid in children]
                for descriptor in descriptors:
                    self.addCleanup(os.close, descriptor)
                process.kill()
                end = time.monotonic() + 1 * SLOWNESS
                for descriptor, pid in zip(descriptors, children):
                    self.assertTrue(self.has_ended(descriptor, end), f"process {pid} lives")
                Server(port=port, frontends=2).stop()
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    def has_ended(self, descriptor, end):
        return bool(select.select([descriptor], [], [], max(0, end - time.monotonic()))[0])
