# SPDX-License-Identifier: Apache-2.0
"""What log and trace lines say of what a client sent: the fault by its operation and bytes, and never a credential."""

import unittest

from harness import QUIET, UNKNOWN_OP, Client, ServerCase, bulkhead_only

SECRET = "hunter2"
CONNECTS = (
    '{"user":"u","pass":"hunter2"}', '{"PASS" : "hunter2"}', '{"passwd":"hunter2"}', r'{"p\u0061ss":"hunter2"}',
    r'{"pass":"a\",\"b\":\"hunter2"}', '{"jwt":"hunter2","sig":"hunter2","auth_token":"hunter2","proxy_sig":"hunter2"}',
    '{"name":{"pass":"hunter2"}}', '{"pass":["hunter2","x"]}', '{"pass":hunter2}', '{"protocol":hunter2}', '{pass:"hunter2"}',
    '{"pass":"hunter2', '{"name":"n"} "hunter2"', '["hunter2"]', '"hunter2"',
)
MISSPELT = ('CONECT {"pass":"hunter2"}', 'PINGCONNECT {"pass":"hunter2"}', '{"pass":"hunter2"}', '-ERR {"pass":"hunter2"}x',
            'INFO {"pass":"hunter2"}', '+OK {"pass":"hunter2"}')

# Bytes, and what the log says about them.
FAULTS = (
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "this is HTTP"),
    (b"\x16\x03\x01\x02\x00\x01\x00", "this is TLS"),
    (b"FOO\r\n", "Client parser ERROR, unknown operation: proto='\"FOO\\r\\n\"'"),
    (b"PUB a\r\n", 'processPub Parse Error: "a"'),
    (b"SUB a b c d\r\n", 'processSub Parse Error: "a b c d"'),
    (b"UNSUB\t1 2 3\r\n", 'processUnsub Parse Error: "1 2 3"'),
    (b"HPUB a 9 2\r\n", 'processHeaderPub Parse Error: "a 9 2"'),
    (b"HPUB a 1 2\r\n", "message headers not supported"),
    (b"PUB a 9999999\r\n", "maximum payload exceeded: 9999999 vs 1048576"),
    (b"PUB a 2\r\nhiX", "no line end behind the payload"),
    (b"SUB " + 5000 * b"a", "maximum control line exceeded: SUB, max_control_line 4096"),
    (b'CONNECT {"protocol":7}\r\n', "invalid client protocol"),
    (b"CONNECT {bad\r\n", "CONNECT is no JSON object"),
)


@bulkhead_only("the words are its own where nats-server has none")
class TraceTest(ServerCase):
    options = {"flags": ("-DV",)}

    def test_secrets(self):
        for text in (*(f"CONNECT {json}" for json in CONNECTS), *MISSPELT):
            with self.subTest(text):
                client = Client(self.server)
                client.send(text.encode() + b"\r\nBOGUS\r\n")
                client.receive_rest()
                self.server.wait_log_of(client, "connection closed")
                self.assertNotIn(SECRET, "".join(line for line in self.server.log().splitlines() if client.name in line))
                client.close()

    def test_faults(self):
        for sent, said in FAULTS:
            with self.subTest(sent[:20]):
                client = Client(self.server)
                client.send(sent)
                client.receive_rest()
                self.server.wait_log_of(client, said)
                client.close()

    def test_payload_end(self):
        """The first wrong byte is enough, however the bytes come."""
        for pieces in ((b"PUB a 2\r\nhiX",), (b"PUB a 2\r\nhi", b"\n"), (b"PUB a 0\r\n", b"x")):
            client = self.client()
            client.send(QUIET + b"PING\r\n")
            client.expect_exact(b"PONG\r\n")
            for piece in pieces:
                client.send(piece)
            client.expect_answer(UNKNOWN_OP)

    def test_long_lines_are_marked(self):
        client = self.client()
        client.send(QUIET + b"PUB a 20000\r\n" + 20000 * b"x" + b"\r\nPING\r\n")
        client.expect_exact(b"PONG\r\n")
        self.server.wait_log_of(client, 3500 * "x")
        line = next(line for line in self.server.log().splitlines() if 3500 * "x" in line)
        self.assertTrue(line.endswith("x..."), line[-20:])

    def test_words(self):
        client = self.client()
        client.send(QUIET + b"SUB a 1\r\nUNSUB 1\r\nSUB a..b 2\r\nPING\r\n")
        client.expect_exact(b"-ERR 'Invalid Subject'\r\nPONG\r\n")
        for said in ("<-> [DELSUB 1]", "->> [-ERR Invalid Subject]", "SID 2", "->> [PONG]"):
            self.server.wait_log_of(client, said)


if __name__ == "__main__":
    unittest.main()
