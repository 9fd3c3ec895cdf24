# SPDX-License-Identifier: Apache-2.0
"""What `bulkhead -t` promises of a start, and what a start then does with it."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import certificates
import harness
from credentials import Nkey, bcrypt_hash
from harness import DEADLINE, EXECUTABLE, Client, Server, bulkhead_only, is_sanitized, wait_until

ROOT = os.geteuid() == 0
LONG = "x" * 70000
CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "config_corpus", "cases")
ANY = "host: 127.0.0.1\nport: -1\n"


def many(count, length):
    """As many users, each with a permission of its own."""
    users = ", ".join(f'{{user: u{i}, password: p, permissions: {{subscribe: "{i}.{"x" * length}"}}}}' for i in range(count))
    return f"authorization {{ users [ {users} ] }}"


# Name, configuration, what is said (a pattern behind the place of the value).
REFUSED = [
    ("a feature that is not built", "\nhttp: 8222", r'2:1: option "http_port" is not available in this server yet'),
    ("a tab in the name", r'server_name: "a\tb"', r"1:0: server_name holds a control character"),
    ("a DEL in what is advertised", r'client_advertise: "a\x7fb"', r"1:0: client_advertise holds a control character"),
    ("a name that is not UTF-8", r'server_name: "a\xffb"', r"1:0: server_name holds a control character, or what is not UTF-8"),
    ("an account without a name", 'accounts { "": { users: [ {user: a, password: p} ] } }', r"1:\d+: the name of an account has 1"),
    ("an account with a long name", "accounts { %s { } }" % ("a" * 256), r"1:\d+: the name of an account has 1 to 255 bytes"),
    ("a long subject", "authorization { users [ {user: a, password: p, permissions: {subscribe: \"%s\"}} ] }" % LONG,
     r"1:\d+: a subject of permissions is longer than 65535"),
    ("more permissions than the account book holds", many(400, 40000), r"1:0: accounts and permissions take \d+ bytes"),
    ("more users than authd has places", many(65535, 1), r"1:0: there are more than 65534 users"),
    ("more payload than may wait", "max_pending: 1mb\nmax_payload: 2mb", r"2:1: max_payload \(2097152\) cannot be higher"),
    ("a number out of bounds", "frontends: 61", r"1:0: frontends \(61\) must lie between 0 and 60"),
    ("nobody for whoever names none", "no_auth_user: joe", r"1:0: no_auth_user: \"joe\" present, but users"),
    ("a word that is none", "unsupported: ignore", "1:0: unsupported must be refuse or warn"),
    ("an operator, whatever is said of the rest", "unsupported: warn\nresolver: MEMORY\noperator: files/operator.jwt",
     r'3:1: option "operator" is not available in this server yet, nor left out'),
]

# Name, configuration: each starts and serves.
TAKEN = [
    ("no limits", "max_connections: -1\nmax_payload: -1\nmax_subscriptions: -5"),
    ("a long control line", "max_control_line: 64KB"),
    ("a longer one", "max_control_line: 1GB"),
    ("the log on stdout", 'log_file: "/dev/stdout"'),
    ("the log on stderr", 'log_file: "/dev/stderr"\nlogfile_size_limit: 1000'),
    ("a folder for JetStream without it", 'store_dir: "/tmp/x"\njetstream: disabled'),
    ("a base for monitoring without it", 'http_base_path: "/x"'),
    ("a resolver without an operator", "resolver: MEMORY"),
    ("empty mappings, no stapling", "mappings: {}\nocsp: false\ndefault_js_domain: {}\ntrusted: []"),
    ("blocks that open no port", "cluster { name: x }\nwebsocket { no_tls: true }\nmqtt {}\ngateway {}\nleafnodes {}"),
    ("odd names", 'server_name: "a b.c"\naccounts { "a b": { users: [ {user: "x\\ty", password: p} ] } }\n'
                  'no_auth_user: "x\\ty"'),
    ("half of what the account book holds", many(100, 20000) + '\nno_auth_user: u1'),
    ("unbuilt parts left out", "unsupported: warn\nhttp: 8222\njetstream { store_dir: /tmp/x }\ncluster { port: -1 }\n"
                               "accounts { A { exports: [ {stream: a} ], users: [ {user: a, password: p} ] } }\nno_auth_user: a"),
]


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.chmod(self.folder, 0o755)

    def write(self, text, name="t.conf"):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def run_server(self, *words, **more):
        return subprocess.run([EXECUTABLE, *words], capture_output=True, text=True, timeout=3 * DEADLINE, **more)

    def ask(self, path, *words, **more):
        run = self.run_server("-t", "-c", path, *words, **more)
        return run.returncode, run.stderr


@bulkhead_only("nats-server's -t asks less than its start")
class Truth(Files):
    def test_what_a_start_refuses(self):
        for name, text, said in REFUSED:
            with self.subTest(name):
                path = self.write(text.replace("files/", f"{CASES}/files/"))
                code, tested = self.ask(path)
                self.assertEqual(code, 1, tested[:300])
                self.assertRegex(tested, "^bulkhead: " + re.escape(path) + ":" + said, tested[:300])
                run = self.run_server("-c", path, "-p", "-1", "-a", "127.0.0.1")
                self.assertEqual((run.returncode, run.stderr), (1, tested))

    def test_what_a_start_takes(self):
        for name, text in TAKEN:
            with self.subTest(name):
                code, said = self.ask(self.write(ANY + text))
                self.assertEqual(code, 0, said[:500])
                with Server(config=text) as server, Client(server) as client:
                    client.send(b"CONNECT {}\r\nPING\r\n")
                    client.expect_exact(b"+OK\r\nPONG\r\n")
                    server.check()

    def test_a_long_control_line(self):
        """A CONNECT may be as long as the limit says; a subject stays below 64 KB."""
        with Server(config="max_control_line: 128KB") as server:
            with Client(server) as client:
                client.connect(name="n" * 100000)
                client.expect_exact(b"+OK\r\n")
                client.send(b"SUB " + b"a" * 65000 + b" 1\r\n")
                client.expect_exact(b"+OK\r\n")
                client.send(b"SUB " + b"a" * 65536 + b" 2\r\n")
                client.expect_exact(b"-ERR 'maximum control line exceeded'\r\n")
                client.expect_eof()
            with Client(server) as client:
                client.connect(name="n" * 140000)
                client.expect_exact(b"-ERR 'maximum control line exceeded'\r\n")

    def test_bounds_can_be_served(self):
        """Both ends of what a row of the table allows, but for what this machine may not have."""
        listing = subprocess.run([os.path.join(harness.BUILD, "config-print"), "bounds"], capture_output=True, text=True)
        rows = [line.split("\t") for line in listing.stdout.splitlines()]
        self.assertGreater(len(rows), 15)
        lows, highs = {}, {}
        for section, name, low, high in rows:
            if name in ("uid_base", "size", "frontends") or name.endswith("port"):
                continue
            highs.setdefault(section, {})[name] = high
            if name not in ("ping_interval", "ping_max", "edge_dead", "hang", "replay"):  # that short nothing may wait
                lows.setdefault(section, {})[name] = low
        lows[""]["max_payload"], lows[""]["max_pending"] = "1", "1024"
        for values in (lows, highs):
            text = "".join(f"{name}: {value}\n" for name, value in values.pop("").items())
            for section, block in values.items():
                text += f"{section} {{ " + ", ".join(f"{name}: {value}" for name, value in block.items()) + " }\n"
            with self.subTest(text), Server(config=text) as server, Client(server) as client:
                client.send(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
                client.expect_until(b"PONG\r\n")
                server.check()

    def test_certificates_that_no_process_takes(self):
        authority = certificates.Authority(self.folder)
        old = authority.server("old", kind="rsa")
        request = os.path.join(self.folder, "ca-old.csr")
        certificates.openssl("x509", "-req", "-in", request, "-CA", authority.cert, "-CAkey", authority.cert[:-3] + "key", "-sha1",
                             "-out", old.cert)
        short, curve = (certificates.Pair(*(os.path.join(self.folder, name + end) for end in (".pem", ".key")))
                        for name in ("short", "curve"))
        for pair, key in ((short, ("-newkey", "rsa:1024")), (curve, ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-224"))):
            certificates.openssl("req", "-x509", "-nodes", *key, "-keyout", pair.key, "-out", pair.cert, "-subj", "/CN=x")
        large = self.write(open(authority.cert).read() * 3000, "large.pem")
        good = authority.server()
        for pair, ca, said in ((old, authority.cert, "a certificate's signature is too weak"),
                               (short, authority.cert, "a certificate's key is too short"),
                               (curve, authority.cert, "a private key must be RSA of"),
                               (good, large, "the certificates take more than 1048576 bytes")):
            path = self.write(f'\n tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}", ca_file: "{ca}", verify: true }}')
            code, tested = self.ask(path)
            self.assertEqual((code, tested[:len(path) + 17]), (1, f"bulkhead: {path}:2:2: tls"[:len(path) + 17]), tested)
            self.assertIn(said, tested)
            self.assertEqual(self.run_server("-c", path).stderr, tested)

    def test_flags_count(self):
        path = self.write("port: 4222\njetstream: true\n")
        self.assertEqual(self.ask(path)[0], 1)
        code, said = self.ask(path, "--unsupported", "warn")
        self.assertEqual(code, 0, said)
        self.assertEqual(said, f"bulkhead: configuration file {path} is valid\n"
                               f'{path}:2:1: option "jetstream" is not available in this server yet: it is left out\n')
        self.assertRegex(self.ask(path, "--frontends", "99", "--unsupported=warn")[1], r"frontends \(99\) must lie")

    def test_what_is_left_out_is_a_warning_in_the_log(self):
        with Server(config="unsupported: warn\nmqtt { port: 1883 }\nprof_port: 5\n") as server:
            self.assertIn("[WRN]", server.wait_log('option "mqtt" is not available in this server yet: it is left out'))
            self.assertIn("[WRN]", server.wait_log('invalid use of field "prof_port": it has no effect in this server'))
            server.write_config("unsupported: refuse\nmqtt { port: 1883 }\n")
            server.signal(signal.SIGHUP)
            server.wait_log('Failed to reload server configuration: ')

    def test_what_this_machine_has_not(self):
        rows = [('log_file: "/nofolder/x.log"', "error opening log file /nofolder/x.log: No such file or directory"),
                ('pid_file: "/nofolder/x.pid"', "Could not write pidfile: /nofolder/x.pid: No such file or directory"),
                ("host: 192.0.2.1", 'Error listening on port: 192.0.2.1:-1, "listen tcp 192.0.2.1:0: bind: cannot assign')]
        if ROOT:
            rows.append(("processes { router { user: nosuchuser } }", "nosuchuser"))
        for text, words in rows:
            with self.subTest(text):
                path = self.write("port: -1\n" + text)
                code, said = self.ask(path)
                self.assertEqual(code, 1 if ROOT else 0)
                self.assertIn(words, said)
                self.assertEqual(self.run_server("-c", path).returncode, 1)

    def test_names_of_options_in_included_files(self):
        self.write("max_payload: 2mb\nhttp_port: 8222\nserver_name: 5\nsecretkey: 1\n", "inc.conf")
        path = self.write("include inc.conf\n")
        said = self.ask(path)[1]
        self.assertIn("inc.conf:3:1: interface conversion: interface {} is int64, not string", said)
        self.assertEqual("secretkey" in said, not ROOT)
        self.write("http_port: 8222\n", "inc.conf")
        self.assertIn('inc.conf:1:1: option "http_port" is not available in this server yet'.replace(":1:1", ":1:0"),
                      self.ask(path)[1])

    @unittest.skipUnless(ROOT, "only root can be somebody else")
    def test_included_text_is_shown_to_whoever_may_read_it(self):
        self.write("secretkey: 1\n", "inc.conf")
        path = self.write("include inc.conf\n")
        executables = os.path.join(self.folder, "bin")
        shutil.copytree(os.path.dirname(EXECUTABLE), executables,
                        ignore=lambda _, names: [n for n in names if not n.startswith("bulkhead")])

        def become_nobody():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

        run = subprocess.run([os.path.join(executables, "bulkhead"), "-t", "-c", path], capture_output=True, text=True,
                             preexec_fn=become_nobody)
        self.assertIn('inc.conf:1:0: unknown field "secretkey"', run.stderr)
        self.assertIn("inc.conf:1:0: unknown field ...", self.ask(path)[1])


@bulkhead_only("nats-server has no processes")
class FirstUse(Files):
    """Each child makes all that a configuration asks for, behind its filter."""

    def test_the_reader_checks_jwts_of_all_kinds_of_files(self):
        with open(os.path.join(CASES, "files", "operator.jwt")) as file:
            jwt = re.search(r"^eyJ.*$", file.read(), re.MULTILINE)[0]
        for begin, end in (("-----BEGIN NATS OPERATOR JWT-----", "------END NATS OPERATOR JWT------"),
                           ("-----BEGIN TEST OPERATOR JWT-----", "------END TEST OPERATOR JWT------"), ("--- a ---", "---b---"),
                           ("", "")):
            with self.subTest(begin):
                self.write(f"{begin}\n{jwt}\n{end}\n", "op.jwt")
                said = self.ask(self.write(f"resolver: MEMORY\noperator: {self.folder}/op.jwt"))[1]
                self.assertRegex(said, 'option "operator" is not available in this server yet\n')

    def test_every_kind_of_login_and_key(self):
        authority, nkey = certificates.Authority(self.folder), Nkey()
        client = authority.client("c", "/CN=joe")
        for kind in (k for k in certificates.KEYS if k != "rsa1024"):  # that one is for clients alone
            with self.subTest(kind):
                pair = authority.server(kind, kind=kind)
                config = f"""
                    tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}", ca_file: "{authority.cert}", verify: true
                        curve_preferences: [ X25519, CurveP384 ], connection_rate_limit: 100
                        pinned_certs: [ "{client.pin()}" ] }}
                    authorization {{ users [ {{user: h, password: '{bcrypt_hash("pw")}'}}, {{nkey: {nkey.public}}} ] }}
                    """
                with Server(config=config) as server:
                    for login in (lambda info: {"user": "h", "pass_": "pw"}, nkey.login):
                        with Client(server, tls=authority.context(client)) as one:
                            one.connect(**login(one.info))
                            one.expect_exact(b"+OK\r\n")
                    server.check()

    def test_environment_that_is_cut(self):
        path = self.write("authorization { user: u, password: $PASSWORD_OF_U }")
        code, said = self.ask(path, env={**os.environ, "PASSWORD_OF_U": "a,b"})
        self.assertEqual(code, 0)
        self.assertIn('the environment variable for "password" ends at the first \',\'', said)
        self.assertNotIn("\n", self.ask(path, env={**os.environ, "PASSWORD_OF_U": '"a,b"'})[1].strip())


class Settings(Files):
    """What the administrator has set for the process holds."""

    @bulkhead_only("it has no processes")
    def test_nice_and_policy(self):
        for words, nice, policy in ((["nice", "-n", "7"], 7, os.SCHED_OTHER), (["chrt", "--batch", "0"], 0, os.SCHED_BATCH),
                                    (["chrt", "--idle", "0"], 0, os.SCHED_IDLE)):
            with self.subTest(words[0:2]), tempfile.NamedTemporaryFile() as log:
                process = subprocess.Popen([*words, EXECUTABLE, "-a", "127.0.0.1", "-p", "-1"], stderr=log)
                try:
                    wait_until(lambda: "Server is ready" in open(log.name).read(), "the server is ready")
                    pids = [process.pid, *children_of(process.pid)]
                    self.assertGreater(len(pids), 4)
                    for pid in pids:
                        self.assertEqual((os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid)), (nice, policy))
                finally:
                    process.terminate()
                    process.wait(DEADLINE)

    @bulkhead_only("nats-server has no shared memory")
    @unittest.skipIf(is_sanitized(), "sanitizers write files of their own")
    def test_limit_of_file_sizes(self):
        log = os.path.join(self.folder, "x.log")
        most = 10000
        process = subprocess.Popen([EXECUTABLE, "-a", "127.0.0.1", "-p", "-1", "-l", log, "-D"], stderr=subprocess.DEVNULL,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                         (most, resource.RLIM_INFINITY)))
        try:
            wait_until(lambda: os.path.exists(log) and "Server is ready" in open(log).read(), "the server is ready")
            port = int(re.search(r"client connections on 127.0.0.1:(\d+)", open(log).read())[1])
            for _ in range(100):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    self.assertTrue(client.recv(100))
            wait_until(lambda: os.path.getsize(log) > most * 9 // 10, "the log is full")
            with socket.create_connection(("127.0.0.1", port)) as client:
                self.assertTrue(client.recv(100))
            self.assertLessEqual(os.path.getsize(log), most)
            self.assertIsNone(process.poll())
        finally:
            process.terminate()
            self.assertIn(process.wait(DEADLINE), (0, 1))


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@unittest.skipUnless(has_ipv6(), "this machine has no IPv6")
class BothFamilies(Files):
    def serves(self, address, port):
        try:
            with socket.create_connection((address, port), timeout=DEADLINE) as client:
                info = json.loads(client.makefile("rb").readline()[len("INFO "):])
        except ConnectionRefusedError:
            return False
        self.assertEqual(info["client_ip"], address)
        return True

    def start(self, host):
        port = harness.free_port()
        process = subprocess.Popen([EXECUTABLE, "-p", str(port), "--ports_file_dir", self.folder, *host], stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait, DEADLINE)
        self.addCleanup(process.terminate)
        for line in process.stderr:
            if b"Server is ready" in line:
                return port, process
        raise AssertionError(f"no start with {host}")

    def test_a_wildcard_means_both(self):
        for host in ([], ["-a", "0.0.0.0"], ["-a", ""], ["-a", "::"], ["-a", "[::]"], ["-a", "::0"]):
            with self.subTest(host):
                port, process = self.start(host)
                self.assertTrue(self.serves("127.0.0.1", port))
                self.assertTrue(self.serves("::1", port))
                name = f"{os.path.basename(EXECUTABLE)}_{process.pid}.ports"
                path = os.path.join(self.folder, name)
                wait_until(lambda: os.path.exists(path), "the ports file")
                with open(path) as file:
                    urls = json.load(file)["nats"]
                for address in ("127.0.0.1", "[::1]"):
                    self.assertIn(f"nats://{address}:{port}", urls)

    def test_one_address_is_one_family(self):
        for host, other in (("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("localhost", "::1")):
            with self.subTest(host):
                port, _ = self.start(["-a", host])
                self.assertTrue(self.serves("127.0.0.1" if host == "localhost" else host, port))
                self.assertFalse(self.serves(other, port))

    def test_a_port_belongs_to_one_server(self):
        port, _ = self.start([])
        for host in ("::", "0.0.0.0", "127.0.0.1", "::1"):
            run = self.run_server("-p", str(port), "-a", host)
            self.assertEqual(run.returncode, 1)
            self.assertIn("address already in use", run.stderr)


if __name__ == "__main__":
    unittest.main()
