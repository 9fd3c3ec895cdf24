# SPDX-License-Identifier: Apache-2.0
"""A router dies while a frontend is stopped, or while one has much to replay: nobody pays for another's silence, and nobody who
comes on is ended.

Signals are sent by pid.
"""

import os
import signal
import unittest

from family import kill, live_router, take_over_count, take_overs_ms
from harness import Client, Server, bulkhead_only, is_sanitized, wait_until

ROUNDS = 3
BOUND_MS = 400  # 100 for the silent one; before there was a bound by progress, it was 500 and more
SUBSCRIPTIONS = int(os.environ.get("TAKEOVER_SUBSCRIPTIONS", "200000"))
CONNECTIONS = 20


@bulkhead_only("its router is a process of its own")
class TakeoverTest(unittest.TestCase):
    def serve(self, **options):
        self.server = Server(**options)
        self.addCleanup(self.server.stop)

    def client(self):
        client = Client(self.server, verbose=False)
        self.addCleanup(client.close)
        return client

    def kill_router(self):
        seen = take_over_count(self.server)
        self.assertTrue(kill(self.server, wait_until(lambda: live_router(self.server), "a router at work")))
        wait_until(lambda: take_over_count(self.server) > seen, "a new router")

    def stop_a_frontend(self):
        """Returns its successor, once that serves."""
        before = self.server.child_pids()["frontend"]
        self.assertTrue(kill(self.server, before[0], signal.SIGSTOP))
        self.kill_router()
        wait_until(lambda: len(set(self.server.child_pids().get("frontend", [])) - set(before)) == 1, "another frontend")
        wait_until(lambda: len(self.server.child_pids().get("router", [])) == 2, "another spare")
        for _ in range(8):
            with Client(self.server, verbose=False) as client:
                client.fence()

    def test_a_stopped_frontend_delays_the_others_for_a_moment(self):
        self.serve(frontends=2)
        for _ in range(ROUNDS):
            self.stop_a_frontend()
        times = take_overs_ms(self.server)
        print(f"took over in {times} ms")
        self.assertEqual(len(times), ROUNDS)
        if not is_sanitized():
            self.assertLess(min(times), BOUND_MS)

    def test_a_large_replay(self):
        self.serve(frontends=1)
        clients = [self.client() for _ in range(CONNECTIONS)]
        for number, client in enumerate(clients):
            client.send(b"".join(b"SUB large.%d.%d %d\r\n" % (number, i, i + 1) for i in range(SUBSCRIPTIONS // CONNECTIONS)))
        for client in clients:
            client.fence()
        frontend = self.server.child_pids()["frontend"]
        self.kill_router()
        for number, client in enumerate(clients):
            client.send(b"PUB large.%d.7 2\r\nhi\r\n" % number)
            client.expect_exact(b"MSG large.%d.7 8 2\r\nhi\r\n" % number)
        print(f"{SUBSCRIPTIONS} subscriptions: took over in {take_overs_ms(self.server)} ms")
        self.assertEqual(self.server.child_pids()["frontend"], frontend)


if __name__ == "__main__":
    unittest.main()
