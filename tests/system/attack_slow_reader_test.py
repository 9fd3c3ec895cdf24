# SPDX-License-Identifier: Apache-2.0
"""Readers slower than their publisher: nobody who reads is closed, and whoever does not read costs only those who publish to it.

slow_test.py has what a closed client and its neighbours see; here publishers go as fast as they can.
"""

import contextlib
import select
import socket
import threading
import time
import unittest

from harness import DEADLINE, SLOWNESS, Client, Server, ServerCase, is_sanitized, raise_descriptor_limit, wait_until

HELD_SECONDS = 0.05  # a publisher that has not come on for so long is held


class Publisher(threading.Thread):
    """Sends a block of equal messages again and again, as fast as the server takes it, `count` times or until stop()."""

    def __init__(self, case, server, size, count=None):
        super().__init__(daemon=True)
        self.client = Client(server, verbose=False, pedantic=False)
        self.client.fence()
        self.each = 1 + 65536 // size
        self.block = self.each * (b"PUB flow %d\r\n%b\r\n" % (size, size * b"x"))
        self.block_delivered = self.each * len(b"MSG flow 1 %d\r\n%b\r\n" % (size, size * b"x"))
        self.count, self.sent, self.stopped = count, 0, False
        case.addCleanup(self.stop)
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while not self.stopped and self.sent != self.count:
                self.client.socket.settimeout(6 * DEADLINE)
                self.client.socket.sendall(self.block)
                self.sent += 1

    def stop(self):
        self.stopped = True
        with contextlib.suppress(OSError):
            self.client.socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self.client.close()

    def is_held(self):
        before = self.sent
        time.sleep(HELD_SECONDS)
        return self.sent == before


class Reader:
    """Counts the bytes that it reads."""

    def __init__(self, case, server, receive_buffer=None):
        self.client = Client(server, receive_buffer, verbose=False, pedantic=False)
        case.addCleanup(self.client.close)
        self.client.sees_pings = True
        self.client.send(b"SUB flow 1\r\n")
        self.client.fence()
        self.got = 0
        self._thrown = bytearray(1 << 20)

    def read(self, at_most=0):
        """False at the end of the connection."""
        n = 0
        with contextlib.suppress(ConnectionResetError):
            n = self.client.socket.recv_into(self._thrown, at_most)
        self.got += n
        return n > 0

    def read_all(self, expected):
        """Reads so many bytes; the server's PINGs, which may come, are a few bytes more."""
        while self.got < expected:
            if not self.read():
                raise AssertionError(f"closed after {self.got} of {expected} bytes")


class ReadingTest(unittest.TestCase):
    """What lies in rings and overflow when a reader falls behind is more than these bounds."""

    CELLS = [(1 << 20, 1024, 100), (1 << 20, 65536, 150), (8 << 20, 1_000_000, 120)]  # max_pending, bytes, MB to send

    def each_cell(self, check):
        for pending, size, megabytes in self.CELLS:
            with self.subTest(max_pending=pending, size=size), Server(max_pending=pending) as server:
                check(server, size, int(megabytes * 1_000_000 / SLOWNESS) // max(size, 65536))
                self.assertNotIn("Slow Consumer", server.log())
                server.check()

    def test_readers_at_full_speed_are_not_closed(self):
        def check(server, size, count):
            readers = [Reader(self, server) for _ in range(2)]
            publisher = Publisher(self, server, size, count)
            threads = [threading.Thread(target=r.read_all, args=(count * publisher.block_delivered,)) for r in readers]
            for thread in threads:
                thread.start()
            for reader, thread in zip(readers, threads):
                thread.join(3 * DEADLINE)
                self.assertGreaterEqual(reader.got, count * publisher.block_delivered)
        self.each_cell(check)

    def test_reader_that_stops_for_a_while_holds_its_publisher(self):
        """It reads, stops until its publisher is held, and reads on; in the end it has all."""
        def check(server, size, count):
            reader = Reader(self, server)
            publisher = Publisher(self, server, size, count)
            total = count * publisher.block_delivered
            for part in range(1, 5):
                reader.read_all(part * total // 5)
                wait_until(publisher.is_held, "the publisher is held")
            reader.read_all(total)
        self.each_cell(check)


class ManyPublishersTest(ServerCase):
    options = {"max_pending": 1 << 20}
    PUBLISHERS, MESSAGES = 1000, 600

    def test_reader_that_stops_for_a_while_is_not_closed(self):
        """What each of many publishers may have under way does not add up to more than the reader may have."""
        raise_descriptor_limit()
        reader = Reader(self, self.server)
        publishers = [self.quiet_client() for _ in range(self.PUBLISHERS)]
        for publisher in publishers:
            publisher.fence()
        total = self.PUBLISHERS * self.MESSAGES * len(b"MSG flow 1 128\r\n%b\r\n" % (128 * b"x"))
        thread = threading.Thread(target=reader.read_all, args=(total,))
        self.send_to_all(publishers, self.MESSAGES * (b"PUB flow 128\r\n%b\r\n" % (128 * b"x")), thread)
        thread.join(3 * DEADLINE)
        self.assertNotIn("Slow Consumer", self.server.log())
        self.assertGreaterEqual(reader.got, total)

    def send_to_all(self, publishers, data, reading):
        """Sends data on each connection, all at once. The reader begins when they are held."""
        left = {p.socket.fileno(): (p.socket, memoryview(data)) for p in publishers}
        with select.epoll() as poll:
            for descriptor, (connection, _) in left.items():
                connection.setblocking(False)
                poll.register(descriptor, select.EPOLLOUT)
            while left:
                events = poll.poll(2 * HELD_SECONDS if reading.ident is None else 3 * DEADLINE)
                if not events:
                    self.assertIsNone(reading.ident, "the publishers are held for good")
                    reading.start()
                for descriptor, _ in events:
                    connection, rest = left.pop(descriptor)
                    with contextlib.suppress(BlockingIOError):
                        rest = rest[connection.send(rest):]
                    if rest:
                        left[descriptor] = connection, rest
                    else:
                        poll.unregister(descriptor)
        if reading.ident is None:
            reading.start()


class DefaultBoundTest(ServerCase):
    def test_trickling_reader_is_kept(self):
        """0.1 MB/s of a flow of 64 KB messages at full speed, for two and a half seconds; then it reads what there is."""
        reader, publisher = Reader(self, self.server), Publisher(self, self.server, 65536)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            self.assertTrue(reader.read(10_000))
            time.sleep(0.1)
        publisher.stopped = True
        held = publisher.sent * publisher.block_delivered - reader.got
        self.assertLess(held, 64 << 20, "it was not held")
        reader.read_all(publisher.sent * publisher.block_delivered)
        self.assertNotIn("Slow Consumer", self.server.log())


class TakesNothingTest(ServerCase):
    options = {"write_deadline": 2 * SLOWNESS, "max_pending": 1 << 20, "frontends": 2}

    def round_trips(self, count):
        """Functions that each send a message between two clients and return the seconds it took. Some are on the frontend of
        any publisher."""
        def pair(number):
            publisher, subscriber = (Client(self.server, verbose=False, pedantic=False) for _ in range(2))
            self.addCleanup(publisher.close)
            self.addCleanup(subscriber.close)
            subject = b"other.%d" % number
            subscriber.send(b"SUB %b 1\r\n" % subject)
            subscriber.fence()

            def round_trip():
                start = time.monotonic()
                publisher.send(b"PUB %b 1\r\nx\r\n" % subject)
                subscriber.expect_exact(b"MSG %b 1 1\r\nx\r\n" % subject)
                return time.monotonic() - start
            return round_trip
        return [pair(number) for number in range(count)]

    def test_publishers_go_on_after_the_deadline_and_others_meanwhile(self):
        others = self.round_trips(8)
        silent = [Reader(self, self.server, receive_buffer=4096) for _ in range(3)]
        publishers = [Publisher(self, self.server, 16384) for _ in range(2)]
        slowest = []

        def all_closed():
            slowest.extend(round_trip() for round_trip in others)
            return self.server.log().count("Slow Consumer Detected") >= len(silent)
        wait_until(all_closed, "the silent readers are closed")
        self.assertLess(max(slowest), 1 * SLOWNESS, "others had to wait")
        before = [publisher.sent for publisher in publishers]
        wait_until(lambda: all(p.sent > sent + 100 for p, sent in zip(publishers, before)), "their publishers go on")

    @unittest.skipIf(is_sanitized(), "a sanitizer's memory says nothing")
    def test_memory_is_bounded(self):
        """Beyond max_pending there are 64 MB for all clients of a frontend together, whoever publishes how much to them."""
        silent = [Reader(self, self.server, receive_buffer=4096) for _ in range(40)]
        before = self.server.memory_bytes()
        publishers = [Publisher(self, self.server, 65536) for _ in range(8)]
        most, end = 0, time.monotonic() + 4 * DEADLINE
        while self.server.log().count("Slow Consumer Detected") < len(silent):
            most = max(most, self.server.memory_bytes())
            self.assertLess(time.monotonic(), end, "the silent readers are closed")
        for publisher in publishers:
            publisher.stop()
        bound = len(silent) * ((1 << 20) + 65536) + self.options["frontends"] * (64 << 20)
        self.assertLess(most - before, bound + (32 << 20))  # rings that were not touched before
