"""Places of max_connections that a process keeps and does not use."""

import unittest

from family import stop_and_split, wait_family
from harness import Client, Server, bulkhead_only


@bulkhead_only("it is one process")
class HoardedPlacesTest(unittest.TestCase):
    def test_a_stopped_frontend_keeps_no_places(self):
        """Its clients have gone, and it gives nothing back: others are not told that the server is full."""
        server = Server(max_connections=40, frontends=2)
        self.addCleanup(server.stop)

        def connect():
            client = Client(server, verbose=False)
            self.addCleanup(client.close)
            client.fence()
            return client
        clients = [connect() for _ in range(36)]
        stopped = server.child_pids()["frontend"][0]
        beside, held = stop_and_split(server, stopped, clients)
        self.assertTrue(beside and held, "36 connections lie on both frontends")
        for client in held:
            client.close()
        for _ in range(39 - len(beside)):  # one place may still be that of the harness's own first connection
            connect()
        for client in beside:
            client.fence()
        wait_family(server, frontend=2)
        self.assertNotIn(stopped, server.child_pids()["frontend"])


if __name__ == "__main__":
    unittest.main()
