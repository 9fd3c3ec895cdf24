# SPDX-License-Identifier: Apache-2.0
"""max_connections, with the connections spread over two frontend processes."""

from harness import EOF, Client, Server, ServerCase, wait_until

LIMIT = 10
REFUSED = b"-ERR 'maximum connections exceeded'\r\n"


class MaxConnectionsTest(ServerCase):
    options = {"max_connections": LIMIT, "frontends": 2}

    def connect(self):
        """A connection, or None if it was refused, which must look exactly right."""
        client = Client(self.server, first=b'CONNECT {"verbose":false}\r\nPING\r\n')
        self.addCleanup(client.close)
        self.assertTrue(client.info_line.startswith(b"INFO {"))
        line = client.expect_until(b"\r\n")
        if line == b"PONG\r\n":
            return client
        self.assertEqual(line, REFUSED)
        client.expect_eof()
        client.close()
        return None

    def fill(self):
        """Connects until the limit. Connections of an earlier test count until the server has seen their end."""
        clients = []
        while len(clients) < LIMIT:
            clients.append(wait_until(self.connect, "a place below the limit"))
        return clients

    def test_limit_is_exact_over_all_frontends(self):
        clients = self.fill()
        for _ in range(20):
            self.assertIsNone(self.connect())
        for client in clients:
            client.expect_silence()

    def test_refused_client_that_says_nothing(self):
        self.fill()
        client = Client(self.server)
        self.addCleanup(client.close)
        client.expect_answer(REFUSED + EOF)

    def test_a_closed_connection_makes_room(self):
        clients = self.fill()
        for _ in range(20):
            self.assertIsNone(self.connect())
            clients.pop(0).close()
            clients.append(wait_until(self.connect, "the place of a closed connection"))

    def test_connections_at_once(self):
        """Four times the limit arrive together; never more than the limit stay."""
        with Server(**self.options) as server:
            clients = [Client(server) for _ in range(4 * LIMIT)]
            for client in clients:
                self.addCleanup(client.close)
                client.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
            lines = [client.expect_until(b"\r\n") for client in clients]
            accepted = lines.count(b"PONG\r\n")
            self.assertIn(accepted, (LIMIT - 1, LIMIT))  # the harness's own first connection may still count
            self.assertEqual(lines.count(REFUSED), 4 * LIMIT - accepted)

    def test_messages_cross_frontends(self):
        """Every connection reaches every other one, wherever they were accepted."""
        clients = self.fill()
        for client in clients:
            client.send(b"SUB cross 1\r\n")
        for client in clients:
            client.fence()
        for client in clients:
            client.send(b"PUB cross 1\r\nx\r\nPING\r\n")
        early = [client.expect_until(b"PONG\r\n") for client in clients]
        for client, received in zip(clients, early):
            client.send(b"PING\r\n")
            received += client.expect_until(b"PONG\r\n")
            self.assertEqual(received.count(b"MSG cross 1 1\r\nx\r\n"), LIMIT)
