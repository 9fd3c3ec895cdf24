# SPDX-License-Identifier: Apache-2.0
"""Credentials are where they belong and nowhere else: canaries in the configuration, in flags and in what clients send are
searched in the memory of every process but authd, and TLS keys in that of every process but the signer.

Only root can look. Kernel buffers are out of sight.
"""

import base64
import os
import re
import secrets
import shutil
import signal
import tempfile
import unittest

from certificates import Authority, openssl
from credentials import Nkey, bcrypt_hash
from family import kill, wait_family
from harness import UNWATCHED, Client, Server, bulkhead_only, is_sanitized, wait_until
from identity import REFUSED, IdentityCase
from memory import search, search_proc_files

KEY = Nkey()


def canary():
    return "c4n4ry-" + secrets.token_hex(12)


def setUpModule():
    global folder, ca, pairs
    if os.getuid() != 0:
        raise unittest.SkipTest("only root can look into other processes")
    if is_sanitized():
        raise unittest.SkipTest("a sanitizer keeps what is freed")
    folder = tempfile.mkdtemp(prefix="bulkhead-canary-")
    unittest.addModuleCleanup(shutil.rmtree, folder)
    os.chmod(folder, 0o755)
    ca = Authority(folder)
    pairs = {kind: ca.server(kind, kind) for kind in ("p256", "rsa", "ed25519")}


@bulkhead_only("nats-server is one process")
class CanaryCase(IdentityCase):
    def serve(self, config, **options):
        """Full traces: nothing of what is secret may be in them."""
        self.server = Server(config=config, flags=("-DV", *options.pop("flags", ())), **options)
        self.addCleanup(self.server.stop)
        self.heard = []

    def pids(self, *without):
        """{pid: role} of the family."""
        children = self.server.child_pids()
        return {self.server.pid: "supervisor", **{pid: role for role, pids in children.items() if role not in without for pid in pids}}

    def check_nowhere(self, needles, *without):
        """None of {name: bytes} is in the processes whose roles are not excepted, in the log, or in what clients heard."""
        hits, seen = [], set()
        for pid, role in self.pids(*without).items():
            hits += [(role, *hit) for hit in search(pid, needles, seen)]
        for pid, role in self.pids().items():
            hits += [(role, *hit) for hit in search_proc_files(pid, needles)]
        texts = {"log": self.server.log().encode(), "clients": b"".join(self.heard)}
        for name in os.listdir(self.server.directory):
            if name.endswith((".ports", ".pid")):
                with open(os.path.join(self.server.directory, name), "rb") as file:
                    texts[name] = file.read()
        hits += [(where, name, "text") for where, text in texts.items() for name, needle in needles.items() if needle in text]
        self.assertEqual(hits, [])

    def check_somewhere(self, role, needles):
        """The search finds what is there."""
        found = {name for pid in self.server.child_pids()[role] for name, _ in search(pid, needles)}
        self.assertTrue(found, f"nothing of {list(needles)} in {role}")
        return found


class PasswordsTest(CanaryCase):
    def talk(self, data, **how):
        """A client that sends data, after TLS if it is asked for; what it hears goes to the evidence."""
        client = Client(self.server, source=f"127.5.0.{len(self.heard) % 250 + 1}", **how)
        self.addCleanup(client.close)
        client.send(data)
        return client

    def hear(self, client, expected):
        self.heard.append(client.expect_until(expected))

    def check_logins(self, tls_text="", **how):
        made = {}

        def new(name):
            made[name] = canary()
            return made[name]

        # what the configuration holds
        file_words = {name: canary() for name in ("plain", "other", "hashed", "long")}
        file_words["long"] = file_words["long"] + 1500 * "x"
        hashes = {"hash text": bcrypt_hash(file_words["hashed"])}
        self.serve(tls_text + """
            accounts { A { users: [ {user: plain, password: "%s"}, {user: other, password: "%s"}, {user: hashed, password: "%s"},
                                    {user: long, password: "%s"}, {nkey: %s} ] } }
        """ % (file_words["plain"], file_words["other"], hashes["hash text"], file_words["long"], KEY.public), frontends=2)
        needles = {f"file: {name}": word[:31].encode() for name, word in {**file_words, **hashes}.items()}
        self.assertIn("file: hash text", self.check_somewhere("authd", needles))
        self.check_nowhere(needles, "authd")

        # what clients send: good and bad, whole and in pieces, short and long
        stay, text = [], b'CONNECT {"verbose":false,"user":"%s","pass":"%s"}\r\nPING\r\n'
        for user in ("plain", "hashed", "long"):
            for _ in range(3):
                stay.append(self.talk(text % (user.encode(), file_words[user].encode()), **how))
                self.hear(stay[-1], b"PONG\r\n")
        pieces = self.talk(b"", **how)
        for at in range(0, len(text % (b"long", file_words["long"].encode())), 97):
            pieces.send((text % (b"long", file_words["long"].encode()))[at:at + 97])
        self.hear(pieces, b"PONG\r\n")
        bytewise = self.talk(b"", **how)
        bytewise.send_bytewise(text % (b"plain", file_words["plain"].encode()))
        self.hear(bytewise, b"PONG\r\n")
        bad = {"user": b'{"user":"plain","pass":"%s"}' % new("wrong password").encode(),
               "unknown": b'{"user":"nobody","pass":"%s"}' % new("password of nobody").encode(),
               "long": b'{"user":"plain","pass":"%s%s"}' % (new("long wrong password").encode(), 2000 * b"y"),
               "token": b'{"auth_token":"%s"}' % new("token").encode(), "jwt": b'{"jwt":"%s"}' % new("jwt").encode(),
               "sig": b'{"nkey":"%s","sig":"%s"}' % (KEY.public.encode(), new("sig").encode()),
               "escaped": b'{"user":"plain","pass":"\\u0063%s"}' % new("escaped")[1:].encode()}
        for line in bad.values():
            client = self.talk(b"CONNECT " + line + b"\r\nPING\r\n", **how)
            self.heard.append(client.receive_rest())
            self.assertEqual(self.heard[-1], REFUSED.removesuffix(b"<EOF>"))
        for line in (b'CONNECT {"user":"plain","pass":"%s",}\r\n' % new("malformed").encode(),
                     b'CONNECT {"pass":"%s","verbose":7}\r\n' % new("wrong type").encode(),
                     b'CONNECT {"pass":"%s","protocol":9,"user":"plain"}\r\n' % new("protocol").encode(),
                     b'CONNECT {"account":"A","pass":"%s"}\r\n' % new("account").encode(),
                     b'CONNEC {"pass":"%s"}\r\n' % new("not a CONNECT").encode(),
                     b'CONNECT {"pass":"%s%s"}\r\n' % (new("too long").encode(), 70000 * b"z")):
            self.heard.append(self.talk(line, **how).receive_rest())
        half = self.talk(b'CONNECT {"user":"plain","pass":"%s' % new("half, then the end").encode(), **how)
        half.close()
        second = self.talk(text % (b"plain", file_words["plain"].encode()), **how)
        self.hear(second, b"PONG\r\n")
        second.send(b'CONNECT {"user":"other","pass":"%s"}\r\nPING\r\n' % file_words["other"].encode())
        self.hear(second, b"PONG\r\n")
        signed = self.talk(b"", **how)
        login = KEY.login(signed.info)
        made["good sig"], made["seed"], made["raw seed"] = login["sig"], KEY.seed, KEY.raw_seed.decode("latin-1")
        signed.connect(verbose=False, **login)
        signed.send(b"PING\r\n")
        self.hear(signed, b"PONG\r\n")
        sent = {f"client: {name}": word[:31].encode("latin-1") for name, word in made.items()}
        for client in stay + [pieces, bytewise, second, signed]:
            client.fence()
        self.check_nowhere({**needles, **sent}, "authd")
        self.server.check()

    def test_plain(self):
        self.check_logins()

    def test_over_tls(self):
        pair = pairs["p256"]
        self.check_logins(f"tls {{ cert_file: {pair.cert}, key_file: {pair.key}, timeout: 10 }}\n", tls=ca.context())

    def test_token_and_single_user_in_the_file(self):
        """Those that a reload dropped are wiped in authd too."""
        for config, name, form in (('authorization { token: "%s" }\n', "auth_token", bcrypt_hash),
                                   ('authorization { user: derek, password: "%s" }\n', "pass", str)):
            words = [canary(), canary()]
            texts = [form(word) for word in words]
            self.serve(config % texts[0])
            client = self.open(verbose=False, user="derek", **{name: words[0]})
            client.expect_silence()
            needles = {"before": texts[0].encode(), "after": texts[1].encode(), "sent": words[0].encode(), "never": words[1].encode()}
            self.check_nowhere(needles, "authd")
            self.server.write_config(config % texts[1])
            self.server.signal(signal.SIGHUP)
            self.server.wait_log("Reloaded server configuration")
            client.expect_answer(REFUSED)
            self.check_nowhere(needles, "authd")
            self.check_nowhere({name: needles[name] for name in ("before", "sent")})
            if form is bcrypt_hash:
                self.assertEqual(self.check_somewhere("authd", needles), {"after"})
            self.server.stop()

    def test_flags(self):
        word = canary()
        for flags, keys in ((("--user", "derek", "--pass", word), {"user": "derek", "pass": word}),
                            (("--auth", word), {"auth_token": word}), ((f"--auth={word}",), {"auth_token": word})):
            with self.subTest(flags[0]):
                self.serve("debug: true\n", flags=flags)
                self.open(verbose=False, **keys).expect_silence()
                self.check_nowhere({"flag": word.encode()}, "authd")
                self.server.stop()

    def test_environment(self):
        """A configuration may name variables; children have no environment at all."""
        word = canary()
        os.environ["CANARY_PASSWORD"] = word
        try:
            self.serve("authorization { user: derek, password: $CANARY_PASSWORD }\n")
        finally:
            del os.environ["CANARY_PASSWORD"]
        self.open(verbose=False, user="derek", **{"pass": word}).expect_silence()
        hits, seen = [], set()
        for pid, role in self.pids("authd").items():
            if role != "supervisor":  # its environment is what it was started with
                hits += search(pid, {"env": word.encode()}, seen) + search_proc_files(pid, {"env": word.encode()})
        self.assertEqual(hits, [])

    def test_while_a_verdict_is_out(self):
        """With an authd that does not answer, a password is in locked memory that no core dump has, and nowhere else."""
        self.serve("authorization { timeout: 60, users: [ {user: plain, password: right} ] }\n", frontends=2, **UNWATCHED)
        authd = self.server.child_pids()["authd"][0]
        words = {f"word {n}": canary() for n in range(6)}
        self.assertTrue(kill(self.server, authd, signal.SIGSTOP))
        try:
            clients = [self.open(verbose=False, user="plain", **{"pass": word}) for word in words.values()]
            needles = {name: word.encode() for name, word in words.items()}

            def found():
                seen = set()
                return [(role, *hit) for pid, role in self.pids("authd").items() for hit in search(pid, needles, seen)]

            hits = wait_until(lambda: {name for _, name, _ in found()} == set(needles) and found(), "all of them in a frontend")
            self.assertEqual([hit for hit in hits if hit[0] != "frontend" or not hit[2].is_secret], [])
        finally:
            kill(self.server, authd, signal.SIGCONT)
        for client in clients:
            client.expect_answer(REFUSED)
        self.check_nowhere(needles, "authd")


def key_needles(pair):
    """Every form of what must not be known of a private key: the text of the file, DER, and the numbers in both byte orders."""
    with open(pair.key) as file:
        lines = [line for line in file.read().splitlines() if not line.startswith("-----")]
    text = openssl("pkey", "-in", pair.key, "-noout", "-text").decode()
    needles = {f"PEM line {n}": line.encode() for n, line in enumerate(lines) if len(line) > 40}
    for name in ("priv", "privateExponent", "prime1", "prime2", "exponent1", "exponent2", "coefficient"):
        match = re.search(rf"^{name}:\n((?:\s+[0-9a-f:]+\n)+)", text, re.MULTILINE)
        if match:
            number = bytes.fromhex(re.sub(r"[\s:]", "", match[1])).lstrip(b"\0")
            needles[f"{name}, big end first"] = number[:32] if len(number) > 32 else number
            needles[f"{name}, little end first"] = number[::-1][:32]
    der = base64.b64decode("".join(lines))
    needles["DER"] = der[-40:] if len(der) < 200 else der[100:160]
    if pair.key.endswith("rsa.key"):  # what is public in the file's text: its head and the modulus
        public = openssl("pkey", "-in", pair.key, "-pubout", "-outform", "DER")
        for name in list(needles):
            number = needles[name]
            raw = base64.b64decode(number + b"=" * (-len(number) % 4)) if name.startswith("PEM") else number
            if raw[4:-4] in public or any(raw[at:at + 12] in public for at in range(0, len(raw) - 12)):
                del needles[name]
    elif len(der) < 200:  # short keys: PEM lines and DER hold the public point too; the number alone is what counts
        needles = {name: needle for name, needle in needles.items() if name.startswith("priv") or name == "PEM line 0"}
    return needles


class KeysTest(CanaryCase):
    def tls(self, kind, more=""):
        pair = pairs[kind]
        return f"tls {{\n cert_file: {pair.cert}\n key_file: {pair.key}\n ca_file: {ca.cert}\n timeout: 10\n {more}\n}}\n"

    def check_keys(self, *kinds):
        needles = {f"{kind} {name}": needle for kind in kinds for name, needle in key_needles(pairs[kind]).items()}
        self.assertGreaterEqual(len(needles), 2)
        self.check_somewhere("signer", needles)
        self.check_nowhere(needles, "signer")

    def shake(self, context=None, **connect):
        client = self.open(tls=context or ca.context(), verbose=False, **connect)
        client.fence()
        return client

    def test_each_configuration(self):
        good = ca.client("good", "/CN=good")
        mapped = 'authorization { users: [ {user: "CN=good"} ] }\n'
        rows = [("p256", "", "", None), ("rsa", "", "", None), ("ed25519", "", "", None), ("rsa", "verify: true", "", good),
                ("p256", "verify_and_map: true", mapped, good), ("p256", f'verify: true\n pinned_certs: ["{good.pin()}"]', "", good),
                ("rsa", "", "allow_non_tls: true\n", None)]
        for kind, more, beside, pair in rows:
            with self.subTest(kind, more=more, beside=beside):
                self.serve(self.tls(kind, more) + beside, frontends=2)
                for _ in range(6):
                    self.shake(ca.context(pair))
                self.check_keys(kind)
                self.server.check()
                self.server.stop()

    def test_after_a_reload(self):
        self.serve(self.tls("p256"), frontends=2)
        self.shake()
        for kind in ("rsa", "ed25519"):
            before = self.server.log().count("Reloaded server configuration")
            self.server.write_config(self.tls(kind))
            self.server.signal(signal.SIGHUP)
            wait_until(lambda: self.server.log().count("Reloaded server configuration") > before, "the reload")
            for _ in range(4):
                self.shake()
            self.check_keys("p256", kind)

    def test_after_deaths(self):
        """Who is started later gets no more than who was there first."""
        self.serve(self.tls("p256"), frontends=1)
        self.shake()
        for role in ("signer", "frontend", "router", "authd"):
            before = self.server.child_pids()[role]
            kill(self.server, before[0])
            wait_until(lambda: len(self.server.child_pids().get(role, [])) == len(before) and
                       before[0] not in self.server.child_pids().get(role, before), f"the next {role}")
        wait_family(self.server, frontend=1, signer=1)
        for _ in range(3):
            self.shake()
        self.check_keys("p256")


if __name__ == "__main__":
    unittest.main()
