# SPDX-License-Identifier: Apache-2.0
"""Noise: connections that come, subscribe, and go in every bad way, while traffic of all kinds (c/traffic.c) stays whole.

Afterwards nothing is left of them: no connection, no subscription, no memory; and no process has noticed more than its work.
"""

import os
import random
import threading

from family import Program, counters, private_bytes
from harness import REAL_NATS, Client, ServerCase, is_sanitized, wait_until

ROOT = os.geteuid() == 0
LIVES = int(os.environ.get("NOISE_LIVES", "1500"))
THREADS = 3
EXPECTED = ("parser ERROR", "Parse Error", "message headers not supported", "maximum connections")  # in lines about the noise
MAX_CONNECTIONS = 300
TRAFFIC_CLIENTS = 60
TRAFFIC_CONNECTIONS = TRAFFIC_CLIENTS + 57  # with those of the other loops of c/traffic.c


class NoiseTest(ServerCase):
    options = {"frontends": 2, "max_connections": MAX_CONNECTIONS}

    def one_life(self, rng, number):
        """One connection: subscribes here and there, also to all the traffic, publishes, and ends in some way."""
        client = Client(self.server, **rng.choice([{}, {"verbose": False}, {"verbose": False, "echo": False}]))
        subjects = [b"noise.%d" % number, b"noise.*", b"noise.>", b"noise.%d.deep.er" % (number % 50), b"t.0.*"]
        for sid in range(rng.randrange(1, 40)):
            queue = b" q%d" % rng.randrange(3) if rng.random() < 0.3 else b""
            client.send(b"SUB %b%b %d\r\n" % (rng.choice(subjects[:4] if queue else subjects), queue, sid))
            if rng.random() < 0.3:
                client.send(b"UNSUB %d%b\r\n" % (rng.randrange(sid + 1), rng.choice([b"", b" 1", b" 3"])))
        client.send(rng.randrange(3) * (b"PUB noise.%d 100\r\n%b\r\n" % (rng.randrange(50), 100 * b"n")))
        if rng.random() < 0.5:
            client.send(b"PING\r\n")
            client.expect_until(b"PONG\r\n")
        client.send(rng.choice([
            b"", b"PUB noise.1 1000\r\nhalf of it", b"PUB noise.1 500000\r\n" + 200_000 * b"h", b"SUB noise.ha", b"PUB noise.1 10\r",
            b"PUB noise.1 3\r\nabc", b"HPUB noise.1 12 20\r\nNATS/1.0\r\n", b"CONNECT {", b"nonsense\r\n", b"UNSUB"]))
        rng.choice([client.close, client.reset, client.finish_sending])()
        client.close()

    def make_noise(self, seed, lives):
        failures = []

        def live(thread):
            rng = random.Random(seed + thread)
            try:
                for number in range(lives // THREADS):
                    self.one_life(rng, number)
            except Exception as failure:  # of a thread: raised below
                failures.append(failure)
        threads = [threading.Thread(target=live, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def is_nobody_there(self, asking):
        """True if no subject of the noise has a subscriber."""
        subjects = [b"noise.%d" % number for number in range(LIVES // THREADS)] + [b"noise.%d.deep.er" % n for n in range(50)]
        for subject in subjects:
            asking.send(b"PUB %b noise_answer 0\r\n\r\n" % subject)
        asking.send(b"PING\r\n")
        return asking.expect_until(b"PONG\r\n").count(b" 503") == len(subjects)

    def test_noise(self):
        seed = random.randrange(1 << 30)
        print(f"seed {seed}")
        with Program("traffic", self.server.port, TRAFFIC_CLIENTS, 20, 1, 10) as program:
            program.expect("ready")
            self.make_noise(seed, LIVES)
            after_one = self.settled_memory(1)
            self.make_noise(seed + THREADS, LIVES)
            grown = self.settled_memory(2) - after_one
            program.tell("mark")
            print(program.expect("flows"))
            program.tell("stop")
            print(program.finish()[-1])
        print(f"{2 * LIVES} lives; the second half grew memory by {grown / 1024:.0f} KB")
        if not is_sanitized():
            self.assertLess(grown, 2_000_000)
        with Client(self.server, verbose=False, headers=True, no_responders=True) as asking:
            asking.send(b"SUB noise_answer 1\r\n")
            wait_until(lambda: self.is_nobody_there(asking), "no subscription is left")
        if ROOT and not REAL_NATS:
            wait_until(lambda: (lambda c: c["CONNS"] == 0 and c["SUBS"] == 0)(counters(self.server)), "no connection is left")
            told = counters(self.server)
            self.assertEqual({name: told[name] for name in ("LINKS_ENDED", "POISONED", "LOST", "BINDINGS_REFUSED")},
                             dict.fromkeys(("LINKS_ENDED", "POISONED", "LOST", "BINDINGS_REFUSED"), 0))
        self.check_all_places_are_free()
        said = self.server.log().partition("Server is ready")[2]  # before that it says which walls are missing here
        errors = [line for line in said.splitlines()
                  if ("[ERR]" in line or "[WRN]" in line) and not any(known in line for known in EXPECTED)]
        self.assertEqual(errors, [])

    def settled_memory(self, half):
        """The server's memory when the connections of the noise have ended."""
        if ROOT and not REAL_NATS:
            most = 2 * (TRAFFIC_CONNECTIONS + 10)  # the frontends and the router count each; some are on their way out
            wait_until(lambda: counters(self.server)["CONNS"] <= most, f"half {half} of the connections ends")
        return private_bytes(self.server)

    def check_all_places_are_free(self):
        """As many connections as are allowed, not one more."""
        with Client(self.server, verbose=False) as client:
            client.fence()
        clients = []
        try:
            for _ in range(MAX_CONNECTIONS):
                clients.append(wait_until(self.connect_if_possible, f"place {len(clients) + 1} of {MAX_CONNECTIONS}"))
            self.assertIsNone(self.connect_if_possible(), "there is a place too many")
        finally:
            for client in clients:
                client.close()

    def connect_if_possible(self):
        client = Client(self.server, verbose=False)
        client.send(b"PING\r\n")
        answer = client.expect_until(b"\r\n")
        if answer == b"PONG\r\n":
            return client
        self.assertEqual(answer, b"-ERR 'maximum connections exceeded'\r\n")
        client.close()
        return None
