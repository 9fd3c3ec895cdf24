"""Looks for bytes in all that other processes of the server hold: memory, command line, environment."""

import re


class Region:
    """A mapping: where, how it is named, and whether it is locked and left out of core dumps."""

    def __init__(self, start, end, name, flags):
        self.start, self.end, self.name = start, end, name
        self.is_secret = "lo" in flags and "dd" in flags

    def __repr__(self):
        return f"{self.start:x}-{self.end:x} {self.name}"


def regions(pid):
    """The mappings of a process that can be read."""
    found, line = [], None
    with open(f"/proc/{pid}/smaps") as file:
        for text in file:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", text)
            if head:
                line = head
            elif text.startswith("VmFlags:") and line[3].startswith("r") and line[4] not in ("[vvar]", "[vsyscall]"):
                found.append(Region(int(line[1], 16), int(line[2], 16), line[4] or "anonymous", text.split()[1:]))
    return found


def search(pid, needles):
    """Pairs (needle's name, Region) of all places. needles: {name: bytes}. Needs root."""
    hits = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for region in regions(pid):
            try:
                memory.seek(region.start)
                data = b"".join(iter(lambda: memory.read(min(1 << 24, region.end - memory.tell())), b""))
            except OSError:
                continue  # it has gone, or is a device
            hits += [(name, region) for name, needle in needles.items() if needle in data]
    return hits


def search_proc_files(pid, needles):
    """The same for what ps shows."""
    hits = []
    for name in ("cmdline", "environ", "comm"):
        with open(f"/proc/{pid}/{name}", "rb") as file:
            data = file.read()
        hits += [(needle_name, name) for needle_name, needle in needles.items() if needle in data]
    return hits
