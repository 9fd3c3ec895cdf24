# SPDX-License-Identifier: Apache-2.0
"""Fences between connections of different frontends, in numbers: c/fence.c. Also while the router is killed."""

import os

from family import Program, kill, live_router, take_over_count, take_overs_ms, wait_family
from harness import ServerCase, bulkhead_only, wait_until

ROUNDS = int(os.environ.get("FENCE_C_ROUNDS", "100000"))
PAIRS = 16  # all of them are tested, so whatever frontends they hit, some pairs hit two different ones
KILLS = 5


class FenceInNumbersTest(ServerCase):
    options = {"frontends": 2}

    def run_rounds(self, rounds, together):
        with Program("fence", self.server.port, PAIRS, rounds, together) as program:
            program.expect("ready")
            print(f"{together} pairs at a time: {', '.join(program.finish())}")

    def test_one_pair_at_a_time(self):
        self.run_rounds(ROUNDS * 3 // 10, 1)

    def test_all_pairs_together(self):
        self.run_rounds(ROUNDS * 7 // 10, PAIRS)

    @bulkhead_only("its router is a process of its own")
    def test_while_the_router_is_killed(self):
        with Program("fence", self.server.port, PAIRS, ROUNDS // 5, PAIRS) as program:
            program.expect("ready")
            for _ in range(KILLS):
                seen = take_over_count(self.server)
                kill(self.server, wait_until(lambda: live_router(self.server), "a router at work"))
                wait_until(lambda: take_over_count(self.server) > seen, "a new router")
            print(f"{KILLS} kills: {', '.join(program.finish())}, took over in {take_overs_ms(self.server)} ms")
        wait_family(self.server, frontend=2)
