# SPDX-License-Identifier: Apache-2.0
"""Where secrets are and where not: how they travel from the file, the command line and the environment to authd and the signer.

Canaries stand for credentials. They are looked for in the memory of every process, in command lines, environments and the log.
"""

import fcntl
import glob
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import unittest

import memory
from family import kill, read_proc
from harness import DEADLINE, UNWATCHED, Client, Server, bulkhead_only, is_sanitized, wait_until

DONE = "Reloaded server configuration"
FAILED = "Failed to reload server configuration: "
F_GET_SEALS = 1034
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE
PARTS = ("auth part", "certificates", "private keys", "command line")


def make_certificate(folder, name, *kind):
    """NAME_cert.pem and NAME_key.pem; returns a piece of the key that nothing else holds."""
    key, cert = os.path.join(folder, f"{name}_key.pem"), os.path.join(folder, f"{name}_cert.pem")
    kind = kind or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    subprocess.run(["openssl", "genpkey", *kind, "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "req", "-x509", "-new", "-key", key, "-subj", f"/CN={name}", "-days", "3650", "-out", cert],
                   check=True, capture_output=True)


def key_pieces(path):
    """The private key as it may lie in a memory: lines of its file, and the number itself."""
    with open(path, "rb") as file:
        lines = [line for line in file.read().splitlines() if b"---" not in line and len(line) > 30]
    text = subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-text"], check=True, capture_output=True, text=True).stdout
    number = bytes.fromhex(re.sub(r"[\s:]", "", re.search(r"priv\w*:\s([0-9a-f:\s]+)", text)[1]))
    return lines[:1] + [number[-32:], number[-32:][::-1]]


def memory_holds(pid, canaries):
    """Those of the canaries that lie in memory that the process can read."""
    return {name for name, _ in memory.search(pid, {canary: canary for canary in canaries})}


def parts(server):
    """{name: (seals, mode, bytes)} of the memories that the supervisor keeps."""
    kept = {}
    for path in glob.glob(f"/proc/{server.pid}/fd/*"):
        name = re.match(r"/memfd:([\w ]+?)(?: \(deleted\))?$", os.readlink(path))
        if name and name[1] in PARTS:
            with open(path, "rb") as file:
                kept[name[1]] = (fcntl.fcntl(file, F_GET_SEALS), stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read())
    return kept


@bulkhead_only("its own processes")
@unittest.skipUnless(os.geteuid() == 0, "only root may look into other processes")
class SecretsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="bulkhead-test-")
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def serve(self, config, **options):
        server = Server(config=config.replace("{folder}", self.folder), **options)
        self.addCleanup(server.stop)
        return server

    def reload(self, server, config=None, expected=DONE):
        before = server.log().count(expected)
        if config is not None:
            server.write_config(config.replace("{folder}", self.folder))
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log().count(expected) > before, f"{expected!r} in the log:\n{server.log()}")

    def use(self, name, key=None):
        """NAME's certificate becomes the server's, with its key or that of another."""
        shutil.copy(os.path.join(self.folder, f"{name}_cert.pem"), os.path.join(self.folder, "cert.pem"))
        shutil.copy(os.path.join(self.folder, f"{key or name}_key.pem"), os.path.join(self.folder, "key.pem"))

    def search(self, server, canaries, keys=()):
        """Fails where a credential lies outside of authd, or a private key outside of the signer; without the first letter too:
        a flag's is overwritten by another."""
        canaries = [canary[1:] for canary in canaries]
        processes = [("supervisor", server.pid)] + [(role, pid) for role, pids in server.child_pids().items() for pid in pids]
        self.assertLessEqual({"supervisor", "router", "frontend", "logd", "authd"}, {role for role, _ in processes})
        for role, pid in processes:
            with self.subTest(role, pid=pid):
                shown = read_proc(pid, "cmdline") + read_proc(pid, "environ")
                self.assertEqual([canary for canary in canaries if canary in shown], [])
                if is_sanitized():
                    continue
                wanted = [canary.encode() for canary in canaries] if role != "authd" else []
                wanted += keys if role != "signer" else []
                self.assertEqual(memory_holds(pid, wanted), set())
        self.assertEqual([canary for canary in canaries if canary in server.log()], [])

    @unittest.skipIf(is_sanitized(), "a sanitizer's memory is too large to be searched")
    def test_memory_is_searched(self):
        """What is there is found: the server's name in the supervisor."""
        server = self.serve("server_name: canary_that_is_no_secret\n")
        self.assertEqual(memory_holds(server.pid, [b"canary_that_is_no_secret", b"canary that" b" is not there"]),
                         {b"canary_that_is_no_secret"})

    def test_file_and_environment(self):
        make_certificate(self.folder, "one")
        make_certificate(self.folder, "two", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
        keys = key_pieces(os.path.join(self.folder, "one_key.pem")) + key_pieces(os.path.join(self.folder, "two_key.pem"))
        self.use("one")
        config = """
            tls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }
            authorization { users: [ {user: a, password: "canary-file-1"}, {user: b, password: $CANARY_VARIABLE} ] }
            accounts { A { users: [ {user: c, password: "canary-file-2"} ] } }
            no_auth_user: a
            """
        server = self.serve(config, environment={"CANARY_VARIABLE": "canary-variable"}, frontends=2)
        canaries = ["canary-file-1", "canary-file-2", "canary-file-3", "canary-variable"]
        self.search(server, canaries, keys)
        self.use("two")
        self.reload(server, config.replace("canary-file-2", "canary-file-3"))
        self.assertIn("Reloaded: tls = enabled", server.log())
        self.search(server, canaries, keys)
        for role in ("frontend", "authd", "signer", "logd"):
            pid = server.child_pids()[role][0]
            kill(server, pid)
            wait_until(lambda: len(server.child_pids().get(role, [])) == len(server._first_children[role])
                       and pid not in server.child_pids().get(role, []), f"a new {role}")
        self.search(server, canaries, keys)
        self.assertIn(b"canary-variable", parts(server)["auth part"][2])
        self.assertIn(b"canary-file-3", parts(server)["auth part"][2])

    def test_flags(self):
        for flags in (("--user", "canary-user", "--pass", "canary-pass"), ("--auth=canary-token",)):
            with self.subTest(flags):
                server = self.serve("max_payload: 100\n", flags=flags)
                canaries = [canary for canary in ("canary-user", "canary-pass", "canary-token") if any(canary in f for f in flags)]
                self.search(server, canaries)
                for payload in (200, 300):
                    self.reload(server, f"max_payload: {payload}\n")
                    self.search(server, canaries)
                    for canary in canaries:
                        self.assertIn(canary.encode(), parts(server)["auth part"][2])
                self.assertNotIn("authorization", server.log())  # nothing of it has changed

    def test_variables_come_back(self):
        """One that is used for the first time at a reload, one that is used no more and then again."""
        server = self.serve("max_payload: $FIRST\n", environment={"FIRST": "101", "SECOND": "102"})
        self.assertNotIn("FIRST", read_proc(server.pid, "environ"))
        self.assertIn("SECOND=102", read_proc(server.pid, "environ"))
        for text, payload in (("max_payload: $SECOND\n", 102), ("max_payload: 103\n", 103), ("max_payload: $FIRST\n", 101),
                              ("max_payload: $SECOND\n", 102)):
            self.reload(server, text)
            server.wait_log(f"Reloaded: max_payload = {payload}")
            self.assertNotIn("SECOND", read_proc(server.pid, "environ"))
        self.reload(server, "max_payload: $THIRD\n", FAILED)

    def test_memories_are_sealed(self):
        make_certificate(self.folder, "one")
        self.use("one")
        server = self.serve('tls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem", ca_file: "{folder}/cert.pem" }\n')
        kept = parts(server)
        self.assertEqual(set(kept), set(PARTS))
        for name, (seals, mode, _) in kept.items():
            self.assertEqual((seals, mode), (SEALS, 0o400), name)
        maps = read_proc(server.pid, "maps")
        for name in PARTS:
            self.assertNotIn(f"/memfd:{name}", maps)

    def test_a_certificate_file_may_hold_the_key(self):
        make_certificate(self.folder, "one")
        self.use("one")
        both = os.path.join(self.folder, "both.pem")
        with open(both, "wb") as file:
            for name in ("one_key.pem", "one_cert.pem"):
                with open(os.path.join(self.folder, name), "rb") as part:
                    file.write(part.read())
        server = self.serve('tls { cert_file: "{folder}/both.pem", key_file: "{folder}/both.pem", ca_file: "{folder}/both.pem" }\n')
        with open(os.path.join(self.folder, "one_cert.pem"), "rb") as file:
            self.assertEqual(parts(server)["certificates"][2], 2 * file.read())
        self.search(server, [], key_pieces(os.path.join(self.folder, "one_key.pem")))

    def test_a_reload_that_fails_changes_nothing(self):
        make_certificate(self.folder, "one")
        make_certificate(self.folder, "two")
        self.use("one")
        config = 'tls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }\n'
        server = self.serve(config)
        before = parts(server)
        rows = (("two", "one", config, "tls: private key does not match public key"),
                ("two", "two", config + "max_payload: [\n", "Parse error"),
                ("two", "two", config + "server_name: x\n", "config reload not supported for ServerName"),
                ("two", "two", config + "max_payload: 20M\n", "too large for the rings"))
        for cert, key, text, why in rows:
            with self.subTest(why):
                self.use(cert, key)
                self.reload(server, text, FAILED)
                self.assertIn(why, server.log().rpartition(FAILED)[2])
                after = parts(server)
                for name in ("auth part", "certificates", "private keys"):
                    self.assertEqual(after[name], before[name])
        os.unlink(os.path.join(self.folder, "key.pem"))
        self.reload(server, config, FAILED)
        self.assertIn("no such file or directory", server.log().rpartition(FAILED)[2])
        self.assertEqual(parts(server)["private keys"], before["private keys"])
        self.use("two")
        self.reload(server, config)
        self.assertNotEqual(parts(server)["private keys"], before["private keys"])
        self.assertNotEqual(parts(server)["certificates"], before["certificates"])


@bulkhead_only("its own processes")
class HandshakeTest(unittest.TestCase):
    """Who starts again speaks with what holds, whatever lies on disk by then."""

    setUp = SecretsTest.setUp
    serve = SecretsTest.serve
    reload = SecretsTest.reload
    use = SecretsTest.use
    config = 'tls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }\n'

    def name(self, server):
        """The name in the certificate that a handshake shows; it ends with a PONG."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as plain:
            self.assertIn(b'"tls_required":true', plain.recv(4096))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) as client:
                client.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
                self.assertEqual(client.recv(4096), b"PONG\r\n")
                text = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-subject"], capture_output=True,
                                      input=client.getpeercert(True), check=True).stdout
                return text.decode().strip().rpartition(" ")[2]

    def renew(self, server, role):
        for pid in server.child_pids()[role]:
            kill(server, pid)
            wait_until(lambda: pid not in server.child_pids().get(role, []), "its end")
        wait_until(lambda: len(server.child_pids().get(role, [])) == len(server._first_children[role]), f"a new {role}")

    def test_who_starts_again(self):
        for name in ("one", "two", "three"):
            make_certificate(self.folder, name)
        self.use("one")
        server = self.serve(self.config, frontends=2)
        if "tls_required" not in Client(server).info:
            self.skipTest("frontends do not speak TLS yet")
        self.assertEqual(self.name(server), "one")
        self.use("two")
        for role in ("frontend", "signer", "frontend"):
            self.renew(server, role)
            self.assertEqual(self.name(server), "one")
        self.reload(server, self.config + "server_name: x\n", FAILED)
        self.assertEqual(self.name(server), "one")
        self.reload(server, self.config)
        self.assertEqual(self.name(server), "two")
        self.use("three", "one")
        self.reload(server, self.config, FAILED)
        for role in ("signer", "frontend"):
            self.renew(server, role)
            self.assertEqual(self.name(server), "two")


@bulkhead_only("its own processes")
class SignerTest(unittest.TestCase):
    """It lives while there is TLS."""

    setUp = SecretsTest.setUp
    serve = SecretsTest.serve
    reload = SecretsTest.reload
    use = SecretsTest.use
    config = 'debug: true\ntls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }\n'

    def signers(self, server):
        return server.child_pids().get("signer", [])

    def test_tls_goes_and_comes(self):
        make_certificate(self.folder, "one")
        self.use("one")
        server = self.serve("")
        self.assertEqual(self.signers(server), [])
        for _ in range(3):
            self.reload(server, self.config)
            server.wait_log("Reloaded: tls = enabled")
            self.assertEqual(len(self.signers(server)), 1)
            self.reload(server, "")
            server.wait_log("Reloaded: tls = disabled")
            wait_until(lambda: not self.signers(server), "no signer")
        self.reload(server, self.config + "server_name: x\n", FAILED)
        self.reload(server, self.config + "max_payload: 20M\n", FAILED)
        wait_until(lambda: not self.signers(server), "no signer after a reload that failed")
        self.assertNotIn("[ERR] signer", server.log())
        server.check()

    def test_a_death(self):
        make_certificate(self.folder, "one")
        self.use("one")
        server = self.serve(self.config)
        for _ in range(3):
            (pid,) = self.signers(server)
            kill(server, pid)
            wait_until(lambda: self.signers(server) not in ([], [pid]), "another signer")
            self.reload(server)

    def test_death_while_it_is_asked(self):
        """Of authd too: a reload that one of them has not said yes to does not happen."""
        make_certificate(self.folder, "one")
        self.use("one")
        server = self.serve(self.config, flags=["-D"], **UNWATCHED)
        for role in ("authd", "signer"):
            (pid,) = server.child_pids()[role]
            os.kill(pid, signal.SIGSTOP)
            before = server.log().count("can take the new settings")
            server.write_config(self.config.replace("{folder}", self.folder) + "max_payload: 77\n")
            server.signal(signal.SIGHUP)
            wait_until(lambda: server.log().count("can take the new settings") > before, "the question")
            kill(server, pid)
            server.wait_log(f"{FAILED}{role} died when it was asked")
            self.assertNotIn("max_payload = 77", server.log())
            wait_until(lambda: len(server.child_pids().get(role, [])) == 1, f"a new {role}")
        self.reload(server)
        server.wait_log("Reloaded: max_payload = 77")

    def test_it_is_waited_for(self):
        """It dies of its own fault so often that its successor comes later."""
        make_certificate(self.folder, "one")
        self.use("one")
        server = self.serve(self.config)
        for death in range(4):
            (pid,) = wait_until(lambda: self.signers(server), "a signer")
            kill(server, pid, signal.SIGABRT)  # which a sanitizer does not take for a fault that it has to report
            server.wait_log(f"(pid {pid}) was killed by signal {signal.SIGABRT:d}")
            self.reload(server, self.config + f"max_payload: {100 + death}\n")
        self.assertNotIn(FAILED, server.log())


if __name__ == "__main__":
    unittest.main()
