# SPDX-License-Identifier: Apache-2.0
"""What Bulkhead promises about identities: nothing of an old one remains behind a second CONNECT, a signature is good once,
established clients do not notice what happens to authd or who else logs in, and a source that guesses waits alone."""

import itertools
import json
import select
import selectors
import signal
import socket
import threading
import time
import unittest

from credentials import Nkey, bcrypt_hash
from family import Program, kill, wait_family
from harness import DEADLINE, UNWATCHED, Client, bulkhead_only, raise_descriptor_limit, wait_until
from identity import REFUSED, IdentityCase, denied_publish

KEY, OTHER_KEY = Nkey(), Nkey()

CONFIG = """
authorization { timeout: 20 }
accounts {
  A { users: [ {user: ann, password: pa}, {user: amy, password: px}, {user: aid, password: pd, permissions { publish: ["only"],
               subscribe { allow: ">", deny: "secret" }, allow_responses: true } } ] }
  B { users: [ {user: bob, password: pb}, {nkey: %s}, {nkey: %s} ] }
}
""" % (KEY.public, OTHER_KEY.public)

ANN, AMY, AID, BOB = (("ann", "pa"), ("amy", "px"), ("aid", "pd"), ("bob", "pb"))
NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


@bulkhead_only("its own promises")
class PromisesCase(IdentityCase):
    config = CONFIG
    options = {"frontends": 2}

    def as_user(self, user, **fields):
        return self.login(*user, **{"headers": True, "no_responders": True, **fields})

    def again(self, client, user, **fields):
        """Sends a second CONNECT."""
        client.connect(**{"verbose": False, "headers": True, "no_responders": True, "user": user[0], "pass": user[1], **fields})

    def subscribe(self, client, text):
        client.send(text)
        client.fence()


class SecondConnectTest(PromisesCase):
    """Rows of old interest times columns of second identities."""

    def old_interest(self, client):
        """Everything that a client can have, each with a sid of its own; the one with a maximum has had one of its three."""
        self.subscribe(client, b"SUB plain 1\r\nSUB wild.> 2\r\nSUB *.card 3\r\nSUB queue g 4\r\nSUB counted 5\r\nUNSUB 5 3\r\n"
                               b"SUB inbox.* 6\r\n")

    def prepare(self):
        client, other, member, responder = (self.as_user(user) for user in (ANN, AMY, AMY, AMY))
        self.old_interest(client)
        self.subscribe(member, b"SUB queue g 1\r\n")
        self.subscribe(responder, b"SUB ask 1\r\n")
        other.send(b"PUB counted 1\r\n1\r\n")
        other.fence()
        client.expect_exact(b"MSG counted 5 1\r\n1\r\n")
        client.send(b"PUB ask inbox.1 1\r\n?\r\n")
        client.fence()
        responder.expect_exact(b"MSG ask 1 inbox.1 1\r\n?\r\n")
        return client, other, member, responder

    def publish_to_all(self, other, responder):
        other.send(b"PUB plain 1\r\n2\r\nPUB wild.x.y 1\r\n3\r\nPUB a.card 1\r\n4\r\nPUB counted 1\r\n5\r\n")
        other.fence()
        responder.send(b"PUB inbox.1 1\r\n!\r\n")
        responder.fence()

    def check_nothing_left(self, client, other, member, responder):
        self.publish_to_all(other, responder)
        other.send(50 * b"PUB queue 1\r\n6\r\n")
        other.fence()
        member.expect_answer(50 * b"MSG queue 1 1\r\n6\r\n")
        self.subscribe(other, b"SUB back.* 9\r\n")
        for n, subject in enumerate((b"plain", b"wild.x", b"x.card", b"counted", b"inbox.1")):
            other.send(b"PUB %s back.%d 0\r\n\r\n" % (subject, n))
            other.expect_answer(b"HMSG back.%d 9 16 16\r\n%s\r\n" % (n, NO_RESPONDERS))

    def check_new_life(self, client, user):
        """The same sids under the new identity, and counts from zero."""
        peer = self.as_user(ANN if user == AID else user)
        client.send(b"SUB plain 1\r\nSUB new.> 2\r\nSUB counted 5\r\nUNSUB 5 2\r\n")
        client.expect_silence()
        peer.send(b"PUB plain 1\r\na\r\nPUB wild.x 1\r\nb\r\nPUB new.x 1\r\nc\r\n" + 3 * b"PUB counted 1\r\nd\r\n")
        peer.fence()
        client.expect_answer(b"MSG plain 1 1\r\na\r\nMSG new.x 2 1\r\nc\r\n" + 2 * b"MSG counted 5 1\r\nd\r\n")

    def test_same_user_keeps_all(self):
        client, other, member, responder = self.prepare()
        self.again(client, ANN)
        client.expect_silence()
        self.publish_to_all(other, responder)
        client.expect_answer(b"MSG plain 1 1\r\n2\r\nMSG wild.x.y 2 1\r\n3\r\nMSG a.card 3 1\r\n4\r\nMSG counted 5 1\r\n5\r\n"
                             b"MSG inbox.1 6 1\r\n!\r\n")
        other.send(2 * b"PUB counted 1\r\n6\r\n")
        other.fence()
        client.expect_answer(b"MSG counted 5 1\r\n6\r\n")

    def test_another_user_of_the_account(self):
        self.check_other(AMY)

    def test_another_user_with_fewer_rights(self):
        client = self.check_other(AID)
        client.send(b"PUB plain 1\r\nx\r\n")
        client.expect_answer(denied_publish(b"plain"))

    def test_another_account(self):
        self.check_other(BOB)

    def check_other(self, user):
        client, other, member, responder = self.prepare()
        self.again(client, user)
        client.expect_silence()
        self.check_nothing_left(client, other, member, responder)
        client.expect_silence()
        self.check_new_life(client, user)
        return client

    def test_wrong_password(self):
        client, other, member, responder = self.prepare()
        self.again(client, ("ann", "no"))
        client.expect_answer(REFUSED)
        self.subscribe(other, b"SUB gone 8\r\n")

        def gone():
            other.send(b"PUB plain gone 0\r\n\r\nPING\r\n")
            return other.expect_until(b"PONG\r\n").startswith(b"HMSG gone 8 16 16\r\n")

        wait_until(gone, "the end of a client that was refused, as of any that closes")
        self.check_nothing_left(client, other, member, responder)

    def test_there_and_back(self):
        """A third identity is the first again: that is a new one too."""
        client, other, member, responder = self.prepare()
        self.again(client, BOB)
        self.again(client, ANN)
        client.expect_silence()
        self.check_nothing_left(client, other, member, responder)
        client.expect_silence()
        self.check_new_life(client, ANN)

    def test_order_in_one_write(self):
        """What stands before a CONNECT is done as the one before, what stands behind it as the next, and each PONG in between."""
        ann, bob = self.as_user(ANN), self.as_user(BOB)
        for watcher in (ann, bob):
            self.subscribe(watcher, b"SUB order 1\r\n")
        client = self.as_user(ANN, echo=False)
        text = [b"CONNECT {\"user\":\"%s\",\"pass\":\"%s\",\"verbose\":false}\r\n" % (name.encode(), password.encode())
                for name, password in (BOB, ANN)]
        send, wanted = b"", b""
        for n in range(40):
            send += b"SUB own.%d %d\r\nPUB own.%d 2\r\nhi\r\nPUB order 2\r\n%02d\r\nPING\r\n" % (n, n, n, n) + text[n % 2]
            wanted += b"MSG own.%d %d 2\r\nhi\r\nPONG\r\n" % (n, n)
        client.connect(**{"verbose": False, "user": "ann", "pass": "pa", "echo": True})
        client.send(send + b"PING\r\n")
        client.expect_exact(wanted + b"PONG\r\n")
        ann.expect_answer(b"".join(b"MSG order 1 2\r\n%02d\r\n" % n for n in range(0, 40, 2)))
        bob.expect_answer(b"".join(b"MSG order 1 2\r\n%02d\r\n" % n for n in range(1, 40, 2)))

    def test_under_a_flood(self):
        """Not one message of the account before comes behind the PONG that confirms the new one."""
        stop, writers = threading.Event(), [self.as_user(ANN), self.as_user(BOB)]

        def flood(writer, text):
            while not stop.is_set():
                writer.send(20 * (b"PUB flood.x 1\r\n" + text + b"\r\n"))
                writer.fence()

        threads = [threading.Thread(target=flood, args=pair) for pair in zip(writers, (b"A", b"B"))]
        client = self.as_user(ANN)
        for thread in threads:
            thread.start()
        try:
            for user, letter in 15 * [(BOB, b"B"), (ANN, b"A")]:
                self.again(client, user)
                client.send(b"PING\r\n")
                client.expect_until(b"PONG\r\n")
                client.expect_silence()
                client.send(b"SUB flood.* 1\r\n")
                for _ in range(60):
                    self.assertEqual(client.receive_message(), (b"flood.x", b"1", letter))
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_open_replies_are_of_the_old_one(self):
        """A request that was seen as one user cannot be answered as another whose rights do not allow it."""
        asker, client = self.as_user(AMY), self.as_user(AID)
        self.subscribe(client, b"SUB service 1\r\n")
        for _ in range(2):
            asker.send(b"PUB service reply.1 1\r\n?\r\n")
            asker.fence()
            client.expect_exact(b"MSG service 1 reply.1 1\r\n?\r\n")
        self.again(client, BOB)
        self.again(client, AID)
        client.send(b"PUB reply.1 1\r\n!\r\n")
        client.expect_answer(denied_publish(b"reply.1"))

    def test_options_go_with_connect(self):
        client = self.as_user(ANN)
        self.again(client, BOB, echo=False)
        client.send(b"SUB own 1\r\nPUB own 1\r\nx\r\n")
        client.expect_silence()


class ReplayTest(PromisesCase):
    def signed(self, client, key=KEY):
        return {"verbose": False, **key.login(client.info)}

    def test_on_another_connection(self):
        """With two frontends, some of the connections are with the other one."""
        victim = self.open()
        stolen = self.signed(victim)
        for _ in range(8):
            thief = self.open()
            thief.connect(**stolen)
            thief.expect_answer(REFUSED)
        victim.connect(**stolen)
        victim.expect_silence()
        for _ in range(8):
            thief = self.open()
            thief.connect(**stolen)
            thief.expect_answer(REFUSED)
        victim.expect_silence()

    def test_on_the_same_connection(self):
        """The nonce is used up; a second CONNECT needs another way to log in."""
        client = self.open()
        signed = self.signed(client)
        client.connect(**signed)
        client.expect_silence()
        client.connect(**signed)
        client.expect_answer(REFUSED)

    def test_after_authd_was_killed(self):
        used, unused = self.open(), self.open()
        stolen = self.signed(used)
        used.connect(**stolen)
        used.expect_silence()
        kill(self.server, self.server.child_pids()["authd"][0])
        wait_family(self.server, frontend=2)
        thief = self.open()
        thief.connect(**stolen)
        thief.expect_answer(REFUSED)
        unused.connect(**self.signed(unused))
        unused.expect_silence()
        used.connect(**stolen)
        used.expect_answer(REFUSED)

    def test_nonces_differ(self):
        nonces = [self.open().info["nonce"] for _ in range(300)]
        self.assertEqual(len(set(nonces)), 300)


class AuthdAwayTest(PromisesCase):
    config = None

    def test_killed_under_load(self):
        """Traffic of all kinds, logins of its own included, through deaths of authd: nothing is lost, nobody is put out."""
        self.serve(CONFIG + "no_auth_user: ann\n", frontends=2)
        program = Program("traffic", self.server.port, 60, 20, 1, 20)
        self.addCleanup(program.__exit__)
        program.expect("ready")
        stop, outcomes = threading.Event(), []
        comers = [threading.Thread(target=self.come, args=(stop, outcomes)) for _ in range(4)]
        for comer in comers:
            comer.start()
        try:
            for _ in range(5):
                before = len(outcomes)
                dead = self.server.child_pids()["authd"][0]
                self.assertTrue(kill(self.server, dead))
                wait_until(lambda: self.server.child_pids().get("authd", [dead]) != [dead], "the next authd")
                wait_until(lambda: len(outcomes) > before + 8, "logins go on")
                program.tell("mark")
                program.expect("flows")
        finally:
            stop.set()
            for comer in comers:
                comer.join()
        self.assertEqual(set(outcomes), {"in"})
        program.tell("stop")
        program.finish()
        wait_family(self.server, frontend=2)
        self.server.check()

    def come(self, stop, outcomes):
        """Logs in with an nkey or a password again and again."""
        for n in itertools.count():
            if stop.is_set():
                return
            try:
                with Client(self.server, source=f"127.2.0.{n % 250 + 1}") as client:
                    keys = KEY.login(client.info) if n % 2 else {"user": "bob", "pass": "pb"}
                    client.connect(verbose=False, **keys)
                    client.send(b"PING\r\n")
                    line = client.expect_until(b"\r\n")
                    outcomes.append("in" if line == b"PONG\r\n" else line)
            except (OSError, AssertionError) as error:
                outcomes.append(error)

    def test_stopped(self):
        """An authd that says nothing: established clients go on, who waits gets in when it is back."""
        self.serve(CONFIG, frontends=2, **UNWATCHED)
        steady, waiting = self.as_user(ANN), []
        authd = self.server.child_pids()["authd"][0]
        self.subscribe(steady, b"SUB s 1\r\n")
        self.assertTrue(kill(self.server, authd, signal.SIGSTOP))
        try:
            for _ in range(5):
                waiting.append(self.open(verbose=False, user="ann", **{"pass": "pa"}))
            for _ in range(20):
                steady.send(b"PUB s 1\r\nx\r\n")
                steady.expect_answer(b"MSG s 1 1\r\nx\r\n")
            self.assertEqual(select.select([client.socket for client in waiting], [], [], 0)[0], [])
        finally:
            kill(self.server, authd, signal.SIGCONT)
        for client in waiting:
            client.expect_silence()


class StormTest(PromisesCase):
    COUNT = 2000

    config = None

    def test_many_nkeys_at_once(self):
        """All get in; a request-reply pair beside them is answered all the time."""
        raise_descriptor_limit()
        self.serve(CONFIG.replace("timeout: 20", "timeout: 2"), frontends=2)
        responder, asker = self.as_user(ANN), self.as_user(AMY)
        self.subscribe(responder, b"SUB ask 1\r\n")
        self.subscribe(asker, b"SUB inbox 1\r\n")
        stop, done = threading.Event(), [0, 0.0]

        def ask():
            while not stop.is_set():
                began = time.monotonic()
                asker.send(b"PUB ask inbox 1\r\n?\r\n")
                responder.expect_exact(b"MSG ask 1 inbox 1\r\n?\r\n")
                responder.send(b"PUB inbox 1\r\n!\r\n")
                asker.expect_exact(b"MSG inbox 1 1\r\n!\r\n")
                done[:] = done[0] + 1, max(done[1], time.monotonic() - began)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            self.storm()
        finally:
            stop.set()
            thread.join()
        self.assertGreater(done[0], 10)
        print(f"{done[0]} requests beside {self.COUNT} logins, the longest took {1000 * done[1]:.0f} ms")
        self.assertNotIn("Authentication Timeout", self.server.log())

    def storm(self):
        """COUNT connections at once, each with CONNECT as soon as it has its nonce."""
        selector, began = selectors.DefaultSelector(), time.monotonic()
        for n in range(self.COUNT):
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.bind((f"127.3.{n // 250}.{n % 250 + 1}", 0))
            sock.connect_ex(("127.0.0.1", self.server.port))
            selector.register(sock, selectors.EVENT_READ, bytearray())
        left = self.COUNT
        while left:
            events = selector.select(DEADLINE)
            self.assertTrue(events, f"{left} of {self.COUNT} hear nothing")
            for key, _ in events:
                data = key.fileobj.recv(4096)
                key.data.extend(data)
                if not data or b"-ERR" in key.data:
                    self.fail(f"{left} were left when one got {bytes(key.data)[-100:]}")
                if key.data.endswith(b"PONG\r\n"):
                    left -= 1
                    selector.unregister(key.fileobj)
                elif key.data.endswith(b"\r\n"):
                    info = json.loads(key.data[len("INFO "):])
                    text = json.dumps({"verbose": False, **OTHER_KEY.login(info)})
                    key.fileobj.send(b"CONNECT " + text.encode() + b"\r\nPING\r\n")
                    key.data.clear()
        print(f"{self.COUNT} logins in {time.monotonic() - began:.2f} s")

    def test_slow_hashes_hold_nobody_else(self):
        """Logins that need no hash, and one of another address that needs one, come before the end of a storm of hashes."""
        count = 24
        hashed = bcrypt_hash("slow", 9)
        self.serve(CONFIG.replace("B { users: [", 'B { users: [ {user: slow, password: "%s"},' % hashed), frontends=2)
        storm = [self.open(source="127.4.0.1", verbose=False, user="slow", **{"pass": "slow"}) for _ in range(count)]
        for client in storm:
            client.send(b"PING\r\n")

        def waiting():
            ready = select.select([client.socket for client in storm], [], [], 0)[0]
            return count - len(ready)

        self.as_user(ANN)
        self.nkey_login(KEY)
        self.open(verbose=False, user="ann", **{"pass": "wrong"})
        beside = waiting()
        self.login("slow", "slow")
        print(f"of {count} slow logins {beside} still waited when a plain one and an nkey were in, {waiting()} behind another slow one")
        self.assertGreater(beside, count // 2)
        self.assertGreater(waiting(), count // 4)
        for client in storm:
            client.expect_exact(b"PONG\r\n")


class PenaltyTest(PromisesCase):
    config = None

    def test_one_source_waits_alone(self):
        self.serve(CONFIG + 'logins { penalty: "1s", penalty_after: 3, penalty_max: "2s" }\n', frontends=1)
        guesser, neighbour = "127.0.0.2", "127.0.0.3"
        steady = self.as_user(ANN, source=guesser)
        for _ in range(3):
            self.open(source=guesser, verbose=False, user="ann", **{"pass": "no"}).expect_answer(REFUSED)
        slow = self.open(source=guesser, verbose=False, user="ann", **{"pass": "no"})
        slow_but_right = self.open(source=guesser, verbose=False, user="ann", **{"pass": "pa"})
        for n in range(5):
            self.as_user(ANN, source=neighbour)
        steady.expect_silence()
        ready = select.select([slow.socket, slow_but_right.socket], [], [], 0)[0]
        self.assertEqual(ready, [], "whose logins failed waits")
        slow.expect_answer(REFUSED)
        slow_but_right.expect_silence()
        steady.expect_silence()


if __name__ == "__main__":
    unittest.main()
