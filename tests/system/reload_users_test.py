# SPDX-License-Identifier: Apache-2.0
"""Reload of users and their rights: who is concerned feels it at once, and nobody else notices anything."""

import itertools
import signal
import threading
import unittest

from credentials import Nkey, bcrypt_hash
from harness import EOF, REAL_NATS, bulkhead_only, wait_until
from identity import REFUSED, IdentityCase, denied_publish, denied_subscribe

KEY, OTHER_KEY = Nkey(), Nkey()
DONE = "Reloaded server configuration"


def users(*entries, more=""):
    return "authorization {\n" + more + "\nusers: [\n" + "\n".join("{" + entry + "}" for entry in entries) + "\n] }\n"


ANN, BEN = "user: ann, password: pa", "user: ben, password: pb"


class ReloadCase(IdentityCase):
    def reload(self, config):
        before = self.server.log().count(DONE)
        self.server.write_config(config)
        self.server.signal(signal.SIGHUP)
        wait_until(lambda: self.server.log().count(DONE) > before, f"{DONE!r} in the log:\n{self.server.log()}")

    def expect_out(self, client):
        if REAL_NATS:  # it closes some of them as if their account had changed, and may lose the text of the others
            client.expect_closed()
            return
        client.expect_answer(REFUSED)
        self.server.wait_log_of(client, "Client connection closed: Authentication Failure")

    def expect_no_login(self, **keys):
        self.open(verbose=False, **keys).expect_answer(REFUSED)


class UserTest(ReloadCase):
    def test_removed(self):
        self.serve(users(ANN, BEN))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        ben.send(b"SUB still.there 1\r\n")
        ben.fence()
        self.reload(users(ANN))
        self.expect_out(ben)
        self.expect_no_login(user="ben", **{"pass": "pb"})
        ann.send(b"PUB still.there 2\r\nhi\r\n")
        ann.expect_silence()
        self.reload(users(ANN, BEN))
        self.login("ben", "pb")
        ann.expect_silence()

    def test_changed_password(self):
        self.serve(users(ANN, BEN))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        self.reload(users(ANN, "user: ben, password: new"))
        self.expect_out(ben)
        self.expect_no_login(user="ben", **{"pass": "pb"})
        self.login("ben", "new")
        ann.expect_silence()

    @bulkhead_only("nats-server compares the texts")
    def test_another_hash_of_the_password(self):
        """The credential is another one, whatever it is a hash of: nobody but authd's log-in could tell."""
        self.serve(users(ANN, "user: ben, password: \"%s\"" % bcrypt_hash("pb")))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        self.reload(users(ANN, "user: ben, password: \"%s\"" % bcrypt_hash("pb")))
        self.expect_out(ben)
        self.login("ben", "pb")
        ann.expect_silence()

    def test_nkey_removed(self):
        self.serve(users(ANN, f"nkey: {KEY.public}", f"nkey: {OTHER_KEY.public}"))
        ann, gone, stays = self.login("ann", "pa"), self.nkey_login(KEY), self.nkey_login(OTHER_KEY)
        self.reload(users(ANN, f"nkey: {OTHER_KEY.public}"))
        self.expect_out(gone)
        client = self.open()
        client.connect(verbose=False, **KEY.login(client.info))
        client.expect_answer(REFUSED)
        self.nkey_login(OTHER_KEY)
        for client in (ann, stays):
            client.expect_silence()

    def test_moved_to_another_account(self):
        both = "accounts { A { users: [ {%s}%s ] }, B { users: [ {user: bob, password: p}%s ] } }\n"
        moving = ", {" + BEN + "}"
        self.serve(both % (ANN, moving, ""))
        ann, ben, bob = self.login("ann", "pa"), self.login("ben", "pb"), self.login("bob", "p")
        ben.send(b"SUB > 1\r\n")
        ben.fence()
        self.reload(both % (ANN, "", moving))
        ben.expect_eof()
        self.server.wait_log_of(ben, "Client connection closed: Client Closed")
        again = self.login("ben", "pb")
        again.send(b"SUB > 1\r\n")
        again.fence()
        ann.send(b"PUB in.a 1\r\na\r\n")
        ann.expect_silence()
        bob.send(b"PUB in.b 1\r\nb\r\n")
        bob.expect_silence()
        again.expect_answer(b"MSG in.b 1 1\r\nb\r\n")

    def test_account_removed(self):
        self.serve("accounts { A { users: [ {%s} ] }, B { users: [ {%s} ] } }\n" % (ANN, BEN))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        self.reload("accounts { A { users: [ {%s} ] } }\n" % ANN)
        ben.expect_closed()
        self.expect_no_login(user="ben", **{"pass": "pb"})
        ann.expect_silence()


class RightsTest(ReloadCase):
    def check_subscriptions(self, before, after, defaults=False):
        """Subscribe rights fall from x.> to x.1 and y; before and after make the configuration."""
        self.serve(before)
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        ben.send(b"SUB x.1 1\r\nSUB x.2 2\r\nSUB x.> 3\r\nSUB x.2 g 4\r\nSUB y 5\r\n")
        ben.fence()
        self.reload(after)
        lines = sorted(ben.expect_until(b"\r\n") for _ in range(3))
        self.assertEqual(lines, sorted(b"-ERR 'Permissions Violation for Subscription to \"%s\" (sid \"%s\")'\r\n" % row for row in
                                       ((b"x.2", b"2"), (b"x.>", b"3"), (b"x.2", b"4"))))
        ben.expect_silence()
        self.server.wait_log('Removed sub "x.2" (sid "2")')
        ann.send(b"PUB x.1 1\r\n1\r\nPUB x.2 1\r\n2\r\nPUB y 1\r\n3\r\n")
        ann.expect_silence()
        ben.expect_answer(b"MSG x.1 1 1\r\n1\r\nMSG y 5 1\r\n3\r\n")
        ben.send(b"SUB x.2 2\r\n")
        ben.expect_answer(denied_subscribe(b"x.2"))

    def test_subscribe_narrowed(self):
        wide, narrow = (BEN + ", permissions { subscribe: [%s] }" % rights for rights in ('"x.>", "y"', '"x.1", "y"'))
        self.check_subscriptions(users(ANN, wide), users(ANN, narrow))

    def test_defaults_narrowed(self):
        own = ANN + ", permissions {}"
        wide, narrow = ("default_permissions { subscribe: [%s] }" % rights for rights in ('"x.>", "y"', '"x.1", "y"'))
        self.check_subscriptions(users(own, BEN, more=wide), users(own, BEN, more=narrow))

    def test_first_rights_at_all(self):
        self.check_subscriptions(users(ANN, BEN), users(ANN, BEN + ', permissions { subscribe: ["x.1", "y"] }'))

    def test_delivery_deny_is_new(self):
        """A subscription that may stay is filtered from then on, and no more when the rule has gone."""
        self.serve(users(ANN, BEN))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        ben.send(b"SUB > 1\r\nSUB *.x g 2\r\n")
        ben.fence()

        def published(expected):
            ann.send(b"PUB d.x 1\r\n1\r\nPUB e.y 1\r\n2\r\n")
            ann.expect_silence()
            self.assertEqual(sorted(ben.receive_message()[:2] for _ in expected), expected)
            ben.expect_silence()

        everything = [(b"d.x", b"1"), (b"d.x", b"2"), (b"e.y", b"1")]
        published(everything)
        self.reload(users(ANN, BEN + ', permissions { subscribe { deny: "d.x" } }'))
        published(everything[2:])
        self.reload(users(ANN, BEN))
        published(everything)

    def test_publish_changed(self):
        self.serve(users(ANN, BEN))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        ann.send(b"SUB > 1\r\n")
        ann.fence()
        for rights, allowed in (('{ publish: "p.1" }', (True, False)), ('{ publish { deny: "p.1" } }', (False, True)), ("{}", (True, True))):
            self.reload(users(ANN, BEN + f", permissions {rights}"))
            for subject, passes in zip((b"p.1", b"p.2"), allowed):
                ben.send(b"PUB %s 1\r\nx\r\n" % subject)
                ben.expect_answer(b"" if passes else denied_publish(subject))
                ann.expect_answer(b"MSG %s 1 1\r\nx\r\n" % subject if passes else b"")

    def test_answers_allowed_and_no_more(self):
        self.serve(users(ANN, BEN + ", permissions { subscribe: req, publish: other }"))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        ben.send(b"SUB req 1\r\n")
        ben.fence()

        def asked(reply, allowed):
            ann.send(b"PUB req %s 1\r\n?\r\n" % reply)
            ann.fence()
            ben.expect_exact(b"MSG req 1 %s 1\r\n?\r\n" % reply)
            ben.send(b"PUB %s 1\r\n!\r\n" % reply)
            ben.expect_answer(b"" if allowed else denied_publish(reply))

        asked(b"r.1", False)
        self.reload(users(ANN, BEN + ", permissions { subscribe: req, publish: other, allow_responses: true }"))
        asked(b"r.2", True)
        self.reload(users(ANN, BEN + ", permissions { subscribe: req, publish: other }"))
        asked(b"r.3", False)


class MethodTest(ReloadCase):
    TOKEN = "authorization { token: t0k3n }\n"
    SINGLE = "authorization { user: derek, password: pd }\n"

    def test_auth_turned_on(self):
        self.serve("debug: true\n")
        client = self.login()
        self.reload(users(ANN) + "debug: true\n")
        self.expect_out(client)
        self.expect_no_login(name="x")
        self.assertIs(self.login("ann", "pa").info["auth_required"], True)

    def test_auth_turned_off(self):
        self.serve(users(ANN) + "debug: true\n")
        ann = self.login("ann", "pa")
        self.reload("debug: true\n")
        client = self.login()
        self.assertNotIn("auth_required", client.info)
        ann.expect_closed_or_silent = None
        self.login("ann", "pa")
        self.login("ann", "wrong")

    @bulkhead_only("nats-server keeps the old table in force")
    def test_users_to_token(self):
        self.serve(users(ANN))
        ann = self.login("ann", "pa")
        self.reload(self.TOKEN)
        self.expect_out(ann)
        self.expect_no_login(user="ann", **{"pass": "pa"})
        self.login(auth_token="t0k3n")

    @bulkhead_only("nats-server keeps the old table in force")
    def test_users_to_single_user(self):
        self.serve(users(ANN, f"nkey: {KEY.public}"))
        ann, key = self.login("ann", "pa"), self.nkey_login(KEY)
        self.reload(self.SINGLE)
        for client in (ann, key):
            self.expect_out(client)
        self.expect_no_login(user="ann", **{"pass": "pa"})
        self.assertNotIn("nonce", self.login("derek", "pd").info)

    def test_token_changed(self):
        self.serve(self.TOKEN)
        client = self.login(auth_token="t0k3n")
        self.reload("authorization { token: other }\n")
        self.expect_out(client)
        self.expect_no_login(auth_token="t0k3n")
        self.login(auth_token="other")

    def test_single_user_changed(self):
        self.serve(self.SINGLE)
        client = self.login("derek", "pd")
        self.reload("authorization { user: derek, password: other }\n")
        self.expect_out(client)
        self.login("derek", "other")

    def test_token_to_users(self):
        self.serve(self.TOKEN)
        client = self.login(auth_token="t0k3n")
        self.reload(users(ANN))
        self.expect_out(client)
        self.expect_no_login(auth_token="t0k3n")
        self.login("ann", "pa")

    @bulkhead_only("nats-server looks for a user of those who have not said yet who they are")
    def test_who_has_not_logged_in_yet(self):
        """What holds is what is configured when CONNECT comes."""
        self.serve(users(ANN, BEN, more="timeout: 20"))
        early = self.open()
        self.reload(users(ANN, more="timeout: 20"))
        early.connect(verbose=False, user="ben", **{"pass": "pb"})
        early.expect_answer(REFUSED)
        early = self.open()
        self.reload(users(ANN, BEN, more="timeout: 20"))
        early.connect(verbose=False, user="ben", **{"pass": "pb"})
        early.expect_silence()

    @bulkhead_only("its checks at the reload are its own")
    def test_refused_as_a_whole(self):
        self.serve(users(ANN, BEN))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        failed = "Failed to reload server configuration: "
        for config in (users(ANN) + "no_auth_user: nobody\n", users(ANN, ANN), users("user: ann, password: 1"), "authorization {"):
            before = self.server.log().count(failed)
            self.server.write_config(config)
            self.server.signal(signal.SIGHUP)
            wait_until(lambda: self.server.log().count(failed) > before, "a refusal")
            for client in (ann, ben):
                client.expect_silence()
        self.login("ben", "pb")


class LimitsTest(ReloadCase):
    def limited(self, limits):
        return "accounts { A { limits { %s }, users: [ {%s} ] }, B { users: [ {%s} ] } }\n" % (limits, ANN, BEN)

    def test_fewer_connections(self):
        self.serve(self.limited("max_connections: 6"))
        clients, other = [self.login("ann", "pa") for _ in range(4)], self.login("ben", "pb")
        self.reload(self.limited("max_connections: 2"))
        closed = 0
        for client in clients:
            client.send(b"PING\r\n")
            line = client.expect_until(b"\r\n")
            if line != b"PONG\r\n":
                self.assertEqual(line, b"-ERR 'maximum account active connections exceeded'\r\n")
                client.expect_eof()
                closed += 1
        self.assertIn(closed, (2, 3), "nats-server closes one more")
        other.expect_silence()

    def test_payload(self):
        self.serve(self.limited("max_payload: 100"))
        ann, ben = self.login("ann", "pa"), self.login("ben", "pb")
        self.reload(self.limited("max_payload: 10"))
        ann.send(b"PUB a 10\r\n0123456789\r\n")
        ann.expect_silence()
        ben.send(b"PUB a 20\r\n01234567890123456789\r\n")
        ben.expect_silence()
        ann.send(b"PUB a 20\r\n" + (b"" if REAL_NATS else b"01234567890123456789\r\n"))  # the limit is the router's
        ann.expect_answer(b"-ERR 'Maximum Payload Violation'\r\n" + EOF)


class FlowTest(ReloadCase):
    def test_who_is_not_concerned_notices_nothing(self):
        """A flow between two users goes on, in order and without a gap, through every change to all the others."""
        rights = ", permissions { publish: [\"flow\", \"_INBOX.>\"], subscribe { allow: [\"flow\", \"_INBOX.>\"], deny: \"flow.no\" } }"
        steady = (ANN + rights, f"nkey: {KEY.public}" + rights)
        self.serve(users(*steady, BEN, more="timeout: 10"))
        reader, writer = self.login("ann", "pa"), self.nkey_login(KEY)
        reader.send(b"SUB flow 1\r\n")
        reader.fence()
        stop, sent = threading.Event(), [0]

        def write():
            while not stop.is_set():
                writer.send(b"".join(b"PUB flow %d\r\n%d\r\n" % (len(str(n)), n) for n in range(sent[0], sent[0] + 30)))
                writer.fence()
                sent[0] += 30

        thread = threading.Thread(target=write)
        thread.start()
        try:
            numbers = itertools.count()
            for _ in range(4):
                for others in ((BEN + ", permissions { subscribe: \"x\" }",), (BEN, "user: new, password: p"), (), (BEN.replace("pb", "pc"),),
                               (f"nkey: {OTHER_KEY.public}",)):
                    more = f"timeout: 10, default_permissions {{ subscribe: \"n{next(numbers)}\" }}"
                    self.reload(users(*others, *steady, more=more))
        finally:
            stop.set()
            thread.join()
        for n in range(sent[0]):
            self.assertEqual(reader.receive_message(), (b"flow", b"1", str(n).encode()))
        reader.expect_silence()
        writer.expect_silence()


if __name__ == "__main__":
    unittest.main()
