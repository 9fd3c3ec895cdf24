# SPDX-License-Identifier: Apache-2.0
"""The log: nobody writes in another's name or without end, and a log that takes nothing harms nobody."""

import fcntl
import os
import re
import select
import signal
import subprocess
import time
import unittest

from harness import DEADLINE, EXECUTABLE, SLOWNESS, Client, Server, bulkhead_only, free_port, wait_until

LINE = r"^\[(\d+)\] \S+ \S+ \[(\w+)\] (.*)$"


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@bulkhead_only("it has one process and no limit")
class LinesTest(unittest.TestCase):
    def serve(self, **options):
        server = Server(**options)
        self.addCleanup(server.stop)
        return server

    @staticmethod
    def lines(server):
        return [match for match in (re.match(LINE, line) for line in server.log().splitlines()) if match]

    def test_lines_name_their_process(self):
        server = self.serve(frontends=2, flags=("-DV",))
        client = Client(server, verbose=False)
        self.addCleanup(client.close)
        client.fence()
        client.send(b"NONSENSE\r\n")
        server.wait_log_of(client, "Client connection closed")
        frontends = server.child_pids()["frontend"]
        about_client = [line for line in self.lines(server) if line[3].startswith(client.name + " - cid:")]
        self.assertEqual({line[2] for line in about_client}, {"DBG", "TRC", "ERR"})
        self.assertEqual(len({line[1] for line in about_client}), 1)
        self.assertIn(int(about_client[0][1]), frontends)
        ready = next(line for line in self.lines(server) if line[3] == "Server is ready")
        self.assertEqual(int(ready[1]), server.pid)

    @unittest.skipUnless(os.geteuid() == 0, "only root reaches the log pipe of another process")
    def test_a_lost_process_writes_in_its_own_name_alone(self):
        """And not without end: what is too much is counted, the others' lines come through."""
        server = self.serve(frontends=2)
        frontend = server.child_pids()["frontend"][1]
        with open(f"/proc/{frontend}/fd/2", "wb", buffering=0) as pipe:
            def write(line, count=1):
                done = 0
                while done < count:
                    try:
                        done += pipe.write(line * min(count - done, 4096 // len(line))) // len(line)
                    except (BlockingIOError, TypeError):
                        time.sleep(0.001)
            write(b"IReloaded server configuration\n")
            forged = server.wait_log("Reloaded server configuration")
            match = re.match(LINE, forged)
            self.assertEqual((int(match[1]), match[3]), (frontend, "frontend 1: Reloaded server configuration"))
            before = len(server.log())
            write(b"E" + 199 * b"x" + b"\n", 60000)  # 12 MB
            server.wait_log("frontend 1: ")
        lost = wait_until(lambda: re.findall(r"frontend 1: (\d+) lines were lost: this process writes too many", server.log()),
                          "a line about what was lost")
        server.signal(signal.SIGUSR1)
        server.wait_log("File log re-open ignored, not a file logger")
        written = len(server.log()) - before
        print(f"of 12 MB {written / 1e6:.1f} MB were written, {sum(map(int, lost))} lines lost in {len(lost)} reports")
        self.assertLess(written, 10e6)
        self.assertIn(f"[{frontend}]", next(line for line in server.log().splitlines() if "writes too many" in line))

    def test_traces_are_not_cut(self):
        """What -V asks for is written, though it is more than a process may write by itself."""
        server = self.serve(frontends=1, flags=("-V",))
        client = Client(server, verbose=False)
        self.addCleanup(client.close)
        for n in range(150):
            client.send(b"PUB some.subject.%d 400\r\n" % n + 400 * b"x" + b"\r\n")
            client.fence()
        for n in range(150):
            server.wait_log(f"<<- [PUB some.subject.{n} 400]")
        self.assertNotIn("lines were lost", server.log())


@bulkhead_only("nats-server waits for its log")
class FullLogTest(unittest.TestCase):
    def run_full(self, nonblocking):
        """A server whose stderr is a pipe that nobody reads."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        if nonblocking:
            fcntl.fcntl(writing, fcntl.F_SETFL, fcntl.fcntl(writing, fcntl.F_GETFL) | os.O_NONBLOCK)
        server = Server.__new__(Server)
        server.port = free_port()
        process = subprocess.Popen([EXECUTABLE, "-a", "127.0.0.1", "-p", str(server.port), "-DV", "--frontends", "2"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)
        os.close(writing)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        server.pid = process.pid
        wait_until(server._accepts, "the port accepts")
        client = Client(server, verbose=False)
        self.addCleanup(client.close)
        client.send(b"SUB a 1\r\n")
        client.fence()
        begun = time.monotonic()
        for _ in range(3000):
            client.send(b"PUB a 20\r\n" + 20 * b"x" + b"\r\n")
        for _ in range(3000):
            client.receive_message()
        client.fence()
        traffic = time.monotonic() - begun
        logd, = server.child_pids()["logd"]
        used = processor_seconds(logd)
        time.sleep(0.5)
        used = processor_seconds(logd) - used
        self.assertLess(used, 0.2, "logd stands still while nothing happens")
        descriptor = os.pidfd_open(logd)
        self.addCleanup(os.close, descriptor)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(DEADLINE), 0)
        print(f"3,000 messages in {traffic:.2f} s, logd used {used:.2f} s of 0.5, the end took {time.monotonic() - begun:.2f} s")
        self.assertTrue(select.select([descriptor], [], [], 0.5 * SLOWNESS)[0], "logd is left behind")
        self.assertLess(time.monotonic() - begun, 4 * SLOWNESS)

    def test_nonblocking(self):
        self.run_full(True)

    def test_blocking(self):
        self.run_full(False)


if __name__ == "__main__":
    unittest.main()
