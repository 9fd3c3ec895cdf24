# SPDX-License-Identifier: Apache-2.0
"""Reloads against processes that want none: a lost or hung one keeps nothing alive and holds nobody up."""

import signal
import socket
import time
import unittest

from family import kill, live_router, stop_and_split, wait_family
from harness import SLOWNESS, UNWATCHED, Client, bulkhead_only, is_sanitized, wait_until
from identity import REFUSED
from reload_users_test import ANN, BEN, DONE, ReloadCase, users

FAILED = "Failed to reload server configuration: "


@unittest.skipIf(is_sanitized(), "the supervisor's patience is stretched too far")
@bulkhead_only("it is one process")
class StoppedProcessTest(ReloadCase):
    def connect_beside(self, ready, **connect):
        """A client that a running frontend has taken: the stopped one lets those wait that the kernel gives to it."""
        def attempt():
            raw = socket.create_connection(("127.0.0.1", self.server.port))
            raw.settimeout(0.2 * SLOWNESS)
            try:
                raw.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                raw.close()
                return None
            client = Client.__new__(Client)
            client.socket, client.name, client._unread = raw, "%s:%d" % raw.getsockname(), bytearray()
            raw.settimeout(ready)
            client.info_line = client.expect_until(b"\r\n")
            self.addCleanup(client.close)
            return client
        client = wait_until(attempt, "a connection to the running frontend")
        client.connect(verbose=False, **connect)
        return client

    def test_a_frontend_has_no_veto(self):
        """A password changes while one frontend stands still: it is in force at the other one at once, and the stopped one is
        replaced by a process that has the new settings."""
        self.serve(users(ANN, BEN) + "max_payload: 1000\n", frontends=2, **UNWATCHED)
        stopped = self.server.child_pids()["frontend"][0]
        clients = [self.login("ben", "pb") for _ in range(12)]
        beside, held = stop_and_split(self.server, stopped, clients)
        self.assertTrue(beside and held, "twelve connections lie on both frontends")
        self.server.write_config(users(ANN, "user: ben, password: new") + "max_payload: 2000\n")
        begun = time.monotonic()
        self.server.signal(signal.SIGHUP)
        for client in beside:
            self.expect_out(client)
        self.connect_beside(10 * SLOWNESS, user="ben", **{"pass": "pb"}).expect_answer(REFUSED)
        self.connect_beside(10 * SLOWNESS, user="ben", **{"pass": "new"}).fence()
        in_force = time.monotonic() - begun
        self.server.wait_log(DONE)
        print(f"in force after {in_force:.2f} s, finished after {time.monotonic() - begun:.2f} s")
        for client in held:
            client.receive_rest()
        wait_family(self.server, frontend=2)
        self.assertNotIn(stopped, self.server.child_pids()["frontend"])
        for _ in range(12):
            client = self.login("ben", "new")
            self.assertEqual(client.info["max_payload"], 2000)
        self.assertNotIn(FAILED, self.server.log())

    def test_a_spare_router_has_none_either(self):
        self.serve(users(ANN), frontends=1, **UNWATCHED)
        spare = next(pid for pid in self.server.child_pids()["router"] if pid != live_router(self.server))
        kill(self.server, spare, signal.SIGSTOP)
        self.reload(users(BEN))
        self.login("ben", "pb")
        wait_family(self.server, frontend=1)
        self.assertNotIn(spare, self.server.child_pids()["router"])

    def test_authd_that_says_nothing_is_replaced(self):
        """It alone can say whether its part is good: the reload is refused, and the next one finds its successor."""
        self.serve(users(ANN), frontends=1, **UNWATCHED)
        stopped = self.server.child_pids()["authd"][0]
        ann = self.login("ann", "pa")
        kill(self.server, stopped, signal.SIGSTOP)
        self.server.write_config(users(BEN))
        self.server.signal(signal.SIGHUP)
        self.server.wait_log(FAILED + "authd ")
        wait_family(self.server, frontend=1)
        self.assertNotIn(stopped, self.server.child_pids()["authd"])
        self.login("ann", "pa")
        self.reload(users(BEN))
        self.expect_out(ann)
        self.login("ben", "pb")


class PenaltyTest(ReloadCase):
    def test_reloads_do_not_hold_a_login_up(self):
        """A good login behind bad ones of its address waits once, though the users change all the time."""
        more = 'logins { penalty: "400ms", penalty_after: 1, penalty_max: "400ms" }\n'
        self.serve(users(ANN, BEN) + more, frontends=1)
        source = "127.7.0.1"
        self.open(source=source, verbose=False, user="ann", **{"pass": "no"}).expect_answer(REFUSED)
        client = self.open(source=source, verbose=False, user="ann", **{"pass": "pa"})
        client.send(b"PING\r\n")
        client.socket.settimeout(0.05)
        end, count = time.monotonic() + 3 * SLOWNESS, 0
        while time.monotonic() < end:
            self.reload(users(ANN, f"user: ben, password: pb{count}") + more)
            count += 1
            try:
                if client.socket.recv(100) == b"PONG\r\n":
                    return
            except TimeoutError:
                pass
        self.fail(f"{count} reloads, and the login still waits")
