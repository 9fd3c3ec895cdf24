# SPDX-License-Identifier: Apache-2.0
"""One client makes the router work as hard as it can, and the others must not notice much.

Each case has one client subscribe to very much and then publish what is dear to route, or has very much end at once, while other
connections, on all frontends, measure round trips. The bound is for a machine that is busy with other tests; without budgets in
the router each of these holds everybody for many seconds.
"""

import itertools
import threading
import time
import unittest

from harness import SLOWNESS, ServerCase

WORST_S = 1.0 * SLOWNESS


class Watchers:
    """Connections that go round and round in threads of their own, as long as the block lasts."""

    def __init__(self, clients):
        self.worst, self.rounds = 0.0, 0
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=pair) for pair in enumerate(clients)]

    def run(self, number, client):
        subject = b"watch.%d" % number
        while not self.stop.is_set():
            begun = time.monotonic()
            client.send(b"SUB %s 1\r\nPUB %s 1\r\nx\r\nUNSUB 1\r\nPING\r\n" % (subject, subject))
            client.expect_exact(b"MSG %s 1 1\r\nx\r\nPONG\r\n" % subject)
            took = time.monotonic() - begun
            with self.lock:
                self.worst, self.rounds = max(self.worst, took), self.rounds + 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def subscribe(client, lines):
    lines = iter(lines)
    while chunk := b"".join(itertools.islice(lines, 2000)):
        client.send(chunk)
        client.fence()


def mixes(tokens):
    """Every pattern of so many tokens, each `a` or `*`."""
    return (".".join(mix).encode() for mix in itertools.product("a*", repeat=tokens))


class WorkTest(ServerCase):
    def attack(self, act):
        with Watchers([self.quiet_client() for _ in range(4)]) as watchers:
            act()
        self.assertGreater(watchers.rounds, 0)
        self.assertLess(watchers.worst, WORST_S)

    def send_and_wait(self, client, data):
        client.send(data)
        client.fence()

    def test_queue_members_that_take_nothing(self):
        attacker = self.quiet_client(echo=False)
        subscribe(attacker, (b"SUB %s q %d\r\n" % (mix, sid) for sid, mix in enumerate(mixes(14))))
        subscribe(attacker, (b"SUB a.a q %d\r\n" % sid for sid in range(20000, 100000)))
        deep = b".".join([b"a"] * 14)
        self.attack(lambda: self.send_and_wait(attacker, b"PUB %s 0\r\n\r\nPUB a.a 0\r\n\r\n" % deep * 50))

    def test_patterns_that_match_nothing(self):
        attacker = self.quiet_client()
        subscribe(attacker, (b"SUB %s.b %d\r\n" % (mix, sid) for sid, mix in enumerate(mixes(15))))
        deep = b".".join([b"a"] * 15)
        self.attack(lambda: self.send_and_wait(attacker, b"PUB %s.c 0\r\n\r\n" % deep * 2000))

    def test_very_much_that_ends_at_once(self):
        attackers = [self.quiet_client() for _ in range(300)]
        for number, client in enumerate(attackers):
            client.send(b"".join(b"SUB ending.%d.%d.* %d\r\n" % (number, sid, sid) for sid in range(250)))
        for client in attackers:
            client.fence()

        def end():
            for client in attackers:
                client.close()
            for _ in range(20):
                self.quiet_client().fence()

        self.attack(end)


if __name__ == "__main__":
    unittest.main()
