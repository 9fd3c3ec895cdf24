# SPDX-License-Identifier: Apache-2.0
"""TLS on the client port: handshakes good and bad, who is asked for a certificate, whom it names, limits, and new certificates
under traffic. Certificates are made by certificates.py; Python's ssl is the client."""

import json
import os
import select
import shutil
import signal
import ssl
import tempfile
import threading
import time
import unittest

from certificates import Authority, Pair
from harness import DEADLINE, EOF, EXECUTABLE, REAL_NATS, SLOWNESS, Client, bulkhead_only, wait_until
from identity import REFUSED, IdentityCase

FAILURE = "Client connection closed: TLS Handshake Failure"


def setUpModule():
    global folder, ca, strangers, p256, rsa, p384, ed25519, good
    folder = tempfile.mkdtemp(prefix="bulkhead-tls-")
    unittest.addModuleCleanup(shutil.rmtree, folder)
    os.chmod(folder, 0o755)
    ca, strangers = Authority(folder), Authority(folder, "strangers")
    p256, rsa, p384, ed25519 = (ca.server(kind, kind) for kind in ("p256", "rsa", "p384", "ed25519"))
    good = ca.client("good", "/O=Test/CN=good")


def tls(pair=None, **more):
    """The text of a tls block."""
    pair = pair or p256
    keys = {"cert_file": pair.cert, "key_file": pair.key, "ca_file": ca.cert, "timeout": 2 * SLOWNESS, **more}
    return "tls {\n" + "".join(f"  {name}: {str(value).lower() if isinstance(value, bool) else value}\n"
                               for name, value in keys.items()) + "}\n"


class TlsCase(IdentityCase):
    def secure(self, pair=None, context=None, **connect):
        """A client that is in, over TLS."""
        client = self.open(tls=context or ca.context(pair), **{"verbose": False, **connect})
        client.fence()
        return client

    def expect_failure(self, context, log=FAILURE):
        """The handshake fails, or the server ends it right after the client's half; nothing is answered."""
        client = self.open()
        try:
            client.start_tls(context)
            client.connect(verbose=False)
            client.send(b"PING\r\n")
            client.expect_eof()
        except (ssl.SSLError, ConnectionResetError):
            pass
        self.server.wait_log_of(client, log)


class HandshakeTest(TlsCase):
    def test_told_at_the_start(self):
        self.serve(tls())
        self.server.wait_log("TLS required for client connections")
        name = f"{os.path.basename(EXECUTABLE)}_{self.server.pid}.ports"
        path = os.path.join(self.server.directory, name)
        wait_until(lambda: os.path.exists(path), "the ports file")
        with open(path) as file:
            self.assertEqual(json.load(file)["nats"], [f"tls://127.0.0.1:{self.server.port}"])

    def test_kinds_of_keys_and_versions(self):
        for pair in (p256, rsa, p384, ed25519):
            self.serve(tls(pair))
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.subTest(os.path.basename(pair.cert), version=version.name):
                    client = self.secure(context=ca.context(minimum_version=version, maximum_version=version))
                    self.assertEqual(client.socket.version(), version.name.replace("v1_", "v1."))
                    self.assertEqual(client.socket.getpeercert(True), pair.der())
                    self.assertIs(client.info["tls_required"], True)
                    self.assertNotIn("tls_verify", client.info)
                    self.check_traffic(client)
            self.server.stop()

    def check_traffic(self, client):
        """Messages of all sizes, in records as they fall."""
        client.send(b"SUB t 1\r\n")
        for size in (0, 1, 100, 16383, 16384, 16385, 200000, 1048576):
            client.send(b"PUB t %d\r\n%s\r\n" % (size, size * b"x"))
            self.assertEqual(client.receive_message(), (b"t", b"1", size * b"x"))
        client.send(2000 * b"PUB t 5\r\nsmall\r\n")
        client.expect_answer(2000 * b"MSG t 1 5\r\nsmall\r\n")

    def test_old_versions_and_key_exchanges(self):
        self.serve(tls(rsa))
        old = ca.context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertWarns(DeprecationWarning):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        self.expect_failure(old)
        for cipher in ("AES128-GCM-SHA256", "AES256-SHA"):
            context = ca.context(maximum_version=ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(cipher)
            self.expect_failure(context)

    def test_ciphers_and_curves_of_the_configuration(self):
        self.serve(tls(rsa, cipher_suites='["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]', curve_preferences='["CurveP384"]'))
        two = ca.context(maximum_version=ssl.TLSVersion.TLSv1_2)
        client = self.secure(context=two)
        self.assertEqual(client.socket.cipher()[0], "ECDHE-RSA-AES256-GCM-SHA384")
        two.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        self.expect_failure(two)
        three = ca.context(minimum_version=ssl.TLSVersion.TLSv1_3)
        three.set_ecdh_curve("prime256v1")
        self.expect_failure(three)
        three.set_ecdh_curve("secp384r1")
        self.secure(context=three)

    def test_hello_in_pieces(self):
        """Every split of the client's bytes gives the same handshake."""
        self.serve(tls())
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = self.open()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            half = ca.context(maximum_version=version).wrap_bio(incoming, outgoing, server_hostname="localhost")

            def run(step):
                while True:
                    try:
                        done = step()
                    except ssl.SSLWantReadError:
                        done = None
                    client.send_bytewise(outgoing.read())
                    if done is not None:
                        return done
                    data = client.socket.recv(1 << 16)
                    self.assertTrue(data, "the server closed")
                    incoming.write(data)

            run(lambda: half.do_handshake() or True)
            run(lambda: half.write(b'CONNECT {"verbose":false}\r\nPING\r\n'))
            self.assertEqual(run(lambda: half.read(6)), b"PONG\r\n")

    def test_hello_to_a_plain_port(self):
        self.serve("debug: true\n")
        client = self.open()
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        client.expect_answer(b"-ERR 'Unknown Protocol Operation'\r\n" + EOF)

    def test_the_last_words_arrive(self):
        """An error text comes through TLS, and then its end."""
        self.serve(tls() + 'authorization { user: derek, password: "pw" }\n')
        client = self.open(tls=ca.context(), verbose=False, user="derek", pass_="no")
        self.expect_refused(client)
        client = self.login("derek", "pw", tls=ca.context())
        client.send(b"X\r\n")
        client.expect_answer(b"-ERR 'Unknown Protocol Operation'\r\n" + EOF)

    def test_time_of_the_handshake_is_not_that_of_the_login(self):
        self.serve(tls() + 'authorization { user: derek, password: "pw", timeout: 0.5 }\n')
        client = self.open()
        time.sleep(0.8)  # more than a login may take
        client.start_tls(ca.context())
        client.connect(verbose=False, user="derek", pass_="pw")
        client.expect_silence()
        late = self.open()
        late.start_tls(ca.context())
        late.expect_answer(b"-ERR 'Authentication Timeout'\r\n" + EOF)


class NotTlsTest(TlsCase):
    """Clients that do not, or not in time, speak TLS."""

    def test_refused(self):
        self.serve(tls(timeout=0.5))
        steady = self.secure()
        opened = time.monotonic()
        silent, half = self.open(), self.open()
        half.send(b"\x16\x03\x01\x02\x00\x01\x00")
        for text in (b"CONNECT {}\r\nPING\r\n", b"\x80\x2e\x01\x00\x02" + 64 * b"\0", b"GET / HTTP/1.1\r\n\r\n", 100 * b"\0"):
            with self.subTest(text):
                client = self.open()
                client.send(text)
                self.assertNotIn(b"-ERR", client.receive_rest(), "an alert at most")
                self.server.wait_log_of(client, "TLS handshake error: ")
                self.server.wait_log_of(client, FAILURE)
        for client in (silent, half):
            client.expect_eof()
            self.assertGreaterEqual(time.monotonic() - opened, 0.5)
            self.server.wait_log_of(client, f"[ERR] {client.name}")
            self.server.wait_log_of(client, FAILURE)
        steady.expect_silence()

    def test_allow_non_tls(self):
        self.serve(tls(timeout=0.5) + "allow_non_tls: true\n")
        plain = self.open()
        self.assertNotIn("tls_required", plain.info)
        self.assertIs(plain.info["tls_available"], True)
        plain.connect(verbose=False)
        plain.send(b"SUB both 1\r\n")
        plain.expect_silence()
        secure = self.secure()
        secure.send(b"PUB both 2\r\nhi\r\n")
        plain.expect_answer(b"MSG both 1 2\r\nhi\r\n")
        short = self.open()
        short.send(b"PI")
        time.sleep(0.7)  # longer than the time for the handshake
        short.send(b"NG\r\n")
        short.expect_exact(b"PONG\r\n")

    def test_rate_limit(self):
        """Each frontend counts for itself, so there is one."""
        self.serve(tls(connection_rate_limit=3), frontends=1)
        throttled = b"-ERR 'Connection throttling is active. Please try again later.'\r\n"
        clients = [self.open() for _ in range(12)]
        readable = select.select([client.socket for client in clients], [], [], DEADLINE)[0]
        self.assertTrue(readable, "one of twelve at once is too many")
        for client in clients:
            if client.socket in readable:
                client.expect_answer(throttled + EOF)
        self.assertFalse(any(client.socket in readable for client in clients[:2]), "the first ones were not too many")

        def let_in():
            client = self.open()
            try:
                client.start_tls(ca.context())
            except ssl.SSLError:
                return False
            client.connect(verbose=False)
            client.expect_silence()
            return True

        wait_until(let_in, "a place in another second")


class VerifyTest(TlsCase):
    def test_certificate_wanted(self):
        self.serve(tls(verify=True))
        client = self.secure(good)
        self.assertIs(client.info["tls_verify"], True)
        expired = ca.client("expired", "/CN=expired", expired=True)
        foreign = strangers.client("foreign", "/CN=good")
        for name, pair in (("none", None), ("expired", expired), ("another CA's", foreign)):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.subTest(name, version=version.name):
                    self.expect_failure(ca.context(pair, maximum_version=version), "TLS handshake error: ")
        client.expect_silence()

    def test_own_certificate_as_the_only_anchor(self):
        """The rows of what is accepted are in tests/unit/frontend/tls_verify_test.c."""
        self.serve(tls(verify=True, ca_file=good.cert))
        self.secure(good)
        other = ca.client("other", "/CN=other")
        self.expect_failure(ca.context(other), "certificate signed by unknown authority")

    def test_weak_key(self):
        self.serve(tls(verify=True))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_verify_locations(ca.cert)
        context.load_cert_chain(*ca.client("weak", "/CN=weak", kind="rsa1024"))
        client = self.secure(context=context)
        if not REAL_NATS:
            self.server.wait_log_of(client, "RSA key of 1024 bits")

    def test_not_wanted_not_looked_at(self):
        self.serve(tls())
        self.secure(strangers.client("ignored", "/CN=x"))

    @bulkhead_only("nats-server takes a ticket for the certificate")
    def test_no_session_is_resumed(self):
        """A certificate is proved in each handshake."""
        self.serve(tls(verify=True))
        context = ca.context(good)
        first = self.secure(context=context)
        session = first.socket.session
        second = Client(self.server)
        self.addCleanup(second.close)
        second.socket = context.wrap_socket(second.socket, server_hostname="localhost", session=session)
        self.assertFalse(second.socket.session_reused)

    def test_pins(self):
        other = ca.server("pinned")  # any pair with a key of its own
        self.serve(tls(verify=True, pinned_certs=f'["{"0" * 64}", "{good.pin()}"]'))
        self.secure(good)
        self.expect_failure(ca.context(other), "certificate not pinned")
        self.server.stop()
        self.serve(tls(pinned_certs=f'["{good.pin()}"]'))
        self.expect_failure(ca.context(), "certificate not pinned")


MAP_USERS = ["mail@example.com", "second@example.com", "dns.example.com", "spiffe://example/app", "CN=fred,OU=ops",
             "cn=dora, ou=Dev", "CN=ed+OU=7", "CN=lit,OU=x,DC=com,DC=example", "CN=any-order , O = Acme,C=DE", "CN=esc\\\\,aped,O=Acme",
             "CN=plain"]

# Name, subject, SANs, the user, and what the log says.
MAP_ROWS = [
    ("email", "/CN=x", "email:mail@example.com", "mail@example.com", 'Using email found in cert for auth ["mail@example.com"]'),
    ("second email", "/CN=x", "email:no@example.com,email:second@example.com", "second@example.com", "Using email found"),
    ("email before DNS", "/CN=plain", "DNS:dns.example.com,email:mail@example.com", "mail@example.com", "Using email found"),
    ("DNS before URI", "/CN=plain", "URI:spiffe://example/app,DNS:dns.example.com", "dns.example.com",
     'Using SAN found in cert for auth ["dns.example.com"]'),
    ("DNS before the subject", "/CN=plain", "DNS:dns.example.com", "dns.example.com", "Using SAN found"),
    ("URI", "/CN=x", "URI:spiffe://example/app", "spiffe://example/app",
     'Using URI found in cert for auth ["spiffe://example/app"]'),
    ("URI without subject", "/", "URI:spiffe://example/app", "spiffe://example/app", "Using URI found"),
    ("email without subject", "/", "email:mail@example.com", "mail@example.com", "Using email found"),
    ("DNS without subject", "/", "DNS:dns.example.com", "dns.example.com", "Using SAN found"),  # newer than v2.9.10
    ("nothing at all", "/", "", None, "User required in cert, none found"),
    ("IP", "/CN=x", "IP:10.0.0.1", None, 'User in cert ["CN=x"], not found'),
    ("email in another case", "/CN=x", "email:Mail@example.com", None, "not found"),
    ("name alone", "/CN=plain", "", "CN=plain", 'for auth ["CN=plain"]'),
    ("more than the name", "/O=Acme/CN=plain", "", None, "not found"),
    ("subject text without its DCs", "/DC=com/DC=example/OU=ops/CN=fred", "", "CN=fred,OU=ops",
     'Using certificate subject for auth ["CN=fred,OU=ops"]'),
    ("subject text with its DCs", "/DC=com/DC=example/OU=x/CN=lit", "", "CN=lit,OU=x,DC=com,DC=example", "for auth ["),
    ("types in any case", "/OU=Dev/CN=dora", "", "cn=dora, ou=Dev", 'Using DistinguishedNameMatch for auth ["cn=dora, ou=Dev"]'),
    ("values in their case", "/OU=Dev/CN=DORA", "", None, "not found"),
    ("order of the parts", "/CN=dora/OU=Dev", "", "cn=dora, ou=Dev", "Using DistinguishedNameMatch"),
    ("blanks in the user's name", "/C=DE/O=Acme/CN=any-order", "", "CN=any-order , O = Acme,C=DE", "Using DistinguishedNameMatch"),
    ("a part is missing", "/O=Acme/CN=any-order", "", None, "not found"),
    ("a part too many", "/C=DE/O=Acme/OU=x/CN=any-order", "", None, "not found"),
    ("multi-valued", "/CN=ed+OU=7", "", "CN=ed+OU=7", "Using DistinguishedNameMatch"),
    ("multi-valued, other order", "/OU=7+CN=ed", "", "CN=ed+OU=7", "Using DistinguishedNameMatch"),
    ("not multi-valued", "/OU=7/CN=ed", "", None, "not found"),
    ("escaped comma", "/O=Acme/CN=esc,aped", "", "CN=esc\\\\,aped,O=Acme", "Using DistinguishedNameMatch"),
    ("an attribute outside the list", "/UID=1/C=DE/O=Acme/CN=any-order", "", None, "not found"),
    ("nobody", "/CN=nobody", "", None, 'User in cert ["CN=nobody"], not found'),
]


class MapTest(TlsCase):
    """Who is who is seen by what each may subscribe to."""

    def test_rows(self):
        users = "".join(f'{{user: "{name}", permissions {{ subscribe: ["id.{n}"] }} }}\n' for n, name in enumerate(MAP_USERS))
        self.serve(tls(verify_and_map=True) + f"authorization {{ users: [\n{users}] }}\n")
        for n, (name, subject, sans, user, log) in enumerate(MAP_ROWS):
            with self.subTest(name):
                client = self.open(tls=ca.context(ca.client(f"map{n}", subject, sans)), verbose=False)
                if user is None:
                    client.expect_answer(REFUSED)
                else:
                    client.expect_silence()
                    self.assertEqual(self.identity(client), user)
                self.server.wait_log(log)  # authd writes it, and knows no client's name
                client.close()

    def identity(self, client):
        for n, name in enumerate(MAP_USERS):
            client.send(b"SUB id.%d %d\r\nPING\r\n" % (n, n))
            if client.expect_until(b"\r\n") == b"PONG\r\n":
                return name
            client.expect_exact(b"PONG\r\n")
        return None

    @bulkhead_only("nats-server takes OU=a twice for OU=a and OU=b")
    def test_parts_are_counted(self):
        self.serve(tls(verify_and_map=True) + 'authorization { users: [ {user: "CN=zed,OU=a,OU=a,O=Acme"} ] }\n')
        client = self.open(tls=ca.context(ca.client("multi", "/O=Acme/OU=b/OU=a/CN=zed")), verbose=False)
        client.expect_answer(REFUSED)

    def test_password_and_user_of_connect(self):
        self.serve(tls(verify_and_map=True) + """
            authorization { users: [ {user: "CN=pw", password: "secret"}, {user: "CN=free"}, {user: other, password: "secret"} ] }
            no_auth_user: other
        """)
        pw, free = ca.context(ca.client("pw", "/CN=pw")), ca.context(ca.client("free", "/CN=free"))
        rows = [("good", pw, {"pass": "secret"}, True), ("wrong", pw, {"pass": "no"}, False), ("none", pw, {}, False),
                ("not needed", free, {}, True), ("not needed but sent", free, {"pass": "x"}, False),
                ("another user", free, {"user": "other", "pass": "secret"}, False), ("user ignored", free, {"user": "zz"}, True)]
        for name, context, keys, allowed in rows:
            with self.subTest(name):
                client = self.open(tls=context, verbose=False, **keys)
                client.expect_answer(b"" if allowed else REFUSED)
        self.server.wait_log('User "zz" found in connect proto, but user required from cert')
        client = self.open(tls=ca.context(ca.client("unmapped", "/CN=unmapped")), verbose=False)
        client.expect_answer(REFUSED)  # and not no_auth_user

    def test_verify_gives_no_identity(self):
        self.serve(tls(verify=True) + 'authorization { users: [ {user: "CN=good,O=Test"} ] }\n')
        client = self.open(tls=ca.context(good), verbose=False)
        client.expect_answer(REFUSED)


class ReloadTest(TlsCase):
    """Certificates change under traffic."""

    def reload(self, config, line="Reloaded server configuration"):
        before = self.server.log().count(line)
        self.server.write_config(config)
        self.server.signal(signal.SIGHUP)
        wait_until(lambda: self.server.log().count(line) > before, f"{line!r} in the log:\n{self.server.log()}")

    def shown(self):
        client = self.secure()
        shown = client.socket.getpeercert(True)
        client.close()
        return shown

    def test_new_certificate_under_traffic(self):
        self.serve(tls(p256))
        reader, writer = self.secure(), self.secure()
        reader.send(b"SUB count 1\r\n")
        reader.fence()
        stop, sent, failures = threading.Event(), [0], []

        def write():
            while not stop.is_set():
                writer.send(b"".join(b"PUB count %d\r\n%d\r\n" % (len(str(n)), n) for n in range(sent[0], sent[0] + 20)))
                writer.fence()
                sent[0] += 20

        def shake():
            while not stop.is_set():
                try:
                    if self.shown() not in (p256.der(), rsa.der()):
                        failures.append("another certificate")
                except (OSError, AssertionError) as error:
                    failures.append(error)

        threads = [threading.Thread(target=write)] + [threading.Thread(target=shake) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for pair in (rsa, p256, rsa, p256, rsa):
                self.reload(tls(pair))
                self.assertEqual(self.shown(), pair.der())
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        for n in range(sent[0]):
            self.assertEqual(reader.receive_message(), (b"count", b"1", str(n).encode()))
        reader.expect_silence()
        self.assertEqual(reader.socket.getpeercert(True), p256.der())
        self.server.check()

    def test_refused_as_a_whole(self):
        self.serve(tls(p256) + "max_payload: 1000\n")
        client = self.secure()
        failed = "Failed to reload server configuration: "
        mixed, absent = Pair(rsa.cert, p256.key), Pair(rsa.cert, os.path.join(folder, "absent.key"))
        for pair in (mixed, absent):
            self.reload(tls(pair) + "max_payload: 2000\n", failed)
            fresh = self.secure()
            self.assertEqual(fresh.socket.getpeercert(True), p256.der())
            self.assertEqual(fresh.info["max_payload"], 1000)
        garbage = os.path.join(folder, "garbage.pem")
        with open(garbage, "w") as file:
            file.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.reload(tls(Pair(garbage, p256.key)) + "max_payload: 2000\n", failed)
        self.assertEqual(self.shown(), p256.der())
        client.expect_silence()

    def test_verify_turned_on(self):
        self.serve(tls())
        before = self.secure()
        self.reload(tls(verify=True))
        self.expect_failure(ca.context())
        self.secure(good)
        before.expect_silence()
