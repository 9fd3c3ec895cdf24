# SPDX-License-Identifier: Apache-2.0
"""What a service manager sees, and what `make install` puts where."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from harness import BUILD, DEADLINE, EXECUTABLE, ROOT, bulkhead_only


@bulkhead_only("nats-server knows no service manager")
class NotifyTest(unittest.TestCase):
    def start(self, **environment):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.settimeout(DEADLINE)
        self.manager.bind(os.path.join(folder.name, "notify"))
        config = os.path.join(folder.name, "a.conf")
        with open(config, "w") as file:
            file.write("debug: false\n")
        self.process = subprocess.Popen([EXECUTABLE, "-a", "127.0.0.1", "-p", "-1", "-c", config], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL,
                                        env={"NOTIFY_SOCKET": self.manager.getsockname(), **environment})
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)

    def wait_for(self, text):
        while text not in self.manager.recv(4096).decode():
            pass

    def test_life(self):
        self.start()
        self.wait_for("READY=1")
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("RELOADING=1\nMONOTONIC_USEC=")
        self.wait_for("READY=1")
        self.process.send_signal(signal.SIGINT)
        self.wait_for("STOPPING=1")
        self.assertEqual(self.process.wait(DEADLINE), 0)

    def test_watchdog(self):
        self.start(WATCHDOG_USEC="100000")
        for _ in range(3):
            self.wait_for("WATCHDOG=1")


@bulkhead_only("the project's own files")
class InstallTest(unittest.TestCase):
    def test_manual_pages_list_what_the_table_lists(self):
        printed = {kind: subprocess.run([os.path.join(BUILD, "config-print"), kind], capture_output=True, text=True,
                                        check=True).stdout for kind in ("man", "flags")}
        for page, kind in (("bulkhead.conf.5", "man"), ("bulkhead.8", "flags")):
            with open(os.path.join(BUILD, "man", page)) as file:
                text = file.read().replace("\\-", "-").replace("\\e", "\\")
            self.assertIn(printed[kind], text)
            self.assertNotIn("@", text.replace(printed[kind], ""))
            if shutil.which("groff"):
                result = subprocess.run(["groff", "-man", "-ww", "-Tutf8", os.path.join(BUILD, "man", page)],
                                        capture_output=True, text=True)
                self.assertEqual(result.stderr, "")

    def test_usage_and_manual_have_the_same_flags(self):
        usage = subprocess.run([EXECUTABLE, "-h"], capture_output=True, text=True).stdout
        flags = subprocess.run([os.path.join(BUILD, "config-print"), "flags"], capture_output=True, text=True).stdout
        for line in re.findall(r"^\.B (.*)$", flags, re.MULTILINE):
            for flag in re.findall(r"(?<!\S)--?\w+", line):
                self.assertRegex(usage, rf"(?m)^    .*{flag}\b", flag)

    def test_units_are_valid(self):
        for name in ("bulkhead", "bulkhead-hardened"):
            with open(os.path.join(ROOT, "packaging", "systemd", name + ".service")) as file:
                unit = file.read()
            for line in ("Type=notify", "ExecReload=/bin/kill -s HUP $MAINPID", "ExecStart=/usr/sbin/bulkhead -c "):
                self.assertIn(line, unit)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_units_are_understood(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("bulkhead", "bulkhead-hardened"):
                path = os.path.join(folder, name + ".service")
                with open(os.path.join(ROOT, "packaging", "systemd", name + ".service")) as file:
                    unit = file.read().replace("/usr/sbin/bulkhead", EXECUTABLE)
                with open(path, "w") as file:
                    file.write(unit)
                result = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
                self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
