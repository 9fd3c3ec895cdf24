# SPDX-License-Identifier: Apache-2.0
"""The server's pings, with an interval of INTERVAL seconds and ping_max 2.

What is sent is checked exactly. When it is sent is checked against wide bounds: never earlier than half an interval before
its time, and late only within the harness's deadline.
"""

import select
import time

from harness import EOF, SLOWNESS, ServerCase

INTERVAL = min(0.5 * SLOWNESS, 2.0)  # seconds; the first PING after CONNECT comes after 2 s at the latest
STALE = b"-ERR 'Stale Connection'\r\n"


class PingTest(ServerCase):
    options = {"ping_interval": INTERVAL, "ping_max": 2}

    def client(self, **connect):
        client = super().client(**connect)
        client.sees_pings = True
        return client

    def expect_at(self, client, start, intervals, expected):
        client.expect_exact(expected)
        self.assertGreater(time.monotonic() - start, (intervals - 0.5) * INTERVAL, f"{expected} came too early")

    def test_silent_without_connect(self):
        start = time.monotonic()
        client = self.client()
        self.expect_at(client, start, 1, b"PING\r\n")
        self.expect_at(client, start, 2, b"PING\r\n")
        self.expect_at(client, start, 3, STALE)
        client.expect_eof()

    def test_silent_after_connect(self):
        start = time.monotonic()
        client = self.quiet_client()
        self.expect_at(client, start, 1, b"PING\r\n")
        self.expect_at(client, start, 2, b"PING\r\n")
        self.expect_at(client, start, 3, STALE)
        client.expect_eof()

    def test_silent_in_the_middle_of_a_message(self):
        client = self.quiet_client()
        client.send(b"PUB a 100\r\nabc")
        client.expect_answer(2 * b"PING\r\n" + STALE + EOF)

    def test_silent_in_the_middle_of_a_line(self):
        client = self.client()
        client.send(b"SUB a")
        client.expect_answer(2 * b"PING\r\n" + STALE + EOF)

    def test_answering_keeps_the_connection(self):
        start = time.monotonic()
        client = self.quiet_client()
        for number in range(1, 6):
            self.expect_at(client, start, number, b"PING\r\n")
            client.send(b"PONG\r\n")

    def test_one_answer_sets_the_count_back(self):
        client = self.quiet_client()
        client.expect_exact(2 * b"PING\r\n")
        client.send(b"PONG\r\n")
        client.expect_answer(2 * b"PING\r\n" + STALE + EOF)

    def test_pong_unasked_is_accepted(self):
        client = self.quiet_client()
        client.send(10 * b"PONG\r\n")
        client.expect_answer(2 * b"PING\r\n" + STALE + EOF)

    def test_bytes_after_the_first_ping_do_not_count_as_an_answer(self):
        """Junk that does not end a line is no activity."""
        client = self.quiet_client()
        client.expect_exact(b"PING\r\n")
        client.send(b"PUB a 1")
        client.expect_answer(b"PING\r\n" + STALE + EOF)

    def keep_busy(self, client, sent):
        """Sends something five times in each of five intervals, and returns what came meanwhile."""
        received = b""
        for _ in range(25):
            client.send(sent)
            end = time.monotonic() + INTERVAL / 5
            while (left := end - time.monotonic()) > 0:
                readable, _, _ = select.select([client.socket], [], [], left)
                if readable:
                    data = client.socket.recv(1 << 16)
                    self.assertTrue(data, f"closed after {received}")
                    received += data
        return received

    def test_busy_publisher_gets_one_ping(self):
        """The first PING comes even to a busy client; further ones do not, and it may leave that one unanswered."""
        client = self.quiet_client()
        self.assertEqual(self.keep_busy(client, b"PUB a 1\r\nx\r\n"), b"PING\r\n")
        client.expect_silence()

    def test_client_pings_delay(self):
        client = self.quiet_client()
        received = self.keep_busy(client, b"PING\r\n")
        self.assertEqual(received.replace(b"PONG\r\n", b""), b"PING\r\n")

    def test_busy_subscriber_gets_one_ping(self):
        """Messages to a client are activity as well."""
        subscriber, publisher = self.quiet_client(), self.quiet_client()
        subscriber.send(b"SUB ping.busy 1\r\n")
        self.keep_busy(publisher, b"PUB ping.busy 1\r\nx\r\n")
        subscriber.send(b"PING\r\n")
        received = subscriber.expect_until(b"PONG\r\n")
        self.assertEqual(received.count(b"PING\r\n"), 1, received)
        self.assertNotIn(b"-ERR", received)


class ManyPingsTest(ServerCase):
    def test_every_ping_has_its_pong(self):
        client = self.client()
        client.send(1000 * b"PING\r\n")
        client.expect_exact(1000 * b"PONG\r\n")
        client.expect_silence()


class DefaultIntervalTest(ServerCase):
    """With the default of two minutes the first ping comes two seconds after CONNECT, and never without CONNECT."""

    def test_first_ping(self):
        start = time.monotonic()
        silent, client = self.client(), self.quiet_client()
        client.sees_pings = silent.sees_pings = True
        client.expect_exact(b"PING\r\n")
        self.assertGreater(time.monotonic() - start, 1.9)
        silent.expect_silence()
