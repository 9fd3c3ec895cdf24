# SPDX-License-Identifier: Apache-2.0
"""bulkhead-try, the small client: what the README shows, credentials, and what it says when something is wrong."""

import os
import subprocess
import unittest

from harness import BUILD, DEADLINE, Server

TRY = os.path.join(BUILD, "bulkhead-try")
USERS = 'authorization { users: [ { user: ann, password: "open:sesame" } ] }\n'


class TryTest(unittest.TestCase):
    def serve(self, **options):
        server = Server(**options)
        self.addCleanup(server.stop)
        return server

    def command(self, server, *words):
        return [TRY, "-s", f"127.0.0.1:{server.port}", *words]

    def run_try(self, server, *words):
        done = subprocess.run(self.command(server, *words), capture_output=True, text=True, timeout=DEADLINE)
        return done.returncode, done.stdout, done.stderr

    def listen(self, server, *words):
        """A sub or reply that has told that it listens."""
        process = subprocess.Popen(self.command(server, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertTrue(process.stderr.readline().startswith("Listening on"))
        return process

    def test_publish_and_subscribe(self):
        server = self.serve()
        listener = self.listen(server, "-n", "2", "sub", "greetings.*")
        self.assertEqual(self.run_try(server, "pub", "greetings.a", "hello"), (0, "", ""))
        self.assertEqual(self.run_try(server, "pub", "greetings.b", ""), (0, "", ""))
        self.assertEqual(listener.communicate(timeout=DEADLINE)[0], "greetings.a: hello\ngreetings.b: \n")
        self.assertEqual(listener.returncode, 0)

    def test_request_and_reply(self):
        server = self.serve()
        replier = self.listen(server, "-n", "1", "-q", "workers", "reply", "time", "noon")
        code, out, _ = self.run_try(server, "request", "time", "now?")
        self.assertEqual((code, out.split(": ")[1]), (0, "noon\n"))
        self.assertEqual(replier.communicate(timeout=DEADLINE)[0], "time: now?\n")
        code, out, error = self.run_try(server, "request", "nowhere", "x")
        self.assertEqual((code, out, error), (1, "", "bulkhead-try: nobody answers on that subject\n"))

    def test_credentials(self):
        server = self.serve(config=USERS)
        self.assertEqual(self.run_try(server, "-u", "ann:open:sesame", "pub", "a", "x"), (0, "", ""))
        code, _, error = self.run_try(server, "-u", "ann:shut", "pub", "a", "x")
        self.assertEqual((code, error), (1, "bulkhead-try: the server says: 'Authorization Violation'\n"))

    def test_usage(self):
        server = self.serve()
        for words in ([], ["pub", "a"], ["sub", "a b"], ["dance", "a", "b"], ["-x", "sub", "a"]):
            with self.subTest(words):
                code, out, error = self.run_try(server, *words)
                self.assertEqual((code, out), (2, ""))
                self.assertIn("Usage: bulkhead-try", error)


if __name__ == "__main__":
    unittest.main()
