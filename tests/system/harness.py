# SPDX-License-Identifier: Apache-2.0
"""What the system tests stand on: real server processes and raw sockets.

Server starts build/bulkhead on a free loopback port, or the server that BULKHEAD_SERVER names; `nats-server` there means
Debian's, which gets the same limits through a small configuration file. Client is one raw connection with exact
expectations. ServerCase is a unittest case with one server for the class.

Nothing here waits for time: every wait is for a condition and ends in a failure after DEADLINE seconds.

Environment: BULKHEAD_SERVER, BULKHEAD_BUILD (folder of the executables, default `build`), TEST_SLOWNESS (factor on every
deadline, e.g. 10 under valgrind).
"""

import ctypes
import glob
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BULKHEAD_BUILD", "build"))
EXECUTABLE = shutil.which(os.environ.get("BULKHEAD_SERVER", os.path.join(BUILD, "bulkhead")))
REAL_NATS = os.path.basename(EXECUTABLE or "") == "nats-server"
SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
DEADLINE = 10 * SLOWNESS

__unittest = True  # keeps the harness out of the tracebacks of failures

# A table's answer may end in one of these: the server closes, the server closes with or without a text.
EOF = b"<EOF>"
CLOSED = b"<CLOSED>"
UNIQUE = b"<UNIQUE>"  # see ServerCase.check_table

UNKNOWN_OP = b"-ERR 'Unknown Protocol Operation'\r\n" + EOF
PING = b"PING\r\n"
QUIET = b'CONNECT {"verbose":false,"pedantic":false}\r\n'

REPORTS = ("broken promise", "AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "MemorySanitizer", "runtime error:")
SECONDS_OPTIONS = ("ping_interval", "write_deadline")
BULKHEAD_ONLY_OPTIONS = ("frontends", "hang_ms", "crash_exempt")
UNWATCHED = {"hang_ms": 600_000}  # options of a server whose processes the test itself stops for a while


def bulkhead_only(reason):
    """Marks a test in which Bulkhead differs from nats-server on purpose."""
    return unittest.skipIf(REAL_NATS, f"Bulkhead only: {reason}")


def find_peers():
    """The nats-servers and tools to compare with, as far as this machine has them: name to path. `nats-server` is Debian's,
    `nats-server-new` and `nats` are what `make peers` found, `nsc` is looked for on the PATH alone."""
    tools = os.path.join(ROOT, "build", "peers", "bin")
    found = {"nats-server": shutil.which("nats-server"), "nats-server-new": shutil.which("nats-server", path=tools),
             "nats": shutil.which("nats", path=tools), "nsc": shutil.which("nsc")}
    return {name: path for name, path in found.items() if path}


def raise_descriptor_limit():
    """Lets this process, and servers started after this, open as many descriptors as the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_sanitized():
    """True if the server is built with a sanitizer, so that its memory says nothing."""
    with open(EXECUTABLE, "rb") as file:
        content = file.read()
    return any(mark in content for mark in (b"__asan_init", b"__tsan_init", b"__ubsan_handle"))


def free_port():
    """A loopback port below the ephemeral range, so that no client socket takes it while a server is restarted."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def wait_until(condition, what):
    """Polls condition() and returns its first true value."""
    end = time.monotonic() + DEADLINE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE:g} s for: {what}")
        time.sleep(0.01)


def _die_with_parent():
    """Runs in the child before exec: the server ends when its test does, however that ends."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """A running server. Options are the long options of the command line, without dashes; flags are passed as they are.

    config: text of a configuration file, in which {directory} stands for the server's own folder; then the port is the
    file's if it names none here, and the file is self.config_path. The log is read from stderr. environment: variables that
    the server has beside those of the test. directory: an empty folder, which becomes the server's own.
    """

    def __init__(self, port=None, flags=(), config=None, environment=None, directory=None, **options):
        if not EXECUTABLE:
            raise AssertionError("there is no server to test: build it, or set BULKHEAD_SERVER")
        self.port = port or free_port()
        self.directory = directory or tempfile.mkdtemp(prefix="bulkhead-test-")
        self.config_path = os.path.join(self.directory, "server.conf")
        if config is not None:
            os.chmod(self.directory, 0o755)
            self.write_config(config)
            flags = ("-c", self.config_path, *flags)
        self._lines = []
        self._more_lines = threading.Condition()
        self._process = subprocess.Popen(self._command_line(options, flags), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
                                         env={**os.environ, **(environment or {})})
        self.pid = self._process.pid
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        try:
            self.wait_log("Server is ready")
            if self.port == -1:
                self.port = int(self.wait_log("Listening for client connections on ").rpartition(":")[2])
            wait_until(self._accepts, f"port {self.port} accepts")
            self._first_children = self.child_pids()
        except BaseException:
            self._kill(self._open_children())
            raise

    def _command_line(self, options, flags):
        command = [EXECUTABLE, "-a", "127.0.0.1", "-p", str(self.port), "--ports_file_dir", self.directory, *flags]
        if not REAL_NATS:
            for name, value in options.items():
                command += [f"--{name}", f"{value:g}" if name in SECONDS_OPTIONS else str(value)]
            return command
        config = os.path.join(self.directory, "nats.conf")
        with open(config, "w") as file:
            if "-c" in flags:
                file.write(f"include ./{os.path.basename(self.config_path)}\n")
            for name, value in options.items():
                if name in SECONDS_OPTIONS:
                    value = f'"{value * 1000:.0f}ms"'
                if name not in BULKHEAD_ONLY_OPTIONS:
                    file.write(f"{name}: {value}\n")
        return command + ["-c", config]

    def write_config(self, text):
        with open(self.config_path, "w") as file:
            file.write(text.replace("{directory}", self.directory))

    def signal(self, number):
        self._process.send_signal(number)

    def wait_end(self):
        """Waits until the server has ended by itself and returns its exit status."""
        status = self._process.wait(DEADLINE)
        self._log_reader.join(DEADLINE)
        return status

    def _accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE).close()
            return True
        except ConnectionRefusedError:
            return False

    def _read_log(self):
        for line in self._process.stdout:
            with self._more_lines:
                self._lines.append(line.decode(errors="replace"))
                self._more_lines.notify_all()
        with self._more_lines:
            self._lines.append("")
            self._more_lines.notify_all()

    def log(self):
        with self._more_lines:
            return "".join(self._lines)

    def wait_log_of(self, client, text):
        """Waits for a log line about this client that holds text."""
        who = f"{client.name} - cid:"
        wait_until(lambda: any(who in line and text in line for line in self._lines), f"{text!r} about {who} in:\n{self.log()}")

    def wait_log(self, text):
        """Waits for a log line that holds text and returns it."""
        def found():
            return next((line for line in self._lines if text in line), None)

        with self._more_lines:
            self._more_lines.wait_for(lambda: found() or self._lines[-1:] == [""], DEADLINE)
            if found():
                return found()
        raise AssertionError(f"no {text!r} in the server's log:\n{self.log()}")

    def child_pids(self):
        """The server's processes below the first one: {"router": [pid, ...], "frontend": [...], ...}."""
        parents, names = {}, {}
        for path in glob.glob("/proc/[0-9]*"):
            try:
                with open(f"{path}/stat") as file:
                    stat = file.read()
                with open(f"{path}/cmdline", "rb") as file:
                    argv0 = os.path.basename(file.read().split(b"\0")[0].decode(errors="replace"))
            except OSError:
                continue  # it ended meanwhile
            pid = int(os.path.basename(path))
            parents[pid] = int(stat.rpartition(")")[2].split()[1])
            names[pid] = argv0
        roles = {}
        for pid in sorted(names):
            role = re.match(r"bulkhead-(\w+)", names[pid])
            ancestor = pid
            while ancestor in parents and ancestor != self.pid:
                ancestor = parents[ancestor]
            if role and ancestor == self.pid:
                roles.setdefault(role[1], []).append(pid)
        return roles

    def memory_bytes(self):
        """The proportional set size of all the server's processes together."""
        total = 0
        for pid in [self.pid] + sum(self.child_pids().values(), []):
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += int(re.search(r"^Pss:\s+(\d+) kB", file.read(), re.MULTILINE)[1]) * 1024
        return total

    def check(self):
        """Fails if the server or a process of it ended, or if its log holds a sanitizer report or a broken promise."""
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended with {self._process.returncode}, log:\n{self.log()}")
        alive = self.child_pids()
        for role, pids in self._first_children.items():
            if not set(pids) <= set(alive.get(role, [])):
                raise AssertionError(f"a {role} process ended, log:\n{self.log()}")
        self._check_log()

    def _check_log(self):
        log = self.log()
        for report in REPORTS:
            if report in log:
                raise AssertionError(f"{report!r} in the server's log:\n{log}")

    def stop(self):
        """Ends the server. Fails if it, or a process of it, does not end. A second call does nothing."""
        if not os.path.isdir(self.directory):
            return
        children = self._open_children()
        self._process.terminate()
        try:
            status = self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            status = "not at all"
        self._log_reader.join(DEADLINE)  # the log ends when the last process that writes it has ended
        survivors = self._log_reader.is_alive()
        self._kill(children)
        self._check_log()
        if survivors or status not in (0, 1):  # nats-server exits with 1 at SIGTERM
            processes = ", processes of it still ran" if survivors else ""
            raise AssertionError(f"the server ended badly ({status}){processes}, log:\n{self.log()}")

    def _open_children(self):
        """Descriptors of the child processes: a signal through one never hits a later process of the same number."""
        return [os.pidfd_open(pid) for pids in self.child_pids().values() for pid in pids]

    def _kill(self, children):
        """Kills what is left of the server, and forgets its files."""
        self._process.kill()
        self._process.wait()
        for child in children:
            try:
                signal.pidfd_send_signal(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(child)
        self._log_reader.join(DEADLINE)
        if not self._log_reader.is_alive():
            self._process.stdout.close()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Client:
    """A raw connection. The INFO line is read at once; keywords go into a CONNECT, none means none is sent. `first` is sent
    even before INFO is read. `source` is the address it comes from. `tls` is an ssl.SSLContext: the handshake follows INFO.

    The server's own PINGs are dropped where they would break an expectation, unless sees_pings is set: the first one comes
    two seconds after CONNECT, which a slow machine reaches.
    """

    sees_pings = False

    def __init__(self, server, receive_buffer=None, first=b"", source=None, tls=None, **connect):
        self.socket = socket.socket()
        self.socket.settimeout(DEADLINE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", server.port))
        self.name = "%s:%d" % self.socket.getsockname()  # as log lines have it
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()
        self.send(first)
        self.info_line = self.expect_until(b"\r\n")
        if tls:
            self.start_tls(tls)
        if connect:
            self.connect(**connect)

    def start_tls(self, context):
        """The client's half of a TLS handshake. A failure is an ssl.SSLError or the end of the connection."""
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def connect(self, **fields):
        """Sends a CONNECT of these keys; `pass` is written `pass_`."""
        self.send(b"CONNECT " + json.dumps({name.rstrip("_"): value for name, value in fields.items()}).encode() + b"\r\n")

    @property
    def info(self):
        return json.loads(self.info_line[len("INFO "):])

    def send(self, data):
        """Sends all of data. A connection that the server closed swallows it: what was received decides."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    def send_bytewise(self, data):
        for byte in data:
            self.send(bytes([byte]))

    def finish_sending(self):
        """Closes the sending half."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed already

    def _receive(self):
        """Receives some bytes; False at the end of the connection, also when that is a reset or a TLS alert."""
        try:
            data = self.socket.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLError):
            return False
        except TimeoutError:
            raise AssertionError(f"nothing received for {DEADLINE:g} s, unread: {clip(self._unread)}") from None
        self._unread += data
        return bool(data)

    def receive_message(self):
        """Receives one MSG without a reply and returns (subject, sid, payload)."""
        line = PING
        while line == PING:
            line = self.expect_until(b"\r\n")
        if not line.startswith(b"MSG "):
            raise AssertionError(f"expected a MSG, received {clip(line)}")
        _, subject, sid, size = line.split()
        payload = self.receive_bytes(int(size) + 2)
        return subject, sid, payload[:-2]

    def receive_bytes(self, size):
        while len(self._unread) < size:
            if not self._receive():
                raise AssertionError(f"{size} bytes expected before the end, received {clip(self._unread)}")
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def receive_rest(self):
        """Receives until the server closes."""
        while self._receive():
            pass
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def expect_exact(self, expected):
        """Receives exactly these bytes; fails at the first one that differs."""
        while True:
            received = bytes(self._unread[:len(expected)])
            if received == expected:
                del self._unread[:len(expected)]
                return
            if not expected.startswith(received):
                same = len(os.path.commonprefix([expected, received]))
                line_start = expected.rfind(b"\n", 0, same) + 1
                if self._drop_ping(line_start):
                    continue
                if not PING.startswith(self._unread[line_start:]) or self.sees_pings:
                    raise AssertionError(f"expected {clip(expected)}\nreceived {clip(self._unread)}")
            if not self._receive():
                raise AssertionError(f"expected {clip(expected)}\nreceived {clip(received)} and the end")

    def _drop_ping(self, position):
        """Removes a PING at this position of the unread bytes; False if there is none."""
        if self.sees_pings or not self._unread.startswith(PING, position):
            return False
        del self._unread[position:position + len(PING)]
        return True

    def expect_until(self, mark):
        """Receives up to and including mark, and returns it all."""
        while mark not in self._unread:
            if not self._receive():
                raise AssertionError(f"expected {clip(mark)} before the end, received {clip(self._unread)}")
        return self.receive_bytes(self._unread.index(mark) + len(mark))

    def expect_eof(self):
        """The server closes and sends nothing before that."""
        rest = self.receive_rest()
        if not self.sees_pings:
            rest = rest.removeprefix(PING)
        if rest:
            raise AssertionError(f"expected the end, received {clip(rest)}")

    def expect_closed(self):
        """The server closes; before that it sends nothing, or one error text."""
        rest = self.receive_rest().removeprefix(PING)
        if not re.fullmatch(rb"(-ERR '[^\r\n]*'\r\n)?", rest):
            raise AssertionError(f"expected the end, with or without an error, received {clip(rest)}")

    def expect_answer(self, answer):
        """Expects a table's answer: bytes, then EOF, CLOSED, or silence."""
        if answer.endswith(EOF):
            self.expect_exact(answer[:-len(EOF)])
            self.expect_eof()
        elif answer.endswith(CLOSED):
            self.expect_exact(answer[:-len(CLOSED)])
            self.expect_closed()
        else:
            self.expect_exact(answer)
            self.expect_silence()

    def expect_silence(self):
        """Nothing is on its way to this client: the answer to a PING is the next it receives."""
        self.send(b"PING\r\n")
        self.expect_exact(b"PONG\r\n")

    fence = expect_silence

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with a reset."""
        on_and_no_seconds = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_and_no_seconds)
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class ServerCase(unittest.TestCase):
    """Test case with one server, started with `options`, for all tests of the class."""

    options = {}
    _numbers = itertools.count()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(**cls.options)
        cls.addClassCleanup(cls.server.stop)

    def tearDown(self):
        self.server.check()

    def client(self, **connect):
        client = Client(self.server, **connect)
        self.addCleanup(client.close)
        return client

    def quiet_client(self, **connect):
        return self.client(verbose=False, pedantic=False, **connect)

    def check_table(self, table, before=QUIET, bytewise=True):
        """Runs rows of (name, sent, answer), each on two fresh connections: in one write, and byte by byte.

        UNIQUE in a row stands for a number that no other connection uses. Rows whose answer depends on who else is subscribed
        need it, since the server may see the end of an earlier connection later than the start of the next.
        nats-server has defects with split input; bytewise=not REAL_NATS spares it these.
        """
        for name, sent, answer in table:
            for send in (Client.send, Client.send_bytewise) if bytewise else (Client.send,):
                with self.subTest(name, how=send.__name__), Client(self.server) as client:
                    number = b"%d" % next(self._numbers)
                    send(client, before + sent.replace(UNIQUE, number))
                    client.expect_answer(answer.replace(UNIQUE, number))


def clip(data):
    """A printable form of bytes, the middle of long ones left out."""
    if len(data) <= 400:
        return repr(bytes(data))
    return f"{bytes(data[:200])!r} ... {bytes(data[-200:])!r} ({len(data)} bytes)"
