# SPDX-License-Identifier: Apache-2.0
"""Places of max_connections that a process keeps and does not use."""

import socket
import unittest

from family import stop_and_split, wait_family
from harness import DEADLINE, UNWATCHED, Client, Server, bulkhead_only, is_sanitized


@unittest.skipIf(is_sanitized(), "the supervisor's patience is stretched too far")
@bulkhead_only("it is one process")
class HoardedPlacesTest(unittest.TestCase):
    def test_a_stopped_frontend_keeps_no_places(self):
        """Its clients have gone, and it gives nothing back: others are not told that the server is full."""
        server = Server(max_connections=80, frontends=2, **UNWATCHED)
        self.addCleanup(server.stop)
        clients = [Client(server, verbose=False) for _ in range(72)]
        for client in clients:
            self.addCleanup(client.close)
            client.fence()
        stopped = server.child_pids()["frontend"][0]
        beside, held = stop_and_split(server, stopped, clients)
        self.assertTrue(beside and held, "72 connections lie on both frontends")
        for client in held:
            client.close()
        late = []
        for _ in range(79 - len(beside)):  # one place may still be that of the harness's own first connection
            late.append(socket.create_connection(("127.0.0.1", server.port), DEADLINE))
            self.addCleanup(late[-1].close)
            late[-1].sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        for connection in late:
            received = b""
            while received.count(b"\r\n") < 2:
                received += connection.recv(4096)
            self.assertIn(b"\r\nPONG\r\n", received)
        for client in beside:
            client.fence()
        wait_family(server, frontend=2)
        self.assertNotIn(stopped, server.child_pids()["frontend"])
        self.assertIn("does not say which places for connections it does not use: killed", server.log())


if __name__ == "__main__":
    unittest.main()
