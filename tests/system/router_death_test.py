# SPDX-License-Identifier: Apache-2.0
"""Processes of the server are killed under traffic of all kinds: c/traffic.c says what is checked, and checks it.

Death of a router, of authd, of logd: no client is disconnected, nothing is lost, doubled or out of order. Death of a
frontend: its clients reconnect, and nobody else notices.
"""

import os
import re
import unittest

from family import Program, kill, live_router, take_over_count, take_overs_ms, wait_family
from harness import PING, Client, Server, bulkhead_only, wait_until

CLIENTS = int(os.environ.get("DEATH_CLIENTS", "200"))
SUBSCRIPTIONS = 50
KILLS = int(os.environ.get("DEATH_KILLS", "6"))


@bulkhead_only("its router is a process of its own")
class DeathCase(unittest.TestCase):
    def setUp(self):
        self.server = Server(frontends=2)
        self.addCleanup(self.server.stop)
        self.frontends = self.server.child_pids()["frontend"]

    def traffic(self, window=1, interval_ms=20):
        """Traffic of all kinds. Without an interval it takes all of the processors, and the times say nothing."""
        program = Program("traffic", self.server.port, CLIENTS, SUBSCRIPTIONS, window, interval_ms)
        self.addCleanup(program.__exit__)
        print(program.expect("ready"))
        self.flows = []
        self.mark(program)
        return program

    def mark(self, program):
        """Traffic of all kinds goes on; remembers the longest times that it took."""
        program.tell("mark")
        self.flows.append([round(int(us) / 1000) for us in re.findall(r"(\d+) us", program.expect("flows"))])

    def router(self):
        return wait_until(lambda: live_router(self.server), "a router at work")

    def wait_take_over(self, seen):
        wait_until(lambda: take_over_count(self.server) > seen, "a new router")

    def end(self, program):
        """The traffic is still whole, and no frontend has been ended."""
        program.tell("stop")
        print(program.finish()[-1])
        fences, logins = zip(*self.flows)
        print(f"longest fence before the first kill and after each: {fences} ms, longest login: {logins} ms, "
              f"took over in {take_overs_ms(self.server)} ms")
        wait_family(self.server, frontend=2)
        self.assertEqual(self.server.child_pids()["frontend"], self.frontends)
        self.assertNotIn("[ERR]", self.server.log())
        self.server.check()


class RouterDeathTest(DeathCase):
    def test_kills_in_a_row(self):
        self.check_kills(KILLS)

    def test_kills_in_a_row_at_full_load(self):
        self.check_kills(3, window=3, interval_ms=0)

    def check_kills(self, kills, **load):
        program = self.traffic(**load)
        for _ in range(kills):
            seen = take_over_count(self.server)
            self.assertTrue(kill(self.server, self.router()))
            self.wait_take_over(seen)
            self.mark(program)
        self.end(program)

    def test_kill_of_the_next_as_soon_as_it_is_there(self):
        """The successor dies while it recovers, or at its first message, or a moment later."""
        program = self.traffic()
        for _ in range(5):
            dead = self.router()
            kill(self.server, dead)
            successor = wait_until(lambda: live_router(self.server) not in (dead, None) and live_router(self.server), "the next")
            kill(self.server, successor)
            wait_until(lambda: self.router() not in (dead, successor), "the one after the next")
            self.mark(program)
        self.end(program)

    def test_kill_of_both(self):
        program = self.traffic()
        for _ in range(3):
            wait_family(self.server, frontend=2)
            seen, live = take_over_count(self.server), self.router()
            for pid in sorted(self.server.child_pids()["router"], key=lambda pid: pid != live):
                kill(self.server, pid)
            self.wait_take_over(seen)
            self.mark(program)
        self.end(program)


class OtherDeathTest(DeathCase):
    def only(self, role):
        return next(iter(self.server.child_pids().get(role, [])), None)

    def test_authd_and_logd_and_the_spare_router(self):
        """Established clients notice nothing; logins go on when the new authd is there."""
        program, live = self.traffic(), self.router()

        def spare():
            return next((pid for pid in self.server.child_pids()["router"] if pid != live), None)
        for choose in 2 * [lambda: self.only("authd"), lambda: self.only("logd"), spare]:
            pid = wait_until(choose, "the process to kill")
            self.assertTrue(kill(self.server, pid))
            wait_until(lambda: choose() not in (pid, None), "its successor")
            self.mark(program)
        self.end(program)
        self.assertEqual(take_over_count(self.server), 0)
        self.assertEqual(self.router(), live)
        with Client(self.server, verbose=False) as client:
            client.fence()

    def test_all_but_the_frontends_and_logd(self):
        program = self.traffic()
        for _ in range(3):
            wait_family(self.server, frontend=2)
            seen, children = take_over_count(self.server), self.server.child_pids()
            for pid in children["authd"] + children["router"]:
                kill(self.server, pid)
            self.wait_take_over(seen)
            self.mark(program)
        self.end(program)


class FrontendDeathTest(DeathCase):
    CLIENTS = 60

    def connect(self, index, life):
        """A client with subjects and sids of its own: a sid tells whose delivery it is."""
        client = Client(self.server, verbose=False)
        self.addCleanup(client.close)
        client.index, client.sid = index, 1000 * life + index
        client.send(b"SUB own.%d %d\r\nSUB all.* %d\r\n" % (index, client.sid, client.sid + 100_000))
        client.fence()
        return client

    def check_deliveries(self, clients):
        """Each has its own message and everybody's, once, and nothing else."""
        for client in clients:
            client.send(b"PUB own.%d 3\r\nown\r\n" % client.index)
        clients[0].send(b"PUB all.everybody 3\r\nall\r\n")
        for client in clients:
            client.received = self.until_pong(client)
        for client in clients:
            client.received += self.until_pong(client)
            self.assertEqual(sorted(client.received), [
                b"MSG all.everybody %d 3" % (client.sid + 100_000), b"MSG own.%d %d 3" % (client.index, client.sid), b"all", b"own"])

    def until_pong(self, client):
        client.send(PING)
        return [line for line in client.expect_until(b"PONG\r\n").split(b"\r\n") if line not in (b"", b"PING", b"PONG")]

    def is_closed(self, client):
        """True if it is closed, with no text; False if it lives and has received nothing."""
        client.send(PING)
        try:
            client.expect_exact(b"PONG\r\n")
            return False
        except AssertionError as failure:
            if not str(failure).endswith("and the end"):
                raise
            client.expect_eof()
            return True

    def test_clients_of_the_other_one_notice_nothing(self):
        clients = [self.connect(index, 1) for index in range(self.CLIENTS)]
        for life in range(2, 6):
            self.check_deliveries(clients)
            frontends = self.server.child_pids()["frontend"]
            killed = frontends[life % 2]
            kill(self.server, killed)
            if life == 5:  # the router as well
                kill(self.server, self.router())
            dead = [client for client in clients if self.is_closed(client)]
            living = [client for client in clients if client not in dead]
            self.assertTrue(dead and living, (len(dead), len(living)))
            self.check_deliveries(living)
            for client in dead:
                clients[clients.index(client)] = self.connect(client.index, life)
            self.check_deliveries(clients)
            survivors = wait_until(lambda: len(self.server.child_pids()["frontend"]) == 2 and self.server.child_pids(), "both")
            self.assertEqual(set(survivors["frontend"]) & set(frontends), set(frontends) - {killed})
        wait_family(self.server, frontend=2)
        self.assertNotIn("[ERR]", self.server.log())
