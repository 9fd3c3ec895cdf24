# SPDX-License-Identifier: Apache-2.0
"""What one client does to the frontend that serves it: endings in the middle of a parsed buffer, output that nobody bounds, and
anything at all.

The server has one frontend, so every attacker and every honest client meet in one process.
"""

import itertools
import os
import random
import re
import signal
import socket
import struct
import threading
import time
import unittest

from family import kill, live_router, read_proc
from harness import DEADLINE, QUIET, Client, Server, bulkhead_only, is_sanitized, wait_until

FUZZ_SECONDS = float(os.environ.get("CLIENT_FUZZ_SECONDS", "4"))
HONEST = QUIET + b"SUB honest.* 1\r\n"


def rss(server):
    """Private memory of the frontend."""
    (pid,) = server.child_pids()["frontend"]
    return int(re.search(r"^RssAnon:\s+(\d+) kB", read_proc(pid, "status"), re.MULTILINE)[1]) * 1024


class ConnectionCase(unittest.TestCase):
    def serve(self, **options):
        server = Server(frontends=1, **options)
        self.addCleanup(server.stop)
        return server

    def look_at_honest(self, server, client):
        """It still gets what it sends, in order, and no process has ended."""
        client.send(b"PUB honest.a 5\r\nhello\r\nPING\r\n")
        client.expect_exact(b"MSG honest.a 1 5\r\nhello\r\nPONG\r\n")
        server.check()


@bulkhead_only("its frontend")
class EndWhileParsedTest(ConnectionCase):
    """A line that ends its connection, parsed from the buffer that the connection keeps."""

    LINES = {
        "account": b'CONNECT {"account":"x"%s}\r\n',
        "protocol": b'CONNECT {"protocol":7%s}\r\n',
        "no_responders": b'CONNECT {"no_responders":true,"headers":false%s}\r\n',
        "not json": b'CONNECT {"user"%s\r\n',
    }

    def test_rows(self):
        server = self.serve()
        honest = Client(server, first=HONEST)
        for (name, line), pad in itertools.product(self.LINES.items(), (0, 100, 1000, 2000, 3900)):
            with self.subTest(name, pad=pad):
                for _ in range(3):  # the PING's fence makes the rest wait in a buffer of the connection's own
                    client = Client(server, first=b'CONNECT {"verbose":false}\r\nPING\r\n' + line % (b" " * pad))
                    text = client.receive_rest()
                    self.assertTrue(text.startswith(b"PONG\r\n"), text)
                self.look_at_honest(server, honest)

    def test_behind_other_operations(self):
        """The line that ends it lies anywhere in the buffer, with operations before and after it."""
        server = self.serve()
        honest = Client(server, first=HONEST)
        for name, line in self.LINES.items():
            with self.subTest(name):
                for subs in (1, 10, 40):
                    before = b"".join(b"SUB a.%d %d\r\n" % (n, n) for n in range(subs))
                    after = b"PUB honest.b 3\r\nbad\r\n" * 20
                    Client(server, first=QUIET + b"PING\r\n" + before + line % (b" " * 500) + after).receive_rest()
                self.look_at_honest(server, honest)


@bulkhead_only("its processes")
class PingFloodTest(ConnectionCase):
    """PINGs whose PONGs must wait, because the router has not taken what came before them."""

    FLOOD = 64 << 20

    @unittest.skipIf(is_sanitized(), "a sanitizer's memory says nothing")
    def test_behind_a_held_router(self):
        server = self.serve()
        honest = Client(server, first=HONEST)
        self.look_at_honest(server, honest)
        flood = Client(server, first=QUIET + b"PING\r\n")
        flood.expect_exact(b"PONG\r\n")
        before, router = rss(server), live_router(server)
        self.assertTrue(kill(server, router, signal.SIGSTOP))
        try:
            flood.socket.setblocking(False)
            sent, chunk = 0, b"PING\r\n" * 10000
            data = b"PUB x 0\r\n\r\n" + chunk
            quiet_since = time.monotonic()
            while sent < self.FLOOD and time.monotonic() - quiet_since < 0.3:  # until the server takes no more
                try:
                    n = flood.socket.send(data)
                except BlockingIOError:
                    time.sleep(0.001)
                    continue
                data = data[n:] or chunk
                sent += n
                quiet_since = time.monotonic()
            grown = rss(server) - before
        finally:
            kill(server, router, signal.SIGCONT)
        self.assertLess(sent, self.FLOOD)
        self.assertLess(grown, 2 << 20, "the frontend's memory while its router is held")
        flood.socket.settimeout(DEADLINE)
        whole = (sent - len(b"PUB x 0\r\n\r\n")) // 6
        flood.expect_exact(b"PONG\r\n" * whole)
        self.look_at_honest(server, honest)

    def test_pongs_keep_their_place(self):
        """More PINGs than a fence takes, among messages of their own: every PONG comes behind what was sent before its PING."""
        server = self.serve()
        client = Client(server, first=QUIET + b"SUB mine 7\r\n")
        sent, expected = b"", b""
        for n, pings in enumerate((1, 3000, 0, 2731, 1, 5000)):
            sent += b"PUB mine 4\r\n%04d\r\n" % n + b"PING\r\n" * pings
            expected += b"MSG mine 7 4\r\n%04d\r\n" % n + b"PONG\r\n" * pings
        sender = threading.Thread(target=client.send, args=(sent,))
        sender.start()
        client.expect_exact(expected)
        sender.join()
        server.check()


class Noise:
    """Random operations, good and bad ones, that a seed repeats."""

    TOKENS = ("foo", "bar", "x", "*", ">", "a", "", "foo.bar", "_INBOX", "$JS", "_R_", "\x80", "é")
    OPTIONS = ("{}", "null", '{"verbose":true}', '{"verbose":false}', '{"verbose":false,"user":"a","pass":"a"}',
               '{"user":"b","pass":"b"}', '{"user":"a","pass":"bad"}', '{"account":"x"}', '{"new_account":true}', '{"protocol":7}',
               '{"no_responders":true,"headers":false}', '{"headers":true,"no_responders":true,"verbose":false,"echo":false}',
               '{"pedantic":true}', "{bad", '{"nkey":"UX","sig":"a"}')
    OTHERS = (b"INFO {}\r\n", b"INFO x\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b"GARBAGE\r\n", b"\r\n", b"PIN", b"PONG\r\n",
              b"CONNECT" + b" " * 5000)

    def __init__(self, seed):
        self.random = random.Random(seed)

    def subject(self):
        return ".".join(self.random.choice(self.TOKENS) for _ in range(self.random.randint(1, 4))) or "q"

    def connect(self):
        options, random_ = self.random.choice(self.OPTIONS), self.random
        if random_.random() < 0.2:
            options = '{"jwt":"%s","sig":"x","name":"%s"}' % ("j" * random_.randint(0, 3000), "n" * random_.randint(0, 300))
        return "CONNECT %s%s\r\n" % (options, " " * random_.choice((0, 0, 0, 100, 900, 2000, 4000)))

    def sub(self):
        return "SUB %s %s%d\r\n" % (self.subject(), self.random.choice(("", "", "q ", "q2 ")), self.random.randint(0, 30))

    def unsub(self):
        return "UNSUB %d%s\r\n" % (self.random.randint(0, 30), self.random.choice(("", " 1", " 3", " x")))

    def pub(self):
        size = self.random.choice((0, 1, 10, 100, 5000, 70000, 150000, 199999, 200001))
        real = max(0, size + self.random.choice((0, 0, 0, 0, 1, -1)))
        return "PUB %s %s%d\r\n%s\r\n" % (self.subject(), self.random.choice(("", "", "rep.ly ", "_INBOX.1 ")), size, "x" * real)

    def hpub(self):
        block, size = "NATS/1.0\r\nA: b\r\n\r\n", self.random.choice((0, 10, 3000, 80000))
        stated = self.random.choice((len(block), len(block), 0, 5, len(block) + size + 1))
        return "HPUB %s %d %d\r\n%s%s\r\n" % (self.subject(), stated, len(block) + size, block, "y" * size)

    def operation(self):
        kind = self.random.randrange(12)
        if kind < 6:
            make = (self.connect, self.connect, self.sub, self.unsub, self.pub, self.hpub)[kind]
            return make().encode("latin1", "replace")
        return (b"PING\r\n" * self.random.randint(1, 50), self.random.choice(self.OTHERS),
                b"SUB " + b"a." * self.random.randint(1, 3000) + b"b 1\r\n",
                b"PUB foo.x 5\r\nhello\r\n" * self.random.randint(1, 30),
                self.sub().encode("latin1", "replace"), self.pub().encode("latin1", "replace"))[kind - 6]


@bulkhead_only("its processes")
class NoiseTest(ConnectionCase):
    """A random client: whatever it writes, and however it leaves, no process ends and nobody else notices."""

    CONFIGS = {
        "no login": "",
        "logins": 'no_auth_user: a, authorization { users: [ {user: a, password: a, permissions: {publish: "foo.>", subscribe: "foo.>"}},'
                  " {user: b, password: b}, {user: honest, password: honest} ] }\n",
    }

    def attack(self, server, seed, until, counts):
        noise = Noise(seed)
        while time.monotonic() < until:
            clients = []
            for _ in range(noise.random.randint(1, 4)):
                clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))
                clients[-1].setblocking(False)
            for _ in range(noise.random.randint(1, 25)):
                client = noise.random.choice(clients)
                data = b"".join(noise.operation() for _ in range(noise.random.randint(1, 8)))
                cut = noise.random.randrange(len(data)) if noise.random.random() < 0.3 else 0
                try:
                    for part in (data[:cut], data[cut:]):
                        client.send(part)
                    if noise.random.random() < 0.6:
                        client.recv(65536)
                except OSError:
                    pass  # full, or closed: another one goes on
                counts[seed] += 1
            for client in clients:
                if noise.random.random() < 0.3:  # a reset
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()

    def test_random_writes(self):
        for name, config in self.CONFIGS.items():
            with self.subTest(name):
                server = self.serve(config="max_payload: 200000\nmax_control_line: 4096\n" + config)
                honest = Client(server, verbose=False, user="honest", pass_="honest")
                honest.send(b"SUB honest.* 1\r\n")
                first = random.randrange(1 << 30)
                print(f"seeds {first}, {first + 1}")
                counts = {first: 0, first + 1: 0}
                until = time.monotonic() + FUZZ_SECONDS / len(self.CONFIGS)
                threads = [threading.Thread(target=self.attack, args=(server, seed, until, counts)) for seed in counts]
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    self.look_at_honest(server, honest)
                    time.sleep(0.05)
                for thread in threads:
                    thread.join()
                self.look_at_honest(server, honest)
                print(f"{sum(counts.values())} writes")
                self.assertGreater(min(counts.values()), 10)


if __name__ == "__main__":
    unittest.main()
