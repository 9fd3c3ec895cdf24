"""What an administrator touches: flags, the configuration file, logs, signals."""

import glob
import os
import signal
import socket
import stat
import subprocess
import tempfile
import unittest

from harness import DEADLINE, EXECUTABLE, Client, Server, bulkhead_only, wait_until

TRACED = b'CONNECT {"verbose":false,"pass": "s3cret", "auth_token":"t0ken","name":"n"}\r\nPUB a.b 8\r\nhel"lo!!\r\n'


def run(*words, **options):
    return subprocess.run([EXECUTABLE, *words], capture_output=True, text=True, timeout=DEADLINE, **options)


def read(path):
    with open(path, "rb") as file:
        return file.read().decode()


@bulkhead_only("texts name the program")
class CommandLineTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "a.conf")

    def write(self, text, path=None):
        with open(path or self.path, "w") as file:
            file.write(text)

    def test_valid_file(self):
        self.write("port: 4333\n")
        result = run("-t", "-c", self.path)
        self.assertEqual((result.returncode, result.stderr), (0, f"bulkhead: configuration file {self.path} is valid\n"))

    def test_faulty_file(self):
        self.write("foo: 1\n")
        for words in (("-t", "-c", self.path), ("-c", self.path)):
            result = run(*words)
            self.assertEqual(result.returncode, 1)
            self.assertIn(f'bulkhead: {self.path}:1:0: unknown field "foo"', result.stderr)

    def test_test_without_file(self):
        result = run("-t")
        self.assertEqual((result.returncode, result.stderr),
                         (1, "bulkhead: must specify [-c, --config] option to check configuration file syntax\n"))

    def test_include_and_variables(self):
        folder = os.path.dirname(self.path)
        self.write("include ./more.conf\nmax_payload: $BULKHEAD_TEST_SIZE\n")
        self.write("max_control_line: 1K\n", os.path.join(folder, "more.conf"))
        result = run("-t", "-c", self.path, env={"BULKHEAD_TEST_SIZE": "2048"})
        self.assertEqual(result.returncode, 0, result.stderr)
        result = run("-t", "-c", self.path, env={})
        self.assertEqual(result.returncode, 1)
        self.assertIn("BULKHEAD_TEST_SIZE", result.stderr)

    def test_files_that_are_none(self):
        fifo = self.path + ".fifo"
        os.mkfifo(fifo)
        for path in (fifo, os.path.dirname(self.path), "/dev/zero", self.path + ".missing"):
            with self.subTest(path):
                result = run("-t", "-c", path)
                self.assertEqual(result.returncode, 1)
                self.assertIn(path, result.stderr)

    def test_unbuilt_option(self):
        self.write("jetstream: enabled\n")
        result = run("-c", self.path)
        self.assertEqual(result.returncode, 1)
        self.assertIn('option "jetstream" is not available in this server yet', result.stderr)

    def test_words_and_unknown_flags(self):
        for word in ("version", "VERSION", "-v", "--version"):
            result = run(word)
            self.assertEqual(result.returncode, 0)
            self.assertRegex(result.stdout, r"^bulkhead: v\d")
        for word in ("help", "-h", "--help"):
            result = run(word)
            self.assertEqual((result.returncode, result.stdout[:26]), (0, "\nUsage: bulkhead [options]"))
        self.assertIn("cipher suites", run("--help_tls").stdout)
        result = run("foo")
        self.assertEqual((result.returncode, result.stderr), (1, 'bulkhead: unrecognized command: "foo"\n'))
        result = run("-bogus")
        self.assertEqual((result.returncode, result.stderr), (0, "flag provided but not defined: -bogus\n"))
        result = run("-p", "abc")
        self.assertEqual((result.returncode, result.stderr), (0, 'invalid value "abc" for flag -p: parse error\n'))

    def test_signal_errors(self):
        rows = [("foo", 'unknown signal "foo"'), ("reload=abc", "invalid pid: abc"),
                ("reload=1=2", "invalid signal parameters: [2]"), ("reload=2000000000", "no such process"),
                (f"stop={os.getpid()}", f"process {os.getpid()} is not a bulkhead server of this user")]
        for parameter, text in rows:
            result = run("--signal", parameter)
            self.assertEqual((result.returncode, result.stderr), (1, f"bulkhead: {text}\n"))


@bulkhead_only("log files are read while Bulkhead writes them")
class LogTest(unittest.TestCase):
    def serve(self, config, **options):
        server = Server(config=config, **options)
        self.addCleanup(server.stop)
        return server

    def test_file_beats_defaults_and_flags_beat_the_file(self):
        server = self.serve("max_payload: 100\nmax_control_line: 512\ndebug: true\nserver_name: filed\n"
                            "client_advertise: example.com:99\nno_header_support: true\n", max_payload=200)
        client = Client(server)
        self.addCleanup(client.close)
        info = client.info
        self.assertEqual((info["max_payload"], info["server_name"], info["host"], info["port"], info["headers"]),
                         (200, "filed", "example.com", 99, False))
        server.wait_log(f"Using configuration file: {server.config_path}")
        server.wait_log("[DBG]")

    def test_large_payload_is_warned_about(self):
        server = self.serve("max_payload: 9M\n")
        server.wait_log("[WRN] Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance")

    def test_no_time(self):
        server = self.serve("logtime: false\n")
        self.assertRegex(server.wait_log("Server is ready"), r"^\[\d+\] \[INF\] Server is ready$")

    def test_traces_hide_credentials_and_cut_payloads(self):
        server = self.serve("trace: true\nmax_traced_msg_len: 4\n")
        client = Client(server)
        self.addCleanup(client.close)
        client.send(TRACED)
        client.fence()
        server.wait_log(r'<<- MSG_PAYLOAD: ["hel\"..."]')
        server.wait_log('"pass": "[REDACTED]", "auth_token": "[REDACTED]","name":"n"}]')
        self.assertNotIn("s3cret", server.log())
        self.assertNotIn("t0ken", server.log())


@bulkhead_only("log files are read while Bulkhead writes them")
class LogFileTest(unittest.TestCase):
    """The server says nothing on stderr then, so it is watched through its file."""

    def serve(self, config):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.log_path = os.path.join(self.folder, "server.log")
        path = os.path.join(self.folder, "server.conf")
        with open(path, "w") as file:
            file.write(f'host: 127.0.0.1\nport: -1\nlog_file: "{self.log_path}"\npid_file: "{self.folder}/pid"\n'
                       f'ports_file_dir: "{self.folder}"\n' + config)
        self.process = subprocess.Popen([EXECUTABLE, "-c", path], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        preexec_fn=lambda: os.umask(0o027))
        self.addCleanup(self.process.stderr.close)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.terminate)
        wait_until(lambda: glob.glob(f"{self.folder}/*.ports"), "the ports file")

    def wait_file(self, text, path=None):
        return wait_until(lambda: text in read(path or self.log_path) and read(path or self.log_path), f"{text!r} in the log")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.assertEqual(self.process.wait(DEADLINE), 0)

    def test_file(self):
        self.serve("debug: true\n")
        self.wait_file("Server is ready")
        self.assertEqual(stat.S_IMODE(os.stat(self.log_path).st_mode), 0o640)
        self.assertEqual(read(f"{self.folder}/pid"), str(self.process.pid))
        self.assertIn('{"nats":["nats://127.0.0.1:', read(glob.glob(f"{self.folder}/*.ports")[0]))
        self.stop()
        self.assertIn("Server Exiting..", read(self.log_path))
        self.assertEqual(self.process.stderr.read(), b"")
        self.assertEqual(glob.glob(f"{self.folder}/*.ports"), [])
        self.assertTrue(os.path.exists(f"{self.folder}/pid"))

    def test_reopen(self):
        self.serve("")
        os.rename(self.log_path, self.log_path + ".1")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: os.path.exists(self.log_path), "a new log file")
        self.wait_file("[INF] File log re-opened")
        self.assertNotIn("re-opened", read(self.log_path + ".1"))

    def test_rotation(self):
        self.serve("debug: true\nlog_size_limit: 3000\nlog_max_num: 2\n")
        while len(glob.glob(self.log_path + ".*")) < 2:
            self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: os.path.exists(self.log_path), "a log file")
        first = wait_until(lambda: read(self.log_path).partition("\n")[0], "a line")
        self.assertRegex(first, r'^\[\d+\] .* \[INF\] Rotated log, backup saved as '
                                rf'"{self.log_path}\.\d{{4}}(\.\d\d){{5}}\.\d{{9}}"' + "\r$")
        for _ in range(200):
            self.process.send_signal(signal.SIGUSR1)
        self.assertLessEqual(len(glob.glob(self.log_path + ".*")), 3)

    def test_links_are_not_followed(self):
        with tempfile.TemporaryDirectory() as folder:
            target, link = os.path.join(folder, "target"), os.path.join(folder, "link")
            os.symlink(target, link)
            result = run("-a", "127.0.0.1", "-p", "-1", "-l", link)
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"error opening log file {link}", result.stderr)
            self.assertFalse(os.path.exists(target))


@bulkhead_only("a syslog of the test's own")
class SyslogTest(unittest.TestCase):
    def test_udp(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
            syslog.bind(("127.0.0.1", 0))
            self.check(syslog, "udp", syslog.recv)

    def test_tcp(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.check(listener, "tcp", lambda size: listener.accept()[0].recv(size))

    def check(self, syslog, scheme, receive):
        syslog.settimeout(DEADLINE)
        url = f"{scheme}://127.0.0.1:{syslog.getsockname()[1]}"
        process = subprocess.Popen([EXECUTABLE, "-a", "127.0.0.1", "-p", "-1", "-r", url], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        self.assertRegex(receive(4096).decode(), rf"^<29>\d{{4}}-\d\d-\d\dT[\d:]+(Z|[+-]\d\d:\d\d) \S+ "
                                                 rf"bulkhead\[{process.pid}\]: Starting bulkhead\n")

    def test_errors(self):
        for url in ("tcp://127.0.0.1:1", "http://127.0.0.1:1"):
            result = run("-a", "127.0.0.1", "-p", "-1", "-r", url)
            self.assertEqual(result.returncode, 1)
            self.assertIn('error connecting to syslog: "', result.stderr)


@bulkhead_only("it signals nothing but Bulkhead")
class SignalTest(unittest.TestCase):
    def test_signals_by_pid_and_by_file(self):
        with Server(flags=("-D",)) as server:
            pid_file = os.path.join(server.directory, "pid")
            with open(pid_file, "w") as file:
                file.write(str(server.pid))
            for command, target, name in (("reload", server.pid, "hangup"), ("reopen", pid_file, "user defined signal 1")):
                result = run("--signal", f"{command}={target}")
                self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
                server.wait_log(f'Trapped "{name}" signal')
            server.wait_log("can only reload config when a file is provided using -c or --config")
            server.wait_log("File log re-open ignored, not a file logger")
            self.assertEqual(run("--signal", f"quit={server.pid}").returncode, 0)
            self.assertEqual(server.wait_end(), 0)
