#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One message of 1 MB to 100,000 subscriptions on one frontend, which is 100 GB; and the router's death at full size.

    tests/soak/fanout_soak.py            all
    tests/soak/fanout_soak.py Fanout     what its name holds

The reader (tests/system/c/fanout.c) is one thread, so the server is faster than it and has to bound what waits. Minutes.
"""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from family import Program, kill, live_router, take_over_count, take_overs_ms, wait_family  # noqa: E402
from harness import Server, ServerCase, raise_descriptor_limit, wait_until  # noqa: E402

MEGABYTE = 1 << 20
CONNECTIONS = int(os.environ.get("SOAK_CONNECTIONS", "2000"))
SUBSCRIPTIONS = int(os.environ.get("SOAK_SUBSCRIPTIONS", "50"))
SECONDS = 1800


class FanoutSoak(ServerCase):
    options = {"frontends": 1, "write_deadline": 60}

    @classmethod
    def setUpClass(cls):
        raise_descriptor_limit()
        super().setUpClass()

    def test_1_mb_to_100000_subscriptions(self):
        with Program("fanout", self.server.port, CONNECTIONS, SUBSCRIPTIONS, MEGABYTE, 1, seconds=SECONDS) as program:
            program.expect("ready")
            before = most = self.server.memory_bytes()
            program.tell("go")
            while program.is_running():
                most = max(most, self.server.memory_bytes())
                time.sleep(0.1)
            print(f"{program.finish()[-1]}; memory grew by {(most - before) / MEGABYTE:.1f} MB")
        self.assertLess(most - before, 300 * MEGABYTE)


class RouterDeathSoak(unittest.TestCase):
    def test_10000_connections_and_100000_subscriptions(self):
        raise_descriptor_limit()
        with Server(frontends=2) as server:
            with Program("traffic", server.port, 10_000, 10, 1, 100, seconds=SECONDS) as program:
                program.expect("ready")
                for _ in range(20):
                    wait_family(server, frontend=2)
                    seen = take_over_count(server)
                    kill(server, live_router(server))
                    wait_until(lambda: take_over_count(server) > seen, "a new router")
                    program.tell("mark")
                    print(program.expect("flows"))
                program.tell("stop")
                print(program.finish()[-1])
            print(f"took over in {take_overs_ms(server)} ms")


if __name__ == "__main__":
    words = [argument for word in sys.argv[1:] for argument in ("-k", word)]
    result = unittest.main(verbosity=2, argv=[sys.argv[0], *words], exit=False).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed", flush=True)
    sys.exit(bad != 0)
