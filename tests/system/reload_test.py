# SPDX-License-Identifier: Apache-2.0
"""Reload: as a whole or not at all, and nobody valid is dropped."""

import os
import signal
import threading
import time
import unittest

from family import counters, kill, live_router, take_overs_ms, wait_family
from harness import EOF, SLOWNESS, UNWATCHED, Client, Server, bulkhead_only, wait_until

DONE = "Reloaded server configuration"
FAILED = "Failed to reload server configuration: "


@bulkhead_only("its own texts, and its own file beside flags")
class ReloadTest(unittest.TestCase):
    def serve(self, config, **options):
        server = Server(config=config, **options)
        self.addCleanup(server.stop)
        return server

    def reload(self, server, config, expected=DONE):
        """Writes the file, sends HUP and waits for one more line that holds expected."""
        before = server.log().count(expected)
        server.write_config(config)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log().count(expected) > before, f"{expected!r} in the log:\n{server.log()}")

    def connect(self, server, **options):
        client = Client(server, verbose=False, **options)
        self.addCleanup(client.close)
        client.fence()
        return client

    def test_levels(self):
        server = self.serve("debug: false\n")
        self.reload(server, "debug: true\ntrace: true\nlogtime: false\n")
        for line in ("debug = true", "trace = true", "logtime = false"):
            server.wait_log(f"[INF] Reloaded: {line}")
        self.connect(server)
        server.wait_log("[DBG] 127.0.0.1")
        server.wait_log("<<- [PING]")
        self.reload(server, "")
        mark = len(server.log())
        self.connect(server)
        self.reload(server, "")
        self.assertNotIn("[DBG] 127.0.0.1", server.log()[mark:])

    def test_limits_of_living_clients(self):
        server = self.serve("max_payload: 100\nmax_control_line: 4096\n")
        client = self.connect(server)
        self.reload(server, "max_payload: 1000\nmax_control_line: 4096\nwrite_deadline: \"3s\"\nping_max: 3\n")
        for line in ("max_payload = 1000", "write_deadline = 3s", "ping_max = 3"):
            server.wait_log(f"Reloaded: {line}")
        client.send(b"SUB big 1\r\nPUB big 1000\r\n" + 1000 * b"x" + b"\r\n")
        self.assertEqual(client.receive_message()[2], 1000 * b"x")
        self.assertEqual(Client(server).info["max_payload"], 1000)
        self.reload(server, "max_payload: 10\n")
        client.send(b"PUB big 11\r\n")
        client.expect_answer(b"-ERR 'Maximum Payload Violation'\r\n" + EOF)
        server.check()

    def test_client_advertise(self):
        server = self.serve("")
        self.reload(server, 'client_advertise: "far.example:77"\n')
        server.wait_log("Reload: client_advertise = far.example:77")
        client = self.connect(server)
        self.assertEqual((client.info["host"], client.info["port"]), ("far.example", 77))

    def test_refused_as_a_whole(self):
        server = self.serve("max_payload: 100\nmax_pending: 2000\n")
        rows = [("max_payload: 200\nmax_pending: 3000\n", "config reload not supported for MaxPending: old=2000, new=3000"),
                ("max_payload: 200\nmax_pending: 2000\nserver_name: other\n", "config reload not supported for ServerName"),
                ("max_payload: 200\nmax_pending: 2000\nlame_duck_duration: \"40s\"\n",
                 "config reload not supported for LameDuckDuration: old=2m0s, new=40s"),
                ("max_payload: 200\nfoo: 1\n", 'unknown field "foo"'),
                ("max_payload: 200\nmax_pending: [\n", "Parse error on line 3"),
                ("max_payload: 200\nmax_pending: 2000\nlog_file: \"/nowhere/x.log\"\n", "error opening log file"),
                ("max_payload: 60M\nmax_pending: 2000\n", "max_payload (60000000) cannot be higher than max_pending")]
        for config, text in rows:
            with self.subTest(config):
                self.reload(server, config, FAILED)
                self.assertIn(text, server.log().rpartition(FAILED)[2])
                self.assertEqual(Client(server).info["max_payload"], 100)
        os.unlink(server.config_path)
        before = server.log().count(FAILED)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log().count(FAILED) > before, "a refusal without a file")
        self.assertNotIn("Reloaded", server.log())
        server.check()

    def test_a_component_refuses(self):
        """Rings are as large as the first max_payload asked for."""
        server = self.serve("debug: false\n")
        self.reload(server, "debug: true\nmax_payload: 20M\n", FAILED)
        self.assertIn("too large for the rings", server.log())
        self.assertEqual(Client(server).info["max_payload"], 1048576)
        self.assertNotIn("[DBG] 127.0.0.1", server.log())
        self.reload(server, "max_payload: 1536000\n")
        self.assertEqual(Client(server).info["max_payload"], 1536000)

    @unittest.skipUnless(os.geteuid() == 0, "only root sees the counters")
    def test_a_new_router_passes_what_was_let_in_before(self):
        """A message of the old max_payload lies in a ring when a router comes that has started under the new one."""
        server = self.serve("max_payload: 400000\n", frontends=1, flags=("-D",), **UNWATCHED)
        reader, writer = self.connect(server), self.connect(server)
        reader.send(b"SUB big 1\r\n")
        reader.fence()
        router = live_router(server)
        spare = next(pid for pid in server.child_pids()["router"] if pid != router)
        kill(server, spare, signal.SIGSTOP)  # so that the router at work has said yes before it does
        server.write_config("max_payload: 1000\n")
        server.signal(signal.SIGHUP)
        server.wait_log(f"(pid {router}) can take the new settings")
        kill(server, router, signal.SIGSTOP)
        kill(server, spare, signal.SIGCONT)
        server.wait_log(f"(pid {spare}) has the new settings")
        seen = counters(server)["IN_MSGS"]  # frontends come after the router, which says nothing: the old limit holds there
        writer.send(b"PUB big 300000\r\n" + 300000 * b"x" + b"\r\n")
        wait_until(lambda: counters(server)["IN_MSGS"] > seen, "the message in the ring")
        kill(server, spare)
        wait_until(lambda: len(set(server.child_pids().get("router", [])) - {router, spare}) == 1, "a new spare router")
        kill(server, router)
        self.assertEqual(reader.receive_message()[2], 300000 * b"x")
        server.wait_log(DONE)
        writer.fence()
        writer.send(b"PUB big 1001\r\n")
        writer.expect_answer(b"-ERR 'Maximum Payload Violation'\r\n" + EOF)

    def catch_reader(self, server):
        """Begins a reload whose reader stands still, and returns the reader's pid."""
        server.write_config("include ./many.conf\nmax_payload: 2000\n")
        for name, text in (("many.conf", "include ./one.conf\n" * 900), ("one.conf", "# a comment\n" * 4000)):
            with open(os.path.join(server.directory, name), "w") as file:
                file.write(text)

        def catch():
            server.signal(signal.SIGHUP)  # one that has come to its end is too early
            pid = wait_until(lambda: server.child_pids().get("config"), "a reader")[0]
            try:
                return kill(server, pid, signal.SIGSTOP) and server.child_pids().get("config") == [pid] and pid
            except ProcessLookupError:
                return None
        return wait_until(catch, "a reader that is still at work")

    def test_the_family_goes_on_while_the_file_is_read(self):
        server = self.serve("max_payload: 2000\n", frontends=2)
        client = self.connect(server)
        client.send(b"SUB on 1\r\n")
        client.fence()
        reader = self.catch_reader(server)
        kill(server, live_router(server))
        server.wait_log("took over")
        client.send(b"PUB on 2\r\nhi\r\n")
        self.assertEqual(client.receive_message()[2], b"hi")
        self.assertLess(take_overs_ms(server)[0], 100 * SLOWNESS)
        kill(server, server.child_pids()["authd"][0])
        wait_family(server, frontend=2)
        self.connect(server)
        server.signal(signal.SIGHUP)  # has to wait for its turn
        self.assertEqual(server.child_pids()["config"], [reader])
        server.write_config("max_payload: 3000\n")
        kill(server, reader)
        server.wait_log(FAILED + "the configuration cannot be read: its reader ")
        server.wait_log("Reloaded: max_payload = 3000")
        server.wait_log(DONE)
        wait_family(server, frontend=2)
        server.check()

    def test_the_server_ends_while_the_file_is_read(self):
        for number, status in ((signal.SIGINT, 0), (signal.SIGUSR2, 0)):
            server = self.serve("max_payload: 2000\n", frontends=2)
            self.catch_reader(server)
            server.signal(number)
            self.assertEqual(server.wait_end(), status)
            self.assertEqual(server.child_pids(), {})

    def test_flags_beat_the_file(self):
        server = self.serve("max_payload: 100\n", max_payload=50)
        self.reload(server, "max_payload: 200\n")
        self.assertEqual(Client(server).info["max_payload"], 50)

    def test_fewer_and_more_connections(self):
        server = self.serve("max_connections: 10\n", frontends=2)
        clients = [self.connect(server) for _ in range(8)]
        self.reload(server, "max_connections: 3\n")
        server.wait_log("Reloaded: max_connections = 3")
        server.wait_log("connections to fall within max_connections")
        closed = 0
        for client in clients:
            client.send(b"PING\r\n")
            line = client.expect_until(b"\r\n")
            if line.startswith(b"-ERR"):
                self.assertEqual(line, b"-ERR 'maximum connections exceeded'\r\n")
                closed += 1
        self.assertEqual(closed, 5)
        late = Client(server)
        self.addCleanup(late.close)
        self.assertEqual(late.expect_until(b"\r\n"), b"-ERR 'maximum connections exceeded'\r\n")
        self.reload(server, "max_connections: 20\n")
        for _ in range(15):
            self.connect(server)

    def test_a_new_process_starts_with_the_new_settings(self):
        server = self.serve("max_payload: 100\n", frontends=1)
        self.reload(server, "max_payload: 300\n")
        os.kill(server.child_pids()["frontend"][0], signal.SIGKILL)
        wait_until(lambda: Client(server).info["max_payload"] == 300, "a new frontend")

    def test_log_goes_to_a_file_and_back(self):
        server = self.serve("")
        path = os.path.join(server.directory, "new.log")
        server.write_config(f'log_file: "{path}"\n')
        server.signal(signal.SIGHUP)
        wait_until(lambda: os.path.exists(path) and DONE in open(path).read(), "the log in the file")
        server.write_config("")
        server.signal(signal.SIGHUP)
        server.wait_log(DONE)

    def test_under_traffic(self):
        """Messages flow through many reloads, sound and refused ones; none is lost, doubled or out of order."""
        server = self.serve("debug: false\n", frontends=2)
        reader, writer = self.connect(server), self.connect(server)
        reader.send(b"SUB count 1\r\n")
        reader.fence()
        stop, sent = threading.Event(), [0]

        def write():
            while not stop.is_set():
                text = b"".join(b"PUB count %d\r\n%d\r\n" % (len(str(n)), n) for n in range(sent[0], sent[0] + 50))
                writer.send(text)
                writer.fence()
                sent[0] += 50

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for i in range(20):
                self.reload(server, f"debug: {str(i % 2 == 0).lower()}\nmax_payload: {1000 + i}\nping_interval: \"{30 + i}s\"\n")
                self.reload(server, "port: bad\n", FAILED)
        finally:
            stop.set()
            thread.join()
        for n in range(sent[0]):
            self.assertEqual(reader.receive_message(), (b"count", b"1", str(n).encode()))
        reader.expect_silence()
        server.check()


@bulkhead_only("its own spread over frontends")
class LameDuckTest(unittest.TestCase):
    CONFIG = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"300ms\"\n"

    def test_without_clients(self):
        with Server(config=self.CONFIG, frontends=2) as server:
            server.signal(signal.SIGUSR2)
            self.assertEqual(server.wait_end(), 0)
            self.assertIn("Entering lame duck mode, stop accepting new clients", server.log())
            self.assertIn("Server Exiting..", server.log())

    def test_clients_are_told_and_closed(self):
        with Server(config=self.CONFIG, frontends=2) as server:
            clients = [Client(server, verbose=False, protocol=1) for _ in range(3)]
            old = Client(server, verbose=False, protocol=0)
            for client in clients + [old]:
                self.addCleanup(client.close)
                client.fence()
            server.signal(signal.SIGUSR2)
            for client in clients:
                line = client.expect_until(b"\r\n")
                self.assertTrue(line.startswith(b"INFO {") and b'"ldm":true' in line, line)
            self.assertFalse(server._accepts())
            clients[0].send(b"SUB still 1\r\nPUB still 2\r\nhi\r\n")
            self.assertEqual(clients[0].receive_message(), (b"still", b"1", b"hi"))
            server.signal(signal.SIGTERM)  # ignored
            for client in clients + [old]:
                client.expect_eof()
            self.assertEqual(server.wait_end(), 0)
            self.assertIn("Closing existing clients", server.log())

    def test_one_at_a_time_over_all_frontends(self):
        """About one in a second, however the clients lie on the frontends; none earlier than the grace period."""
        with Server(config=self.CONFIG, frontends=4) as server:
            clients = [Client(server, verbose=False, protocol=1) for _ in range(6)]
            for client in clients:
                self.addCleanup(client.close)
                client.fence()
            begun, ends = time.monotonic(), [None] * len(clients)

            def wait_end(index):
                clients[index].receive_rest()
                ends[index] = time.monotonic() - begun

            threads = [threading.Thread(target=wait_end, args=(index,)) for index in range(len(clients))]
            for thread in threads:
                thread.start()
            server.signal(signal.SIGUSR2)
            for thread in threads:
                thread.join()
            self.assertEqual(server.wait_end(), 0)
            ends.sort()
            self.assertGreaterEqual(ends[0], 0.3)
            for index, end in enumerate(ends):  # 50 to 100 % of a second each
                self.assertGreaterEqual(end - ends[0], 0.4 * index - 0.1 * SLOWNESS, ends)
            self.assertLess(ends[-1] - ends[0], 5 + SLOWNESS, ends)

    def test_interrupt_ends_it(self):
        with Server(config="lame_duck_grace_period: \"60s\"\n") as server:
            client = Client(server, verbose=False, protocol=1)
            self.addCleanup(client.close)
            client.fence()
            server.signal(signal.SIGUSR2)
            client.expect_until(b"\r\n")
            server.signal(signal.SIGHUP)
            server.wait_log("Failed to reload server configuration: the server is a lame duck")
            server.signal(signal.SIGINT)
            self.assertEqual(server.wait_end(), 0)
            client.expect_eof()
