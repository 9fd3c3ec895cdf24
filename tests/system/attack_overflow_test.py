# SPDX-License-Identifier: Apache-2.0
"""A frontend that does not read, so that what the router has for it goes to its overflow: no line passes what lies there."""

import select
import signal
import unittest

from family import kill, live_router, take_over_count
from harness import Client, Server, bulkhead_only, wait_until

MESSAGES, SIZE = 9000, 1000  # more than a ring holds
CID_BLOCK = 1024  # connection ids are given to frontends in blocks
PATIENCE = {"edge_dead_ms": 60000, "replay_ms": 60000}  # the test's own stops end nobody


@bulkhead_only("its frontends are processes of their own")
class OverflowTest(unittest.TestCase):
    def setUp(self):
        self.server = Server(frontends=2, **PATIENCE)
        self.addCleanup(self.server.stop)

    def client(self):
        client = Client(self.server, verbose=False)
        self.addCleanup(client.close)
        return client

    def stop(self, pid):
        self.assertTrue(kill(self.server, pid, signal.SIGSTOP))

    def go_on(self, pid):
        self.assertTrue(kill(self.server, pid, signal.SIGCONT))

    def one_of_each(self, stopped):
        """A client of the frontend that stops, and one of the other."""
        clients = [self.client() for _ in range(16)]
        sockets = [client.socket for client in clients]
        for client in clients:
            client.fence()
        self.stop(stopped)
        for client in clients:
            client.send(b"PING\r\n")
        blocks = {client: client.info["client_id"] // CID_BLOCK for client in clients}
        self.assertEqual(len(set(blocks.values())), 2)
        there = wait_until(lambda: select.select(sockets, [], [], 0)[0], "an answer from the other frontend")
        self.go_on(stopped)
        publisher = next(client for client in clients if client.socket is there[0])
        for client in clients:
            client.expect_exact(b"PONG\r\n")
        return next(client for client in clients if blocks[client] != blocks[publisher]), publisher

    def flood(self, publisher):
        """Publishes and flushes: from the PONG on, every subscriber's next PONG comes after these."""
        publisher.send(b"PUB f %d\r\n%s\r\n" % (SIZE, b"x" * SIZE) * MESSAGES)
        publisher.fence()

    def check_all_before_pong(self, subscriber):
        message = b"MSG f 1 %d\r\n%s\r\n" % (SIZE, b"x" * SIZE)
        subscriber.socket.settimeout(20)
        received = subscriber.receive_bytes(len(message) * MESSAGES + len(b"MSG own 2 1\r\n1\r\nPONG\r\n"))
        self.assertEqual(received.count(message), MESSAGES)
        self.assertTrue(received.endswith(b"MSG own 2 1\r\n1\r\nPONG\r\n"))

    def run_case(self, kill_router):
        stopped = self.server.child_pids()["frontend"][0]
        subscriber, publisher = self.one_of_each(stopped)
        subscriber.send(b"SUB f 1\r\nSUB own 2\r\n")
        subscriber.fence()
        self.stop(stopped)
        self.flood(publisher)
        subscriber.send(b"PUB own 1\r\n1\r\nPING\r\n")
        seen = take_over_count(self.server)
        if kill_router:
            kill(self.server, live_router(self.server))
        self.go_on(stopped)
        self.check_all_before_pong(subscriber)
        if kill_router:
            wait_until(lambda: take_over_count(self.server) > seen, "a new router")
        subscriber.fence()

    def test_pong(self):
        self.run_case(kill_router=False)

    def test_pong_over_the_death_of_a_router(self):
        self.run_case(kill_router=True)


if __name__ == "__main__":
    unittest.main()
