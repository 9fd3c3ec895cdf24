# SPDX-License-Identifier: Apache-2.0
"""Looks for bytes in all that other processes of the server hold: memory, command line, environment. Needs root."""

import array
import re

PAGE = 4096
PRESENT, SWAPPED = 1 << 63, 1 << 62


class Region:
    """A mapping: where, of what, and whether it is locked and left out of core dumps."""

    def __init__(self, head, flags):
        self.start, self.end = int(head[1], 16), int(head[2], 16)
        self.is_readable, self.is_shared = head[3][0] == "r", head[3][3] == "s"
        self.file = head[4], head[5], head[6]  # offset, device, inode
        self.name = head[7] or "anonymous"
        self.is_secret = "lo" in flags and "dd" in flags

    def __repr__(self):
        return f"{self.start:x}-{self.end:x} {self.name}"


def regions(pid):
    head = None
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) (\S+) (\S+) (\S+)\s*(.*)", line)
            if match:
                head = match
            elif line.startswith("VmFlags:") and head[7] not in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                yield Region(head, line.split()[1:])


def touched(pagemap, region):
    """Runs of pages that were ever touched, as (start, bytes): reading the others would only make them."""
    pages = (region.end - region.start) // PAGE
    pagemap.seek(region.start // PAGE * 8)
    entries = array.array("Q", pagemap.read(8 * pages))
    runs, start = [], None
    for n in range(len(entries) + 1):
        there = n < len(entries) and entries[n] & (PRESENT | SWAPPED)
        if there and start is None:
            start = n
        elif not there and start is not None:
            runs.append((region.start + start * PAGE, (n - start) * PAGE))
            start = None
    return runs


def search(pid, needles, seen=None):
    """Pairs (needle's name, Region) of all places. needles: {name: bytes}. Shared memories in the set `seen` are passed over, the
    others are put into it."""
    hits = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for region in regions(pid):
            if not region.is_readable:
                continue
            if seen is not None and region.is_shared:
                if (region.file, region.end - region.start) in seen:
                    continue
                seen.add((region.file, region.end - region.start))
            for start, size in touched(pagemap, region):
                try:
                    memory.seek(start)
                    data = b"".join(iter(lambda: memory.read(start + size - memory.tell()), b""))
                except OSError:
                    continue  # it has gone
                hits += [(name, region) for name, needle in needles.items() if needle in data]
    return hits


def search_proc_files(pid, needles):
    """The same for what ps shows: pairs of the needle's name and the file's."""
    hits = []
    for name in ("cmdline", "environ", "comm"):
        with open(f"/proc/{pid}/{name}", "rb") as file:
            data = file.read()
        hits += [(needle_name, name) for needle_name, needle in needles.items() if needle in data]
    return hits
