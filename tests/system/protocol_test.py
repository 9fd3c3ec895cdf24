# SPDX-License-Identifier: Apache-2.0
"""The client protocol, byte for byte: operations, limits, error texts, subjects, subscriptions, headers, closing.

Most tests are tables of (name, sent, answer); harness.ServerCase.check_table says how a row is run. What clients may
rely on is docs/client-protocol.md.
"""

from harness import CLOSED, EOF, REAL_NATS, UNKNOWN_OP, QUIET, Client, Server, ServerCase, bulkhead_only, wait_until

WITH_HEADERS = b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n'
WITH_RESPONDERS = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
PEDANTIC = b'CONNECT {"verbose":false}\r\n'
INVALID_SUBJECT = b"-ERR 'Invalid Subject'\r\n"
INVALID_PUBLISH = b"-ERR 'Invalid Publish Subject'\r\n"
CONTROL_LINE = b"-ERR 'maximum control line exceeded'\r\n" + EOF
PAYLOAD = b"-ERR 'Maximum Payload Violation'\r\n" + EOF
MAX_SUBSCRIPTIONS = b"-ERR 'maximum subscriptions exceeded'\r\n"

NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n\r\n"


def no_responders(reply, sid):
    return b"HMSG " + reply + b" " + sid + b" 16 16\r\n" + NO_RESPONDERS


class GrammarTest(ServerCase):
    """How operations are written: case, blanks, line ends, arguments."""

    def test_names_in_any_case(self):
        self.check_table([
            ("ping", b"ping\r\n", b"PONG\r\n"),
            ("pInG", b"pInG\r\n", b"PONG\r\n"),
            ("pong", b"pOnG\r\n", b""),
            ("sub and pub", b"sub a 1\r\npub a 1\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("SuB and PuB", b"SuB a 1\r\nPuB a 1\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("unsub", b"SUB a 1\r\nuNsUb 1\r\nPUB a 1\r\nx\r\n", b""),
            ("connect", b'cOnNeCt {"verbose":true}\r\n', b"+OK\r\n"),
            ("hpub", WITH_HEADERS + b'hPuB a 12 12\r\nNATS/1.0\r\n\r\n\r\n', b""),
            ("info", b"iNfO {}\r\n", b""),
            ("+ok", b"+oK\r\n", b""),
            ("-err", b"-eRr x\r\n", CLOSED),
            ("keys of arguments keep their case", b"SUB Ab Cd\r\nPUB Ab 1\r\nx\r\nPUB ab 1\r\nx\r\n", b"MSG Ab Cd 1\r\nx\r\n"),
        ])

    def test_first_wrong_byte_is_an_error_at_once(self):
        self.check_table([(repr(sent), sent, UNKNOWN_OP) for sent in (
            b"X", b"PX", b"PUX", b"PUBX", b"PIX", b"PINX", b"POX", b"PONX", b"SX", b"SUX", b"SUBX", b"UX", b"UNX", b"UNSX",
            b"UNSUX", b"UNSUBX", b"HX", b"HPX", b"HPUX", b"HPUBX", b"CX", b"COX", b"CONX", b"CONNX", b"CONNEX", b"CONNECX",
            b"IX", b"INX", b"INFX", b"+X", b"+OX", b"-X", b"-EX", b"-ERX", b"-ERRX",
            b" PING\r\n", b"\tPING\r\n", b"\r\n", b"\n", b"\r", b"\0", b"{", b"\xff",
        )])

    def test_separators(self):
        self.check_table([
            ("blanks", b"SUB   a   1   \r\nPUB   a   1   \r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("tabs", b"SUB\ta\t1\t\r\nPUB\ta\t1\t\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("mixed", b"SUB \t a\t \tq<UNIQUE> \t 1\t \r\nPUB\t a \t r\t\t1 \r\nx\r\n", b"MSG a 1 r 1\r\nx\r\n"),
            ("unsub", b"SUB a 1\r\nUNSUB \t 1 \t\r\nPUB a 1\r\nx\r\n", b""),
            ("unsub with a maximum", b"SUB a 1\r\nUNSUB\t1\t \t1 \r\n" + 2 * b"PUB a 1\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("ping", b"PING \t\r\n", b"PONG\r\n"),
            ("connect", b'CONNECT \t {"verbose":true} \t\r\n', b"+OK\r\n"),
            ("PUB alone", b"PUB\r\n", UNKNOWN_OP),
            ("HPUB alone", b"HPUB\r\n", UNKNOWN_OP),
            ("SUB alone", b"SUB\r\n", UNKNOWN_OP),
            ("UNSUB alone", b"UNSUB\r\n", UNKNOWN_OP),
            ("-ERR alone", b"-ERR\r\n", UNKNOWN_OP),
        ])

    def test_line_ends(self):
        self.check_table([
            ("lone LF", b"SUB a 1\nPUB a 1\nx\r\nPING\nUNSUB 1\nPONG\n", b"MSG a 1 1\r\nx\r\nPONG\r\n"),
            ("lone LF after CONNECT", b'CONNECT {"verbose":true}\n', b"+OK\r\n"),
            ("two CR after SUB", b"SUB a 1\r\r\nPUB a 1\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("two CR after UNSUB", b"SUB a 1\r\nUNSUB 1\r\r\nPUB a 1\r\nx\r\n", b""),
            ("CR does not end a PING", b"PING\rPING\r\n", b"PONG\r\n"),
            ("empty line", b"\r\n", UNKNOWN_OP),
            ("empty line after an op", b"PING\r\n\r\n", b"PONG\r\n" + UNKNOWN_OP),
            ("lone LF as an empty line", b"PING\n\n", b"PONG\r\n" + UNKNOWN_OP),
        ])

    def test_two_cr_after_pub(self):
        self.check_table([
            ("PUB", b"SUB a 1\r\nPUB a 1\r\r\nx\r\n", CLOSED),
            ("HPUB", WITH_HEADERS + b"HPUB a 12 12\r\r\nNATS/1.0\r\n\r\n\r\n", CLOSED),
        ], bytewise=not REAL_NATS)  # which drops one CR for each split

    def test_junk_after_ping_pong_ok(self):
        self.check_table([
            ("PING", b"PINGxyz foo\r\n", b"PONG\r\n"),
            ("PING and a blank", b"PING foo\0\xff\r\n", b"PONG\r\n"),
            ("PONG", b"PONGxyz foo\r\n", b""),
            ("+OK", b"+OKxyz foo\r\n", b""),
        ])

    @bulkhead_only("junk is bounded by the control line limit")
    def test_junk_is_bounded(self):
        self.check_table([
            ("PING", b"PING" + 5000 * b"x", CONTROL_LINE),
            ("PONG", b"PONG" + 5000 * b"x", CONTROL_LINE),
            ("+OK", b"+OK" + 5000 * b"x", CONTROL_LINE),
        ])

    def test_payload_end(self):
        self.check_table([(name, b"SUB a 1\r\n" + sent, answer) for name, sent, answer in (
            ("empty payload", b"PUB a 0\r\n\r\n", b"MSG a 1 0\r\n\r\n"),
            ("payload of line ends", b"PUB a 4\r\n\r\n\r\n\r\n", b"MSG a 1 4\r\n\r\n\r\n\r\n"),
            ("payload like an op", b"PUB a 6\r\nPING\r\n\r\n", b"MSG a 1 6\r\nPING\r\n\r\n"),
            ("lone LF", b"PUB a 1\r\nx\nPING\r\n", UNKNOWN_OP),
            ("CR and another byte", b"PUB a 1\r\nx\rX", UNKNOWN_OP),
            ("short payload", b"PUB a 2\r\nx\r\nPING\r\n", UNKNOWN_OP),
            ("long payload", b"PUB a 1\r\nxy\r\n", UNKNOWN_OP),
            ("long empty payload", b"PUB a 0\r\nx\r\n", UNKNOWN_OP),
            ("no line end", b"PUB a 1\r\nxPING\r\n", UNKNOWN_OP),
        )])

    def test_arguments_are_raw_bytes(self):
        for name, word in (("NUL", b"\0"), ("0x01", b"\x01"), ("0x0b", b"\x0b"), ("0x0c", b"\x0c"), ("0x7f", b"\x7f"),
                           ("UTF-8", "ä€😀".encode()), ("not UTF-8", b"\xff\xc0\x80"), ("quotes", b"'\"\\"),
                           ("no-break space", b"\xc2\xa0"), ("sign", b"+-#$%&/")):
            self.check_table([(name, b"SUB %b %b\r\nPUB %b %b 1\r\nx\r\n" % (4 * (word,)),
                               b"MSG %b %b %b 1\r\nx\r\n" % (3 * (word,)))])

    def test_sizes(self):
        bad = (b"1234567890", b"0000000001", b"+1", b"-1", b"1.0", b"0x1", b"1e0", b"a", b"1a", b"\xd9\xa1", b"1\0")
        self.check_table(
            [("PUB " + repr(size), b"SUB a 1\r\nPUB a " + size + b"\r\nx\r\n", CLOSED) for size in bad] +
            [("HPUB header " + repr(size), WITH_HEADERS + b"HPUB a " + size + b" 12\r\n", CLOSED) for size in bad] +
            [("HPUB total " + repr(size), WITH_HEADERS + b"HPUB a 12 " + size + b"\r\n", CLOSED) for size in bad] +
            [("nine digits over the limit", b"PUB a 999999999\r\n", PAYLOAD)])

    @bulkhead_only("sizes are passed on as canonical numbers")
    def test_sizes_are_canonical(self):
        self.check_table([
            ("01", b"SUB a 1\r\nPUB a 01\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("00", b"SUB a 1\r\nPUB a 00\r\n\r\n", b"MSG a 1 0\r\n\r\n"),
            ("nine digits", b"SUB a 1\r\nPUB a 000000001\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("HPUB", WITH_HEADERS + b"SUB a 1\r\nHPUB a r 0018 00020\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
             b"HMSG a 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"),
        ])

    def test_sids(self):
        self.check_table([
            ("any bytes", b"SUB a x/y:\xff\r\nPUB a 1\r\nx\r\n", b"MSG a x/y:\xff 1\r\nx\r\n"),
            ("negative", b"SUB a -1\r\nPUB a 1\r\nx\r\n", b"MSG a -1 1\r\nx\r\n"),
            ("long", b"SUB a %b\r\nPUB a 1\r\nx\r\n" % (300 * b"9"), b"MSG a %b 1\r\nx\r\n" % (300 * b"9")),
            ("01 is not 1", b"SUB a 01\r\nUNSUB 1\r\nPUB a 1\r\nx\r\nUNSUB 01\r\nPUB a 1\r\nx\r\n", b"MSG a 01 1\r\nx\r\n"),
            ("case counts", b"SUB a x\r\nUNSUB X\r\nPUB a 1\r\nx\r\n", b"MSG a x 1\r\nx\r\n"),
        ])

    def test_argument_counts(self):
        self.check_table([(repr(sent), WITH_HEADERS + sent, CLOSED) for sent in (
            b"PUB \r\n", b"PUB a\r\n", b"PUB a b c 1\r\nx\r\n", b"PUB a b c d 1\r\n",
            b"HPUB \r\n", b"HPUB a\r\n", b"HPUB a 12\r\n", b"HPUB a b c 12 12\r\n", b"HPUB a b c d e f\r\n",
            b"SUB \r\n", b"SUB a\r\n", b"SUB a q 1 x\r\n", b"SUB a b c d e\r\n",
            b"UNSUB \r\n", b"UNSUB 1 2 3\r\n", b"UNSUB 1 2 3 4 5\r\n",
            b"CONNECT\r\n", b"CONNECT \r\n",
        )])

    def test_ops_that_are_not_for_clients(self):
        ops = [b"MSG a 1 1\r\nx\r\n", b"RS+ $G a\r\n", b"RS- $G a\r\n", b"LS+ a\r\n", b"LS- a\r\n", b"A+ x\r\n", b"A- x\r\n",
               b"RMSG $G a 1\r\nx\r\n", b"LMSG a 1\r\nx\r\n", b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n",
               b"HEAD / HTTP/1.1\r\n\r\n", b"\x00\x01\x02\x03", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300)]
        self.check_table([(repr(op[:12]), op, UNKNOWN_OP) for op in ops])

    @bulkhead_only("nats-server swallows an HMSG with an empty payload")
    def test_hmsg_is_refused(self):
        self.check_table([
            ("HM", b"HM", UNKNOWN_OP),
            ("HMSG with an empty payload", WITH_HEADERS + b"HMSG a 1 0 0\r\n\r\n", UNKNOWN_OP),
        ])

    def test_info_and_errors_from_the_client(self):
        self.check_table([
            ("INFO", b'INFO {"server_id":"x","max_payload":1}\r\nSUB a 1\r\nPUB a 2\r\nxy\r\n', b"MSG a 1 2\r\nxy\r\n"),
            ("INFO of an array", b"INFO []\r\n", CLOSED),
            ("INFO of bad json", b'INFO {"a":\r\n', CLOSED),
            ("INFO of nothing", b"INFO \r\n", CLOSED),
            ("+OK", b"+OK\r\n+OK\r\n", b""),
            ("-ERR", b"-ERR 'x'\r\nPING\r\n", CLOSED),
        ])

    def test_split_of_a_message_between_writes(self):
        """Every split of one exchange into two writes gives the same answer."""
        sent = b"SUB a 1\r\nPUB a r 5\r\nhello\r\nUNSUB 1\r\nPUB a 1\r\nx\r\nPING\r\n"
        answer = b"MSG a 1 r 5\r\nhello\r\nPONG\r\n"
        for split in range(1, len(sent)):
            with self.subTest(split=split), Client(self.server, verbose=False) as client:
                client.send(sent[:split])
                client.send(sent[split:])
                client.expect_exact(answer)
                client.expect_silence()


class LimitsTest(ServerCase):
    """The limits, with small values."""

    options = {"max_control_line": 64, "max_payload": 16, "max_subscriptions": 2, "max_sub_tokens": 3}

    def test_control_line(self):
        self.check_table([
            ("SUB of 64", b"SUB %b 1\r\n" % (62 * b"a"), b""),
            ("SUB of 65", b"SUB %b 1\r\n" % (63 * b"a"), CONTROL_LINE),
            ("SUB of 64 with a lone LF", b"SUB %b 1\n" % (62 * b"a"), b""),
            ("SUB of 65 with a lone LF", b"SUB %b 1\n" % (63 * b"a"), CONTROL_LINE),
            ("leading blanks do not count", b"SUB %b%b 1\r\n" % (100 * b" ", 62 * b"a"), b""),
            ("trailing blanks to 64", b"SUB a 1%b\r\n" % (61 * b" "), b""),
            ("trailing blanks to 65", b"SUB a 1%b\r\n" % (62 * b" "), CONTROL_LINE),
            ("UNSUB of 64", b"UNSUB %b\r\n" % (64 * b"1"), b""),
            ("UNSUB of 65", b"UNSUB %b\r\n" % (65 * b"1"), CONTROL_LINE),
            ("PUB of 64", b"PUB %b 1\r\nx\r\n" % (62 * b"a"), b""),
            ("PUB of 65", b"PUB %b 1\r\nx\r\n" % (63 * b"a"), CONTROL_LINE),
            ("HPUB of 64", WITH_HEADERS + b"HPUB %b 12 12\r\nNATS/1.0\r\n\r\n\r\n" % (58 * b"a"), b""),
            ("HPUB of 65", WITH_HEADERS + b"HPUB %b 12 12\r\nNATS/1.0\r\n\r\n\r\n" % (59 * b"a"), CONTROL_LINE),
            ("CONNECT of 64", b'CONNECT {"verbose":true,"name":"%b"}\r\n' % (38 * b"a"), b"+OK\r\n"),
            ("CONNECT of 65", b'CONNECT {"verbose":true,"name":"%b"}\r\n' % (39 * b"a"), CONTROL_LINE),
            ("the payload does not count", b"PUB a 16\r\n0123456789abcdef\r\n" * 8, b""),
            ("several ops in one write do not add up", b"SUB aaaaaaaaaaaaaaaaaaaaaa 1\r\nUNSUB 1\r\n" * 8, b""),
        ])

    def test_control_line_without_its_end(self):
        self.check_table([
            ("SUB", b"SUB " + 65 * b"a", CONTROL_LINE),
            ("UNSUB", b"UNSUB " + 65 * b"1", CONTROL_LINE),
            ("PUB", b"PUB " + 65 * b"a", CONTROL_LINE),
            ("HPUB", WITH_HEADERS + b"HPUB " + 65 * b"a", CONTROL_LINE),
            ("CONNECT", b'CONNECT {"name":"' + 64 * b"a", CONTROL_LINE),
        ])

    def test_payload(self):
        sixteen = b"0123456789abcdef"
        self.check_table([
            ("PUB of 16", b"SUB a 1\r\nPUB a 16\r\n%b\r\n" % sixteen, b"MSG a 1 16\r\n%b\r\n" % sixteen),
            ("PUB of 17", b"SUB a 1\r\nPUB a 17\r\n", PAYLOAD),
            ("PUB of 999999999", b"PUB a 999999999\r\n", PAYLOAD),
            ("HPUB of 16", WITH_HEADERS + b"SUB a 1\r\nHPUB a 12 16\r\nNATS/1.0\r\n\r\nbody\r\n",
             b"HMSG a 1 12 16\r\nNATS/1.0\r\n\r\nbody\r\n"),
            ("HPUB of 17", WITH_HEADERS + b"HPUB a 12 17\r\n", PAYLOAD),
        ], before=b'CONNECT {"verbose":false}\r\n')

    def test_payload_limit_is_in_info(self):
        self.assertEqual(self.client().info["max_payload"], 16)

    def test_subscriptions(self):
        full = b"SUB a 1\r\nSUB b 2\r\n"
        self.check_table([
            ("a third", full + b"SUB c 3\r\nPUB c 1\r\nx\r\nPUB a 1\r\nx\r\n", MAX_SUBSCRIPTIONS + b"MSG a 1 1\r\nx\r\n"),
            ("a used sid when full", full + b"SUB b 2\r\n", MAX_SUBSCRIPTIONS),
            ("after UNSUB", full + b"UNSUB 2\r\nSUB c 3\r\nPUB c 1\r\nx\r\n", b"MSG c 3 1\r\nx\r\n"),
            ("after the last message", full + b"UNSUB 1 1\r\nPUB a 1\r\nx\r\nSUB c 3\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("a failed SUB takes no place", b"SUB a. 1\r\nSUB a. 2\r\nSUB a 3\r\nSUB b 4\r\nSUB c 5\r\n",
             2 * INVALID_SUBJECT + MAX_SUBSCRIPTIONS),
            ("checked before the subject", full + b"SUB c. 3\r\n", MAX_SUBSCRIPTIONS),
            ("a queue member", full + b"SUB c q 3\r\n", MAX_SUBSCRIPTIONS),
        ])
        self.check_table([("verbose", full + b"SUB c 3\r\nUNSUB 3\r\n", 2 * b"+OK\r\n" + MAX_SUBSCRIPTIONS + b"+OK\r\n")],
                         before=b"")

    def test_subscription_limit_is_per_connection(self):
        clients = [self.quiet_client() for _ in range(3)]
        for client in clients:
            client.send(b"SUB own 1\r\nSUB own 2\r\n")
            client.expect_silence()

    def test_tokens(self):
        too_many = b"-ERR 'Permissions Violation for Subscription to \"%b\", too many tokens'\r\n"
        self.check_table([
            ("three", b"SUB a.b.c 1\r\nPUB a.b.c 1\r\nx\r\n", b"MSG a.b.c 1 1\r\nx\r\n"),
            ("four", b"SUB a.b.c.d 1\r\n", too_many % b"a.b.c.d"),
            ("four with wildcards", b"SUB a.*.c.> 1\r\n", too_many % b"a.*.c.>"),
            ("four with a queue", b"SUB a.b.c.d q 1\r\n", too_many % b"a.b.c.d"),
            ("checked before the subject", b"SUB a..c. 1\r\n", too_many % b"a..c."),
            ("empty tokens count", b"SUB ... 1\r\n", too_many % b"..."),
            ("PUB is not limited", b"SUB a.> 1\r\nPUB a.b.c.d.e 1\r\nx\r\n", b"MSG a.b.c.d.e 1 1\r\nx\r\n"),
            ("the sid stays free", b"SUB a.b.c.d 1\r\nSUB a 1\r\nPUB a 1\r\nx\r\n",
             too_many % b"a.b.c.d" + b"MSG a 1 1\r\nx\r\n"),
        ])


class DefaultLimitsTest(ServerCase):
    """The limits without options."""

    def test_control_line(self):
        self.check_table([
            ("4096", b"SUB %b 1\r\n" % (4094 * b"a"), b""),
            ("4097", b"SUB %b 1\r\n" % (4095 * b"a"), CONTROL_LINE),
        ])

    def test_payload(self):
        client = self.quiet_client()
        payload = bytes(range(256)) * 4096
        client.send(b"SUB a 1\r\nPUB a 1048576\r\n" + payload + b"\r\n")
        client.expect_exact(b"MSG a 1 1048576\r\n" + payload + b"\r\n")
        client.send(b"PUB a 1048577\r\n")
        client.expect_answer(PAYLOAD)

    def test_subject_of_a_thousand_tokens(self):
        subject = b".".join(1000 * [b"a"])
        self.check_table([
            ("equal", b"SUB %b 1\r\nPUB %b 1\r\nx\r\n" % (subject, subject), b"MSG %b 1 1\r\nx\r\n" % subject),
            ("all wildcards", b"SUB %b 1\r\nPUB %b 1\r\nx\r\n" % (subject.replace(b"a", b"*"), subject),
             b"MSG %b 1 1\r\nx\r\n" % subject),
        ])


class ErrorTextTest(ServerCase):
    """Error texts with quoted names. The reserved prefixes give them without any permissions being configured."""

    def test_reserved_names(self):
        publish = b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n"
        reply = b"-ERR 'Permissions Violation for Publish with Reply of \"%b\"'\r\n"
        queue = b"-ERR 'Permissions Violation for Subscription to \"%b\" using queue \"_sys_\"'\r\n"
        self.check_table([(name, b"SUB > 9\r\n" + sent, answer) for name, sent, answer in (
            ("publish to _GR_.", b"PUB _GR_.x 1\r\nx\r\n", publish % b"_GR_.x"),
            ("publish to the bare _GR_.", b"PUB _GR_. 1\r\nx\r\n", b""),
            ("reply _R_.", b"PUB a _R_.x 1\r\nx\r\n", reply % b"_R_.x"),
            ("reply of the bare _R_.", b"PUB a _R_. 1\r\nx\r\n", reply % b"_R_."),
            ("reply _GR_.", b"PUB a _GR_.x 1\r\nx\r\n", reply % b"_GR_.x"),
            ("reply of the bare _GR_.", b"PUB a _GR_. 1\r\nx\r\n", b"MSG a 9 _GR_. 1\r\nx\r\n"),
            ("reply $JS.ACK.", b"PUB a $JS.ACK.x 1\r\nx\r\n", reply % b"$JS.ACK.x"),
            ("reply of the bare $JS.ACK.", b"PUB a $JS.ACK. 1\r\nx\r\n", b"MSG a 9 $JS.ACK. 1\r\nx\r\n"),
            ("reply $GR.", b"PUB a $GR.x 1\r\nx\r\n", b"MSG a 9 $GR.x 1\r\nx\r\n"),
            ("reply $GNR.", b"PUB a $GNR.x 1\r\nx\r\n", b"MSG a 9 $GNR.x 1\r\nx\r\n"),
            ("subscribe to _GR_.", b"SUB _GR_.x 1\r\n", b""),
            ("queue _sys_", b"SUB a _sys_ 1\r\nPUB a 1\r\nx\r\n", queue % b"a" + b"MSG a 9 1\r\nx\r\n"),
            ("queue _sys_ and a bad subject", b"SUB a. _sys_ 1\r\n", queue % b"a."),
        )])

    def test_quoting(self):
        for name, raw, quoted in (
                ("double quote", b'"', b'\\"'), ("backslash", b"\\", b"\\\\"), ("single quote", b"'", b"'"),
                ("NUL", b"\0", b"\\x00"), ("0x01", b"\x01", b"\\x01"), ("bell", b"\a", b"\\a"), ("backspace", b"\b", b"\\b"),
                ("vertical tab", b"\v", b"\\v"), ("form feed", b"\f", b"\\f"), ("escape", b"\x1b", b"\\x1b"),
                ("DEL", b"\x7f", b"\\x7f"), ("invalid byte", b"\xff", b"\\xff"), ("lone continuation", b"\x80", b"\\x80"),
                ("truncated sequence", b"\xe2\x82", b"\\xe2\\x82"), ("overlong", b"\xc0\x80", b"\\xc0\\x80"),
                ("surrogate", b"\xed\xa0\x80", b"\\xed\\xa0\\x80"), ("too large", b"\xf4\x90\x80\x80", b"\\xf4\\x90\\x80\\x80"),
                ("letter", "ä".encode(), "ä".encode()), ("sign", "€".encode(), "€".encode()),
                ("emoji", "😀".encode(), "😀".encode()), ("replacement character", "\ufffd".encode(), "\ufffd".encode()),
                ("line separator", "\u2028".encode(), b"\\u2028"), ("no-break space", "\u00a0".encode(), b"\\u00a0"),
                ("zero width space", "\u200b".encode(), b"\\u200b"), ("soft hyphen", "\u00ad".encode(), b"\\u00ad"),
                ("control C1", "\u0085".encode(), b"\\u0085"), ("byte order mark", "\ufeff".encode(), b"\\ufeff"),
                ("private use", "\ue000".encode(), b"\\ue000"), ("last code point", "\U0010ffff".encode(), b"\\U0010ffff")):
            self.check_table([
                (name + " in PUB", b"PUB _GR_.%b 1\r\nx\r\n" % raw,
                 b"-ERR 'Permissions Violation for Publish to \"_GR_.%b\"'\r\n" % quoted),
                (name + " in a reply", b"PUB a _R_.%b 1\r\nx\r\n" % raw,
                 b"-ERR 'Permissions Violation for Publish with Reply of \"_R_.%b\"'\r\n" % quoted),
                (name + " in SUB", b"SUB %b _sys_ 1\r\n" % raw,
                 b"-ERR 'Permissions Violation for Subscription to \"%b\" using queue \"_sys_\"'\r\n" % quoted),
            ])


class VerboseTest(ServerCase):
    """What verbose and pedantic change."""

    def test_verbose(self):
        self.check_table([
            ("SUB", b"SUB a 1\r\n", b"+OK\r\n"),
            ("SUB of a used sid", b"SUB a 1\r\nSUB b 1\r\n", b"+OK\r\n+OK\r\n"),
            ("SUB refused", b"SUB a. 1\r\n", INVALID_SUBJECT),
            ("SUB refused by queue", b"SUB a _sys_ 1\r\n",
             b"-ERR 'Permissions Violation for Subscription to \"a\" using queue \"_sys_\"'\r\n"),
            ("UNSUB", b"SUB a 1\r\nUNSUB 1\r\n", b"+OK\r\n+OK\r\n"),
            ("UNSUB of an unknown sid", b"UNSUB 7\r\n", b"+OK\r\n"),
            ("UNSUB with any maximum", b"UNSUB 7 1\r\nUNSUB 7 x\r\nUNSUB 7 -1\r\n", 3 * b"+OK\r\n"),
            ("PUB", b"PUB a 1\r\nx\r\n", b"+OK\r\n"),
            ("PUB before its MSG", b"SUB a 1\r\nPUB a 1\r\nx\r\n", b"+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n"),
            ("PUB refused", b"PUB _GR_.x 1\r\nx\r\n", b"-ERR 'Permissions Violation for Publish to \"_GR_.x\"'\r\n"),
            ("PUB refused for its reply", b"PUB a _R_.x 1\r\nx\r\n",
             b"-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n"),
            ("PING", b"PING\r\n", b"PONG\r\n"),
            ("PONG, INFO, +OK", b"PONG\r\nINFO {}\r\n+OK\r\n", b""),
            ("CONNECT", b"CONNECT {}\r\n", b"+OK\r\n"),
        ], before=b"")
        self.check_table([
            ("HPUB before its HMSG", b"SUB a 1\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
             b"+OK\r\n+OK\r\n+OK\r\nHMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n"),
            ("PUB before its 503", b"SUB r 1\r\nPUB none r 1\r\nx\r\n", 3 * b"+OK\r\n" + no_responders(b"r", b"1")),
        ], before=b'CONNECT {"headers":true,"no_responders":true}\r\n')

    def test_pedantic(self):
        bad = (b"a..b", b".a", b"a.", b".", b"*", b">", b"a.*", b"a.>", b"a.>.b", b"*.b", b"a.*.b")
        good = (b"a", b"a.b", b"a*", b"*a", b"a.b*", b"a>", b">a", b"**", b"a.>>")
        self.check_table(
            [(repr(subject), b"PUB %b 1\r\nx\r\n" % subject, INVALID_PUBLISH) for subject in bad] +
            [(repr(subject), b"PUB %b 1\r\nx\r\n" % subject, b"") for subject in good] +
            [("the message goes on", b"SUB > 1\r\nPUB > 1\r\nx\r\n", INVALID_PUBLISH + b"MSG > 1 1\r\nx\r\n"),
             ("reply is not checked", b"SUB a 1\r\nPUB a b..c 1\r\nx\r\n", b"MSG a 1 b..c 1\r\nx\r\n"),
             ("SUB is not touched", b"SUB a.* 1\r\nSUB a*b 2\r\n", b""),
             ("SUB is as strict as ever", b"SUB a..b 1\r\n", INVALID_SUBJECT)],
            before=PEDANTIC, bytewise=not REAL_NATS)  # which repeats the text when line and payload are split

    @bulkhead_only("nats-server repeats the text when line and payload are split")
    def test_pedantic_error_comes_at_the_line(self):
        client = self.client(verbose=False)
        client.send(b"PUB a..b 1\r\n")
        client.expect_exact(INVALID_PUBLISH)
        client.send(b"x\r\n")
        client.expect_silence()

    def test_verbose_and_pedantic(self):
        self.check_table([
            ("PUB", b"SUB > 1\r\nPUB > 1\r\nx\r\n", b"+OK\r\n" + INVALID_PUBLISH + b"+OK\r\nMSG > 1 1\r\nx\r\n"),
            ("HPUB", b'CONNECT {"headers":true}\r\nHPUB a.* 12 12\r\nNATS/1.0\r\n\r\n\r\n',
             b"+OK\r\n" + INVALID_PUBLISH + b"+OK\r\n"),
            ("PUB refused", b"PUB _GR_.* 1\r\nx\r\n",
             INVALID_PUBLISH + b"-ERR 'Permissions Violation for Publish to \"_GR_.*\"'\r\n"),
        ], before=b"", bytewise=not REAL_NATS)


class SubjectTest(ServerCase):
    """Which subjects are valid, and what a pattern matches."""

    def test_subscriptions_to_invalid_subjects(self):
        invalid = (b"a..b", b".a", b"a.", b".", b"..", b"a.>.b", b">.a", b">.>", b"*..", b"a.*.")
        for before in (QUIET, PEDANTIC):
            self.check_table([(repr(subject), b"SUB %b 1\r\n" % subject, INVALID_SUBJECT) for subject in invalid], before)
        self.check_table([("with a queue", b"SUB a..b q 1\r\n", INVALID_SUBJECT),
                          ("the sid stays free", b"SUB a. 1\r\nSUB a 1\r\nPUB a 1\r\nx\r\n",
                           INVALID_SUBJECT + b"MSG a 1 1\r\nx\r\n")])

    def test_publishing_to_an_empty_token_reaches_nobody(self):
        self.check_table([(repr(subject), b"SUB > 1\r\nSUB *.* 2\r\nPUB %b 1\r\nx\r\n" % subject, b"")
                          for subject in (b"a..b", b".a", b"a.", b".", b"..")])

    def test_literal_tokens_with_wildcard_signs(self):
        self.check_table([(repr(subject), b"SUB %b 1\r\nPUB %b 1\r\nx\r\n" % (subject, subject) +
                           b"PUB ab 1\r\nx\r\nPUB a.bx 1\r\nx\r\n",
                           b"MSG %b 1 1\r\nx\r\n" % subject)
                          for subject in (b"a*", b"**", b"a>", b">>", b"a.>x", b"a.*x", b"*a", b"$SYS.x", b"_INBOX.x")])

    def test_matching(self):
        cases = [  # pattern, matched, not matched
            (b"a", b"a", b"A aa a.a b"),
            (b"a.b", b"a.b", b"a a.b.c a.c a.B"),
            (b"*", b"a ab * >", b"a.b a.b.c"),
            (b">", b"a a.b a.b.c * > a.* a.>.b", b""),
            (b"a.*", b"a.b a.* a.>", b"a b.c a.b.c"),
            (b"a.>", b"a.b a.b.c a.> a.*.c", b"a b.a"),
            (b"*.b", b"a.b *.b", b"b a.b.c a.c"),
            (b"a.*.c", b"a.b.c a.*.c", b"a.c a.b.b a.b.c.d"),
            (b"*.*", b"a.b *.*", b"a a.b.c"),
            (b"*.>", b"a.b a.b.c", b"a"),
            (b"a.b", b"a.b", b"a.* a.> * >"),
        ]
        rows = []
        for pattern, matched, unmatched in cases:
            subjects = matched.split() + unmatched.split()
            rows.append((repr(pattern), b"SUB %b 1\r\n" % pattern + b"".join(b"PUB %b 1\r\nx\r\n" % s for s in subjects),
                         b"".join(b"MSG %b 1 1\r\nx\r\n" % s for s in matched.split())))
        self.check_table(rows)


class SubscriptionTest(ServerCase):
    """Plain subscriptions."""

    options = {"frontends": 2}

    def test_used_sid_is_not_replaced(self):
        self.check_table([
            ("another subject", b"SUB a 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\nPUB a 1\r\ny\r\n", b"MSG a 1 1\r\ny\r\n"),
            ("another queue", b"SUB a 1\r\nSUB a q 1\r\nPUB a 1\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("an invalid subject", b"SUB a 1\r\nSUB b. 1\r\nPUB a 1\r\nx\r\n", b"MSG a 1 1\r\nx\r\n"),
            ("free after UNSUB", b"SUB a 1\r\nUNSUB 1\r\nSUB b 1\r\nPUB a 1\r\nx\r\nPUB b 1\r\ny\r\n", b"MSG b 1 1\r\ny\r\n"),
        ])

    def test_one_copy_per_subscription(self):
        client = self.quiet_client()
        client.send(b"SUB a.b 1\r\nSUB a.b 2\r\nSUB a.* 3\r\nSUB > 4\r\nSUB *.b 5\r\nSUB a.c 6\r\nPUB a.b 1\r\nx\r\n")
        received = [client.receive_message() for _ in range(5)]
        self.assertCountEqual(received, [(b"a.b", sid, b"x") for sid in (b"1", b"2", b"3", b"4", b"5")])
        client.expect_silence()

    def test_between_connections(self):
        publisher, *subscribers = [self.quiet_client() for _ in range(4)]
        for number, subscriber in enumerate(subscribers):
            subscriber.send(b"SUB between.* %d\r\n" % number)
            subscriber.fence()
        publisher.send(b"PUB between.x reply.y 5\r\nhello\r\n")
        publisher.fence()
        for number, subscriber in enumerate(subscribers):
            subscriber.expect_exact(b"MSG between.x %d reply.y 5\r\nhello\r\n" % number)
            subscriber.expect_silence()

    def test_echo_off(self):
        own = self.quiet_client(echo=False)
        other = self.quiet_client()
        other.send(b"SUB echo.> 1\r\n")
        other.fence()
        own.send(b"SUB echo.x 1\r\nSUB > 2\r\nPUB echo.x 1\r\nx\r\n")
        own.expect_silence()
        other.expect_exact(b"MSG echo.x 1 1\r\nx\r\n")
        other.send(b"UNSUB 1\r\nPUB echo.x 1\r\ny\r\n")
        other.expect_silence()
        received = [own.receive_message() for _ in range(2)]
        self.assertCountEqual(received, [(b"echo.x", b"1", b"y"), (b"echo.x", b"2", b"y")])
        own.expect_silence()

    def test_subscriptions_end_with_the_connection(self):
        publisher = self.quiet_client(headers=True, no_responders=True)
        publisher.send(b"SUB ends.reply 1\r\n")
        subscriber = self.quiet_client()
        subscriber.send(b"SUB ends.x 1\r\n")
        subscriber.fence()
        subscriber.close()

        def gone():
            publisher.send(b"PUB ends.x ends.reply 1\r\nx\r\nPING\r\n")
            return b"503" in publisher.expect_until(b"PONG\r\n")
        wait_until(gone, "a closed connection's subscription is gone")


class UnsubTest(ServerCase):
    """UNSUB, at once and after a number of messages."""

    options = {"frontends": 2}

    def test_table(self):
        one = b"PUB a 1\r\nx\r\n"
        message = b"MSG a 1 1\r\nx\r\n"
        self.check_table([
            ("unknown sid", b"UNSUB 1\r\nUNSUB 1 5\r\n", b""),
            ("at once", b"SUB a 1\r\n" + one + b"UNSUB 1\r\n" + one, message),
            ("after two", b"SUB a 1\r\nUNSUB 1 2\r\n" + 3 * one, 2 * message),
            ("messages before count", b"SUB a 1\r\n" + one + b"UNSUB 1 3\r\n" + 3 * one, 3 * message),
            ("maximum reached already", b"SUB a 1\r\n" + 2 * one + b"UNSUB 1 2\r\n" + one, 2 * message),
            ("maximum passed already", b"SUB a 1\r\n" + 2 * one + b"UNSUB 1 1\r\n" + one, 2 * message),
            ("maximum 0", b"SUB a 1\r\nUNSUB 1 0\r\n" + one, b""),
            ("maximum is no number", b"SUB a 1\r\nUNSUB 1 x\r\n" + one, b""),
            ("maximum is negative", b"SUB a 1\r\nUNSUB 1 -1\r\n" + one, b""),
            ("raised", b"SUB a 1\r\nUNSUB 1 1\r\nUNSUB 1 2\r\n" + 3 * one, 2 * message),
            ("lowered", b"SUB a 1\r\nUNSUB 1 5\r\n" + one + b"UNSUB 1 2\r\n" + 2 * one, 2 * message),
            ("lowered below the count", b"SUB a 1\r\nUNSUB 1 5\r\n" + 2 * one + b"UNSUB 1 1\r\n" + one, 2 * message),
            ("limited, then at once", b"SUB a 1\r\nUNSUB 1 5\r\nUNSUB 1\r\n" + one, b""),
            ("sid is free after the last", b"SUB a 1\r\nUNSUB 1 1\r\n" + one + b"SUB a 1\r\n" + 2 * one, 3 * message),
            ("sid is not free before", b"SUB a 1\r\nUNSUB 1 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\n" + 2 * one, message),
            ("per sid", b"SUB a 1\r\nSUB b 2\r\nUNSUB 1 1\r\n" + 2 * one + b"PUB b 1\r\nx\r\n", message + b"MSG b 2 1\r\nx\r\n"),
            ("queue member", b"SUB a q<UNIQUE> 1\r\nUNSUB 1 2\r\n" + 3 * one, 2 * message),
            ("wildcard", b"SUB * 1\r\nUNSUB 1 2\r\n" + 3 * one, 2 * message),
        ])

    def test_held_back_by_echo_does_not_count(self):
        own = self.quiet_client(echo=False)
        other = self.quiet_client()
        own.send(b"SUB unsub.echo 1\r\nUNSUB 1 1\r\nPUB unsub.echo 1\r\nx\r\n")
        own.expect_silence()
        other.send(2 * b"PUB unsub.echo 1\r\ny\r\n")
        other.fence()
        own.expect_exact(b"MSG unsub.echo 1 1\r\ny\r\n")
        own.expect_silence()

    def test_503_does_not_count(self):
        self.check_table([(
            "503", b"SUB r 1\r\nUNSUB 1 1\r\n" + 2 * b"PUB none r 1\r\nx\r\n" + 2 * b"PUB r 1\r\nx\r\n",
            2 * no_responders(b"r", b"1") + b"MSG r 1 1\r\nx\r\n")], before=WITH_RESPONDERS)

    def test_many_publishers_never_exceed_the_maximum(self):
        subscriber = self.quiet_client()
        subscriber.send(b"SUB unsub.race 1\r\nUNSUB 1 10\r\n")
        subscriber.fence()
        publishers = [self.quiet_client() for _ in range(8)]
        for publisher in publishers:
            publisher.send(50 * b"PUB unsub.race 1\r\nx\r\n")
        for publisher in publishers:
            publisher.fence()
        subscriber.expect_exact(10 * b"MSG unsub.race 1 1\r\nx\r\n")
        subscriber.expect_silence()


class QueueTest(ServerCase):
    """Queue groups. 1000 messages over two members: outside of 300 to 700 is an error, not chance."""

    options = {"frontends": 2}

    def members(self, *subscriptions):
        clients = []
        for sid, subscription in enumerate(subscriptions):
            client = self.quiet_client()
            client.send(b"SUB %b %d\r\n" % (subscription, sid))
            client.fence()
            clients.append(client)
        return clients

    def count(self, client):
        """How many messages are on their way to the client."""
        client.send(b"PING\r\n")
        return client.expect_until(b"PONG\r\n").count(b"MSG ")

    def publish(self, subject, count=1000):
        publisher = self.quiet_client()
        publisher.send(count * (b"PUB %b 1\r\nx\r\n" % subject))
        publisher.fence()

    def test_one_member_gets_each_message(self):
        clients = self.members(b"queue.a q", b"queue.a q")
        self.publish(b"queue.a")
        counts = [self.count(client) for client in clients]
        self.assertEqual(sum(counts), 1000)
        self.assertTrue(300 < counts[0] < 700, counts)

    def test_members_of_one_connection(self):
        client = self.quiet_client()
        client.send(b"SUB a q 1\r\nSUB a q 2\r\n" + 1000 * b"PUB a 1\r\nx\r\n" + b"PING\r\n")
        received = client.expect_until(b"PONG\r\n")
        counts = [received.count(b"MSG a 1 "), received.count(b"MSG a 2 ")]
        self.assertEqual(sum(counts), 1000)
        self.assertTrue(300 < counts[0] < 700, counts)

    def test_random_and_not_in_turn(self):
        client = self.quiet_client()
        client.send(b"SUB random q 1\r\nSUB random q 2\r\n" + 1000 * b"PUB random 1\r\nx\r\n")
        sids = [client.receive_message()[1] for _ in range(1000)]
        repeats = sum(one == next_one for one, next_one in zip(sids, sids[1:]))
        self.assertTrue(300 < repeats < 700, repeats)

    def test_group_is_by_queue_name_over_all_subjects(self):
        clients = self.members(b"group.a q", b"group.* q", b"group.> q")
        self.publish(b"group.a", 1200)
        counts = [self.count(client) for client in clients]
        self.assertEqual(sum(counts), 1200)
        for count in counts:
            self.assertTrue(250 < count < 550, counts)

    def test_several_groups_and_plain(self):
        clients = self.members(b"mixed.a q1", b"mixed.a q2", b"mixed.*", b"mixed.a", b"mixed.b q1")
        self.publish(b"mixed.a", 100)
        self.assertEqual([self.count(client) for client in clients], [100, 100, 100, 100, 0])

    def test_names_of_queues_are_literal(self):
        clients = self.members(b"names.a *", b"names.a a.*", b"names.a b", b"names.a B", b"names.a >")
        self.publish(b"names.a", 10)
        self.assertEqual([self.count(client) for client in clients], 5 * [10])

    def test_member_with_echo_off_passes_its_own_messages_on(self):
        other, = self.members(b"pass.a q")
        own = self.quiet_client(echo=False)
        own.send(b"SUB pass.a q 1\r\n" + 20 * b"PUB pass.a 1\r\nx\r\n")
        own.expect_silence()
        self.assertEqual(self.count(other), 20)

    def test_only_member_with_echo_off(self):
        own = self.quiet_client(echo=False)
        own.send(b"SUB only.a q 1\r\nPUB only.a 1\r\nx\r\n")
        own.expect_silence()

    def test_closed_member_gets_nothing(self):
        stays, leaves = self.members(b"closed.a q", b"closed.a q")
        leaves.finish_sending()
        leaves.expect_eof()

        def stays_gets_all():
            self.publish(b"closed.a", 50)
            return self.count(stays) == 50
        wait_until(stays_gets_all, "the closed member is gone")
        self.publish(b"closed.a", 100)
        self.assertEqual(self.count(stays), 100)


class HeaderTest(ServerCase):
    """Headers: HPUB, HMSG, and clients without headers."""

    options = {"frontends": 2}

    def test_publish(self):
        block = b"NATS/1.0\r\nA: b\r\n\r\n"
        self.check_table([(name, b"SUB a 1\r\n" + sent, answer) for name, sent, answer in (
            ("with a reply", b"HPUB a r 18 20\r\n" + block + b"hi\r\n", b"HMSG a 1 r 18 20\r\n" + block + b"hi\r\n"),
            ("without a reply", b"HPUB a 18 20\r\n" + block + b"hi\r\n", b"HMSG a 1 18 20\r\n" + block + b"hi\r\n"),
            ("empty body", b"HPUB a 18 18\r\n" + block + b"\r\n", b"HMSG a 1 18 18\r\n" + block + b"\r\n"),
            ("header size 0", b"HPUB a 0 2\r\nhi\r\n", b"MSG a 1 2\r\nhi\r\n"),
            ("both sizes 0", b"HPUB a 0 0\r\n\r\n", b"MSG a 1 0\r\n\r\n"),
            ("no header block", b"HPUB a 5 7\r\nhellohi\r\n", b"HMSG a 1 5 7\r\nhellohi\r\n"),
            ("unknown version", b"HPUB a 12 12\r\nNATS/9.9\r\n\r\n\r\n", b"HMSG a 1 12 12\r\nNATS/9.9\r\n\r\n\r\n"),
            ("unfinished block", b"HPUB a 11 13\r\nNATS/1.0\r\nAhi\r\n", b"HMSG a 1 11 13\r\nNATS/1.0\r\nAhi\r\n"),
            ("plain PUB", b"PUB a 2\r\nhi\r\n", b"MSG a 1 2\r\nhi\r\n"),
            ("header larger than the whole", b"HPUB a 3 2\r\nhi\r\n", CLOSED),
            ("bad payload end", b"HPUB a 18 20\r\n" + block + b"hi.\r\n", UNKNOWN_OP),
        )], before=WITH_HEADERS)

    def test_needs_headers(self):
        self.check_table([
            ("off", b'CONNECT {"headers":false}\r\nHPUB a 12 12\r\n', b"+OK\r\n" + CLOSED),
            ("no CONNECT", b"HPUB a 12 12\r\n", CLOSED),
        ], before=b"")

    def test_receiver_without_headers(self):
        publisher = self.quiet_client(headers=True)
        receiver = self.quiet_client()
        receiver.send(b"SUB plain.a 1\r\n")
        receiver.fence()
        publisher.send(b"HPUB plain.a r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\nHPUB plain.a 12 12\r\nNATS/1.0\r\n\r\n\r\n")
        publisher.fence()
        receiver.expect_exact(b"MSG plain.a 1 r 2\r\nhi\r\nMSG plain.a 1 0\r\n\r\n")
        receiver.expect_silence()

    def test_headers_off_later(self):
        self.check_table([("off", b'SUB a 1\r\nCONNECT {"headers":false}\r\nPUB a 1\r\nx\r\nHPUB a 12 12\r\n',
                           b"MSG a 1 1\r\nx\r\n" + CLOSED)], before=WITH_HEADERS)


class NoRespondersTest(ServerCase):
    """The 503 that answers a request without responders."""

    options = {"frontends": 2}

    def test_sent(self):
        self.check_table([
            ("exact reply", b"SUB r 1\r\nPUB none r 1\r\nx\r\n", no_responders(b"r", b"1")),
            ("wildcard on the reply", b"SUB _INBOX.x.* 5\r\nPUB none _INBOX.x.7 1\r\nx\r\n", no_responders(b"_INBOX.x.7", b"5")),
            ("HPUB", b"SUB r 1\r\nHPUB none r 12 12\r\nNATS/1.0\r\n\r\n\r\n", no_responders(b"r", b"1")),
            ("subject with an empty token", b"SUB r 1\r\nPUB a..b r 1\r\nx\r\n", no_responders(b"r", b"1")),
            ("before PONG", b"SUB r 1\r\nPUB none r 1\r\nx\r\nPING\r\n", no_responders(b"r", b"1") + b"PONG\r\n"),
            ("after UNSUB of the responder", b"SUB r 1\r\nSUB b<UNIQUE> 2\r\nUNSUB 2\r\nPUB b<UNIQUE> r 1\r\nx\r\n",
             no_responders(b"r", b"1")),
        ], before=WITH_RESPONDERS)

    def test_not_sent(self):
        self.check_table([
            ("no reply", b"SUB r 1\r\nPUB none 1\r\nx\r\n", b""),
            ("nobody on the reply", b"PUB none r 1\r\nx\r\n", b""),
            ("only a queue on the reply", b"SUB r q 1\r\nPUB none r 1\r\nx\r\n", b""),
            ("somebody takes it", b"SUB r 1\r\nSUB a 2\r\nPUB a r 1\r\nx\r\n", b"MSG a 2 r 1\r\nx\r\n"),
            ("a queue takes it", b"SUB r 1\r\nSUB a q<UNIQUE> 2\r\nPUB a r 1\r\nx\r\n", b"MSG a 2 r 1\r\nx\r\n"),
            ("the message is refused", b"SUB r 1\r\nPUB _GR_.x r 1\r\nx\r\n",
             b"-ERR 'Permissions Violation for Publish to \"_GR_.x\"'\r\n"),
            ("switched off", b'SUB r 1\r\nCONNECT {"no_responders":false}\r\nPUB none r 1\r\nx\r\n', b""),
        ], before=WITH_RESPONDERS)

    def test_echo_off_with_own_subscription_only(self):
        self.check_table([("echo", b'CONNECT {"echo":false}\r\nSUB r 1\r\nSUB e<UNIQUE> 2\r\nPUB e<UNIQUE> r 1\r\nx\r\n',
                           no_responders(b"r", b"1"))], before=WITH_RESPONDERS)

    def test_one_of_several_subscriptions_on_the_reply(self):
        client = self.quiet_client(headers=True, no_responders=True)
        client.send(b"SUB r 1\r\nSUB r 2\r\nSUB * 3\r\nPUB no.ne r 1\r\nx\r\nPING\r\n")
        received = client.expect_until(b"PONG\r\n")
        self.assertIn(received, [no_responders(b"r", sid) + b"PONG\r\n" for sid in (b"1", b"2", b"3")])

    def test_reply_subscribed_by_another_connection(self):
        other = self.quiet_client(headers=True)
        other.send(b"SUB other.reply 1\r\n")
        other.fence()
        client = self.quiet_client(headers=True, no_responders=True)
        client.send(b"PUB none other.reply 1\r\nx\r\n")
        client.expect_silence()
        other.expect_silence()

    def test_not_sent_while_somebody_takes_all(self):
        with Server() as server, Client(server, verbose=False) as everything, \
                Client(server, verbose=False, headers=True, no_responders=True) as client:
            everything.send(b"SUB > 1\r\n")
            everything.fence()
            client.send(b"SUB r 1\r\nPUB a r 1\r\nx\r\n")
            client.expect_silence()
            everything.expect_exact(b"MSG a 1 r 1\r\nx\r\n")


class ClosingTest(ServerCase):
    """How a connection ends: what is said before, and who closes."""

    def test_order_of_a_batch_with_a_fatal_op(self):
        self.check_table([
            ("answers, then the error", b"SUB a 1\r\nPUB a 1\r\nx\r\nPING\r\nBOGUS\r\nPING\r\nPUB a 1\r\nx\r\n",
             b"MSG a 1 1\r\nx\r\nPONG\r\n" + UNKNOWN_OP),
            ("answers, then the end", b"SUB a 1\r\nPUB a 1\r\nx\r\nPING\r\nPUB a\r\nPING\r\n",
             b"MSG a 1 1\r\nx\r\nPONG\r\n" + CLOSED),
            ("a message before the error reaches others", b"PUB closing.a 1\r\nx\r\nBOGUS\r\n", UNKNOWN_OP),
        ])

    def test_message_before_a_fatal_op_is_delivered(self):
        receiver, sender = self.quiet_client(), self.quiet_client()
        receiver.send(b"SUB closing.b 1\r\n")
        receiver.fence()
        sender.send(b"PUB closing.b 1\r\nx\r\nBOGUS\r\nPUB closing.b 1\r\ny\r\n")
        sender.expect_answer(UNKNOWN_OP)
        receiver.expect_exact(b"MSG closing.b 1 1\r\nx\r\n")
        receiver.expect_silence()

    def test_output_before_the_error_arrives_whole(self):
        """About 1.8 MB are queued when the error happens; the client reads after that."""
        client = self.quiet_client()
        payload = 900_000 * b"p"
        message = b"900000\r\n" + payload + b"\r\n"
        client.send(b"SUB a 1\r\n" + 2 * (b"PUB a " + message) + b"BOGUS\r\n")
        client.expect_exact(2 * (b"MSG a 1 " + message))
        client.expect_answer(UNKNOWN_OP)

    def test_unread_input_does_not_destroy_the_text(self):
        """A close with unread input would send a reset, which may overtake the text."""
        for _ in range(20):
            client = self.quiet_client()
            client.send(b"BOGUS\r\n" + 100_000 * b"x")
            client.expect_answer(UNKNOWN_OP)

    def test_half_closed_by_the_client(self):
        for name, sent, answer in (
                ("ops before the end are done", b"SUB a 1\r\nPUB a 1\r\nx\r\nPING\r\n", b"MSG a 1 1\r\nx\r\nPONG\r\n"),
                ("half a line", b"PING\r\nSUB a", b"PONG\r\n"),
                ("half a payload", b"SUB a 1\r\nPUB a 5\r\nab", b""),
                ("a payload without its end", b"SUB a 1\r\nPUB a 1\r\nx", b""),
                ("nothing", b"", b"")):
            with self.subTest(name):
                client = self.quiet_client()
                client.send(sent)
                client.finish_sending()
                client.expect_answer(answer + EOF)

    def test_stop_flushes(self):
        with Server() as server, Client(server, verbose=False) as client, Client(server, verbose=False) as idle:
            idle.fence()
            payload = 500_000 * b"p"
            client.send(b"SUB a 1\r\nPUB a 500000\r\n" + payload + b"\r\nPING\r\n")
            client.expect_exact(b"MSG a 1 500000\r\n" + payload + b"\r\nPONG\r\n")
            client.send(b"PUB a 500000\r\n" + payload + b"\r\nPING\r\n")
            client.expect_exact(b"M")  # it is queued now
            server.stop()
            client.expect_exact(b"SG a 1 500000\r\n" + payload + b"\r\nPONG\r\n")
            client.expect_eof()
            idle.expect_eof()

    def test_reset_by_the_client(self):
        """A connection that ends with a reset takes nothing else down."""
        other = self.quiet_client()
        for sent in (b"", b"SUB a 1\r\n", b"PUB a 10\r\nab", 1000 * b"PING\r\n"):
            client = self.quiet_client()
            client.send(sent)
            client.reset()
            other.expect_silence()


class CapturedTest(ServerCase):
    """Exchanges as captured from nats-server."""

    def test_verbose_and_pedantic(self):
        self.check_table([("captured", b'CONNECT {"verbose":true,"pedantic":true,"headers":true}\r\n'
                           b"PUB a..b 1\r\nx\r\nHPUB a.* 12 12\r\nNATS/1.0\r\n\r\n\r\nSUB a.>.b 1\r\n",
                           b"+OK\r\n" + 2 * (INVALID_PUBLISH + b"+OK\r\n") + INVALID_SUBJECT)],
                         before=b"", bytewise=not REAL_NATS)

    def test_quiet(self):
        self.check_table([
            ("fatal op", b"SUB a 1\r\nPUB a 1\r\nx\r\nBOGUS\r\nPING\r\n", b"MSG a 1 1\r\nx\r\n" + UNKNOWN_OP),
            ("no responders", b"SUB _INBOX.x.* 5\r\nPUB none _INBOX.x.7 1\r\nx\r\nPING\r\n",
             b"HMSG _INBOX.x.7 5 16 16\r\nNATS/1.0 503\r\n\r\n\r\nPONG\r\n"),
            ("sid reuse", b"SUB a 1\r\nUNSUB 1 1\r\nPUB a 1\r\nx\r\nSUB a 1\r\nPUB a 1\r\nx\r\nPING\r\n",
             2 * b"MSG a 1 1\r\nx\r\n" + b"PONG\r\n"),
            ("headers", b"SUB a 1\r\nHPUB a r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
             b"HMSG a 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"),
        ], before=WITH_RESPONDERS)
