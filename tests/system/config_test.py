# SPDX-License-Identifier: Apache-2.0
"""The configuration language and its options: what `bulkhead -t` says, inside of its walls, against what nats-server v2.9.10
says about the same files.

The corpus and its recording are described in config_corpus/record.
"""

import concurrent.futures
import functools
import importlib.machinery
import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
import unittest

import harness

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "config_corpus")
CHECK = (os.path.join(harness.BUILD, "bulkhead"), "-t", "-c")
PRINT = os.path.join(harness.BUILD, "config-print")
MEMORY = 1 << 30


def load_recorder():
    loader = importlib.machinery.SourceFileLoader("record", os.path.join(CORPUS, "record"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("record", loader))
    loader.exec_module(module)
    return module


recorder = load_recorder()


@functools.cache
def read(name):
    with open(os.path.join(CORPUS, name)) as file:
        return json.load(file)


@functools.cache
def said_by_bulkhead():
    """Exit code and text of every case. The text of a packet ends at a NUL: one within is shown."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(recorder.names(), pool.map(lambda name: recorder.ask(list(CHECK), name), recorder.names())))


NOT_BUILT = re.compile(r'(\S+ )?option "[^"]+" is not available in this server yet')


def without_the_unbuilt(name):
    """The same without what this server has not built yet, which `-t` refuses after everything else, and without notices."""
    code, text = said_by_bulkhead()[name]
    valid = f"configuration file {name}.conf is valid"
    lines = [line for line in text.split("\n") if not NOT_BUILT.fullmatch(line)]
    if code == 1 and not lines:
        return 0, valid
    return code, valid if code == 0 and valid in lines else "\n".join(lines)


class Corpus(unittest.TestCase):
    def test_every_case_is_recorded(self):
        names = recorder.names()
        self.assertGreaterEqual(len(names), 200)
        self.assertEqual(sorted(read("recorded.json")), names)

    def test_differences_have_reasons(self):
        for name, difference in read("differences.json").items():
            with self.subTest(name):
                self.assertTrue(difference["reason"])
                self.assertIn(name, read("recorded.json"))

    def test_bulkhead_says_the_same(self):
        for name, recorded in read("recorded.json").items():
            with self.subTest(name):
                code, text = without_the_unbuilt(name)
                difference = read("differences.json").get(name)
                if difference:
                    self.assertEqual((code, text), (difference["exit"], difference["said"]))
                else:
                    self.assertIn(code, recorded["exit"])
                    self.assertIn(text, [said.replace("\0", "\\x00") for said in recorded["said"]])

    @unittest.skipUnless(shutil.which("nats-server"), "nats-server is not installed")
    def test_nats_server_says_what_is_recorded(self):
        """With several faults it may say one of several things, some of them rarely: it is asked up to ten times."""
        for name, recorded in read("recorded.json").items():
            with self.subTest(name):
                for _ in range(10):
                    code, text = recorder.ask(["nats-server", "-t", "-c"], name)
                    self.assertIn(code, recorded["exit"])
                    if text in recorded["said"]:
                        break
                else:
                    self.fail(f"not recorded: {text}")

    def test_included_text_is_not_shown(self):
        for _, text in said_by_bulkhead().values():
            self.assertNotIn("do-not-show-me", text)
            self.assertNotIn("hidden", text)


class BadInput(unittest.TestCase):
    """A clear error with a position, in bounded time and memory."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(content)
        return path

    def check(self, path, longest=10000):
        limit = None
        if not harness.is_sanitized():
            def limit():
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        start = time.monotonic()
        run = subprocess.run([*CHECK, path], capture_output=True, text=True, timeout=30 * harness.SLOWNESS, preexec_fn=limit,
                             cwd=self.folder)
        self.assertLess(time.monotonic() - start, 10 * harness.SLOWNESS)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertLess(len(run.stderr), longest)
        return run.stderr

    def test_no_such_file(self):
        self.assertEqual(self.check("nofile.conf"), "bulkhead: open nofile.conf: no such file or directory\n")

    def test_unreadable(self):
        self.assertIn("is a directory", self.check(self.folder))

    def test_no_regular_file(self):
        os.mkfifo(os.path.join(self.folder, "fifo"))
        self.assertIn("open fifo: ", self.check("fifo"))
        self.assertIn("open /dev/zero: ", self.check("/dev/zero"))

    def test_a_gigabyte(self):
        path = self.write("large.conf", "")
        os.truncate(path, 1 << 30)
        self.assertIn("file is larger than 16777216 bytes", self.check(path))

    def test_an_included_gigabyte(self):
        os.truncate(self.write("large.conf", ""), 1 << 30)
        self.assertIn("include file 'large.conf', read ", self.check(self.write("a.conf", "include large.conf\n")))

    def test_includes_itself(self):
        path = self.write("self.conf", "port: 1\ninclude self.conf\n")
        self.assertIn("includes itself on line 2", self.check(path))

    def test_includes_in_a_circle(self):
        path = self.write("a.conf", "include b.conf\n")
        self.write("b.conf", "include ./c.conf\n")
        self.write("c.conf", "include a.conf\n")
        self.assertIn("includes itself", self.check(path))

    def test_includes_too_deep(self):
        for i in range(40):
            self.write(f"f{i}.conf", f"include f{i + 1}.conf\n")
        self.assertIn("nested more than 16 deep", self.check(os.path.join(self.folder, "f0.conf")))

    def test_too_many_includes(self):
        self.write("one.conf", "port: 1\n")
        self.assertIn("one file too many", self.check(self.write("a.conf", "include one.conf\n" * 2000)))

    def test_ten_thousand_levels(self):
        for name, text in {"array": "a: " + "[" * 10000, "map": "a " + "{ b " * 10000}.items():
            with self.subTest(name):
                said = self.check(self.write("deep.conf", "port: 1\n" + text))
                self.assertIn("Parse error on line 2: 'Values are nested too deeply", said)

    def test_variables_that_multiply(self):
        text = "a0: [ x, x, x, x, x, x, x, x, x, x ]\n"
        for i in range(1, 20):
            text += f"a{i}: [ " + ", ".join([f"$a{i - 1}"] * 10) + " ]\n"
        self.assertIn("values, variables written out", self.check(self.write("laughs.conf", text)))

    def test_variables_that_deepen(self):
        text = "a0: [ x ]\n" + "".join(f"a{i}: [ $a{i - 1} ]\n" for i in range(1, 500))
        self.assertIn("nested too deeply", self.check(self.write("deep.conf", text)))

    def test_many_errors(self):
        said = self.check(self.write("errors.conf", "".join(f"bogus_{i}: 1\n" for i in range(50000))), longest=60010)
        self.assertTrue(said.rstrip("\n").endswith("..."), said[-100:])

    def test_many_keys(self):
        text = "".join(f"a{i}: 1\n" for i in range(200000))
        path = self.write("keys.conf", f"accounts {{ A {{ users: [] }} }}\ndefault_js_domain {{ {text} }}\n")
        self.assertIn("is int64, not string", self.check(path, longest=60010))

    def test_not_utf8(self):
        path = os.path.join(self.folder, "latin.conf")
        with open(path, "wb") as file:
            file.write(b"port: 1\nserver_name: Z\xfcrich\n")
        self.assertIn("Parse error on line 2: 'Invalid UTF-8 at byte 15 of the line.'", self.check(path))


class List(unittest.TestCase):
    def test_all_options_are_listed(self):
        for style in ("man", "markdown"):
            run = subprocess.run([PRINT, style], capture_output=True, text=True)
            self.assertEqual(run.returncode, 0)
            for name in ("max_payload", "frontends", "remotes", "verify_and_map", "source_wait"):
                self.assertIn(name, run.stdout)


if __name__ == "__main__":
    unittest.main()
