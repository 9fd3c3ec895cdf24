# SPDX-License-Identifier: Apache-2.0
"""What the tests of logins and permissions share: a case whose server has a configuration file, and clients that log in."""

import itertools
import unittest

from harness import EOF, Client, Server

REFUSED = b"-ERR 'Authorization Violation'\r\n" + EOF
LATE = b"-ERR 'Authentication Timeout'\r\n" + EOF


def denied(what, subject):
    """The error line of a permission; what is `Publish` or `Subscription`."""
    return b"-ERR 'Permissions Violation for %s to \"%s\"'\r\n" % (what, subject)


def denied_publish(subject):
    return denied(b"Publish", subject)


def denied_subscribe(subject, queue=None):
    line = denied(b"Subscription", subject)
    return line.replace(b"'\r\n", b" using queue \"%s\"'\r\n" % queue) if queue else line


class IdentityCase(unittest.TestCase):
    """`config`, if set, is that of the one server of the class; else each test serves what it needs.

    Every server logs debug lines: they tell why a connection ended.
    """

    config = None
    options = {}
    _numbers = itertools.count()
    _sources = itertools.count()

    @classmethod
    def setUpClass(cls):
        cls.server = None
        if cls.config:
            cls.server = Server(config=cls.config, flags=("-D",), **cls.options)
            cls.addClassCleanup(cls.server.stop)

    def tearDown(self):
        if type(self).server:
            self.server.check()

    def serve(self, config, **options):
        self.server = Server(config=config, flags=("-D",), **options)
        self.addCleanup(self.server.stop)
        return self.server

    def open(self, source=None, tls=None, **connect):
        """A client that has sent its CONNECT, if any key is given, and has no answer yet.

        Without a source it has an address of its own: whose logins fail again and again is made to wait.
        """
        number = next(self._sources)
        client = Client(self.server, source=source or f"127.1.{number // 250}.{number % 250 + 1}", tls=tls, **connect)
        self.addCleanup(client.close)
        return client

    def login(self, user=None, pass_=None, **fields):
        """A client that is in."""
        keys = {"user": user, "pass": pass_} if user is not None else {}
        client = self.open(**{"verbose": False, "pedantic": False, **keys, **fields})
        client.fence()
        return client

    def nkey_login(self, nkey, **fields):
        client = self.open()
        client.connect(verbose=False, **nkey.login(client.info), **fields)
        client.fence()
        return client

    def expect_refused(self, client, log="authentication error"):
        """The violation and the end reach the client, and the log has a line of the error and one of the reason."""
        client.expect_answer(REFUSED)
        self.server.wait_log_of(client, f"[ERR] {client.name}")
        self.server.wait_log_of(client, log + "\n")
        self.server.wait_log_of(client, "Client connection closed: Authentication Failure")

    def expect_account(self, client, account, watchers):
        """The client publishes into this account: of {account: client} only that account's one sees it."""
        number = b"%d" % next(self._numbers)
        for watcher in watchers.values():
            watcher.send(b"SUB probe.%s %s\r\n" % (number, number))
            watcher.fence()
        client.send(b"PUB probe.%s 2\r\nhi\r\n" % number)
        client.fence()
        for name, watcher in watchers.items():
            watcher.expect_answer(b"MSG probe.%s %s 2\r\nhi\r\n" % (number, number) if name == account else b"")
