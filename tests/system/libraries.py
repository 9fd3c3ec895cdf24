# SPDX-License-Identifier: Apache-2.0
"""Programs that use real client libraries: how they are made ready to run.

Each function returns a command without its arguments, or skips the test where the library is not installed. Two test files may
ask at once.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import unittest

from harness import BUILD, ROOT

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(BUILD, "tests", "system")


@contextlib.contextmanager
def one_at_a_time():
    os.makedirs(PROGRAMS, exist_ok=True)
    with open(os.path.join(PROGRAMS, "lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def javascript(name):
    """js/NAME, after the libraries of js/package-lock.json were installed if they are not."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise unittest.SkipTest("node or npm is not installed")
    folder = os.path.join(HERE, "js")
    installed = os.path.join(folder, "node_modules", ".package-lock.json")
    wanted = os.path.join(folder, "package-lock.json")
    with one_at_a_time():
        if not os.path.exists(installed) or os.path.getmtime(installed) < os.path.getmtime(wanted):
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return ["node", os.path.join(folder, name)]


def libnats(name):
    """c/NAME.c, after it was compiled with the C client library if it is newer than the program."""
    source, program = os.path.join(HERE, "c", f"{name}.c"), os.path.join(PROGRAMS, name)
    newest = max(os.path.getmtime(path) for path in (source, os.path.join(HERE, "c", "expect.h")))
    with one_at_a_time():
        if not os.path.exists(program) or os.path.getmtime(program) < newest:
            if not os.path.exists("/usr/include/nats/nats.h"):
                raise unittest.SkipTest("libnats-dev is not installed")
            compiler = shlex.split(os.environ.get("CC", "cc"))
            subprocess.run(compiler + ["-std=gnu17", "-Wall", "-Wextra", "-o", program, source, "-lnats", "-pthread"], check=True,
                           cwd=ROOT)
    return [program]
