# SPDX-License-Identifier: Apache-2.0
"""Clients that do not read, close one half, or do nothing at all; and that nobody else suffers from them.

A client that does not read also does not see that it is closed. A publisher that asks for 503 answers sees it: it gets one
as soon as the client's subscription is gone.
"""

import time

from harness import DEADLINE, REAL_NATS, SLOWNESS, Client, ServerCase, wait_until

CHUNK = 60_000
PAYLOAD = CHUNK * b"s"
MESSAGE = b"MSG slow 1 %d\r\n%b\r\n" % (CHUNK, PAYLOAD)


class SlowCase(ServerCase):
    def slow_client(self, receive_buffer=4096):
        """A subscriber that does not read, with little room in its kernel buffer."""
        client = Client(self.server, receive_buffer, verbose=False, pedantic=False)
        self.addCleanup(client.close)
        client.send(b"SUB slow 1\r\n")
        client.fence()
        return client

    def publish(self, publisher, count):
        for _ in range(count):
            publisher.send(b"PUB slow %d\r\n%b\r\nPING\r\n" % (CHUNK, PAYLOAD))
            publisher.expect_exact(b"PONG\r\n")

    def asking_client(self):
        client = self.quiet_client(headers=True, no_responders=True)
        client.send(b"SUB slow.reply 1\r\n")
        client.fence()
        return client

    def is_nobody_there(self, asking):
        asking.send(b"PUB slow slow.reply 0\r\n\r\nPING\r\n")
        return b"503" in asking.expect_until(b"PONG\r\n")

    def expect_cut_off(self, slow, sent_count):
        """What the closed client finds in its kernel's buffers: messages, cut anywhere, no text, and not all of them."""
        received = slow.receive_rest()
        self.assertLess(len(received), sent_count * len(MESSAGE))
        self.assertTrue((MESSAGE * sent_count).startswith(received), received[-200:])

    def other_clients(self):
        """A function that sends one message between two clients and returns the seconds it took."""
        publisher, subscriber = self.quiet_client(), self.quiet_client()
        subscriber.send(b"SUB other 1\r\n")
        subscriber.fence()

        def round_trip():
            start = time.monotonic()
            publisher.send(b"PUB other 1\r\nx\r\n")
            subscriber.expect_exact(b"MSG other 1 1\r\nx\r\n")
            return time.monotonic() - start
        return round_trip


class MaxPendingTest(SlowCase):
    options = {"max_payload": 65536, "max_pending": 300_000}

    def test_slow_client_is_closed_and_a_fast_one_gets_all(self):
        slow, fast, publisher = self.slow_client(), self.quiet_client(), self.quiet_client()
        fast.send(b"SUB slow 1\r\n")
        fast.fence()
        start = time.monotonic()
        for _ in range(150):
            self.publish(publisher, 1)
            fast.expect_exact(MESSAGE)
        fast.expect_silence()
        if not REAL_NATS:  # which takes note of the limit, but goes on until its write deadline
            self.assertLess(time.monotonic() - start, 9 * SLOWNESS, "not before the write deadline")
        self.expect_cut_off(slow, 150)

    def test_many_slow_clients(self):
        slow = [self.slow_client() for _ in range(10)]
        publisher, round_trip = self.quiet_client(), self.other_clients()
        for _ in range(75):
            self.publish(publisher, 1)
            round_trip()
        for client in slow:
            self.expect_cut_off(client, 75)
        asking = self.asking_client()
        wait_until(lambda: self.is_nobody_there(asking), "the closed clients' subscriptions are gone")

    def test_client_that_publishes_to_itself_without_reading(self):
        client = self.slow_client()
        client.socket.settimeout(3 * DEADLINE)  # longer than the write deadline, which nats-server waits for
        round_trip = self.other_clients()
        end = time.monotonic() + 3 * DEADLINE
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < end:
                client.socket.sendall(b"PUB slow %d\r\n%b\r\n" % (CHUNK, PAYLOAD))
                round_trip()

    def test_many_answers_without_reading(self):
        """Answers count as output as well: a client that sends PINGs and reads nothing does not grow the server."""
        client = Client(self.server, receive_buffer=4096, verbose=False)
        self.addCleanup(client.close)
        round_trip = self.other_clients()
        before = self.server.memory_bytes()
        try:
            client.socket.settimeout(1 * SLOWNESS)
            for _ in range(200):
                client.socket.sendall(10_000 * b"PING\r\n")
                round_trip()
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # closed, or not read from any more: both bound it
        self.assertLess(self.server.memory_bytes() - before, 20_000_000)
        self.assertLess(round_trip(), 5 * SLOWNESS)

    def test_large_message_to_a_reading_client(self):
        """One message may fill most of the output queue."""
        client = self.quiet_client()
        client.send(b"SUB a 1\r\n" + 20 * (b"PUB a %d\r\n%b\r\n" % (CHUNK, PAYLOAD)))
        client.expect_exact(20 * (b"MSG a 1 %d\r\n%b\r\n" % (CHUNK, PAYLOAD)))
        client.expect_silence()


class WriteDeadlineTest(SlowCase):
    options = {"write_deadline": 2 * SLOWNESS}

    def test_slow_client_is_closed_and_others_are_unaffected(self):
        slow = self.slow_client()
        round_trip = self.other_clients()
        asking = self.asking_client()
        start = time.monotonic()
        self.publish(self.quiet_client(), 150)
        slowest = [round_trip()]

        def is_closed():
            slowest.append(round_trip())
            return self.is_nobody_there(asking)
        wait_until(is_closed, "the slow client is closed")
        self.assertGreater(time.monotonic() - start, 1 * SLOWNESS, "closed before the deadline")
        self.assertLess(max(slowest), 1 * SLOWNESS, "others had to wait")
        self.expect_cut_off(slow, 150)

    def test_client_that_reads_again_in_time_gets_all(self):
        slow = self.slow_client(receive_buffer=65536)
        publisher = self.quiet_client()
        for _ in range(3):
            self.publish(publisher, 70)  # more than the kernel's buffers take
            slow.expect_exact(70 * MESSAGE)
        slow.expect_silence()


class HalfClosedTest(SlowCase):
    def test_output_is_flushed(self):
        client = self.quiet_client()
        payload = 900_000 * b"p"
        client.send(b"SUB a 1\r\n" + 2 * (b"PUB a 900000\r\n%b\r\n" % payload) + b"PING\r\n")
        client.finish_sending()
        client.expect_exact(2 * (b"MSG a 1 900000\r\n%b\r\n" % payload) + b"PONG\r\n")
        client.expect_eof()

    def test_subscriptions_are_gone(self):
        slow = self.slow_client()
        slow.finish_sending()
        slow.expect_eof()
        asking = self.asking_client()
        wait_until(lambda: self.is_nobody_there(asking), "the closed client's subscription is gone")

    def test_client_that_closes_without_reading(self):
        """The server writes into closed sockets and lives."""
        publisher, asking = self.quiet_client(), self.asking_client()
        for _ in range(20):
            slow = self.slow_client()
            self.publish(publisher, 2)
            slow.close()
            self.publish(publisher, 2)
        wait_until(lambda: self.is_nobody_there(asking), "the closed clients' subscriptions are gone")


class IdleTest(SlowCase):
    def test_idle_sockets(self):
        idle = [self.client() for _ in range(300)]
        half = [self.client() for _ in range(100)]
        for client in half:
            client.send(b"SUB half.")
        round_trip = self.other_clients()
        for _ in range(100):
            round_trip()
        for client in half:
            client.send(b"a 1\r\n")
        for client in half:
            client.expect_exact(b"+OK\r\n")
        for client in idle + half:
            client.send(b"PING\r\n")
        for client in idle + half:
            client.expect_exact(b"PONG\r\n")
