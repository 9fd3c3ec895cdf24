# SPDX-License-Identifier: Apache-2.0
"""TLS of the frontends, with Python's ssl and the openssl tool as clients: the handshake in every form and ill form, who is let
in, the signer's death, a reload under traffic, and what a client that never finishes costs."""

import itertools
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest
import warnings

from harness import DEADLINE, SLOWNESS, is_sanitized, raise_descriptor_limit, wait_until
from tls_family import KINDS, QUIET, Certificates, World, openssl, ping, read_rest, read_until

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SUBJECTS = itertools.count()
HANDSHAKE_MS = int(1000 * SLOWNESS)


def shake_hands(connection, inside, outside, sock):
    """A handshake of an SSLObject over its two memories and a socket."""
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            sock.sendall(outside.read())
            inside.write(sock.recv(65536))


class TlsCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.certificates = Certificates()
        cls.server = cls.certificates.make("server")
        cls.addClassCleanup(cls.certificates.close)

    def check_works(self, sock):
        subject = b"s%d" % next(SUBJECTS)
        sock.sendall(QUIET + b"SUB %s 1\r\nPUB %s 2\r\nhi\r\nPING\r\n" % (subject, subject))
        got = read_until(sock, b"PONG\r\n").replace(b"\r\nPING", b"").removeprefix(b"PING\r\n")
        self.assertEqual(got, b"MSG %s 1 2\r\nhi\r\nPONG\r\n" % subject)

    def check_refused(self, world, text, attempt):
        """attempt ends without a word to it, but for an alert, and the log says why."""
        count = world.log().count("TLS handshake error: " + text)
        try:
            sock = attempt()
            self.assertRegex(read_rest(sock), rb"(?s)\A(\x15\x03[\x01\x03]\x00\x02..)?\Z")
            sock.close()
        except (ssl.SSLError, ConnectionError):
            pass
        world.wait_log("TLS handshake error: " + text, count + 1)


class Handshakes(TlsCase):
    def test_keys_and_versions(self):
        for kind in KINDS:
            with World(self.certificates.make(kind, kind)) as world:
                for version in (TLS12, TLS13):
                    with self.subTest(kind=kind, version=version.name), \
                            world.client(self.certificates.context(version)) as sock:
                        self.check_works(sock)
                self.assertEqual(world.counter("SIGNATURES"), 2)
                self.assertEqual(world.counter("SIGNATURES_REFUSED"), 0)

    def test_info(self):
        with World(self.server) as world:
            sock, info = world.plain()
            self.assertIn(b'"tls_required":true', info)
            self.assertNotIn(b"tls_verify", info)
            self.assertNotIn(b"tls_available", info)
            with self.certificates.context().wrap_socket(sock, server_hostname="localhost") as secure:
                secure.settimeout(0.2)
                with self.assertRaises(TimeoutError):  # there is no second INFO
                    secure.recv(1)
                secure.settimeout(DEADLINE)
                self.check_works(secure)

    def split_hello(self, world, context, positions):
        """One handshake whose hello arrives in pieces that end at these positions."""
        inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = context.wrap_bio(inside, outside, server_hostname="localhost")
        sock, _ = world.plain()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = True
        while True:
            try:
                connection.do_handshake()
                sock.sendall(outside.read())
                break
            except ssl.SSLWantReadError:
                out = outside.read()
                at = 0
                for position in [p for p in positions if p < len(out)] * hello:
                    sock.sendall(out[at:position])
                    at = position
                    time.sleep(0)
                sock.sendall(out[at:])
                hello = False
                got = sock.recv(65536)
                self.assertNotEqual(got, b"")
                inside.write(got)
        connection.write(b"PING\r\n")
        sock.sendall(outside.read())
        while True:
            try:
                self.assertEqual(connection.read(), b"PONG\r\n")
                break
            except ssl.SSLWantReadError:
                inside.write(sock.recv(65536))
        sock.close()

    def test_split_hello(self):
        with World(self.server) as world:
            for version in (TLS12, TLS13):
                context = self.certificates.context(version)
                for position in [*range(1, 14), *range(14, 520, 29)]:
                    self.split_hello(world, context, [position])
                self.split_hello(world, context, range(1, 600))

    def test_pipelined(self):
        """What comes in one packet with the end of the handshake is not forgotten."""
        with World(self.server) as world:
            for version in (TLS12, TLS13):
                inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
                connection = self.certificates.context(version).wrap_bio(inside, outside, server_hostname="localhost")
                sock, _ = world.plain()
                shake_hands(connection, inside, outside, sock)
                connection.write(QUIET + b"PING\r\n")
                sock.sendall(outside.read())
                with self.subTest(version=version.name):
                    while True:
                        try:
                            self.assertEqual(connection.read(), b"PONG\r\n")
                            break
                        except ssl.SSLWantReadError:
                            inside.write(sock.recv(65536))

    def test_refused(self):
        warnings.simplefilter("ignore", DeprecationWarning)
        with World(self.server + f" timeout={HANDSHAKE_MS}") as world:
            def send(data, end=False):
                sock, _ = world.plain()
                sock.sendall(data)
                if end:
                    sock.shutdown(socket.SHUT_WR)
                return sock
            no_tls = "tls: first record does not look like a TLS handshake"
            self.check_refused(world, no_tls, lambda: send(b"CONNECT {}\r\nPING\r\n"))
            self.check_refused(world, no_tls, lambda: send(b"GET / HTTP/1.0\r\n\r\n"))
            self.check_refused(world, "EOF", lambda: send(b"", end=True))
            self.check_refused(world, "EOF", lambda: send(b"\x16\x03\x01\x02\x00\x01", end=True))
            self.check_refused(world, "tls: the hello is longer",
                               lambda: send(b"\x16\x03\x01\x00\x10\x01\x00\x40\x01" + bytes(12)))
            self.check_refused(world, "tls:", lambda: send(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"))
            self.check_refused(world, "tls:", lambda: send(b"\x17\x03\x03\x00\x04abcd"))
            old = self.certificates.context()
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            self.check_refused(world, "tls: client offered only unsupported versions", lambda: world.client(old))
            exchange = self.certificates.context(TLS12)
            exchange.set_ciphers("AES128-GCM-SHA256:@SECLEVEL=0")
            self.check_refused(world, "tls: no shared cipher", lambda: world.client(exchange))
            with world.client(self.certificates.context()) as sock:
                self.check_works(sock)

    def test_timeouts(self):
        """Silence, half a hello, and one byte at a time all end in time and cost nobody else."""
        with World(self.server + f" timeout={HANDSHAKE_MS}") as world:
            began = time.monotonic()
            silent, _ = world.plain()
            half, _ = world.plain()
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
            with world.client(self.certificates.context()) as sock:
                self.check_works(sock)
                self.assertEqual(read_rest(silent), b"")
                self.assertEqual(read_rest(half), b"")
                self.assertGreaterEqual(time.monotonic() - began, HANDSHAKE_MS / 1000 * 0.9)
                ping(sock)
            world.wait_log("TLS handshake timeout", 2)
            world.wait_log("Client connection closed: TLS Handshake Failure", 2)
            self.assertEqual(world.counter("HANDSHAKES_FAILED"), 2)

    def test_suites_and_curves(self):
        with World(self.server + " ciphers=ECDHE-ECDSA-AES256-GCM-SHA384 groups=P-384") as world:
            with world.client(self.certificates.context(TLS12)) as sock:
                self.assertEqual(sock.cipher()[0], "ECDHE-ECDSA-AES256-GCM-SHA384")
                self.check_works(sock)
            for words in ("ciphers=AES128-GCM-SHA256", "ciphers=NONSENSE", "groups=NONSENSE",
                          "ciphers=ECDHE-ECDSA-AES256-GCM-SHA384:NONSENSE", "ciphers=ECDHE-ECDSA-NULL-SHA"):
                self.assertEqual(world.tell(f"tls {self.server} {words}"), "refused", words)

    def test_no_renegotiation(self):
        with World(self.server + " first") as world:
            tool = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{world.port}"],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            data = b""
            while b"INFO {" not in data:
                data += os.read(tool.stdout.fileno(), 65536)
            tool.stdin.write(b"R\n")
            tool.stdin.flush()
            self.assertIn(b"no renegotiation", tool.communicate(timeout=DEADLINE)[0])

    def test_key_updates(self):
        with World(self.server + " first") as world:
            tool = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-crlf", "-connect", f"127.0.0.1:{world.port}"],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for command, mark in ((b"", b"INFO {"), (b"K\n", b"KEYUPDATE"), (b"PING\n", b"PONG"), (b"k\n", b"KEYUPDATE"),
                                  (b"PING\n", b"PONG"), (b"K\n", b"KEYUPDATE"), (b"PING\n", b"PONG")):
                tool.stdin.write(command)
                tool.stdin.flush()
                data = b""
                while mark not in data:
                    got = os.read(tool.stdout.fileno(), 65536)
                    self.assertTrue(got, data)
                    data += got
            tool.communicate(timeout=DEADLINE)


class Clients(TlsCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.certificates.make("friend")
        cls.certificates.authority("stranger-ca")
        cls.certificates.make("stranger", ca="stranger-ca")
        cls.certificates.make("expired", days="-1")
        cls.verify = f"{cls.server} ca={cls.certificates.path('ca.pem')} verify timeout={HANDSHAKE_MS}"

    def test_verify(self):
        with World(self.verify) as world:
            sock, info = world.plain()
            sock.close()
            self.assertIn(b'"tls_required":true,"tls_verify":true', info)
            for version in (TLS12, TLS13):
                def attempt(certificate, version=version):
                    return lambda: world.client(self.certificates.context(version, certificate))
                with attempt("friend")() as friend:
                    self.check_works(friend)
                self.check_refused(world, "tls: client didn't provide a certificate", attempt(None))
                self.check_refused(world, "tls: failed to verify client certificate: x509: certificate signed by unknown",
                                   attempt("stranger"))
                self.check_refused(world, "tls: failed to verify client certificate: x509: certificate has expired",
                                   attempt("expired"))

    def test_pins(self):
        with World(f"{self.verify} pin={self.certificates.pin('friend')}") as world:
            with world.client(self.certificates.context(None, "friend")) as sock:
                self.check_works(sock)
            self.certificates.make("other")
            self.check_refused(world, "certificate not pinned",
                               lambda: world.client(self.certificates.context(None, "other")))

    def test_no_session_is_resumed(self):
        for words in (self.server, self.verify):
            with World(words) as world:
                for version in (TLS12, TLS13):
                    context = self.certificates.context(version, "friend")
                    with world.client(context) as sock:
                        self.check_works(sock)
                        session = sock.session
                        self.assertFalse(session and session.has_ticket)
                    signatures = world.counter("SIGNATURES")
                    with world.client(context, session) as sock:
                        self.check_works(sock)
                        self.assertFalse(sock.session_reused)
                    self.assertEqual(world.counter("SIGNATURES") - signatures, 1)


class Modes(TlsCase):
    def test_rate_limit(self):
        with World(self.server + " rate=2") as world:
            for _ in range(20):  # until three connections fall into one second
                socks = [world.plain() for _ in range(3)]
                self.assertTrue(all(info.startswith(b"INFO {") for _, info in socks))
                socks[2][0].settimeout(0.3 * SLOWNESS)
                try:
                    got = read_rest(socks[2][0])
                except TimeoutError:
                    continue
                finally:
                    for sock, _ in socks[:2]:
                        sock.close()
                self.assertEqual(got, b"-ERR 'Connection throttling is active. Please try again later.'\r\n")
                return
            self.fail("three connections in one second were never throttled")

    def test_plain_beside_tls(self):
        with World(self.server + f" allow_non_tls timeout={HANDSHAKE_MS}") as world:
            sock, info = world.plain()
            self.assertIn(b'"tls_available":true', info)
            self.assertNotIn(b"tls_required", info)
            self.check_works(sock)
            with world.client(self.certificates.context()) as secure:
                self.check_works(secure)
                secure.sendall(b"PUB a 3\r\nabc\r\n")
            slow, _ = world.plain()
            slow.sendall(b"PI")
            time.sleep(HANDSHAKE_MS / 1000 * 1.2)
            slow.sendall(b"NG\r\n")
            self.assertEqual(slow.recv(100), b"PONG\r\n")
            silent, _ = world.plain()
            time.sleep(HANDSHAKE_MS / 1000 * 1.2)
            self.check_works(silent)
            ping(sock)

    def test_handshake_first(self):
        with World(self.server + f" first timeout={HANDSHAKE_MS}") as world:
            sock = world.tcp()
            with self.certificates.context().wrap_socket(sock, server_hostname="localhost") as secure:
                self.assertIn(b'"tls_required":true', read_until(secure, b"\r\n"))
                self.check_works(secure)
            waiting = world.tcp()
            self.assertEqual(read_rest(waiting), b"")  # no INFO ever, and the end in time

    def test_handshake_first_or_after(self):
        with World(self.server + f" first first_after={HANDSHAKE_MS // 2} timeout={HANDSHAKE_MS * 4}") as world:
            with self.certificates.context().wrap_socket(world.tcp(), server_hostname="localhost") as secure:
                self.assertTrue(read_until(secure, b"\r\n").startswith(b"INFO {"))
                self.check_works(secure)
            with world.client(self.certificates.context()) as secure:
                self.check_works(secure)

    def test_places(self):
        """A client that waits for a place of ours loses none of its time, and handshakes when it has one."""
        with World(self.server + f" timeout={HANDSHAKE_MS}") as world:
            world.tell("pause")
            held = [world.plain()[0] for _ in range(100)]  # all that were given out at start
            done = []

            def connect():
                with world.client(self.certificates.context()) as sock:
                    self.check_works(sock)
                    done.append(True)
            thread = threading.Thread(target=connect)
            thread.start()
            thread.join(HANDSHAKE_MS / 1000 * 1.5)
            for sock in held:
                sock.close()
            world.tell("resume")
            thread.join(DEADLINE)
            self.assertEqual(done, [True])


class Traffic(TlsCase):
    def test_large_messages(self):
        payload = os.urandom(1 << 20)
        with World(self.server) as world:
            for version in (TLS12, TLS13):
                with world.client(self.certificates.context(version)) as sock:
                    sock.sendall(QUIET + b"SUB big 1\r\n")
                    sock.setblocking(False)  # one SSL object is not for two threads
                    unsent = memoryview((b"PUB big %d\r\n" % len(payload) + payload + b"\r\n") * 8)
                    expected = (b"MSG big 1 %d\r\n" % len(payload) + payload + b"\r\n") * 8
                    data = bytearray()
                    while len(data) < len(expected):
                        select.select([sock], [sock] if unsent else [], [], DEADLINE)
                        try:
                            while unsent:
                                unsent = unsent[sock.send(unsent[:1 << 16]):]
                        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                            pass
                        try:
                            while len(data) < len(expected):
                                got = sock.recv(1 << 16)
                                self.assertTrue(got)
                                data += got
                        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                            pass
                    sock.settimeout(DEADLINE)
                    self.assertTrue(data == expected, "the messages came as they went")
                    ping(sock)

    def test_many_small_messages(self):
        """Deliveries of one turn share records, and no record is longer than TLS allows."""
        with World(self.server) as world, world.client(self.certificates.context()) as sock:
            sock.sendall(QUIET + b"SUB s 1\r\n" + b"PUB s 2\r\nhi\r\n" * 50000 + b"PING\r\n")
            data = read_until(sock, b"PONG\r\n")
            self.assertEqual(data, b"MSG s 1 2\r\nhi\r\n" * 50000 + b"PONG\r\n")

    def test_slow_reader(self):
        """What does not fit into the socket waits, in order."""
        with World(self.server) as world, world.client(self.certificates.context()) as reader, \
                world.client(self.certificates.context()) as writer:
            reader.sendall(QUIET + b"SUB t 1\r\n")
            ping(reader)
            for block in range(32):
                writer.sendall(b"PUB t 100000\r\n" + bytes([65 + block]) * 100000 + b"\r\n")
            data = b""
            while len(data) < 32 * 100021 - 1000:
                got = reader.recv(1 << 16)
                self.assertTrue(got)
                data += got
                time.sleep(0.001)
            order = [chunk[0] for chunk in re.findall(rb"\r\n([A-`])\1{1000,}", data)]
            self.assertEqual(order, sorted(order))
            ping(writer)

    def test_ends(self):
        """A client that has said its last word gets all that it is owed, and each end is said by close_notify."""
        with World(self.server) as world:
            sock, _ = world.plain()
            inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
            connection = self.certificates.context().wrap_bio(inside, outside, server_hostname="localhost")
            shake_hands(connection, inside, outside, sock)
            connection.write(QUIET + b"SUB e 1\r\n" + b"PUB e 1\r\nx\r\n" * 1000 + b"PING\r\n")
            with self.assertRaises(ssl.SSLWantReadError):
                connection.unwrap()  # close_notify behind all that
            sock.sendall(outside.read())
            inside.write(read_rest(sock))
            data = b""
            with self.assertRaises(ssl.SSLZeroReturnError):
                while True:
                    data += connection.read(65536)
            self.assertEqual(data, b"MSG e 1 1\r\nx\r\n" * 1000 + b"PONG\r\n")
            connection.unwrap()  # the server's has come
            with world.client(self.certificates.context()) as other:
                other.sendall(b"NONSENSE\r\n")
                other.suppress_ragged_eofs = False  # an end without close_notify would be an error
                self.assertEqual(read_rest(other), b"-ERR 'Unknown Protocol Operation'\r\n")

    def test_reset(self):
        """Clients that vanish in the middle of anything leave nothing behind."""
        with World(self.server) as world:
            for _ in range(50):
                sock = world.client(self.certificates.context())
                sock.sendall(b"PUB x 100\r\nhalf")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            for cut in range(1, 200, 10):
                sock, _ = world.plain()
                sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(cut))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            wait_until(lambda: world.counter("CONNS") == 0, "all connections are gone")


class Signer(TlsCase):
    def test_death(self):
        """Handshakes wait for a new signer; established clients notice nothing."""
        with World(self.server + f" timeout={HANDSHAKE_MS * 4}") as world, \
                world.client(self.certificates.context()) as old:
            self.check_works(old)
            world.tell("signer stop")
            done = []

            def connect():
                with world.client(self.certificates.context()) as sock:
                    self.check_works(sock)
                    done.append(True)
            threads = [threading.Thread(target=connect) for _ in range(20)]
            for thread in threads:
                thread.start()
            for _ in range(5):
                ping(old)
                time.sleep(0.05)
            self.assertEqual(done, [])
            world.tell("signer start")
            for thread in threads:
                thread.join(DEADLINE)
            self.assertEqual(len(done), 20)
            ping(old)

    def test_gone(self):
        """Without a signer a handshake ends in time, a client that leaves meanwhile leaves nothing, and the next one works."""
        with World(self.server + f" timeout={HANDSHAKE_MS}") as world:
            world.tell("signer stop")
            sock, _ = world.plain()
            sock.settimeout(HANDSHAKE_MS / 1000 * 4)
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.certificates.context().wrap_socket(sock, server_hostname="localhost")
            world.wait_log("TLS handshake timeout: the signer has not answered")
            for _ in range(300):  # more than there are jobs
                sock, _ = world.plain()
                context = self.certificates.context()
                sock.setblocking(False)
                connection = context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
                with self.assertRaises(ssl.SSLWantReadError):
                    connection.do_handshake()
                connection.close()
            wait_until(lambda: world.counter("CONNS") == 0, "all are gone")
            world.tell("signer start")
            with world.client(self.certificates.context()) as last:
                self.check_works(last)

    def test_storm(self):
        """More handshakes at once than there are jobs: all get in."""
        raise_descriptor_limit()
        with World(self.server + f" timeout={HANDSHAKE_MS * 4}") as world:
            world.tell("signer stop")
            waiting = []
            for _ in range(400):
                sock, _ = world.plain()
                connection = self.certificates.context().wrap_socket(sock, server_hostname="localhost",
                                                                     do_handshake_on_connect=False)
                connection.setblocking(False)
                with self.assertRaises(ssl.SSLWantReadError):
                    connection.do_handshake()
                waiting.append(connection)
            world.tell("signer start")
            for connection in waiting:
                connection.settimeout(DEADLINE)
                connection.do_handshake()
                self.check_works(connection)
                connection.close()
            self.assertEqual(world.counter("HANDSHAKES_FAILED"), 0)

    @unittest.skipIf(os.geteuid() != 0, "reads the memory of other processes")
    @unittest.skipIf(is_sanitized(), "sanitizers map terabytes")
    def test_no_key_in_the_frontend(self):
        for kind in ("p256", "rsa"):
            words = self.certificates.make("secret-" + kind, kind)
            with World(words) as world:
                for _ in range(3):
                    with world.client(self.certificates.context()) as sock:
                        self.check_works(sock)
                secrets = self.private_numbers("secret-" + kind)
                found = {pid: any(self.holds(pid, secret) for secret in secrets)
                         for pid in (world.frontend, world.signer)}
                self.assertFalse(found[world.frontend], "the frontend holds a private key")
                self.assertTrue(found[world.signer], "the scan can find what is there")

    def private_numbers(self, name):
        text = openssl("pkey", "-in", self.certificates.path(name + ".key"), "-noout", "-text").decode()
        numbers = []
        for label in ("priv", "prime1", "prime2", "privateExponent"):
            match = re.search(rf"^{label}:\n((?:    [0-9a-f:]+\n)+)", text, re.MULTILINE)
            if match:
                numbers.append(bytes.fromhex(re.sub(r"[\s:]", "", match[1])).lstrip(b"\0"))
        self.assertTrue(numbers)
        # As it is written, and as OpenSSL keeps it: the lowest words first.
        return [form[-24:] if form == number else form[:24] for number in numbers for form in (number, number[::-1])]

    def holds(self, pid, secret):
        with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights = line.split()[:2]
                start, end = (int(x, 16) for x in span.split("-"))
                if "r" not in rights or "[v" in line:
                    continue
                memory.seek(start)
                try:
                    if secret in memory.read(end - start):
                        return True
                except OSError:
                    continue
        return False


class Reload(TlsCase):
    def test_under_traffic(self):
        """New handshakes get the new certificate, established clients stay, and whoever is in the middle gets in."""
        new = self.certificates.make("renewed", "rsa")
        serials = {name: self.certificate_serial(name) for name in ("server", "renewed")}
        with World(self.server) as world, world.client(self.certificates.context()) as old:
            self.check_works(old)
            seen, errors, stop = [], [], threading.Event()

            def connect():
                while not stop.is_set():
                    try:
                        with world.client(self.certificates.context()) as sock:
                            seen.append(int(sock.getpeercert()["serialNumber"], 16))
                            self.check_works(sock)
                    except (OSError, AssertionError) as error:
                        errors.append(error)
            threads = [threading.Thread(target=connect) for _ in range(50)]
            for thread in threads:
                thread.start()
            for words in (new, self.server, new):
                count = len(seen)
                wait_until(lambda count=count: len(seen) > count + 50, "clients come in")
                self.assertEqual(world.tell("tls " + words), "applied")
            count = len(seen)
            wait_until(lambda: len(seen) > count + 100, "clients come in")
            stop.set()
            for thread in threads:
                thread.join(DEADLINE)
            self.assertEqual(errors, [])
            self.assertEqual(set(seen), set(serials.values()))
            with world.client(self.certificates.context()) as sock:
                self.assertEqual(int(sock.getpeercert()["serialNumber"], 16), serials["renewed"])
            ping(old)

    def certificate_serial(self, name):
        return int(openssl("x509", "-in", self.certificates.path(name + ".pem"), "-noout", "-serial").split(b"=")[1], 16)

    def test_refused(self):
        with open(self.certificates.path("broken.pem"), "w", encoding="ascii") as file:
            file.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        server, broken = self.certificates.path("server"), self.certificates.path("broken.pem")
        with World(self.server) as world:
            for words in (f"key={server}.key chain={broken}", f"key={broken} chain={server}.pem",
                          f"{self.server} ca={broken}", f"{self.server} verify", f"{self.server} timeout=0"):
                self.assertEqual(world.tell("tls " + words), "refused", words)
                with world.client(self.certificates.context()) as sock:
                    self.check_works(sock)
            self.assertEqual(world.tell("tls " + self.server), "applied")

    def test_off_and_on(self):
        with World(self.server) as world:
            self.assertEqual(world.tell("tls timeout=1000"), "applied")
            sock, info = world.plain()
            self.assertNotIn(b"tls", info)
            self.check_works(sock)
            self.assertEqual(world.tell("tls " + self.server), "applied")
            with world.client(self.certificates.context()) as secure:
                self.check_works(secure)
            ping(sock)


@unittest.skipIf(is_sanitized(), "its memory says nothing")
class Memory(TlsCase):
    COUNT = 1000

    def cost(self, world, make):
        raise_descriptor_limit()
        warm = [make() for _ in range(20)]
        before = world.memory_bytes()
        socks = [make() for _ in range(self.COUNT)]
        wait_until(lambda: world.counter("CONNS") == len(socks) + len(warm), "all are there")
        each = (world.memory_bytes() - before) // self.COUNT
        for sock in socks + warm:
            sock.close()
        wait_until(lambda: world.counter("CONNS") == 0, "all are gone")
        return each

    def test_never_finished(self):
        with World(self.server + " timeout=60000") as world:
            def sends(data):
                def make():
                    sock, _ = world.plain()
                    sock.sendall(data)
                    return sock
                return make
            announced = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(100)
            for name, data, most in (("silent", b"", 2048), ("one byte", b"\x16", 2048), ("half", announced, 2048)):
                each = self.cost(world, sends(data))
                print(f"{name}: {each} bytes")
                self.assertLess(each, most, name)

    def test_idle(self):
        with World(self.server) as world:
            def make():
                sock = world.client(self.certificates.context())
                ping(sock)
                return sock
            each = self.cost(world, make)
            print(f"idle: {each} bytes")
            self.assertLess(each, 24 * 1024)


if __name__ == "__main__":
    unittest.main()
