# SPDX-License-Identifier: Apache-2.0
"""Order of delivery: per publisher, after UNSUB, and the fences that PONG gives within and between connections."""

import os

from harness import ServerCase

FENCE_ROUNDS = int(os.environ.get("FENCE_ROUNDS", "3000"))
PAIR_ROUNDS = 100  # then two other connections, perhaps of other frontends


class OrderTest(ServerCase):
    options = {"frontends": 1}

    def test_one_publisher_over_many_sids(self):
        """All copies of message n come before any copy of message n + 1, whatever sid they go to."""
        publisher, subscriber = self.quiet_client(), self.quiet_client()
        for sid in range(50):
            subject = (b"order.%d" % (sid % 10), b"order.*", b">")[sid % 3]
            subscriber.send(b"SUB %b %d\r\n" % (subject, sid))
        subscriber.fence()
        publisher.send(b"".join(b"PUB order.%d %d\r\n%d\r\n" % (n % 10, len(str(n)), n) for n in range(2000)))
        publisher.fence()
        subscriber.send(b"PING\r\n")
        lines = subscriber.expect_until(b"PONG\r\n").split(b"\r\n")
        numbers = [int(line) for line in lines if line.isdigit()]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(set(numbers), set(range(2000)))

    def test_several_publishers(self):
        subscriber = self.quiet_client()
        subscriber.send(b"SUB several.* 1\r\n")
        subscriber.fence()
        publishers = [self.quiet_client() for _ in range(8)]
        for start in range(0, 500, 50):
            for index, publisher in enumerate(publishers):
                publisher.send(b"".join(b"PUB several.%d 3\r\n%03d\r\n" % (index, n) for n in range(start, start + 50)))
        for publisher in publishers:
            publisher.fence()
        received = {b"several.%d" % index: [] for index in range(8)}
        for _ in range(8 * 500):
            subject, _, payload = subscriber.receive_message()
            received[subject].append(int(payload))
        for subject, numbers in received.items():
            self.assertEqual(numbers, list(range(500)), subject)
        subscriber.expect_silence()

    def test_large_and_small_messages(self):
        """Order holds over messages of very different sizes, which may travel by different ways."""
        publisher, subscriber = self.quiet_client(), self.quiet_client()
        subscriber.send(b"SUB sizes 1\r\n")
        subscriber.fence()
        sizes = [0, 1, 100, 1000, 4096, 9000, 70_000, 300_000, 3, 500_000, 2, 65_536, 65_535, 0] * 3
        for number, size in enumerate(sizes):
            publisher.send(b"PUB sizes %d\r\n%b\r\n" % (size, size * bytes([number + 48])))
        for number, size in enumerate(sizes):
            subscriber.expect_exact(b"MSG sizes 1 %d\r\n%b\r\n" % (size, size * bytes([number + 48])))
        subscriber.expect_silence()

    def test_within_one_connection(self):
        client = self.quiet_client()
        rounds = 500
        client.send(b"SUB own 1\r\n" + rounds * b"PUB own 1\r\nx\r\nPING\r\nPUB own 0\r\n\r\n")
        client.expect_exact(rounds * b"MSG own 1 1\r\nx\r\nPONG\r\nMSG own 1 0\r\n\r\n")
        client.expect_silence()


class FenceTest(ServerCase):
    options = {"frontends": 1}

    def test_message_before_pong_over_two_connections(self):
        """A publishes and pings. When A has its PONG, B pings, and must have the message before its own PONG."""
        for number in range(FENCE_ROUNDS):
            if number % PAIR_ROUNDS == 0:
                a, b = self.quiet_client(), self.quiet_client()
                subject = b"fence.%d" % (number // PAIR_ROUNDS)
                b.send(b"SUB %b 1\r\n" % subject)
                b.fence()
            text = b"%d" % number
            a.send(b"PUB %b %d\r\n%b\r\nPING\r\n" % (subject, len(text), text))
            a.expect_exact(b"PONG\r\n")
            b.send(b"PING\r\n")
            b.expect_exact(b"MSG %b 1 %d\r\n%b\r\nPONG\r\n" % (subject, len(text), text))

    def test_subscription_before_pong_over_two_connections(self):
        """A subscribes and pings. When A has its PONG, what B publishes reaches A; after UNSUB and PONG it does not."""
        for number in range(FENCE_ROUNDS // 3):
            if number % PAIR_ROUNDS == 0:
                a, b = self.quiet_client(), self.quiet_client()
            a.send(b"SUB later %d\r\nPING\r\n" % number)
            a.expect_exact(b"PONG\r\n")
            b.send(b"PUB later 1\r\nx\r\nPING\r\n")
            b.expect_exact(b"PONG\r\n")
            a.send(b"UNSUB %d\r\nPING\r\n" % number)
            a.expect_exact(b"MSG later %d 1\r\nx\r\nPONG\r\n" % number)
            b.send(b"PUB later 1\r\ny\r\nPING\r\n")
            b.expect_exact(b"PONG\r\n")

    def test_subscription_is_active_for_the_next_publish(self):
        client = self.quiet_client()
        for number in range(300):
            client.send(b"SUB next %d\r\nPUB next 1\r\nx\r\nUNSUB %d\r\nPUB next 1\r\ny\r\nPING\r\n" % (number, number))
        for number in range(300):
            client.expect_exact(b"MSG next %d 1\r\nx\r\nPONG\r\n" % number)

    def test_drain(self):
        """While others publish without pause: UNSUB, then PING; after the PONG no message of that sid comes."""
        publishers = [self.quiet_client() for _ in range(4)]
        subscriber = self.quiet_client()

        def publish():
            for publisher in publishers:
                publisher.send(20 * b"PUB drain 1\r\nx\r\n")

        for sid in range(100):
            publish()
            subscriber.send(b"SUB drain %d\r\nPING\r\n" % sid)
            subscriber.expect_until(b"PONG\r\n")
            publish()
            subscriber.send(b"UNSUB %d\r\nPING\r\n" % sid)
            publish()
            subscriber.expect_until(b"PONG\r\n")
            for publisher in publishers:
                publisher.fence()
            subscriber.expect_silence()

    def test_queue_members_together_get_all_before_their_pongs(self):
        publisher = self.quiet_client()
        members = [self.quiet_client() for _ in range(3)]
        for member in members:
            member.send(b"SUB shared q 1\r\n")
            member.fence()
        for _ in range(FENCE_ROUNDS // 30):
            publisher.send(10 * b"PUB shared 1\r\nx\r\n")
            publisher.fence()
            received = 0
            for member in members:
                member.send(b"PING\r\n")
                received += member.expect_until(b"PONG\r\n").count(b"MSG shared 1 1\r\nx\r\n")
            self.assertEqual(received, 10)


class OrderOverFrontendsTest(OrderTest):
    options = {"frontends": 2}


class FenceOverFrontendsTest(FenceTest):
    options = {"frontends": 2}
