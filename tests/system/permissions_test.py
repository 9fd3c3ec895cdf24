# SPDX-License-Identifier: Apache-2.0
"""What a client may publish, subscribe to and receive: lists, wildcards, queue groups, replies, and the user's defaults."""

import time
import unittest

from family import kill, live_router, take_over_count
from harness import bulkhead_only, wait_until
from identity import IdentityCase, denied_publish, denied_subscribe

CONFIG = """
authorization {
  default_permissions { publish: ["def.>"], subscribe: ["def.>"] }
  users: [
    {user: free, password: p, permissions {} }
    {user: default, password: p}
    {user: pub, password: p, permissions { publish { allow: ["p.>", "exact", "one.*.end"], deny: ["p.no", "p.not.*", "p.lit.*"] } } }
    {user: pubdeny, password: p, permissions { publish { deny: ["d.x", "e.*", "f.>"] } } }
    {user: puball, password: p, permissions { publish: [] } }
    {user: pubone, password: p, permissions { publish: "only" } }
    {user: sub, password: p, permissions { subscribe { allow: ["s.>", "t.*", "exact"], deny: ["s.no.*", "s.deny"] } } }
    {user: subdeny, password: p, permissions { subscribe { deny: ["d.*", "e.x"] } } }
    {user: queues, password: p, permissions { subscribe: ["plain", "q v1.*", "both", "both g"] } }
    {user: queuedeny, password: p, permissions { subscribe { deny: ["x g", "y *.prod"] } } }
    {user: answer, password: p, permissions { subscribe: ["req.>"], allow_responses: true } }
    {user: answers, password: p, permissions { publish { deny: ["rep.no"] }, allow_responses { max: 3, expires: "400ms" } } }
    {user: unlimited, password: p, permissions { publish: ["other"], allow_responses { max: -1, expires: "-1s" } } }
    {user: few, password: p, permissions { publish: ["other"], allow_responses { max: 5, expires: "10m" } } }
  ]
}
"""


class PermissionsCase(IdentityCase):
    config = CONFIG

    def user(self, name, **fields):
        return self.login(name, "p", **fields)

    def check_publishes(self, user, rows):
        """Rows are (subject, whether it is allowed); a free client sees what is."""
        watcher, client = self.user("free"), self.user(user)
        watcher.send(b"SUB > 1\r\n")
        watcher.fence()
        for subject, allowed in rows:
            with self.subTest(subject, user=user):
                client.send(b"PUB %s 2\r\nhi\r\n" % subject)
                client.expect_answer(b"" if allowed else denied_publish(subject))
                watcher.expect_answer(b"MSG %s 1 2\r\nhi\r\n" % subject if allowed else b"")
        watcher.close()

    def check_subscribes(self, user, rows):
        """Rows are (subject, queue or None, whether it is allowed)."""
        client = self.user(user)
        for sid, (subject, queue, allowed) in enumerate(rows):
            with self.subTest(subject, queue=queue, user=user):
                client.send(b"SUB %s %s %d\r\n" % (subject, queue or b"", sid))
                client.expect_answer(b"" if allowed else denied_subscribe(subject, queue))
        client.close()


class PublishTest(PermissionsCase):
    def test_allow_and_deny(self):
        self.check_publishes("pub", [(b"p.a", True), (b"p.a.b", True), (b"exact", True), (b"one.x.end", True), (b"p", False),
                                     (b"exact.x", False), (b"one.end", False), (b"one.x.y.end", False), (b"other", False),
                                     (b"p.no", False), (b"p.no.x", True), (b"p.not.x", False), (b"p.not", True),
                                     (b"p.not.x.y", True), (b"P.a", False)])

    def test_deny_only(self):
        self.check_publishes("pubdeny", [(b"d", True), (b"d.x", False), (b"d.y", True), (b"e.x", False), (b"e.x.y", True),
                                         (b"f.x", False), (b"f.x.y.z", False), (b"f", True)])

    def test_empty_list_allows_all(self):
        self.check_publishes("puball", [(b"any.thing", True)])

    def test_one_text(self):
        self.check_publishes("pubone", [(b"only", True), (b"other", False)])

    def test_wildcards_are_literal_text(self):
        client = self.user("pub")
        client.send(b"PUB p.* 2\r\nhi\r\nPUB p.> 2\r\nhi\r\n")
        client.expect_silence()
        client.send(b"PUB p.lit.> 2\r\nhi\r\n")
        client.expect_answer(denied_publish(b"p.lit.>"))
        client.send(b"PUB > 2\r\nhi\r\n")
        client.expect_answer(denied_publish(b">"))

    def test_invalid_subject(self):
        client = self.user("pub")
        client.send(b"PUB p..a 2\r\nhi\r\n")
        client.expect_answer(denied_publish(b"p..a"))

    def test_payload_is_dropped_whatever_it_holds(self):
        client = self.user("pub")
        client.send(b"PUB no 30\r\nSUB exact 9\r\nPUB exact 0\r\n\r\n  \r\nPING\r\n")
        client.expect_answer(denied_publish(b"no") + b"PONG\r\n")

    def test_with_headers(self):
        client = self.user("pub", headers=True)
        client.send(b"HPUB no 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
        client.expect_answer(denied_publish(b"no"))

    def test_verbose(self):
        client = self.open(verbose=True, user="pub", pass_="p")
        client.send(b"PUB no 2\r\nhi\r\nPUB p.a 2\r\nhi\r\n")
        client.expect_answer(b"+OK\r\n" + denied_publish(b"no") + b"+OK\r\n")

    def test_reply_is_not_checked(self):
        watcher, client = self.user("free"), self.user("pub")
        watcher.send(b"SUB p.reply 1\r\n")
        watcher.fence()
        client.send(b"PUB p.reply not.allowed 2\r\nhi\r\n")
        client.expect_silence()
        watcher.expect_answer(b"MSG p.reply 1 not.allowed 2\r\nhi\r\n")


class SubscribeTest(PermissionsCase):
    def test_allow_and_deny(self):
        self.check_subscribes("sub", [(b"s.a", None, True), (b"s.a.b", None, True), (b"s.*", None, True), (b"s.>", None, True),
                                      (b"exact", None, True), (b"t.x", None, True), (b"t.*", None, True), (b"other", None, False),
                                      (b"s", None, False), (b">", None, False), (b"*.a", None, False), (b"*.*", None, False),
                                      (b"t.x.y", None, False), (b"s.no.x", None, False), (b"s.no.*", None, False),
                                      (b"s.no.>", None, False), (b"s.no.x.y", None, True), (b"s.deny", None, False),
                                      (b"s.deny.x", None, True), (b"s.a", b"g", True), (b"s.deny", b"g", False)])

    @bulkhead_only("nats-server takes the wider pattern, which sees more than is allowed")
    def test_wider_than_allowed(self):
        self.check_subscribes("sub", [(b"t.>", None, False)])

    def test_deny_only(self):
        self.check_subscribes("subdeny", [(b"d.x", None, False), (b"d.*", None, False), (b"d.>", None, False), (b"e.x", None, False),
                                          (b"e.*", None, True), (b"*", None, True), (b">", None, True), (b"*.x", None, True)])

    def test_queue_entries(self):
        self.check_subscribes("queues", [(b"plain", None, True), (b"plain", b"any", True), (b"q", None, False), (b"q", b"v1.a", True),
                                         (b"q", b"v1", False), (b"q", b"v2.a", False), (b"both", None, True), (b"both", b"g", True),
                                         (b"both", b"h", False), (b"other", b"v1.a", False)])

    def test_queue_deny(self):
        self.check_subscribes("queuedeny", [(b"x", None, True), (b"x", b"h", True), (b"x", b"g", False), (b"y", b"a.prod", False),
                                            (b"y", b"a.dev", True), (b"y", b"prod", True), (b"y", None, True), (b"z", b"g", True)])

    def test_invalid_subject_is_denied_first(self):
        client = self.user("sub")
        client.send(b"SUB s..a 1\r\n")
        client.expect_answer(denied_subscribe(b"s..a"))

    def test_nothing_is_kept_of_a_refused_one(self):
        client, free = self.user("sub"), self.user("free")
        client.send(b"SUB no 1\r\nSUB s.a 1\r\n")
        client.expect_answer(denied_subscribe(b"no"))
        free.send(b"PUB no 2\r\nhi\r\nPUB s.a 2\r\nhi\r\n")
        free.fence()
        client.expect_answer(b"MSG s.a 1 2\r\nhi\r\n")

    def test_log(self):
        client = self.user("sub")
        client.send(b"SUB no 7\r\nSUB no g 8\r\n")
        client.expect_answer(denied_subscribe(b"no") + denied_subscribe(b"no", b"g"))
        self.server.wait_log_of(client, "Subscription")


class DeliveryTest(PermissionsCase):
    def test_deny_under_wildcards(self):
        client, free = self.user("subdeny"), self.user("free")
        client.send(b"SUB > 1\r\nSUB *.x 2\r\nSUB e.> 3\r\n")
        client.fence()
        free.send(b"PUB d.x 1\r\n1\r\nPUB d.y 1\r\n2\r\nPUB e.x 1\r\n3\r\nPUB d.x.y 1\r\n4\r\nPUB e.y 1\r\n5\r\n")
        free.fence()
        got = sorted(client.receive_message() for _ in range(3))
        self.assertEqual(got, [(b"d.x.y", b"1", b"4"), (b"e.y", b"1", b"5"), (b"e.y", b"3", b"5")])
        client.expect_silence()

    def test_own_messages_too(self):
        client = self.user("subdeny")
        client.send(b"SUB > 1\r\nPUB d.x 1\r\n1\r\nPUB a 1\r\n2\r\nPUB e.x 1\r\n3\r\n")
        client.expect_answer(b"MSG a 1 1\r\n2\r\n")

    def test_not_counted(self):
        """A message that is held back does not use up an UNSUB's maximum."""
        client, free = self.user("subdeny"), self.user("free")
        client.send(b"SUB *.* 1\r\nUNSUB 1 2\r\n")
        client.fence()
        free.send(5 * b"PUB d.x 1\r\n1\r\n" + 3 * b"PUB a.a 1\r\n2\r\n")
        free.fence()
        client.expect_answer(2 * b"MSG a.a 1 1\r\n2\r\n")

    def test_another_member_is_taken(self):
        denied, allowed, free = self.user("subdeny"), self.user("free"), self.user("free")
        denied.send(b"SUB *.x g 1\r\n")
        denied.fence()
        allowed.send(b"SUB d.x g 1\r\n")
        allowed.fence()
        free.send(50 * b"PUB d.x 1\r\n1\r\n")
        free.fence()
        allowed.expect_answer(50 * b"MSG d.x 1 1\r\n1\r\n")
        denied.expect_silence()
        free.send(200 * b"PUB f.x 1\r\n1\r\n")
        free.fence()
        denied.expect_answer(200 * b"MSG f.x 1 1\r\n1\r\n")

    def test_alone_in_its_group(self):
        denied, free = self.user("subdeny"), self.user("free")
        denied.send(b"SUB > g 1\r\n")
        denied.fence()
        free.send(b"PUB d.x 1\r\n1\r\nPUB g.x 1\r\n2\r\n")
        free.fence()
        denied.expect_answer(b"MSG g.x 1 1\r\n2\r\n")

    def test_in_a_large_fan_out(self):
        denied, free = self.user("subdeny"), self.user("free")
        denied.send(b"".join(b"SUB > %d\r\n" % sid for sid in range(500)))
        free.send(b"".join(b"SUB d.x %d\r\n" % sid for sid in range(500)))
        denied.fence()
        free.fence()
        free.send(b"PUB d.x 1\r\n1\r\n")
        self.assertEqual(sorted(int(free.receive_message()[1]) for _ in range(500)), list(range(500)))
        free.expect_silence()
        denied.expect_silence()


class ResponsesTest(PermissionsCase):
    def ask(self, client, asker, reply, subject=b"req.x"):
        """A request that the client has seen."""
        asker.send(b"PUB %s %s 1\r\n?\r\n" % (subject, reply))
        asker.fence()
        client.expect_exact(b"MSG %s 1 %s 1\r\n?\r\n" % (subject, reply))

    def pair(self, user):
        client, asker = self.user(user), self.user("free")
        client.send(b"SUB req.> 1\r\n")
        client.fence()
        asker.send(b"SUB rep.> 1\r\n")
        asker.fence()
        return client, asker

    def answer(self, client, reply, allowed):
        client.send(b"PUB %s 1\r\n!\r\n" % reply)
        client.expect_answer(b"" if allowed else denied_publish(reply))

    def test_true_is_one_answer(self):
        client, asker = self.pair("answer")
        self.answer(client, b"rep.1", False)
        self.ask(client, asker, b"rep.1")
        self.answer(client, b"rep.2", False)
        self.answer(client, b"rep.1", True)
        self.answer(client, b"rep.1", False)
        asker.expect_answer(b"MSG rep.1 1 1\r\n!\r\n")
        self.answer(client, b"req.x", False)

    def test_two_requests_with_one_reply(self):
        client, asker = self.pair("answer")
        self.ask(client, asker, b"rep.1")
        self.ask(client, asker, b"rep.1")
        self.answer(client, b"rep.1", True)
        self.answer(client, b"rep.1", False)

    def test_asked_again_after_the_answer(self):
        client, asker = self.pair("answer")
        for _ in range(3):
            self.ask(client, asker, b"rep.1")
            self.answer(client, b"rep.1", True)
            asker.expect_answer(b"MSG rep.1 1 1\r\n!\r\n")
        self.answer(client, b"rep.1", False)

    def test_exact_subject(self):
        client, asker = self.pair("answer")
        self.ask(client, asker, b"rep.*")
        self.answer(client, b"rep.x", False)
        self.answer(client, b"rep", False)
        self.answer(client, b"rep.*", True)

    def test_per_connection(self):
        client, asker = self.pair("answer")
        other = self.user("answer")
        self.ask(client, asker, b"rep.1")
        self.answer(other, b"rep.1", False)
        self.answer(client, b"rep.1", True)

    def test_maximum(self):
        client, asker = self.pair("answers")
        self.ask(client, asker, b"rep.no")
        for allowed in (True, True, True, False):
            self.answer(client, b"rep.no", allowed)
        asker.expect_answer(3 * b"MSG rep.no 1 1\r\n!\r\n")

    def test_expires(self):
        client, asker = self.pair("answers")
        self.ask(client, asker, b"rep.no")
        time.sleep(0.6)  # longer than `expires`
        self.answer(client, b"rep.no", False)

    def test_overrides_deny(self):
        client, asker = self.pair("answers")
        self.answer(client, b"rep.no", False)
        self.ask(client, asker, b"rep.no")
        self.answer(client, b"rep.no", True)

    def test_unlimited(self):
        client, asker = self.pair("unlimited")
        self.ask(client, asker, b"rep.1")
        for _ in range(100):
            client.send(b"PUB rep.1 1\r\n!\r\n")
        client.expect_silence()
        asker.expect_answer(100 * b"MSG rep.1 1 1\r\n!\r\n")
        self.answer(client, b"rep.2", False)

    def test_through_a_queue_only_the_member_that_was_asked(self):
        members = [self.user("answer") for _ in range(2)]
        asker = self.user("free")
        for member in members:
            member.send(b"SUB req.q g 1\r\n")
            member.fence()
        asker.send(b"PUB req.q rep.1 1\r\n?\r\n")
        asker.fence()
        for member in members:
            member.send(b"PUB rep.1 1\r\n!\r\n")
        lines = []
        for member in members:
            member.send(b"PING\r\n")
            lines.append(member.expect_until(b"PONG\r\n"))
        asked = b"MSG req.q 1 rep.1 1\r\n?\r\nPONG\r\n"
        self.assertEqual(sorted(lines), sorted([asked, denied_publish(b"rep.1") + b"PONG\r\n"]))

    def test_many_open_replies(self):
        client, asker = self.pair("few")
        for n in range(1000):
            asker.send(b"PUB req.x rep.%d 1\r\n?\r\n" % n)
        asker.fence()
        for n in range(1000):
            client.expect_exact(b"MSG req.x 1 rep.%d 1\r\n?\r\n" % n)
        client.send(b"".join(b"PUB rep.%d 1\r\n!\r\n" % n for n in range(1000)))
        client.expect_silence()
        self.assertEqual([asker.receive_message()[0] for _ in range(1000)], [b"rep.%d" % n for n in range(1000)])

    @bulkhead_only("its router is a process of its own")
    def test_a_new_router_counts_on(self):
        client, asker = self.pair("few")
        denied_client = self.user("subdeny")
        denied_client.send(b"SUB > 1\r\n")
        denied_client.fence()
        self.ask(client, asker, b"rep.1")
        denied_client.expect_exact(b"MSG req.x 1 rep.1 1\r\n?\r\n")
        for allowed in (True, True, True, True, True, False):
            self.kill_router()
            self.answer(client, b"rep.1", allowed)
            if allowed:
                asker.expect_exact(b"MSG rep.1 1 1\r\n!\r\n")
                denied_client.expect_exact(b"MSG rep.1 1 1\r\n!\r\n")
            self.answer(client, b"never.asked", False)
            asker.send(b"PUB d.x 1\r\nx\r\n")
            asker.expect_silence()
            denied_client.expect_silence()
        self.server._first_children = self.server.child_pids()

    @bulkhead_only("its router is a process of its own")
    def test_routers_die_while_answers_flow(self):
        """Each request is answered by more publishes than are allowed: exactly `max` of them arrive, whatever dies when."""
        client, asker = self.pair("few")
        for n in range(60):
            asker.send(b"PUB req.x rep.%d 1\r\n?\r\n" % n)
            client.expect_exact(b"MSG req.x 1 rep.%d 1\r\n?\r\n" % n)
            client.send(7 * (b"PUB rep.%d 1\r\n!\r\n" % n))
            if n % 12 == 5:
                self.kill_router(wait=False)
            client.expect_answer(2 * denied_publish(b"rep.%d" % n))
            asker.expect_answer(5 * (b"MSG rep.%d 1 1\r\n!\r\n" % n))
        wait_until(lambda: len(self.server.child_pids().get("router", [])) == 2, "a spare router")
        self.server._first_children = self.server.child_pids()

    def kill_router(self, wait=True):
        seen = take_over_count(self.server)
        kill(self.server, wait_until(lambda: live_router(self.server), "a router at work"))
        if wait:
            wait_until(lambda: take_over_count(self.server) > seen, "a new router")
            wait_until(lambda: len(self.server.child_pids().get("router", [])) == 2, "a spare router")


class DefaultsTest(IdentityCase):
    """A user's own block, else the account's, else that of `authorization`; never merged."""

    config = """
    authorization { default_permissions { publish: ["top.>"], subscribe: ["top.>"] }, users: [ {user: g, password: p},
                    {user: own, password: p, permissions { publish: ["own.>"] } }, {user: none, password: p, permissions {} } ] }
    accounts {
      A { default_permissions { publish: ["acc.>"] }, users: [ {user: a, password: p},
          {user: a_own, password: p, permissions { subscribe: ["own.>"] } } ] }
      B { users: [ {user: b, password: p} ] }
    }
    """

    def may(self, client, operation, subject):
        if operation == "pub":
            client.send(b"PUB %s 1\r\nx\r\n" % subject)
            error = denied_publish(subject)
        else:
            client.send(b"SUB %s 99\r\nUNSUB 99\r\n" % subject)
            error = denied_subscribe(subject)
        client.send(b"PING\r\n")
        line = client.expect_until(b"\r\n")
        if line == b"PONG\r\n":
            return True
        self.assertEqual(line, error)
        client.expect_exact(b"PONG\r\n")
        return False

    def test_precedence(self):
        rows = [("g", {"top": "pub sub", "own": "", "acc": ""}), ("own", {"top": "sub", "own": "pub sub", "acc": "sub"}),
                ("none", {"top": "pub sub", "own": "pub sub", "acc": "pub sub"}), ("a", {"top": "sub", "own": "sub", "acc": "pub sub"}),
                ("a_own", {"top": "pub", "own": "pub sub", "acc": "pub"})]
        for user, expected in rows:
            client = self.login(user, "p")
            for word, allowed in expected.items():
                for operation in ("pub", "sub"):
                    with self.subTest(user=user, subject=f"{word}.x", operation=operation):
                        self.assertEqual(self.may(client, operation, f"{word}.x".encode()), operation in allowed.split())

    def test_of_an_account_without(self):
        client = self.login("b", "p")
        for operation in ("pub", "sub"):
            self.assertTrue(self.may(client, operation, b"any.x"), "those of `authorization` are for its own users only")


if __name__ == "__main__":
    unittest.main()
