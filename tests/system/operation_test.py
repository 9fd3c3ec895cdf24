# SPDX-License-Identifier: Apache-2.0
"""What an administrator touches: flags, the configuration file, logs, signals."""

import glob
import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import time
import types
import unittest

from family import kill, wait_family
from harness import DEADLINE, EXECUTABLE, SLOWNESS, UNWATCHED, Client, Server, bulkhead_only, is_sanitized, wait_until

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

    def test_several_faults_and_bytes_that_are_no_text(self):
        self.write("port: x\nfoo: 1\n")
        said = (f"{self.path}:1:0: interface conversion: interface {{}} is string, not int64\n"
                f'{self.path}:2:1: unknown field "foo"\n')
        for words in (("-t", "-c", self.path), ("-c", self.path)):
            result = run(*words)
            self.assertEqual((result.returncode, result.stderr), (1, f"bulkhead: {said}\n"))
        self.write("a: [1,\n")
        result = run("-t", "-c", self.path)
        self.assertEqual((result.returncode, result.stderr), (1, "bulkhead: Parse error on line 2: 'Expected an array value terminator "
                                                              "\",\" or an array terminator \"]\", but got '\\x00' instead.'\n"))

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
        server.wait_log('"pass": "[REDACTED]", "auth_token":"[REDACTED]","name":"n"}]')
        self.assertNotIn("s3cret", server.log())
        self.assertNotIn("t0ken", server.log())


@bulkhead_only("log files are read while Bulkhead writes them")
class LogFileTest(unittest.TestCase):
    """The server says nothing on stderr then, so it is watched through its file."""

    def serve(self, config, log_folder="", before=()):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.makedirs(os.path.join(self.folder, log_folder), exist_ok=True)
        self.log_path = os.path.join(self.folder, log_folder, "server.log")
        path = os.path.join(self.folder, "server.conf")
        with open(path, "w") as file:
            file.write(f'host: 127.0.0.1\nport: -1\nlog_file: "{self.log_path}"\npid_file: "{self.folder}/pid"\n'
                       f'ports_file_dir: "{self.folder}"\n' + config)
        self.process = subprocess.Popen([*before, EXECUTABLE, "-c", path], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
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

    def test_closed_descriptors(self):
        self.serve("", before=("sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'))
        self.wait_file("Server is ready")
        self.stop()

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

    def test_closed_stderr(self):
        self.serve("", before=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
        self.wait_file("Server is ready")
        self.stop()

    def test_reopen(self):
        self.serve("")
        os.rename(self.log_path, self.log_path + ".1")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: os.path.exists(self.log_path), "a new log file")
        self.wait_file("[INF] File log re-opened")
        self.assertNotIn("re-opened", read(self.log_path + ".1"))

    def test_reopen_in_another_folder(self):
        """The folder of the file was moved away and made anew, as a deployment does it."""
        self.serve("", log_folder="logs")
        os.rename(f"{self.folder}/logs", f"{self.folder}/logs.old")
        os.mkdir(f"{self.folder}/logs")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: os.path.exists(self.log_path), "a new log file")
        self.wait_file("[INF] File log re-opened")
        os.rename(f"{self.folder}/logs", f"{self.folder}/logs.gone")
        self.process.send_signal(signal.SIGUSR1)
        self.wait_file("The log file cannot be opened again", f"{self.folder}/logs.gone/server.log")

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


REMOTE = r"<%d>\d{4}-\d\d-\d\dT[\d:]+(Z|[+-]\d\d:\d\d) \S+ bulkhead\[%d\]: %s\n"
LOCAL = r"<%d>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d bulkhead\[%d\]: %s\n"


@bulkhead_only("a syslog of the test's own")
class SyslogTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.folder = folder.name

    def start(self, *words, before=()):
        process = subprocess.Popen([*before, EXECUTABLE, "-a", "127.0.0.1", "-p", "-1", *words], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def listen(self, family, kind, address):
        syslog = socket.socket(family, kind)
        self.addCleanup(syslog.close)
        syslog.settimeout(DEADLINE)
        syslog.bind(address)
        if kind == socket.SOCK_STREAM:
            syslog.listen()
        return syslog

    def accept(self, listener):
        connection = listener.accept()[0]
        self.addCleanup(connection.close)
        connection.settimeout(DEADLINE)
        return connection

    def read_until(self, syslog, text, stream=False):
        """The line that holds text: of a datagram socket one packet each."""
        lines = b""
        while True:
            received = syslog.recv(8192)
            self.assertNotEqual(received, b"", f"the end before {text!r}")
            if not stream:
                self.assertTrue(received.endswith(b"\n") and received.count(b"\n") == 1, received)
            lines += received
            for line in lines.decode().splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line

    def test_udp(self):
        syslog = self.listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        process = self.start("-r", f"udp://127.0.0.1:{syslog.getsockname()[1]}")
        self.assertRegex(self.read_until(syslog, "Starting"), "^" + REMOTE % (29, process.pid, "Starting bulkhead") + "$")

    def test_tcp_that_comes_back(self):
        """Lines go on where a syslog is that was away."""
        listener = self.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        process = self.start("-r", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        connection = self.accept(listener)
        self.assertRegex(self.read_until(connection, "ready", True), "^" + REMOTE % (29, process.pid, "Server is ready") + "$")
        connection.close()
        listener.settimeout(0.05)
        connection = wait_until(lambda: self.poke_and_accept(process, listener), "another connection")
        connection.settimeout(DEADLINE)
        process.send_signal(signal.SIGUSR1)
        self.read_until(connection, "File log re-open ignored, not a file logger", True)

    @unittest.skipUnless(os.geteuid() == 0, "which router is at work only root sees")
    def test_a_syslog_that_does_not_answer_delays_nobody(self):
        """The server tries to come back to one that takes no connection: a router that dies meanwhile is replaced at once."""
        listener = self.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        process = self.start("-r", f"tcp://127.0.0.1:{address[1]}", "--ports_file_dir", self.folder)
        connection = self.accept(listener)
        ports = wait_until(lambda: glob.glob(f"{self.folder}/*.ports") and read(glob.glob(f"{self.folder}/*.ports")[0]), "the port")
        server = types.SimpleNamespace(port=int(json.loads(ports)["nats"][0].rpartition(":")[2]))
        client = Client(server, verbose=False)
        self.addCleanup(client.close)
        client.send(b"SUB on 1\r\n")
        client.fence()
        for _ in range(3):  # its queue is full: the kernel lets further ones wait
            waiting = socket.socket()
            self.addCleanup(waiting.close)
            waiting.setblocking(False)
            waiting.connect_ex(address)
        connection.close()

        def is_trying():
            process.send_signal(signal.SIGUSR1)
            fields = [line.split() for line in read("/proc/net/tcp").splitlines()[1:]]
            return any(f[2] == f"0100007F:{address[1]:04X}" and f[3] == "02" and f[9] not in own for f in fields)
        own = {line.split()[9] for line in read("/proc/net/tcp").splitlines()[1:] if line.split()[3] == "02"}
        wait_until(is_trying, "a connection that gets no answer")
        for _ in range(3):
            for pid in read(f"/proc/{process.pid}/task/{process.pid}/children").split():
                if "memfd:ingress" in read(f"/proc/{pid}/maps") and "router" in read(f"/proc/{pid}/cmdline"):
                    os.kill(int(pid), signal.SIGKILL)
            begun = time.monotonic()
            client.send(b"PUB on 2\r\nhi\r\n")
            client.receive_message()
            self.assertLess(time.monotonic() - begun, 0.5 * SLOWNESS)

    def poke_and_accept(self, process, listener):
        """Only a line that is lost tells that nobody reads."""
        process.send_signal(signal.SIGUSR1)
        try:
            return self.accept(listener)
        except TimeoutError:
            return None

    def test_unix(self):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with self.subTest(kind):
                path = os.path.join(self.folder, f"log{kind}")
                syslog = self.listen(socket.AF_UNIX, kind, path)
                process = self.start("-r", f"unix://{path}")
                stream = kind == socket.SOCK_STREAM
                source = self.accept(syslog) if stream else syslog
                line = self.read_until(source, "Starting", stream)
                self.assertRegex(line, "^" + REMOTE % (29, process.pid, "Starting bulkhead") + "$")

    @unittest.skipUnless(os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode == 0,
                         "mounts are not granted")
    def test_local(self):
        """The syslog of the machine, which for this server is the test's own."""
        syslog = self.listen(socket.AF_UNIX, socket.SOCK_DGRAM, os.path.join(self.folder, "syslog"))
        if os.path.exists("/dev/log") and not os.path.realpath("/dev/log").startswith("/run/"):
            self.skipTest("/dev/log is not in /run")
        process = self.start("-s", "-D", before=("unshare", "-m", "sh", "-c", f'mount --bind {self.folder} /run && exec "$0" "$@"'))
        self.assertRegex(self.read_until(syslog, "Starting"), "^" + LOCAL % (29, process.pid, "Starting bulkhead") + "$")
        self.read_until(syslog, "Server is ready")
        process.send_signal(signal.SIGUSR1)
        self.assertRegex(self.read_until(syslog, "Trapped"), "^" + LOCAL % (31, process.pid, 'Trapped "user defined signal 1" signal') + "$")

    def test_errors(self):
        for url in ("tcp://127.0.0.1:1", "http://127.0.0.1:1"):
            result = run("-a", "127.0.0.1", "-p", "-1", "-r", url)
            self.assertEqual(result.returncode, 1)
            self.assertIn('error connecting to syslog: "', result.stderr)


@bulkhead_only("log lines of its processes")
class LastWordsTest(unittest.TestCase):
    """A process that dies leaves what it has said in the log, also while nobody reads it."""

    @unittest.skipIf(is_sanitized(), "a sanitizer catches the signal")
    def test_last_words(self):
        server = Server(flags=("-DV",), frontends=1, **UNWATCHED)
        self.addCleanup(server.stop)
        for number, name in ((signal.SIGSEGV, "Segmentation fault"), (signal.SIGABRT, "Aborted"), (signal.SIGKILL, "Killed")):
            with self.subTest(name):
                wait_family(server, frontend=1)
                frontend, logd = server.child_pids()["frontend"][0], server.child_pids()["logd"][0]
                with Client(server, verbose=False) as client:
                    client.fence()
                    kill(server, logd, signal.SIGSTOP)
                    for word in range(50):
                        client.send(b"PUB last.words.%d.%d 0\r\n\r\n" % (number, word))
                    client.fence()
                    kill(server, frontend, number)
                    client.expect_eof()
                kill(server, logd, signal.SIGCONT)
                server.wait_log(f"frontend 0 (pid {frontend}) was killed by signal {number:d} ({name}): its clients reconnect")
                for word in range(50):
                    server.wait_log(f"<<- [PUB last.words.{number:d}.{word} 0]")


@bulkhead_only("it signals nothing but Bulkhead")
class SignalTest(unittest.TestCase):
    @unittest.skipUnless(os.geteuid() == 0 and subprocess.run(["unshare", "-p", "-f", "--mount-proc", "true"], stderr=subprocess.DEVNULL)
                         .returncode == 0, "process namespaces are not granted")
    def test_signals_by_name(self):
        """Without a pid the one server is found; in a namespace of processes, where only the test's own are."""
        holder = subprocess.Popen(["unshare", "-p", "-f", "--mount-proc", "--kill-child", "sleep", "1000"])
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)

        def find_first():
            pids = read(f"/proc/{holder.pid}/task/{holder.pid}/children").split()
            return pids and read(f"/proc/{pids[0]}/cmdline").startswith("sleep") and pids[0]
        first = wait_until(find_first, "a first process")
        inside = ("nsenter", "-t", first, "-p", "-m", "--")
        seen = subprocess.run([*inside, "sh", "-c", "echo /proc/[0-9]*"], capture_output=True, text=True, check=True).stdout.split()
        self.assertLess(len(seen), 4, "this is not the namespace of the test")

        def send(command):
            result = subprocess.run([*inside, EXECUTABLE, "--signal", command], capture_output=True, text=True, timeout=DEADLINE)
            return result.returncode, result.stdout, result.stderr

        self.assertEqual(send("reload"), (1, "", "bulkhead: no bulkhead processes running\n"))
        with tempfile.TemporaryDirectory() as folder:
            servers = []
            for name in ("one", "two"):
                log = open(os.path.join(folder, name), "wb")
                self.addCleanup(log.close)
                servers.append(subprocess.Popen([*inside, EXECUTABLE, "-a", "127.0.0.1", "-p", "-1", "-D"], stderr=log))
                self.addCleanup(servers[-1].wait)
                wait_until(lambda: "Server is ready" in read(os.path.join(folder, name)), "a server")
                if name == "one":
                    self.assertEqual(send("reopen"), (0, "", ""))
                    wait_until(lambda: 'Trapped "user defined signal 1"' in read(os.path.join(folder, name)), "the signal")
            status, said, error = send("reopen")
            self.assertEqual((status, said), (1, ""))
            self.assertRegex(error, r"^bulkhead: multiple bulkhead processes running:\n\d+\n\d+\n$")
            self.assertNotIn("Trapped", read(os.path.join(folder, "two")))
            pid = error.split()[-1]
            self.assertEqual(send(f"quit={pid}"), (0, "", ""))
            wait_until(lambda: any(server.poll() == 0 for server in servers), "the end of one")
            self.assertEqual(send("stop"), (0, "", ""))
            statuses = [server.wait(DEADLINE) for server in servers]
            self.assertEqual(statuses.count(0), 1, statuses)

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
