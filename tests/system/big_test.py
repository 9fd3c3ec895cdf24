# SPDX-License-Identifier: Apache-2.0
"""Large messages, large fan-outs, and full speed: nobody else is stalled, memory is bounded, and nobody is closed who reads."""

import os
import threading
import time

from family import Program
from harness import DEADLINE, SLOWNESS, Client, ServerCase, bulkhead_only, is_sanitized, raise_descriptor_limit

MEGABYTE = 1 << 20
CONNECTIONS = int(os.environ.get("BIG_CONNECTIONS", "2000"))
SUBSCRIPTIONS = int(os.environ.get("BIG_SUBSCRIPTIONS", "5"))
STALL_SECONDS = 2 * SLOWNESS  # of other clients, on a busy machine; what is normal is printed


class Pinger(threading.Thread):
    """Two clients that exchange requests and answers until stop(), which returns the longest time that one took."""

    def __init__(self, case):
        super().__init__(daemon=True)
        self._asker, self._responder = case.quiet_client(), case.quiet_client()
        self._responder.send(b"SUB ask 1\r\n")
        self._responder.fence()
        self._asker.send(b"SUB inbox.* 1\r\n")
        self._asker.fence()
        self._longest, self._count, self._ended, self._failure = 0, 0, False, None
        self.start()

    def run(self):
        try:
            while not self._ended:
                start = time.monotonic()
                self._asker.send(b"PUB ask inbox.%d 4\r\nhelp\r\n" % self._count)
                self._responder.expect_exact(b"MSG ask 1 inbox.%d 4\r\nhelp\r\n" % self._count)
                self._responder.send(b"PUB inbox.%d 6\r\nanswer\r\n" % self._count)
                self._asker.expect_exact(b"MSG inbox.%d 1 6\r\nanswer\r\n" % self._count)
                self._longest = max(self._longest, time.monotonic() - start)
                self._count += 1
        except (AssertionError, OSError) as failure:
            self._failure = failure

    def stop(self):
        self._ended = True
        self.join(2 * DEADLINE)
        if self._failure:
            raise self._failure
        if self._count == 0:
            raise AssertionError("not one request was answered")
        return self._longest


class MaxPayloadTest(ServerCase):
    options = {"max_payload": 64 * MEGABYTE, "frontends": 2}

    def test_64_mb(self):
        """Up to the last byte, over connections of both frontends, while others go on."""
        payload = os.urandom(MEGABYTE) * 64
        subscribers = [self.quiet_client() for _ in range(3)]
        for subscriber in subscribers:
            subscriber.send(b"SUB huge 1\r\n")
            subscriber.fence()
        publisher = self.quiet_client()
        pinger = Pinger(self)
        for _ in range(2):
            sender = threading.Thread(target=publisher.send, args=(b"PUB huge %d\r\n%b\r\nPING\r\n" % (len(payload), payload),))
            sender.start()
            for subscriber in subscribers:
                line = subscriber.expect_until(b"\r\n")
                while line == b"PING\r\n":
                    line = subscriber.expect_until(b"\r\n")
                self.assertEqual(line, b"MSG huge 1 %d\r\n" % len(payload))
                self.assertTrue(subscriber.receive_bytes(len(payload) + 2) == payload + b"\r\n", "the payload differs")
            sender.join()
            publisher.expect_exact(b"PONG\r\n")
        longest = pinger.stop()
        print(f"longest request meanwhile {1000 * longest:.0f} ms")
        self.assertLess(longest, STALL_SECONDS)
        for subscriber in subscribers:
            subscriber.fence()

    def test_one_byte_more(self):
        client = self.quiet_client()
        client.send(b"PUB huge %d\r\n" % (64 * MEGABYTE + 1))
        client.expect_exact(b"-ERR 'Maximum Payload Violation'\r\n")
        client.expect_eof()


class LargeFanoutTest(ServerCase):
    options = {"frontends": 1}

    @classmethod
    def setUpClass(cls):
        raise_descriptor_limit()
        super().setUpClass()

    def test_1_mb_to_many_subscriptions(self):
        """Every payload is there once, however many get it: memory grows by far less than what is delivered."""
        with Program("fanout", self.server.port, CONNECTIONS, SUBSCRIPTIONS, MEGABYTE, 1) as program:
            program.expect("ready")
            before = most = self.server.memory_bytes()
            program.tell("go")
            while program.is_running():
                most = max(most, self.server.memory_bytes())
                time.sleep(0.02)
            lines = program.finish()
        print(f"{lines[-1]}; memory grew by {(most - before) / MEGABYTE:.1f} MB")
        longest_ping, longest_message = (int(part.split()[-1]) / 1e6 for part in lines[-1].replace("us of", "us |").split(" us |")[:2])
        self.assertLess(max(longest_ping, longest_message), STALL_SECONDS)
        if not is_sanitized():
            self.assertLess(most - before, 100 * MEGABYTE)


class BackPressureTest(ServerCase):
    options = {"frontends": 2, "max_pending": 8 * MEGABYTE}

    def test_subscriber_that_does_not_read(self):
        """Its publisher is stalled, it is closed, and the readers get everything."""
        size, count, window = 100_000, 300, 20
        message = b"MSG pressed 1 %d\r\n" % size
        payload = os.urandom(size) + b"\r\n"
        readers = [self.quiet_client() for _ in range(4)]
        lazy = Client(self.server, 4096, verbose=False, pedantic=False)
        self.addCleanup(lazy.close)
        for client in [*readers, lazy]:
            client.send(b"SUB pressed 1\r\n")
            client.fence()
        pinger, publisher = Pinger(self), self.quiet_client()
        for number in range(count + window):  # no reader is ever behind by more than the window
            if number < count:
                publisher.send(b"PUB pressed %d\r\n%b" % (size, payload))
            if number >= window:
                for reader in readers:
                    reader.expect_exact(message + payload)
        publisher.fence()
        for reader in readers:
            reader.fence()
        longest = pinger.stop()
        print(f"longest request meanwhile {1000 * longest:.0f} ms")
        self.assertLess(longest, STALL_SECONDS)
        received = lazy.receive_rest()
        self.assertTrue(received.startswith(message[:len(received)]))
        self.assertLess(len(received), count * size)


@bulkhead_only("nats-server stalls publishers, but not so that it can be seen")
class StallTest(ServerCase):
    options = {"frontends": 2, "max_pending": 64 * MEGABYTE}

    def test_publisher_to_a_full_subscriber_is_stalled(self):
        """GATE comes at 4 MB: from there on a publisher's socket is not read for 100 ms, at most half of any second."""
        lazy = Client(self.server, 4096, verbose=False, pedantic=False)
        self.addCleanup(lazy.close)
        lazy.send(b"SUB full 1\r\n")
        lazy.fence()
        publisher, payload = self.quiet_client(), 100_000 * b"p"
        longest = 0
        for _ in range(200):  # 20 MB, of which the kernel's buffers may hold some
            start = time.monotonic()
            publisher.send(b"PUB full 100000\r\n%b\r\nPING\r\n" % payload)
            publisher.expect_exact(b"PONG\r\n")
            longest = max(longest, time.monotonic() - start)
        print(f"longest publish {1000 * longest:.0f} ms")
        self.assertGreater(longest, 0.05)
        lazy.expect_exact(b"MSG full 1 100000\r\n" + payload[:1000])  # not closed: below max_pending


class FlowTest(ServerCase):
    options = {"frontends": 2}

    def test_full_speed_is_never_a_slow_consumer(self):
        for messages, size in ((500_000, 16), (50_000, 4096)):
            for _ in range(2 if size == 16 else 1):
                with Program("flow", self.server.port, messages, size) as program:
                    print(f"{messages} messages of {size} bytes: {program.finish()[-1]}")
        self.assertNotIn("Slow Consumer", self.server.log())
