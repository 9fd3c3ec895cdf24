# SPDX-License-Identifier: Apache-2.0
"""The start of a connection: INFO and CONNECT. The numbers in the class comments are sections of docs/protocol.md."""

import json
import os
import subprocess

from harness import CLOSED, DEADLINE, EOF, EXECUTABLE, REAL_NATS, Client, Server, ServerCase, bulkhead_only, wait_until

VIOLATION = b"-ERR 'Authorization Violation'\r\n" + EOF
BAD_PROTOCOL = b"-ERR 'invalid client protocol'\r\n" + EOF
NEEDS_HEADERS = b"-ERR 'no responders requires headers support'\r\n" + EOF
OK = b"+OK\r\n"

BOOLS = ("verbose", "pedantic", "echo", "headers", "no_responders", "tls_required", "new_account")
STRINGS = ("user", "pass", "auth_token", "nkey", "jwt", "sig", "name", "lang", "version", "account")


def connect(text):
    return b"CONNECT " + text + b"\r\n"


class InfoTest(ServerCase):
    """The INFO line."""

    def test_bytes(self):
        line = self.client().info_line
        self.assertRegex(line, rb'\AINFO \{"server_id":"N[A-Z2-7]{55}","server_name":"[^"]+",'
                               rb'"version":"\d+\.\d+\.\d+[^"]*",("server":"bulkhead [0-9.]+",)?"proto":1,')
        self.assertTrue(line.endswith(b"} \r\n"), line)
        text = line[len("INFO "):-len(" \r\n")]
        self.assertEqual(json.dumps(json.loads(text), separators=(",", ":")).encode(), text, "compact json")

    def test_keys_and_order(self):
        keys = list(self.client().info)
        for optional in ("git_commit", "server"):  # the real server's build, Bulkhead's own version
            if optional in keys:
                keys.remove(optional)
        self.assertEqual(keys, ["server_id", "server_name", "version", "proto", "go", "host", "port", "headers", "max_payload",
                                "client_id", "client_ip"])

    def test_values(self):
        info = self.client().info
        self.assertEqual(info["proto"], 1)
        self.assertEqual(info["host"], "127.0.0.1")
        self.assertEqual(info["port"], self.server.port)
        self.assertIs(info["headers"], True)
        self.assertEqual(info["max_payload"], 1048576)
        self.assertEqual(info["client_ip"], "127.0.0.1")
        self.assertEqual(info["server_name"], info["server_id"])
        self.assertIsInstance(info["go"], str)

    def test_one_server_many_clients(self):
        infos = [self.client().info for _ in range(20)]
        self.assertEqual(len({info["server_id"] for info in infos}), 1)
        self.assertEqual(len({info["client_id"] for info in infos}), 20)

    def test_client_id_is_a_positive_number(self):
        client_id = self.client().info["client_id"]
        self.assertIs(type(client_id), int)
        self.assertGreater(client_id, 0)

    def test_bytes_sent_before_info_is_read(self):
        """INFO comes first, also for a client that talks at once."""
        client = Client(self.server, first=b'CONNECT {"verbose":false}\r\nPING\r\n')
        self.addCleanup(client.close)
        self.assertTrue(client.info_line.startswith(b"INFO {"))
        client.expect_exact(b"PONG\r\n")
        client.expect_silence()

    def test_no_second_info(self):
        for protocol in (0, 1):
            client = self.quiet_client(protocol=protocol)
            for _ in range(3):
                client.expect_silence()

    def test_another_server_has_another_id(self):
        with Server() as other, Client(other) as client:
            self.assertNotEqual(client.info["server_id"], self.client().info["server_id"])


class NoConnectTest(ServerCase):
    """A client that never sends CONNECT is verbose, pedantic, echoes, and has no headers."""

    def test_defaults(self):
        self.check_table([
            ("verbose", b"SUB a 1\r\nPUB a 1\r\nx\r\n", 2 * OK + b"MSG a 1 1\r\nx\r\n"),
            ("headers", b"HPUB a 12 12\r\n", CLOSED),
        ], before=b"")
        self.check_table([("pedantic", b"PUB a..b 1\r\nx\r\n", b"-ERR 'Invalid Publish Subject'\r\n" + OK)], before=b"",
                         bytewise=not REAL_NATS)

    def test_ping(self):
        self.client().expect_silence()


class ConnectTest(ServerCase):
    """CONNECT: what may stand in it, and what each option does."""

    def check_texts(self, texts, answer):
        self.check_table([(repr(text), connect(text), answer) for text in texts], before=b"")

    def test_accepted_json(self):
        self.check_texts((
            b"{}", b"null", b" \t {} \t ", b'{ "verbose" : true }', b'{"unknown":1,"other":{"a":[1,2,{"b":null}]}}',
            b'{"verbose":null,"user":null,"protocol":null,"echo":null}', b'{"name":"\xff\xfe"}', '{"name":"ä€😀"}'.encode(),
            b'{"name":"\\u00e4\\ud83d\\ude00\\n\\"\\\\\\/"}', b'{"name":"\\ud800"}', b'{"name":"\x7f"}', b'{"":1}',
            b'{"x":1e5,"y":-0.25E-2,"z":true,"w":[]}', b'{"x":123456789012345678901234567890}',
        ), OK)

    def test_no_blank_is_needed(self):
        self.check_table([
            ("none", b"CONNECT{}\r\n", OK),
            ("tab", b"CONNECT\t{}\r\n", OK),
            ("blanks before the line end", b"CONNECT {}  \t \r\n", OK),
        ], before=b"")

    def test_refused_json(self):
        self.check_texts((
            b"", b"  ", b"{", b"}", b'{"verbose"', b'{"verbose":', b'{"verbose":tru}', b'{"verbose":true', b'{"verbose":true,}',
            b"{'verbose':true}", b"{verbose:true}", b"[]", b'["verbose"]', b'"x"', b"5", b"true", b"false", b"{}{}",
            b"{} x", b"{}]", b'{"name":"\x01"}', b'{"name":"a\tb"}', b'{"name":"\\x"}', b'{"name":"\\u12"}', b'{"name":"a}',
            b'{"protocol":01}',
            b'{"x":+1}', b'{"x":.5}', b'{"x":1.}', b'{"x":1e}', b'{"x":-}', b'{"x":nul}', b'{"x":[1,]}', b'{"x" 1}', b'{,}',
            b"{}\0", b"\xef\xbb\xbf{}",
        ), CLOSED)

    def test_types(self):
        wrong = []
        for key in BOOLS:
            wrong += [b'{"%b":%b}' % (key.encode(), value) for value in (b"0", b"1", b'"true"', b"[]", b"{}")]
        for key in STRINGS:
            wrong += [b'{"%b":%b}' % (key.encode(), value) for value in (b"5", b"true", b"[]", b"{}")]
        wrong += [b'{"protocol":%b}' % value for value in (b'"1"', b"1.0", b"1e0", b"true", b"[]", b"{}",
                                                          b"99999999999999999999")]
        wrong += [b'{"import":5}', b'{"import":"a"}', b'{"export":[]}', b'{"import":{"allow":5}}', b'{"export":{"deny":[5]}}']
        self.check_texts(wrong, CLOSED)

    def test_right_types(self):
        self.check_texts(
            [b'{"%b":%b}' % (key.encode(), value) for key in ("pedantic", "echo", "headers", "tls_required")
             for value in (b"true", b"false")] +
            [b'{"%b":"x"}' % key.encode() for key in STRINGS if key != "account"] +
            [b'{"verbose":true}', b'{"no_responders":false}', b'{"new_account":false}', b'{"account":""}',
             b'{"protocol":0}', b'{"protocol":1}', b'{"protocol":-0}',
             b'{"import":{"allow":["a"],"deny":[]},"export":{"allow":null}}', b'{"import":null,"export":{}}'], OK)

    def test_keys(self):
        """Key case is ignored; of a key that comes twice the last value holds; escapes in keys count."""
        self.check_table([(name, connect(text) + b"SUB a 1\r\n", answer) for name, text, answer in (
            ("upper case", b'{"VERBOSE":false}', b""),
            ("mixed case", b'{"vErBoSe":false}', b""),
            ("twice, false last", b'{"verbose":true,"verbose":false}', b""),
            ("twice, true last", b'{"verbose":false,"verbose":true}', 2 * OK),
            ("twice, null last", b'{"verbose":false,"verbose":null}', b""),
            ("twice, other case last", b'{"verbose":true,"Verbose":false}', b""),
            ("escaped", b'{"\\u0076erbose":false}', b""),
            ("nested key of the same name", b'{"x":{"verbose":false}}', 2 * OK),
            ("another key that starts alike", b'{"verbose2":false,"verb":false}', 2 * OK),
        )], before=b"")

    def test_credentials_are_ignored(self):
        self.check_texts((b'{"user":"u","pass":"p"}', b'{"auth_token":"t"}', b'{"nkey":"U","sig":"x"}',
                          b'{"jwt":"x.y.z","sig":"x"}'), OK)

    def test_defaults_of_absent_keys(self):
        self.check_table([("verbose", b"CONNECT {}\r\nSUB a 1\r\nPUB a 1\r\nx\r\n", 3 * OK + b"MSG a 1 1\r\nx\r\n"),
                          ("headers", b"CONNECT {}\r\nHPUB a 12 12\r\n", OK + CLOSED)], before=b"")
        self.check_table([("pedantic", b"CONNECT {}\r\nPUB a..b 1\r\nx\r\n", OK + b"-ERR 'Invalid Publish Subject'\r\n" + OK)],
                         before=b"", bytewise=not REAL_NATS)

    def test_protocol(self):
        self.check_texts((b'{"protocol":2}', b'{"protocol":-1}', b'{"protocol":1000000}'), BAD_PROTOCOL)

    def test_no_responders_needs_headers(self):
        self.check_texts((b'{"no_responders":true}', b'{"no_responders":true,"headers":false}'), NEEDS_HEADERS)
        self.check_texts((b'{"no_responders":true,"headers":true}',), OK)

    def test_accounts_are_refused(self):
        self.check_texts((b'{"account":"A"}', b'{"new_account":true}', b'{"account":"A","new_account":true}'), VIOLATION)

    def test_order_of_checks(self):
        self.check_table([(repr(text), connect(text), answer) for text, answer in (
            (b'{"account":"A","protocol":7}', VIOLATION),
            (b'{"account":"A","no_responders":true}', VIOLATION),
            (b'{"protocol":7,"no_responders":true}', BAD_PROTOCOL),
            (b'{"account":"A","protocol":"7"}', CLOSED),
        )], before=b"")

    def test_refusal_ends_all(self):
        self.check_table([("later ops", connect(b'{"protocol":7}') + b"PING\r\nSUB a 1\r\n", BAD_PROTOCOL),
                          ("no +OK before the end", connect(b'{"verbose":true,"account":"A"}'), VIOLATION)], before=b"")

    def test_tls_required_is_ignored(self):
        self.client(verbose=False, tls_required=True).expect_silence()

    def test_large_connect(self):
        limit = 4096
        name = (limit - len('{"name":""}')) * b"n"
        self.check_table([("to the limit", connect(b'{"name":"%b"}' % name), OK),
                          ("over it", connect(b'{"name":"%bn"}' % name), b"-ERR 'maximum control line exceeded'\r\n" + EOF)],
                         before=b"")


class SecondConnectTest(ServerCase):
    """A second CONNECT: present keys overwrite, absent ones keep their value."""

    def test_merge(self):
        self.check_table([
            ("verbose later", b'CONNECT {"verbose":false}\r\nSUB a 1\r\nCONNECT {"verbose":true}\r\nSUB b 2\r\n', 2 * OK),
            ("verbose stays off", b'CONNECT {"verbose":false}\r\nCONNECT {"name":"x"}\r\nSUB a 1\r\n', b""),
            ("verbose stays on", b'CONNECT {}\r\nCONNECT {"name":"x"}\r\nSUB a 1\r\n', 3 * OK),
            ("null keeps", b'CONNECT {"verbose":false}\r\nCONNECT {"verbose":null}\r\nCONNECT null\r\nSUB a 1\r\n', b""),
            ("quiet later", b'CONNECT {"verbose":true}\r\nCONNECT {"verbose":false}\r\nSUB a 1\r\n', OK),
            ("echo off later", b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nCONNECT {"echo":false}\r\n'
             b"PUB a 1\r\ny\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("echo on again", b'CONNECT {"verbose":false,"echo":false}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nCONNECT {"echo":true}\r\n'
             b"PUB a 1\r\ny\r\n", b"MSG a 1 1\r\ny\r\n"),
            ("headers later", b'CONNECT {"verbose":false}\r\nSUB a 1\r\nCONNECT {"headers":true}\r\n'
             b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n"),
            ("no_responders with the headers of before", b'CONNECT {"verbose":false,"headers":true}\r\n'
             b'CONNECT {"no_responders":true}\r\nSUB r 1\r\nPUB none r 1\r\nx\r\n',
             b"HMSG r 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"),
            ("after SUB without CONNECT", b'SUB a 1\r\nCONNECT {"verbose":false}\r\nPUB a 1\r\nx\r\n',
             OK + b"MSG a 1 1\r\nx\r\n"),
        ], before=b"")
        self.check_table([("pedantic stays off", b"CONNECT {}\r\nPUB a..b 1\r\nx\r\n", b"")])

    def test_refusals(self):
        first = b'CONNECT {"verbose":false}\r\n'
        self.check_table([
            ("bad json", first + b"CONNECT {\r\n", CLOSED),
            ("protocol", first + b'CONNECT {"protocol":2}\r\n', BAD_PROTOCOL),
            ("headers off under no_responders", b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
             b'CONNECT {"headers":false}\r\n', NEEDS_HEADERS),
        ], before=b"")

    def test_many(self):
        self.check_table([("100", 100 * b'CONNECT {"verbose":true}\r\n', 100 * OK)], before=b"")


class CommandLineTest(ServerCase):
    """What the other tests need from the command line."""

    def test_ports_file(self):
        directory = self.server.directory
        name = f"{os.path.basename(EXECUTABLE)}_{self.server.pid}.ports"
        wait_until(lambda: name in os.listdir(directory), "the ports file")
        with open(os.path.join(directory, name)) as file:
            self.assertEqual(json.load(file)["nats"], [f"nats://127.0.0.1:{self.server.port}"])

    def test_random_port(self):
        with Server(port=-1) as server, Client(server, verbose=False) as client:
            client.expect_silence()
            self.assertEqual(client.info["port"], server.port)

    def test_log_lines(self):
        self.assertRegex(self.server.wait_log("Server is ready"),
                         rf"\A\[{self.server.pid}\] \d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{{6}} \[INF\] Server is ready\n\Z")
        self.server.wait_log(f"[INF] Listening for client connections on 127.0.0.1:{self.server.port}")

    def test_version_and_help(self):
        version = subprocess.run([EXECUTABLE, "-v"], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(version.returncode, 0)
        self.assertRegex(version.stdout, r"\A[\w-]+: v?\d+\.\d+\.\d+")
        usage = subprocess.run([EXECUTABLE, "-h"], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(usage.returncode, 0)
        self.assertIn("Usage:", usage.stdout)

    def test_tracing_server_works(self):
        """-DV changes what is logged and nothing else."""
        with Server(flags=["-DV"]) as server, Client(server, verbose=False) as client:
            client.send(b"SUB a 1\r\nPUB a 1\r\nx\r\n")
            client.expect_exact(b"MSG a 1 1\r\nx\r\n")
            client.expect_silence()

    @bulkhead_only("nats-server masks texts alone")
    def test_no_credential_is_traced(self):
        with Server(flags=["-DV"]) as server:
            for value in ('"canary"', '["x","canary"]', '{"x":"canary"}', '"x" "canary"', '["x",["canary"]', '"canary'):
                for key in ("pass", "auth_token", "jwt", "SIG"):
                    with Client(server) as client:
                        client.send(b'CONNECT {"verbose":false,"%s" : %s,"name":"n"}\r\nPING\r\n' % (key.encode(), value.encode()))
                        client.receive_rest() if value != '"canary"' else client.expect_until(b"PONG\r\n")
            server.wait_log("REDACTED")
            self.assertNotIn("canary", server.log())

    def test_an_operation_that_waits_is_traced_once(self):
        with Server(flags=["-DV"]) as server, Client(server, verbose=False) as client:
            client.send(b"PING\r\nSUB once q 1\r\nPING\r\n")
            client.expect_exact(b"PONG\r\nPONG\r\n")
            server.wait_log("SUB once q 1")
            self.assertEqual(server.log().count("SUB once q 1"), 1)
