# SPDX-License-Identifier: Apache-2.0
"""Who gets in, as whom, and what the others are told: all methods of the configuration file but certificates."""

import base64
import json
import time

from credentials import ACCOUNT_PREFIX, Nkey, bcrypt_hash, url_base64
from harness import CLOSED, EOF, PING, bulkhead_only
from identity import LATE, REFUSED, IdentityCase

UNDER, STRANGER, OTHER = Nkey(), Nkey(), Nkey()

ACCOUNTS = """
accounts {
  A { users: [ {user: alice, password: "pw-alice"}, {user: hashed, password: "%s"}, {user: empty, password: ""},
               {user: standard, password: "pw", allowed_connection_types: [STANDARD, WEBSOCKET]},
               {user: leaf, password: "pw", allowed_connection_types: ["leafnode"]} ] }
  B { users: [ {user: bob, password: "pw-bob"}, {user: "b\\"quote", password: "pw-quote"}, {user: "größe", password: "pw-ß"} ] }
}
""" % bcrypt_hash("pw-hashed")

NKEYS = """
accounts {
  A { users: [ {user: alice, password: "pw-alice"}, {nkey: %s, allowed_connection_types: [MQTT]} ] }
  B { users: [ {user: bob, password: "pw-bob"}, {nkey: %s} ] }
}
""" % (OTHER.public, UNDER.public)


def keys(**fields):
    return {"verbose": False, "pedantic": False, **{name.rstrip("_"): value for name, value in fields.items()}}


class MethodsCase(IdentityCase):
    """Rows are (name, keys of CONNECT or a function of INFO, account or None for refused, what the log line ends with)."""

    watcher_logins = {}

    def setUp(self):
        self.watchers = {account: self.login(**login) for account, login in self.watcher_logins.items()}

    def check_rows(self, rows):
        for name, fields, account, log in rows:
            with self.subTest(name):
                client = self.open()
                fields = fields(client.info) if callable(fields) else fields
                client.send(b"CONNECT " + json.dumps(keys(**fields)).encode() + b"\r\n")
                if account:
                    client.expect_silence()
                    self.expect_account(client, account, self.watchers)
                else:
                    self.expect_refused(client, log)
                client.close()

    def check_info(self, auth_required, nonce):
        info = self.open().info
        self.assertEqual(info.get("auth_required"), auth_required)
        self.assertEqual("nonce" in info, nonce)
        if nonce:
            self.assertRegex(info["nonce"], r"\A[A-Za-z0-9_-]{15}\Z")


class UsersTest(MethodsCase):
    config = ACCOUNTS
    watcher_logins = {"A": {"user": "alice", "pass_": "pw-alice"}, "B": {"user": "bob", "pass_": "pw-bob"}}

    def test_info(self):
        self.check_info(True, False)

    def test_rows(self):
        def row(row_name, into, log_user, **fields):
            return row_name, fields, into, f'authentication error - User "{log_user}"'

        self.check_rows([
            row("plain", "A", "", user="alice", pass_="pw-alice"),
            row("other account", "B", "", user="bob", pass_="pw-bob"),
            row("hashed", "A", "", user="hashed", pass_="pw-hashed"),
            row("empty password", "A", "", user="empty", pass_=""),
            row("empty password left out", "A", "", user="empty"),
            row("bytes beyond ASCII", "B", "", user="größe", pass_="pw-ß"),
            row("quote in a name", "B", "", user='b"quote', pass_="pw-quote"),
            row("type allowed", "A", "", user="standard", pass_="pw"),
            row("a token beside a good password", "A", "", user="alice", pass_="pw-alice", auth_token="x"),
            row("an nkey where none is configured", "A", "", user="alice", pass_="pw-alice", nkey=UNDER.public, sig="x"),
            row("a jwt without an operator", "A", "", user="alice", pass_="pw-alice", jwt="x.y.z"),
            row("upper case keys", "A", "", USER="alice", PASS="pw-alice"),
            row("type not allowed", None, "leaf", user="leaf", pass_="pw"),
            row("wrong password", None, "alice", user="alice", pass_="pw-alicE"),
            row("shorter password", None, "alice", user="alice", pass_="pw-alic"),
            row("longer password", None, "alice", user="alice", pass_="pw-alice "),
            row("no password", None, "alice", user="alice"),
            row("another's password", None, "alice", user="alice", pass_="pw-bob"),
            row("password for the empty one", None, "empty", user="empty", pass_="x"),
            row("wrong password, hashed", None, "hashed", user="hashed", pass_="pw-hasheD"),
            row("unknown user", None, "nobody", user="nobody", pass_="pw-alice"),
            row("name in another case", None, "Alice", user="Alice", pass_="pw-alice"),
            row("nothing", None, ""),
            row("only a password", None, "", pass_="pw-alice"),
            row("only a token", None, "", auth_token="pw-alice"),
            row("an nkey alone", None, "", nkey=UNDER.public, sig="x"),
            row("not a field", None, "alice", user="alice", password="pw-alice"),
            row("account wanted", None, "alice", user="alice", pass_="pw-alice", account="A"),
            row("new account wanted", None, "alice", user="alice", pass_="pw-alice", new_account=True),
        ])

    def test_verbose_answer(self):
        client = self.open()
        client.send(b'CONNECT {"user":"alice","pass":"pw-alice"}\r\nPING\r\n')
        client.expect_answer(b"+OK\r\nPONG\r\n")

    @bulkhead_only("nats-server resets a connection with unread input, which may eat the error")
    def test_what_follows_a_refused_login_is_not_looked_at(self):
        watcher = self.watchers["A"]
        watcher.send(b"SUB secret.> 1\r\n")
        watcher.fence()
        for fields in (keys(user="alice", pass_="no"), keys(user="hashed", pass_="no")):
            client = self.open()
            client.send(b"CONNECT " + json.dumps(fields).encode() + b"\r\nPUB secret.x 2\r\nhi\r\nSUB > 1\r\nPING\r\nX\r\n")
            client.expect_answer(REFUSED)
        watcher.expect_silence()

    def test_what_follows_a_good_login_waits_for_it(self):
        watcher = self.watchers["A"]
        watcher.send(b"SUB early.> 1\r\n")
        watcher.fence()
        for user in ("alice", "hashed"):
            client = self.open()
            client.send(b"CONNECT " + json.dumps(keys(user=user, pass_=f"pw-{user}")).encode() + b"\r\nPUB early.x 2\r\nhi\r\nPING\r\n")
            client.expect_answer(b"PONG\r\n")
            watcher.expect_answer(b"MSG early.x 1 2\r\nhi\r\n")

    def test_operation_before_connect(self):
        for text in (b"PING\r\n", b"PONG\r\n", b"SUB a 1\r\n", b"PUB a 0\r\n\r\n", b"UNSUB 1\r\n", b"+OK\r\n"):
            with self.subTest(text):
                client = self.open()
                client.send(text)
                self.expect_refused(client, 'authentication error - User ""')

    def test_login_bytewise(self):
        client = self.open()
        client.send_bytewise(b"CONNECT " + json.dumps(keys(user="hashed", pass_="pw-hashed")).encode() + b"\r\nPING\r\n")
        client.expect_answer(b"PONG\r\n")

    def test_malformed_connect(self):
        good = '"user":"alice","pass":"pw-alice"'
        rows = [("no object", '[%s]', CLOSED), ("cut", '{"user":"alice","pass":"pw-', CLOSED), ("trailing", '{%s}x', CLOSED),
                ("number", '{"user":"alice","pass":1}', CLOSED), ("object", '{"user":{},"pass":"pw-alice"}', CLOSED),
                ("bare", 'alice', CLOSED), ("control byte", '{"user":"al\x01ice"}', CLOSED),
                ("good and a wrong type", '{%s,"verbose":"x"}' % good, CLOSED),
                ("null object", 'null', REFUSED), ("empty object", '{}', REFUSED),
                ("null password", '{"user":"alice","pass":null}', REFUSED),
                ("last one wins", '{%s,"pass":"no"}' % good, REFUSED),
                ("long", '{"user":"%s"}' % (5000 * "x"), b"-ERR 'maximum control line exceeded'\r\n" + EOF)]
        for name, text, answer in rows:
            with self.subTest(name):
                client = self.open()
                client.send(b"CONNECT " + text.encode() + b"\r\n")
                client.expect_answer(answer)
        client = self.open()
        client.send(b'CONNECT {"pass":"no",%s,"verbose":false}\r\n' % good.encode())
        client.expect_silence()

    def test_version_of_the_protocol_comes_after_the_login(self):
        for pass_, answer in (("no", REFUSED), ("pw-alice", b"-ERR 'invalid client protocol'\r\n" + EOF)):
            client = self.open(verbose=False, user="alice", pass_=pass_, protocol=5)
            client.expect_answer(answer)

    def test_isolation(self):
        """The same subjects, sids and queue names in two accounts never meet."""
        a, b = self.watchers["A"], self.watchers["B"]
        for client in (a, b):
            client.send(b"SUB same.> 1\r\nSUB same.x g 2\r\nSUB > 3\r\n")
            client.fence()
        for speaker, other, text in ((a, b, b"a"), (b, a, b"b")):
            speaker.send(b"PUB same.x 1\r\n%s\r\n" % text)
            got = sorted(speaker.receive_message() for _ in range(3))
            self.assertEqual(got, [(b"same.x", sid, text) for sid in (b"1", b"2", b"3")])
            speaker.expect_silence()
            other.expect_silence()
        for client in (a, b):
            client.send(b"UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n")
            client.fence()

    def test_no_responders_in_the_own_account_only(self):
        responder = self.login("bob", "pw-bob")
        responder.send(b"SUB help 1\r\n")
        responder.fence()
        client = self.login("alice", "pw-alice", headers=True, no_responders=True)
        client.send(b"SUB inbox.* 1\r\nPUB help inbox.1 0\r\n\r\n")
        client.expect_answer(b"HMSG inbox.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
        responder.expect_silence()


class NkeysTest(MethodsCase):
    config = NKEYS
    watcher_logins = {"A": {"user": "alice", "pass_": "pw-alice"}, "B": {"user": "bob", "pass_": "pw-bob"}}

    def test_info(self):
        self.check_info(True, True)
        self.assertEqual(len({self.open().info["nonce"] for _ in range(50)}), 50)

    def test_rows(self):
        def signed(encode, nkey=UNDER, text=None, **more):
            return lambda info: {"nkey": nkey.public, "sig": encode(nkey.sign(text or info["nonce"].encode())), **more}

        def standard(data):
            return base64.b64encode(data).decode()

        bad = lambda nkey=UNDER: f'authentication error - Nkey "{nkey.public}"'
        tail = UNDER.public[:-1] + ("A" if UNDER.public[-1] != "A" else "B")
        account = Nkey(UNDER.raw_seed, ACCOUNT_PREFIX)
        self.check_rows([
            ("URL alphabet", signed(url_base64), "B", ""),
            ("standard with padding", signed(standard), "B", ""),
            ("line ends inside", signed(lambda s: url_base64(s)[:20] + "\r\n" + url_base64(s)[20:] + "\n"), "B", ""),
            ("user and password too", signed(url_base64, user="alice", pass_="pw-alice"), "B", ""),
            ("wrong user and password too", signed(url_base64, user="alice", pass_="no"), "B", ""),
            ("password where nkeys are", {"user": "alice", "pass_": "pw-alice"}, "A", ""),
            ("not base64", {"nkey": UNDER.public, "sig": "?" * 86}, None, bad()),
            ("empty signature", {"nkey": UNDER.public, "sig": ""}, None, bad()),
            ("no signature", {"nkey": UNDER.public}, None, bad()),
            ("short signature", signed(lambda s: url_base64(s[:63])), None, bad()),
            ("long signature", signed(lambda s: url_base64(s + b"x")), None, bad()),
            ("zero signature", {"nkey": UNDER.public, "sig": url_base64(bytes(64))}, None, bad()),
            ("changed signature", signed(lambda s: url_base64(bytes([s[0] ^ 1]) + s[1:])), None, bad()),
            ("the nonce's bytes are signed", lambda info: {"nkey": UNDER.public, "sig": url_base64(UNDER.sign(base64.urlsafe_b64decode(
                info["nonce"] + "=")))}, None, bad()),
            ("another nonce", signed(url_base64, text=b"AAAAAAAAAAAAAAA"), None, bad()),
            ("another's signature", lambda info: {"nkey": UNDER.public, "sig": url_base64(OTHER.sign(info["nonce"].encode()))}, None,
             bad()),
            ("unknown key", signed(url_base64, STRANGER), None, bad(STRANGER)),
            ("no fallback to the password", signed(url_base64, STRANGER, user="alice", pass_="pw-alice"), None, bad(STRANGER)),
            ("type not allowed", signed(url_base64, OTHER), None, bad(OTHER)),
            ("key of an account", signed(url_base64, account), None, bad(account)),
            ("lower case key", lambda info: {**UNDER.login(info), "nkey": UNDER.public.lower()}, None,
             f'authentication error - Nkey "{UNDER.public.lower()}"'),
            ("wrong checksum", lambda info: {**UNDER.login(info), "nkey": tail}, None, f'authentication error - Nkey "{tail}"'),
            ("wrong password", {"user": "alice", "pass_": "no"}, None, 'authentication error - Nkey ""'),
            ("nothing", {}, None, 'authentication error - Nkey ""'),
        ])

    def test_alphabet_and_padding_go_together(self):
        def signature_with_both_alphabets():
            while True:
                client = self.open()
                signature = UNDER.sign(client.info["nonce"].encode())
                if set(url_base64(signature)) & set("-_"):
                    return client, signature
                client.close()

        for change in (lambda s: base64.b64encode(s).decode().rstrip("="), lambda s: base64.urlsafe_b64encode(s).decode()):
            client, signature = signature_with_both_alphabets()
            client.connect(verbose=False, nkey=UNDER.public, sig=change(signature))
            self.expect_refused(client, f'authentication error - Nkey "{UNDER.public}"')

    def test_operation_before_connect(self):
        client = self.open()
        client.send(b"PING\r\n")
        self.expect_refused(client, 'authentication error - Nkey ""')



class TokenTest(MethodsCase):
    def check(self, configured, good):
        self.serve(f'authorization {{ token: "{configured}" }}\n')
        self.watchers = {"$G": self.login(auth_token=good)}
        self.check_info(True, False)
        error = "authentication error"
        self.check_rows([("token", {"auth_token": good}, "$G", ""),
                         ("user beside it", {"auth_token": good, "user": "x", "pass_": "y"}, "$G", ""),
                         ("wrong", {"auth_token": good + "x"}, None, error), ("empty", {"auth_token": ""}, None, error),
                         ("as password", {"pass_": good}, None, error), ("as user", {"user": good}, None, error),
                         ("nothing", {}, None, error)])
        if configured != good:
            self.check_rows([("the hash itself", {"auth_token": configured}, None, error)])

    def test_plain(self):
        self.check("s3cr3t-token", "s3cr3t-token")
        self.assertNotIn("Plaintext passwords detected", self.server.log())

    def test_hashed(self):
        self.check(bcrypt_hash("s3cr3t-token"), "s3cr3t-token")


class SingleUserTest(MethodsCase):
    def check(self, configured, good):
        self.serve(f'authorization {{ user: derek, password: "{configured}" }}\n')
        self.watchers = {"$G": self.login("derek", good)}
        self.check_info(True, False)
        error = "authentication error"
        self.check_rows([("good", {"user": "derek", "pass_": good}, "$G", ""), ("token beside it", {"user": "derek", "pass_": good,
                                                                                                  "auth_token": "x"}, "$G", ""),
                         ("wrong password", {"user": "derek", "pass_": "no"}, None, error),
                         ("wrong name", {"user": "dereK", "pass_": good}, None, error), ("no name", {"pass_": good}, None, error),
                         ("nothing", {}, None, error), ("token", {"auth_token": good}, None, error)])

    def test_plain(self):
        self.check("pw-derek", "pw-derek")
        self.server.wait_log("[WRN] authd: Plaintext passwords detected, use nkeys or bcrypt")

    def test_hashed(self):
        self.check(bcrypt_hash("pw-derek"), "pw-derek")
        self.assertNotIn("Plaintext passwords detected", self.server.log())


class NoLoginTest(MethodsCase):
    """Nothing is configured: credentials are ignored, and nobody has to say who it is."""

    config = "debug: true\n"

    def test_anything_goes(self):
        self.check_info(None, False)
        self.watchers = {"$G": self.login()}
        self.check_rows([("nothing", {}, "$G", ""), ("user", {"user": "x", "pass_": "y"}, "$G", ""),
                         ("token", {"auth_token": "x"}, "$G", ""), ("nkey", {"nkey": "x", "sig": "y"}, "$G", "")])
        client = self.open()
        client.send(b"PING\r\n")
        client.expect_exact(b"PONG\r\n")

    def test_account_wanted(self):
        client = self.open(verbose=False, account="A")
        client.expect_answer(REFUSED)


class NoAuthUserTest(MethodsCase):
    config = ACCOUNTS + "no_auth_user: bob\n"
    watcher_logins = {"A": {"user": "alice", "pass_": "pw-alice"}, "B": {"user": "bob", "pass_": "pw-bob"}}

    def test_rows(self):
        self.check_info(None, False)
        log = 'authentication error - User "%s"'
        self.check_rows([("nothing", {}, "B", ""), ("empty texts", {"user": "", "pass_": "", "auth_token": ""}, "B", ""),
                         ("an nkey where none is configured", {"nkey": UNDER.public, "sig": "x"}, "B", ""),
                         ("a user", {"user": "alice", "pass_": "pw-alice"}, "A", ""),
                         ("wrong password", {"user": "bob", "pass_": "no"}, None, log % "bob"),
                         ("only a password", {"pass_": "pw-bob"}, None, log % ""),
                         ("only a token", {"auth_token": "x"}, None, log % "")])

    def test_operation_before_connect(self):
        """Defaults hold: verbose."""
        client = self.open()
        client.send(b"SUB first 1\r\nPING\r\n")
        client.expect_answer(b"+OK\r\nPONG\r\n")
        self.watchers["B"].send(b"PUB first 2\r\nhi\r\n")
        self.watchers["A"].send(b"PUB first 2\r\nno\r\n")
        self.watchers["A"].fence()
        client.expect_answer(b"MSG first 1 2\r\nhi\r\n")
        other = self.open()
        other.send(b"PING\r\n")
        other.expect_answer(b"PONG\r\n")

    def test_message_before_connect(self):
        """What comes first is done, in its order."""
        self.watchers["B"].send(b"SUB early 1\r\n")
        self.watchers["B"].fence()
        client = self.open()
        client.send(b"PUB early 2\r\nhi\r\nPUB early 2\r\nho\r\n")
        client.expect_exact(b"+OK\r\n+OK\r\n")
        self.watchers["B"].expect_answer(b"MSG early 1 2\r\nhi\r\nMSG early 1 2\r\nho\r\n")


class NoAuthUserWithNkeysTest(MethodsCase):
    config = NKEYS + "no_auth_user: alice\n"
    watcher_logins = {"A": {"user": "alice", "pass_": "pw-alice"}, "B": {"user": "bob", "pass_": "pw-bob"}}

    def test_rows(self):
        self.check_rows([("nothing", {}, "A", ""), ("nkey", UNDER.login, "B", ""),
                         ("unknown nkey", STRANGER.login, None, f'Nkey "{STRANGER.public}"'),
                         ("bad signature", {"nkey": UNDER.public, "sig": "x"}, None, f'Nkey "{UNDER.public}"')])


LONG = 72 * "p"
EIGHT_BIT = "pässwörd"
HASHES = {prefix: bcrypt_hash(EIGHT_BIT, prefix=prefix) for prefix in ("$2a$", "$2b$", "$2x$", "$2y$")}
GOOD = bcrypt_hash("good")
BAD_HASHES = {"cut": GOOD[:-1], "cost3": GOOD.replace("$04$", "$03$"), "cost32": GOOD.replace("$04$", "$32$"),
       "salt": GOOD[:10] + "!" + GOOD[11:]}
NOT_HASHES = {"other": GOOD.replace("$2a$", "$2c$"), "one": GOOD.replace("$2a$", "$1$"), "cost": "$2a$x4$" + GOOD[7:]}


class BcryptTest(MethodsCase):
    config = "authorization { users: [ {user: long, password: \"%s\"}, {user: five, password: \"%s\"}, {user: watcher, password: w}\n" % (
        bcrypt_hash(LONG), bcrypt_hash("five", 5)) + "".join(
        f'{{user: "{name}", password: "{text}"}}\n' for name, text in {**HASHES, **BAD_HASHES, **NOT_HASHES}.items()) + "] }\n"
    watcher_logins = {"$G": {"user": "watcher", "pass_": "w"}}

    def test_prefixes(self):
        for prefix, text in HASHES.items():
            log = f'User "{prefix}"'
            self.check_rows([(prefix, {"user": prefix, "pass_": EIGHT_BIT}, "$G", ""),
                             (f"{prefix} wrong", {"user": prefix, "pass_": "passwort"}, None, log),
                             (f"{prefix} own text", {"user": prefix, "pass_": text}, None, log)])

    def test_cost(self):
        self.check_rows([("five", {"user": "five", "pass_": "five"}, "$G", "")])

    def test_length(self):
        self.check_rows([("72", {"user": "long", "pass_": LONG}, "$G", ""), ("more", {"user": "long", "pass_": LONG + "x"}, "$G",
                                                                                 ""),
                         ("less", {"user": "long", "pass_": LONG[:-1]}, None, 'User "long"')])

    def test_bad_hashes_match_nothing(self):
        for name, text in BAD_HASHES.items():
            self.check_rows([(name, {"user": name, "pass_": "good"}, None, f'User "{name}"'),
                             (f"{name} own text", {"user": name, "pass_": text}, None, f'User "{name}"')])

    def test_other_texts_are_plain(self):
        for name, text in NOT_HASHES.items():
            self.check_rows([(name, {"user": name, "pass_": "good"}, None, f'User "{name}"'),
                             (f"{name} own text", {"user": name, "pass_": text}, "$G", "")])


class TimerTest(IdentityCase):
    CONFIG = 'authorization { user: derek, password: "pw-derek", timeout: 0.5 }\n'

    def expect_late(self, client, opened):
        client.expect_answer(LATE)
        self.assertGreaterEqual(time.monotonic() - opened, 0.5)
        self.server.wait_log_of(client, "Authentication Timeout\n")
        self.server.wait_log_of(client, "Client connection closed: Authentication Timeout")

    def test_silence_and_half_a_connect(self):
        self.serve(self.CONFIG)
        in_time = self.login("derek", "pw-derek")
        opened = time.monotonic()
        silent, half = self.open(), self.open()
        half.send(b'CONNECT {"user":"derek","pass":"pw-d')
        self.expect_late(silent, opened)
        self.expect_late(half, opened)
        in_time.expect_silence()

    def test_no_auth_user(self):
        self.serve('authorization { users: [{user: derek, password: "pw-derek"}], timeout: 0.5 }\nno_auth_user: derek\n')
        opened = time.monotonic()
        silent, spoke = self.open(), self.open()
        spoke.send(b"PING\r\n")
        spoke.expect_exact(b"PONG\r\n")
        self.expect_late(silent, opened)
        spoke.expect_silence()

    def test_no_timer_where_nobody_logs_in(self):
        self.serve("authorization { timeout: 0.2 }\n")
        silent = self.open()
        time.sleep(0.5)  # the time in which nothing may happen
        silent.expect_silence()


class LimitsTest(IdentityCase):
    config = """
    accounts {
      L { limits { max_connections: 2, max_subscriptions: 3, max_payload: 10 }, users: [ {user: lim, password: pw} ] }
      F { users: [ {user: free, password: pw} ] }
    }
    """

    def test_connections(self):
        clients = [self.login("lim", "pw") for _ in range(2)]
        for _ in range(2):
            late = self.open(verbose=False, user="lim", pass_="pw")
            late.send(b"PING\r\n")  # its answer is not the first thing to come
            late.expect_answer(b"-ERR 'maximum account active connections exceeded'\r\n" + EOF)
            self.server.wait_log_of(late, "Client connection closed: Maximum Account Connections Exceeded")
        others = [self.login("free", "pw") for _ in range(5)]
        clients[0].close()
        self.login_when_free()
        for client in clients[1:] + others:
            client.expect_silence()
        for client in clients:
            client.close()
        self.login_when_free().close()

    def login_when_free(self):
        while True:
            client = self.open(verbose=False, user="lim", pass_="pw")
            client.send(b"PING\r\n")
            if client.expect_until(b"\r\n") == b"PONG\r\n":
                return client

    def test_subscriptions(self):
        client = self.login_when_free()
        for sid in range(3):
            client.send(b"SUB s.%d %d\r\n" % (sid, sid))
        client.expect_silence()
        client.send(b"SUB s.3 3\r\nPING\r\n")
        client.expect_answer(b"-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n")
        client.send(b"UNSUB 0\r\nSUB s.4 4\r\nPUB s.4 2\r\nhi\r\nPUB s.3 2\r\nhi\r\n")
        client.expect_answer(b"MSG s.4 4 2\r\nhi\r\n")
        other = self.login_when_free()  # each connection has a count of its own
        for sid in range(3):
            other.send(b"SUB s.%d %d\r\n" % (sid, sid))
        other.expect_silence()
        other.close()
        client.close()
        free = self.login("free", "pw")
        for sid in range(20):
            free.send(b"SUB s.%d %d\r\n" % (sid, sid))
        free.expect_silence()

    def test_payload(self):
        client = self.login_when_free()
        client.send(b"SUB p 1\r\nPUB p 10\r\n0123456789\r\n")
        client.expect_answer(b"MSG p 1 10\r\n0123456789\r\n")
        client.send(b"PUB p 11\r\n01234567890\r\n")
        client.expect_answer(b"-ERR 'Maximum Payload Violation'\r\n" + EOF)
        free = self.login("free", "pw")
        free.send(b"SUB p 1\r\nPUB p 11\r\n01234567890\r\n")
        free.expect_answer(b"MSG p 1 11\r\n01234567890\r\n")

    def test_second_info_tells_the_payload(self):
        """The first INFO cannot know the account; a client that understands it hears after its first PONG."""
        client = self.login_when_free()
        client.close()
        client = self.open(verbose=False, user="lim", pass_="pw", protocol=1)
        client.send(b"PING\r\n")
        client.expect_exact(b"PONG\r\n")
        line = client.expect_until(b"\r\n")
        if line == PING:
            line = client.expect_until(b"\r\n")
        self.assertTrue(line.startswith(b"INFO {"), line)
        self.assertEqual(json.loads(line[len("INFO "):])["max_payload"], 10)
        client.expect_silence()
