# SPDX-License-Identifier: Apache-2.0
"""The walls, seen from outside: what /proc says of each process of the server against the table of what its role may have.

A process has only read-only maps of the shared memory that its peer writes. A descriptor or a map that is not in the table is a failure: whoever needs it changes the table with the reason.
"""

import collections
import glob
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import unittest

from family import kill, live_router, read_proc, take_over_count, wait_family
from harness import (BUILD, DEADLINE, EXECUTABLE, SLOWNESS, Server, ServerCase, bulkhead_only, free_port, is_sanitized,
                     wait_until)

ROOT = os.geteuid() == 0
FRONTENDS = 3
LINKS = FRONTENDS
CONNECTIONS = 6  # so that a frontend may have client sockets

# Descriptors by kind. "r pipe" is a pipe's reading end, "w pipe" its writing end. A frontend has its clients' sockets beside.
DESCRIPTORS = {
    # its stderr is the server's; it reads the log pipes of the others and of the supervisor; the second epoll waits for room there
    "logd": {"null": 2, "stderr": 1, "socket": 1, "eventpoll": 2, "r pipe": 1 + 1 + 2 + FRONTENDS},
    # control socket, and one to the router at work and to each frontend
    "authd": {"null": 2, "w pipe": 2, "r pipe": 1, "socket": 1 + 1 + FRONTENDS, "eventpoll": 1},  # hashes ring a bell
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
    "logd": {"counters": ("rw-s", 1)},
    "authd": {"book": ("rw-s", 1), "counters": ("rw-s", 1), "ledger": ("rw-s", 1)},
    "router": {name: (mode, LINKS * count) for name, (mode, count) in ROUTER_LINK_MAPS.items()}
    | {"book": ("r--s", 1), "commit": ("rw-s", 1), "open replies": ("rw-s", 1), "counters": ("rw-s", 1)},
    "spare": {"book": ("r--s", 1), "counters": ("rw-s", 1)},
    "frontend": EDGE_MAPS,
}

WALLS = ("seccomp", "landlock", "namespaces", "user_ids")
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


def status_of(pid):
    return dict(re.findall(r"^(\w+):[ \t]*(.*)$", read_proc(pid, "status"), re.MULTILINE))


def walls_of(pid):
    """What one process has lost: {wall: True or False}. Root alone can see it all."""
    status = status_of(pid)
    without = re.findall(r"BULKHEAD_WITHOUT=([\w,]*)", read_proc(pid, "environ"))
    own = {name: os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}") for name in ("net", "ipc")}
    empty = not os.listdir(f"/proc/{pid}/root") and os.readlink(f"/proc/{pid}/root").endswith(" (deleted)")
    namespaces = empty if own["net"] == own["ipc"] == empty else f"partly: {own}, empty folder: {empty}"
    return {"seccomp": status["Seccomp"] == "2" and "seccomp" not in str(without), "landlock": "landlock" not in str(without),
            "namespaces": namespaces, "user_ids": set(status["Uid"].split()) != {str(os.geteuid())}}


def wait_walls(pid, **expected):
    """Waits until a process has exactly these walls: one that has just been started puts up its own at the end."""
    wait_until(lambda: expected.items() <= walls_of(pid).items(), f"{expected} around {read_proc(pid, 'cmdline')}: {walls_of(pid)}")


def grants_namespaces():
    """True if this user may make what the server's processes are to get."""
    return subprocess.run(["unshare", "-n", "-i", "true"], stderr=subprocess.DEVNULL).returncode == 0


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
        for pid in sum(self.server.child_pids().values(), []):
            wait_walls(pid, seccomp=True)
        return [("spare" if role == "router" and pid != live else role, pid)
                for role, pids in self.server.child_pids().items() for pid in pids]

    def check_each(self, check):
        processes = self.processes()
        self.assertEqual(collections.Counter(role for role, _ in processes),
                         {"logd": 1, "authd": 1, "router": 1, "spare": 1, "frontend": FRONTENDS})
        for role, pid in processes:
            with self.subTest(role, pid=pid):
                check(role, pid)

    def test_status(self):
        def check(role, pid):
            status = status_of(pid)
            self.assertEqual(status["NoNewPrivs"], "1")
            self.assertEqual(status["Seccomp"], "2")
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if ROOT else ()):
                self.assertEqual(int(status[name], 16), 0, name)
            hashing = min(len(os.sched_getaffinity(0)), 4) if role == "authd" else 0
            self.assertEqual(status["Threads"], str(1 + hashing))
            if ROOT:
                self.assertEqual(status["Groups"].strip(), "")
        self.check_each(check)

    @unittest.skipUnless(ROOT, "only root can give each process a user id of its own")
    def test_user_ids(self):
        seen = []

        def check(role, pid):
            status = status_of(pid)
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

    @unittest.skipUnless(ROOT and grants_namespaces(), "namespaces are not granted")
    def test_all_walls(self):
        """An empty root folder, and a network and an IPC namespace that no other process has."""
        seen = []

        def check(role, pid):
            wait_walls(pid, **dict.fromkeys(WALLS, True))
            seen.extend(os.readlink(f"/proc/{pid}/ns/{name}") for name in ("net", "ipc"))
            routes = read_proc(pid, "net/dev").splitlines()[2:]
            self.assertEqual([line.split(":")[0].strip() for line in routes], ["lo"])
            self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), os.readlink(f"/proc/{pid}/root"))
        self.check_each(check)
        self.assertEqual(len(seen), len(set(seen)), "a namespace is shared")

    @unittest.skipUnless(ROOT, "the owner of /proc/PID tells only for another user")
    def test_not_dumpable(self):
        """The files of a process that is not dumpable belong to root, not to its user."""
        def check(role, pid):
            self.assertEqual(os.stat(f"/proc/{pid}/maps").st_uid, 0)
            self.assertNotEqual(status_of(pid)["Uid"].split()[0], "0")
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
            self.assertEqual(limits["Max processes"], "0")
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
        for test in (self.test_status, self.test_user_ids, self.test_not_dumpable, self.test_descriptors,
                     self.test_shared_memory) + ((self.test_all_walls,) if grants_namespaces() else ()):
            if ROOT or test == self.test_status:
                test()


@bulkhead_only("nats-server has no walls")
@unittest.skipUnless(ROOT and grants_namespaces(), "the walls of root")
@unittest.skipIf(is_sanitized(), "a sanitizer needs what the walls forbid")
class RelaxationTest(unittest.TestCase):
    """Each relaxation takes down its own wall alone, and says so."""

    def serve(self, config, **options):
        server = Server(config=config, frontends=2, **options)
        self.addCleanup(server.stop)
        return server

    def check_walls(self, server, missing):
        for role, pids in server.child_pids().items():
            for pid in pids:
                with self.subTest(role):
                    wait_walls(pid, **{wall: wall not in missing for wall in WALLS})
                    self.assertEqual({int(status_of(pid)[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {0})
                    self.assertEqual(status_of(pid)["NoNewPrivs"], "1")
        for wall in WALLS:
            self.assertEqual(f"[WRN] The sandbox is relaxed: {wall} is off" in server.log(), wall in missing, wall)

    def check_family_works(self, server):
        """Also what is started later has the same walls, and traffic flows."""
        wait_family(server, frontend=2)
        seen = take_over_count(server)
        kill(server, live_router(server))
        wait_until(lambda: take_over_count(server) > seen, "a new router")
        wait_family(server, frontend=2)
        server.check()

    def test_each(self):
        for wall in WALLS:
            with self.subTest(wall):
                server = self.serve(f"sandbox {{ {wall}: off }}\n")
                self.check_walls(server, {wall})
                self.check_family_works(server)
                self.check_walls(server, {wall})

    def test_none_and_all(self):
        for config, missing in (("sandbox: true\n", set()), ("sandbox: false\n", set(WALLS)), ("", set()),
                                ("sandbox { seccomp: on, landlock: off, namespaces: off }\n", {"landlock", "namespaces"})):
            with self.subTest(config):
                self.check_walls(self.serve(config), missing)

    def test_the_environment_of_the_server_relaxes_nothing(self):
        os.environ["BULKHEAD_WITHOUT"] = "seccomp,landlock"
        self.addCleanup(os.environ.pop, "BULKHEAD_WITHOUT")
        self.check_walls(self.serve(""), set())

    def test_users(self):
        server = self.serve("processes { router { user: 70000 }, frontend { user: 71000, group: 72000 }, authd { user: nobody } }\n")
        ids = {role: sorted((status_of(pid)["Uid"].split()[0], status_of(pid)["Gid"].split()[0]) for pid in pids)
               for role, pids in server.child_pids().items()}
        self.assertEqual(ids, {"logd": [("64100", "64100")], "router": [("70000", "70000"), ("70001", "70001")],
                               "authd": [("65534", "65534")], "frontend": [("71000", "72000"), ("71001", "72000")]})
        self.assertNotIn("share user id", server.log())
        self.check_walls(server, set())
        self.check_family_works(server)

    def test_one_user_for_many(self):
        server = self.serve("processes { frontend { user: nobody }, authd { user: 65534 } }\n")
        server.wait_log("[WRN] All frontend processes share user id 65534: fewer walls stand between them")
        server.wait_log("[WRN] authd and frontend share user id 65534: fewer walls stand between them")

    def test_bad_users_are_an_error_of_the_start(self):
        rows = [("router { user: no-such-user }", 'processes.router.user: unknown user "no-such-user"'),
                ("router { group: no-such-group }", 'processes.router.group: unknown group "no-such-group"'),
                ("frontend { user: root }", "processes.frontend: a process may not run as root")]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.conf")
            for text, said in rows:
                with open(path, "w") as file:
                    file.write(f"processes {{ {text} }}\n")
                result = subprocess.run([EXECUTABLE, "-a", "127.0.0.1", "-p", "-1", "-c", path], capture_output=True, text=True,
                                        timeout=DEADLINE)
                self.assertEqual(result.returncode, 1)
                self.assertIn(f"[FTL] Cannot start: {said}\n", result.stderr)


@bulkhead_only("nats-server has no walls")
@unittest.skipUnless(ROOT, "root can be another user")
@unittest.skipIf(is_sanitized(), "a sanitizer needs what the walls forbid")
class UnprivilegedTest(unittest.TestCase):
    """Another user gets what the kernel grants, and the start says what is missing."""

    UID = 65533

    def start(self, *before):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        for path in glob.glob(os.path.join(BUILD, "bulkhead*")):
            shutil.copy(path, folder.name)
            os.chmod(os.path.join(folder.name, os.path.basename(path)), 0o755)
        os.chown(folder.name, self.UID, self.UID)
        config = os.path.join(folder.name, "a.conf")
        with open(config, "w") as file:
            file.write("processes { router { user: nobody } }\n")
        command = [*before, os.path.join(folder.name, "bulkhead"), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder.name,
                   "-c", config, "--frontends", "2"]
        self.log_path = os.path.join(folder.name, "log")
        with open(self.log_path, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        wait_until(lambda: "Server is ready" in self.log(), f"the server {before}")
        return process

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def children(self, process):
        return [int(pid) for pid in read_proc(process.pid, f"task/{process.pid}/children").split()]

    def test_without_root(self):
        process = self.start("setpriv", f"--reuid={self.UID}", f"--regid={self.UID}", "--clear-groups")
        self.assertIn("Not granted here, so the walls between processes are lower: user ids of their own", self.log())
        self.assertIn(f"All processes share user id {self.UID} and keep it", self.log())
        self.assertIn("The users and groups under `processes` have no effect", self.log())
        granted = "namespaces" not in self.log()
        for pid in self.children(process):
            wait_walls(pid, namespaces=granted, seccomp=True)
            self.assertEqual(set(status_of(pid)["Uid"].split()), {str(self.UID)})
            self.assertEqual({int(status_of(pid)[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}, {0})
        process.terminate()
        self.assertEqual(process.wait(DEADLINE), 1)

    @unittest.skipUnless(grants_namespaces(), "namespaces are not granted")
    def test_with_fewer_rights(self):
        """Root may not make namespaces itself: users of the children may, where user namespaces are granted."""
        process = self.start("setpriv", "--bounding-set=-sys_admin")
        granted = "namespaces" not in self.log()
        for pid in self.children(process):
            wait_walls(pid, namespaces=granted, seccomp=True)
            self.assertNotEqual(set(status_of(pid)["Uid"].split()), {"0"})
            self.assertEqual(int(status_of(pid)["CapEff"], 16), 0)

    def test_without_any_right(self):
        """As in a container that refuses it all: root without capabilities, and no user namespaces."""
        process = self.start("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "sh", "-c",
                             'ulimit -l 64; exec "$0" "$@"')
        self.assertRegex(self.log(), "walls between processes are lower: user ids of their own")
        for pid in self.children(process):
            wait_walls(pid, seccomp=True)
            self.assertEqual(int(status_of(pid)["CapEff"], 16), 0)


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
