# SPDX-License-Identifier: Apache-2.0
"""Readers that are slower than their publisher: who is closed, and how fast the publisher may go on (tests/bench/run).

One publisher at full speed, a reader as fast as it can, and one at a part of the speed that was measured without it. For each
cell both servers run, one after the other. A cell says what became of the slow and of the fast reader, `ok` or after how many
seconds the server closed it, by the server's log, and the MB of payload a second that the publisher could send.
"""

import datetime
import json
import re
import subprocess

PARTS = (0.01, 0.1, 0.5, 0.9, 1.0)
SIZES = (16, 1024, 65536, 1_000_000)
PATIENCE_SIZE, PATIENCE_RATES, PATIENCE_SECONDS = 65536, (0.1e6, 1e6, 3e6), 12.0
CLOSED = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) .*:(\d+) - cid:\d+.*Slow Consumer")

# Name of the mode: the bound that both servers are given, in MB. The last one is the default, with slow readers of fixed rates
# for longer than the default write deadline.
MODES = {"slow_consumer_1M": 1, "slow_consumer_8M": 8, "slow_consumer_64M": 64, "slow_consumer_patience": 64}


def closed_after(lines, start):
    """Seconds after which the log says of a client's port that it was closed as slow."""
    found = {}
    for line in lines:
        if match := CLOSED.search(line):
            when = datetime.datetime.strptime(match[1], "%Y/%m/%d %H:%M:%S.%f")
            found.setdefault(int(match[2]), (when - start).total_seconds())
    return found


def run_cell(serve, load, size, rate, seconds):
    """The figures of one run, with `slow` and `fast`: None, or the seconds after which that reader was closed."""
    with serve() as (port, pid, log_lines):
        start = datetime.datetime.now()
        done = subprocess.run([load, "slow", "-s", str(size), "-r", f"{rate:g}", "-t", f"{seconds:g}", "-p", str(port), "-P",
                               str(pid)], capture_output=True, text=True, timeout=60 + seconds)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        figures = json.loads(done.stdout)
        closed = closed_after(log_lines(), start)
        return figures | {who: closed.get(figures[f"{who}_port"]) for who in ("slow", "fast")}


def text_of(cell, alone=False):
    def fate(who):
        return "ok" if cell[who] is None else f"x {cell[who]:.1f} s"
    speed = cell["mb_per_s"]
    return f"{'' if alone else fate('slow') + ', '}{fate('fast')}: {speed:,.{1 if speed < 10 else 0}f}"


def print_table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for number, row in enumerate([head, *rows]):
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def patience(name, servers, load, serve_with):
    rows, worse = [], []
    for rate in PATIENCE_RATES:
        cells = {who: run_cell(serve_with(who, MODES[name]), load, PATIENCE_SIZE, rate, PATIENCE_SECONDS) for who in servers}
        rows += [[f"{rate / 1e6:g} MB/s", who, text_of(cell)] for who, cell in cells.items()]
        if (cells["ours"]["slow"] or PATIENCE_SECONDS) < min(cells["theirs"]["slow"] or PATIENCE_SECONDS, 10) - 0.5:
            worse.append(f"{rate / 1e6:g} MB/s")
    return ["slow reader", "", "slow, fast: MB/s"], rows, worse


def grid(name, servers, load, serve_with, seconds):
    rows, worse = [], []
    for size in SIZES:
        alone = {who: run_cell(serve_with(who, MODES[name]), load, size, 0, seconds) for who in servers}
        line = {who: [f"{size:,}", who, text_of(alone[who], alone=True)] for who in servers}
        lives = {part: {} for part in PARTS}
        for part in PARTS:
            for who in servers:
                cell = run_cell(serve_with(who, MODES[name]), load, size, part * alone[who]["fast_bytes_per_s"], seconds)
                line[who].append(text_of(cell))
                lives[part][who] = cell["slow"] is None and cell["fast"] is None
        rows += line.values()
        worse += [f"{size:,} at {part:.0%}" for part in PARTS if lives[part]["theirs"] and not lives[part]["ours"]]
        if alone["theirs"]["fast"] is None and alone["ours"]["fast"] is not None:
            worse.append(f"{size:,} alone")
    return ["bytes", "", "alone", *(f"{part:.0%}" for part in PARTS)], rows, worse


def run(name, servers, load, serve_with, seconds):
    """Prints the table of one mode. serve_with(who, megabytes) returns a function that starts that server with that bound. True
    if nobody was closed whom the other server lets live."""
    head, rows, worse = (patience(name, servers, load, serve_with) if name == "slow_consumer_patience"
                         else grid(name, servers, load, serve_with, seconds))
    print(f"\n{name}: max_pending {MODES[name]} MB; the slow reader, the fast one: MB/s of the publisher")
    print_table(head, rows)
    print(f"closed by ours alone: {', '.join(worse) or 'nobody'}")
    return not worse
