# SPDX-License-Identifier: Apache-2.0
"""One message to very many subscriptions: 100,000 of them, spread over 2,000 connections."""

import os
import select
import time

from harness import DEADLINE, PING, ServerCase, clip, raise_descriptor_limit

CONNECTIONS = int(os.environ.get("FANOUT_CONNECTIONS", "2000"))
SIDS = 50


class Reader:
    """Collects what one connection receives and checks each message as soon as it is whole."""

    def __init__(self, client, subject, payload):
        self.client = client
        self.client.socket.setblocking(False)
        self.sids = {b"%d" % sid for sid in range(SIDS)}
        self._start = b"MSG %b " % subject
        self._end = b" %d\r\n%b\r\n" % (len(payload), payload)
        self._unread = bytearray()

    def read(self):
        """Reads what is there. Every sid's message may come once, in any order, and nothing else but PINGs."""
        data = self.client.socket.recv(1 << 18)
        if not data:
            raise AssertionError("a connection was closed")
        unread = self._unread
        unread += data
        position = 0
        while True:
            if unread.startswith(PING, position):
                position += len(PING)
            space = unread.find(b" ", position + len(self._start))
            if space < 0 or len(unread) - space < len(self._end):
                break
            sid = bytes(unread[position + len(self._start):space])
            if not (unread.startswith(self._start, position) and unread.startswith(self._end, space) and sid in self.sids):
                raise AssertionError("not an expected message: " + clip(unread[position:position + 100]))
            self.sids.remove(sid)
            position = space + len(self._end)
        del unread[:position]

    def is_done(self):
        return not self.sids


class FanoutTest(ServerCase):
    @classmethod
    def setUpClass(cls):
        raise_descriptor_limit()
        super().setUpClass()

    def subscribe(self, subscriptions):
        clients = [self.quiet_client() for _ in range(CONNECTIONS)]
        for client in clients:
            for sid in range(SIDS):
                client.send(b"SUB %b %d\r\n" % (subscriptions[sid % len(subscriptions)], sid))
            client.send(b"PING\r\n")
        for client in clients:
            client.expect_exact(b"PONG\r\n")
        return clients

    def receive_all(self, clients, subject, payload):
        """Reads from all connections at once until each sid of each has had its message."""
        readers = {client.socket.fileno(): Reader(client, subject, payload) for client in clients}
        with select.epoll() as poll:
            for descriptor in readers:
                poll.register(descriptor, select.EPOLLIN)
            waiting = len(readers)
            progress = time.monotonic()
            while waiting:
                events = poll.poll(1)
                if events:
                    progress = time.monotonic()
                self.assertLess(time.monotonic() - progress, DEADLINE, f"{waiting} connections miss messages")
                for descriptor, _ in events:
                    readers[descriptor].read()
                    if readers[descriptor].is_done():
                        poll.unregister(descriptor)
                        waiting -= 1
        for client in clients:
            client.socket.settimeout(DEADLINE)

    def check_fanout(self, subscriptions, payload):
        clients = self.subscribe(subscriptions)
        publisher = self.quiet_client()
        start = time.monotonic()
        publisher.send(b"PUB fan.out.all %d\r\n%b\r\n" % (len(payload), payload))
        self.receive_all(clients, b"fan.out.all", payload)
        print(f"{CONNECTIONS * SIDS} copies of {len(payload)} bytes in {time.monotonic() - start:.2f} s")
        publisher.fence()
        for client in clients:
            client.send(b"PING\r\n")
        for client in clients:
            client.expect_exact(b"PONG\r\n")
        for client in clients:
            client.close()

    def test_10_kb_to_100000_subscriptions(self):
        self.check_fanout([b"fan.out.all"], os.urandom(10 * 1024))

    def test_small_message_to_100000_subscriptions_of_all_kinds(self):
        self.check_fanout([b"fan.out.all", b"fan.*.all", b"fan.>", b"*.out.*", b">"], b"hello")
