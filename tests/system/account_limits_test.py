# SPDX-License-Identifier: Apache-2.0
"""Limits of accounts at and below 0, and rights to answer over changes of other rights, as nats-server has them."""

import signal
import unittest

from harness import Client, Server, bulkhead_only

CONNECTIONS = b"-ERR 'maximum account active connections exceeded'\r\n"
SUBSCRIPTIONS = b"-ERR 'maximum subscriptions exceeded'\r\n"
PAYLOAD = b"-ERR 'Maximum Payload Violation'\r\n"


def accounts(limits):
    return "accounts { A { limits { %s }, users [ {user: u, password: p} ] } }" % limits


def login(server):
    client = Client(server)
    client.connect(verbose=False, user="u", pass_="p")
    return client


class LimitsTest(unittest.TestCase):
    def test_nothing(self):
        for limit in ("0", "-2"):
            with self.subTest(limit):
                with Server(config=accounts(f"max_connections: {limit}")) as server, login(server) as client:
                    client.expect_exact(CONNECTIONS)
                    client.expect_eof()
                with Server(config=accounts(f"max_payload: {limit}")) as server, login(server) as client:
                    client.send(b"SUB a 1\r\nPING\r\n")
                    client.expect_until(b"PONG\r\n")
                    client.send(b"PUB a 1\r\nx\r\n")
                    client.expect_exact(PAYLOAD)
                    client.expect_eof()

    def test_no_subscription(self):
        """nats-server says it at the login too, when that comes first."""
        for limit in ("0", "-2"):
            with self.subTest(limit), Server(config=accounts(f"max_subscriptions: {limit}")) as server:
                with login(server) as client:
                    client.send(b"SUB a 1\r\n")
                    client.expect_exact(SUBSCRIPTIONS)

    def test_no_limit(self):
        limits = "max_connections: -1, max_subscriptions: -1, max_payload: -1"
        with Server(config=accounts(limits)) as server, login(server) as client:
            client.send(b"SUB a 1\r\nPUB a 1\r\nx\r\n")
            client.expect_exact(b"MSG a 1 1\r\nx\r\n")

    def test_lowered_to_nothing(self):
        with Server(config=accounts("max_connections: 5")) as server, login(server) as client:
            client.send(b"SUB a 1\r\nPING\r\n")
            client.expect_until(b"PONG\r\n")
            server.write_config(accounts("max_connections: 5, max_subscriptions: 0"))
            server.signal(signal.SIGHUP)
            server.wait_log("Reloaded server configuration")
            with login(server) as later:
                later.send(b"SUB a 1\r\n")
                later.expect_exact(SUBSCRIPTIONS)


@bulkhead_only("2.9.10 forgets rights to answer at every reload")
class AnswersTest(unittest.TestCase):
    def test_a_right_to_answer_outlives_changes_of_other_rights(self):
        def config(rights):
            return "authorization { users [ {user: u, password: p, permissions: { %s }}, {user: v, password: p} ] }" % rights

        rows = [("wider subscribe", 'subscribe: ["svc", "more"], allow_responses: {max: 5}', True),
                ("wider publish", 'subscribe: "svc", publish: "other", allow_responses: {max: 5}', True),
                ("a deny elsewhere", 'subscribe: "svc", publish: {deny: "other"}, allow_responses: {max: 5}', True),
                ("no responses any more", 'subscribe: "svc", publish: "other"', False)]
        for name, rights, lives in rows:
            first = config('subscribe: "svc", publish: {deny: ">"}, allow_responses: {max: 5}')
            with self.subTest(name), Server(config=first) as server, login(server) as service, Client(server) as other:
                other.connect(verbose=False, user="v", pass_="p")
                service.send(b"SUB svc 1\r\nPING\r\n")
                service.expect_until(b"PONG\r\n")
                other.send(b"SUB r.* 1\r\nPUB svc r.1 1\r\nq\r\n")
                service.expect_exact(b"MSG svc 1 r.1 1\r\nq\r\n")
                server.write_config(config(rights))
                server.signal(signal.SIGHUP)
                server.wait_log("Reloaded server configuration")
                service.send(b"PUB r.1 1\r\na\r\nPING\r\n")
                said = service.expect_until(b"PONG\r\n")
                self.assertEqual(b"Permissions Violation" not in said, lives, said)
                if lives:
                    other.expect_exact(b"MSG r.1 1 1\r\na\r\n")


if __name__ == "__main__":
    unittest.main()
