# SPDX-License-Identifier: Apache-2.0
"""What the tests use that kill processes of the server, look into them, or run C programs against it.

Only pids that are children of the test's own server are killed, through descriptors of theirs.
"""

import os
import re
import select
import shlex
import signal
import struct
import subprocess
import threading

from harness import BUILD, DEADLINE, ROOT, SLOWNESS, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM_SECONDS = 50 * SLOWNESS


def read_proc(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read().decode(errors="replace")


def live_router(server):
    """The pid of the router at work: it has the links mapped, the spare has not. None while there is none."""
    pids = server.child_pids().get("router", [])
    for pid in pids:
        try:
            if "/memfd:ingress" in read_proc(pid, "maps"):
                return pid
        except PermissionError:  # not root, and it is not dumpable: the log tells
            told = re.findall(r"Router \(pid (\d+)\) took over", server.log())
            live = int(told[-1]) if told else min(server._first_children["router"])
            return live if live in pids else None
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
    return None


def kill(server, pid, number=signal.SIGKILL):
    """Kills one process of the server. Returns False if it had ended before."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if pid not in sum(server.child_pids().values(), []):
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    finally:
        os.close(descriptor)


def stop_and_split(server, frontend, clients):
    """Stops that frontend, and returns those clients that other ones have, and those that it has."""
    kill(server, frontend, signal.SIGSTOP)
    for client in clients:
        client.send(b"PING\r\n")
    beside, held = [], {client.socket: client for client in clients}
    while ready := select.select(list(held), [], [], 0.2 * SLOWNESS)[0]:
        for one in ready:
            client = held.pop(one)
            client.expect_exact(b"PONG\r\n")
            beside.append(client)
    held = list(held.values())
    return beside, held


def private_bytes(server):
    """Memory of all the server's processes that is no file and not shared: rings, whose pages come with use, are left out."""
    return sum(int(re.search(r"^RssAnon:\s+(\d+) kB", read_proc(pid, "status"), re.MULTILINE)[1]) * 1024
               for pid in [server.pid] + sum(server.child_pids().values(), []))


def take_over_count(server):
    return server.log().count(" took over ")


def take_overs_ms(server):
    """The pauses that the server's log tells, in milliseconds."""
    return [int(ms) for ms in re.findall(r"took over (\d+) ms", server.log())]


def wait_family(server, **counts):
    """Waits until the server has so many processes of each role, and takes these for those that must not end."""
    counts = {"router": 2, "authd": 1, "logd": 1} | counts

    def complete():
        children = server.child_pids()
        return all(len(children.get(role, [])) == count for role, count in counts.items()) and live_router(server)
    wait_until(complete, f"the server has {counts}")
    server._first_children = server.child_pids()


def compile_program(name):
    """Compiles tests/system/c/NAME.c if it is newer than the program, and returns the program's path."""
    folder = os.path.join(HERE, "c")
    source, program = os.path.join(folder, f"{name}.c"), os.path.join(BUILD, "tests", "system", name)
    newest = max(os.path.getmtime(path) for path in (source, os.path.join(folder, "wire.h")))
    if not os.path.exists(program) or os.path.getmtime(program) < newest:
        os.makedirs(os.path.dirname(program), exist_ok=True)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        made = f"{program}.{os.getpid()}"  # two test files may come at once
        subprocess.run(compiler + ["-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, source], check=True, cwd=ROOT)
        os.replace(made, program)
    return program


class Program:
    """A running C program. It prints lines; the last one is `ok`. Any other end is a failure, with what it said."""

    def __init__(self, name, *arguments, seconds=PROGRAM_SECONDS):
        self.name = name
        self._process = subprocess.Popen([compile_program(name), *map(str, arguments)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines = []
        self._more_lines = threading.Condition()
        self._read_count = 0
        self._too_long = threading.Timer(seconds, self._process.kill)
        self._too_long.start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            with self._more_lines:
                self._lines.append(line.rstrip("\n"))
                self._more_lines.notify_all()
        with self._more_lines:
            self._lines.append(None)
            self._more_lines.notify_all()

    def tell(self, line):
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said decides

    def is_running(self):
        return self._process.poll() is None

    def expect(self, start):
        """Waits for the next line, which must begin with start, and returns it."""
        with self._more_lines:
            if not self._more_lines.wait_for(lambda: len(self._lines) > self._read_count, 4 * DEADLINE):
                raise AssertionError(f"{self.name} says nothing, expected {start!r}")
            line = self._lines[self._read_count]
            if line is None or not line.startswith(start):
                raise AssertionError(f"{self.name}: expected {start!r}, it said: {self._lines[self._read_count:]}")
            self._read_count += 1
            return line

    def finish(self):
        """Waits for the end and returns the lines since the last expectation, without `ok`."""
        status = self._process.wait()
        self._reader.join()
        lines = self._lines[self._read_count:-1]
        if status != 0 or lines[-1:] != ["ok"]:
            raise AssertionError(f"{self.name} ended with {status}: " + "\n".join(lines))
        return lines[:-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._too_long.cancel()
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()


def _counter_names():
    with open(os.path.join(ROOT, "shm", "counters.h")) as file:
        return re.findall(r"X\((\w+), \"", file.read())


def counters(server):
    """The sum of all counters pages, by name. Only root can look into the descriptors of the supervisor."""
    pages = {}
    for number in os.listdir(f"/proc/{server.pid}/fd"):
        path = f"/proc/{server.pid}/fd/{number}"
        try:
            if "/memfd:counters" in os.readlink(path):
                with open(path, "rb") as file:
                    pages[os.fstat(file.fileno()).st_ino] = file.read()
        except FileNotFoundError:
            pass  # closed meanwhile
    names = _counter_names()
    return {name: sum(struct.unpack_from("<Q", page, 8 * index)[0] for page in pages.values())
            for index, name in enumerate(names)}
