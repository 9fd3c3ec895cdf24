# SPDX-License-Identifier: Apache-2.0
"""Input that is garbage, cut off, oversized, dripping or far ahead, and connections that stop: the server ends each such
connection, or waits for it cheaply, and serves everybody else.
"""

import os
import random
import select
import time

from harness import DEADLINE, REAL_NATS, SLOWNESS, UNKNOWN_OP, Client, Server, ServerCase, is_sanitized, raise_descriptor_limit

SEED = int(os.environ.get("TEST_SEED", random.randrange(1 << 32)))

# All that the server may keep for one connection, in all its processes together.
SILENT_BYTES = 1536
STOPPED_BYTES = 8192

VALID = (b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"x"}\r\n'
         b"SUB a.* 1\r\nSUB a.> q 2\r\nPUB a.b 5\r\nhello\r\nHPUB a.b r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"
         b"UNSUB 1 3\r\nPING\r\nPONG\r\nPUB none r 0\r\n\r\nUNSUB 2\r\nPING\r\n")


class OthersCase(ServerCase):
    """After each test, a pair of clients that was there before it still exchanges messages."""

    def setUp(self):
        self.publisher, self.subscriber = self.quiet_client(), self.quiet_client()
        self.subscriber.send(b"SUB others 1\r\n")
        self.subscriber.fence()

    def tearDown(self):
        self.check_others()
        super().tearDown()

    def check_others(self):
        for client in (self.publisher, self.subscriber):
            client.send(b"PONG\r\n")
        self.publisher.send(b"PUB others 1\r\nx\r\n")
        self.subscriber.expect_exact(b"MSG others 1 1\r\nx\r\n")
        self.subscriber.expect_silence()

    def check_ends(self, sent):
        """The server closes a connection that sent this and then its end, whatever else it answers."""
        with Client(self.server) as client:
            client.send(sent)
            client.finish_sending()
            client.receive_rest()


class BadInputTest(OthersCase):
    def test_garbage(self):
        chance = random.Random(SEED)
        print(f"TEST_SEED={SEED}")
        for _ in range(200):
            self.check_ends(chance.randbytes(chance.choice((1, 10, 1000, 50_000))))
        self.check_others()

    def test_garbage_ends_without_the_clients_help(self):
        with Client(self.server, verbose=False) as client:
            client.send(bytes(range(256)) * 4000)
            client.expect_answer(UNKNOWN_OP)

    def test_changed_bytes(self):
        """A valid conversation with one or a few bytes changed, removed or doubled."""
        chance = random.Random(SEED)
        print(f"TEST_SEED={SEED}")
        for _ in range(500):
            sent = bytearray(VALID)
            for _ in range(chance.choice((1, 1, 2, 5))):
                position = chance.randrange(len(sent))
                how = chance.randrange(4)
                if how == 0:
                    sent[position] = chance.randrange(256)
                elif how == 1:
                    del sent[position]
                elif how == 2:
                    sent[position:position] = sent[position:position + chance.randrange(30)]
                else:
                    sent.insert(position, chance.choice(b" \t\r\n\0009.*>\"{"))
            self.check_ends(bytes(sent))

    def test_truncated(self):
        for length in range(len(VALID)):
            self.check_ends(VALID[:length])

    def test_truncated_with_a_reset(self):
        for length in range(0, len(VALID), 5):
            client = Client(self.server)
            client.send(VALID[:length])
            client.reset()

    def test_oversized(self):
        """None of these may be waited for or stored until it ends."""
        for name, sent in (
                ("SUB", b"SUB " + 200_000 * b"a"), ("PUB", b"PUB a " + 200_000 * b"1"), ("UNSUB", b"UNSUB " + 200_000 * b"1"),
                ("CONNECT", b'CONNECT {"name":"' + 200_000 * b"a"), ("brackets", b"CONNECT " + 200_000 * b"["),
                ("INFO", b"INFO {" + 200_000 * b" "), ("-ERR", b"-ERR " + 200_000 * b"x"),
                ("payload", b"PUB a 999999999\r\n"), ("payload just over the limit", b"PUB a 1048577\r\n"),
                ("ten digits", b"PUB a 9999999999\r\n")):
            with self.subTest(name), Client(self.server, verbose=False) as client:
                client.send(sent)
                client.receive_rest()

    def test_nested_json(self):
        for text in (2000 * b"[", b'{"a":' * 600, b'{"a":' + 1900 * b"[" + 1900 * b"]" + b"}",
                     b'{"a":' * 500 + b"1" + 500 * b"}"):
            with self.subTest(text[:20]):
                self.check_ends(b"CONNECT " + text + b"\r\nPING\r\n")

    def test_blanks_without_end(self):
        self.check_ends(b"SUB" + 500_000 * b" ")
        self.check_ends(b"PUB" + 500_000 * b"\t" + b"a 1\r\nx\r\n")

    def test_dripping(self):
        """Conversations of many clients arrive a byte at a time, in turn, between the messages of others."""
        clients = [self.client() for _ in range(20)]
        for position in range(len(VALID)):
            for client in clients:
                client.send(VALID[position:position + 1])
            if position % 20 == 0:
                self.check_others()
        answer = clients[0].expect_until(b"PONG\r\n") + clients[0].expect_until(b"PONG\r\n")
        self.assertIn(b"HMSG a.b 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n", answer)
        for client in clients:
            client.finish_sending()
            client.receive_rest()

    def test_pipelined(self):
        """Ten thousand operations in one go."""
        client = self.quiet_client()
        rounds = 2500
        client.send(b"SUB own.> 1\r\n" + rounds * b"PUB own.a 1\r\nx\r\nPING\r\nPUB own.b.c 0\r\n\r\nPUB none 1\r\ny\r\n")
        client.expect_exact(rounds * b"MSG own.a 1 1\r\nx\r\nPONG\r\nMSG own.b.c 1 0\r\n\r\n")
        client.expect_silence()

    def test_many_subscriptions(self):
        client = self.quiet_client()
        client.send(b"".join(b"SUB many.%d %d\r\n" % (n, n) for n in range(10_000)))
        client.send(b"".join(b"PUB many.%d 0\r\n\r\n" % n for n in range(0, 10_000, 100)))
        client.expect_exact(b"".join(b"MSG many.%d %d 0\r\n\r\n" % (n, n) for n in range(0, 10_000, 100)))
        client.send(b"".join(b"UNSUB %d\r\n" % n for n in range(10_000)) + b"PUB many.1 0\r\n\r\n")
        client.expect_silence()

    def test_connections_that_come_and_go(self):
        for _ in range(1000):
            Client(self.server).reset()
        for _ in range(300):
            with Client(self.server, verbose=False) as client:
                client.send(b"SUB come.go 1\r\nPUB come.go 1\r\nx\r\n")
                client.expect_exact(b"MSG come.go 1 1\r\nx\r\n")


class StoppedConnectionsTest(OthersCase):
    """Thousands of connections that send nothing, or stop in the middle of a message, cost little and end by ping timers."""

    options = {"ping_interval": 1 * SLOWNESS, "ping_max": 2}
    COUNT = 2000

    def setUp(self):
        """A fresh server for each test: no memory of an earlier one is there to be used again."""
        raise_descriptor_limit()
        self.server.stop()
        type(self).server = Server(**self.options)
        self.addCleanup(self.server.stop)
        super().setUp()

    def measure(self, what, sent, limit):
        before = self.server.memory_bytes()
        clients = []
        while len(clients) < self.COUNT:
            clients += [Client(self.server, first=sent) for _ in range(100)]
            self.check_others()
        each = (self.server.memory_bytes() - before) / self.COUNT
        print(f"{self.COUNT} connections {what}: {each:.0f} bytes each (at most {limit})")
        self.wait_for_ends(clients)
        if not (REAL_NATS or is_sanitized()):
            self.assertLess(each, limit)

    def wait_for_ends(self, clients):
        """Every connection receives two PINGs and the error, and ends."""
        poll = select.epoll()
        open_clients = {client.socket.fileno(): client for client in clients}
        received = {descriptor: b"" for descriptor in open_clients}
        for descriptor in open_clients:
            poll.register(descriptor, select.EPOLLIN)
        end = time.monotonic() + DEADLINE
        others = time.monotonic()
        while open_clients:
            self.assertLess(time.monotonic(), end, f"{len(open_clients)} connections did not end")
            for descriptor, _ in poll.poll(0.1):
                try:
                    data = open_clients[descriptor].socket.recv(4096)
                except ConnectionResetError:
                    data = b""
                received[descriptor] += data
                if not data:
                    poll.unregister(descriptor)
                    open_clients.pop(descriptor)
            if time.monotonic() > others + 0.2:
                others = time.monotonic()
                self.check_others()
        poll.close()
        for client in clients:
            self.assertEqual(received[client.socket.fileno()], 2 * b"PING\r\n" + b"-ERR 'Stale Connection'\r\n")
            client.close()

    def test_silent(self):
        self.measure("that send nothing", b"", SILENT_BYTES)

    def test_stopped_in_a_payload(self):
        self.measure("that stop in a payload of 1000 bytes", b"PUB a 1000\r\n" + 500 * b"x", STOPPED_BYTES)

    def test_stopped_in_a_large_payload(self):
        self.measure("that stop at the start of a payload of 1 MB", b"PUB a 1048576\r\n" + 500 * b"x", STOPPED_BYTES)

    def test_stopped_in_a_line(self):
        self.measure("that stop in a line", b"SUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", STOPPED_BYTES)
