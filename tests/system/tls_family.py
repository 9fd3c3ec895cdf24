# SPDX-License-Identifier: Apache-2.0
"""What the TLS tests stand on: certificates made by the openssl tool, and tls_world (c/tls_world.c): a real frontend and a real
signer in a hand-made family."""

import os
import socket
import ssl
import subprocess
import tempfile

from harness import BUILD, DEADLINE, REPORTS, wait_until

QUIET = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
KINDS = {"p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
         "p521": ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"], "rsa": ["rsa:2048"], "ed25519": ["ed25519"]}


def openssl(*words, text=None):
    return subprocess.run(["openssl", *words], input=text, capture_output=True, check=True).stdout


class Certificates:
    """A folder with a CA (ca.pem) and NAME.key, NAME.pem for each that was made."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="bulkhead-tls-")
        self.folder = self._folder.name
        self.authority("ca")

    def path(self, name):
        return os.path.join(self.folder, name)

    def authority(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                self.path(name + ".key"), "-out", self.path(name + ".pem"), "-days", "30", "-subj", f"/CN={name}")

    def make(self, name, kind="p256", ca="ca", days="30"):
        request = openssl("req", "-newkey", *KINDS[kind], "-nodes", "-keyout", self.path(name + ".key"), "-subj",
                          f"/CN={name}")
        with open(self.path("names"), "w", encoding="ascii") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("x509", "-req", "-CA", self.path(ca + ".pem"), "-CAkey", self.path(ca + ".key"), "-CAcreateserial",
                "-days", days, "-extfile", self.path("names"), "-out", self.path(name + ".pem"), text=request)
        return f"key={self.path(name)}.key chain={self.path(name)}.pem"

    def pin(self, name):
        """SHA-256 of its SubjectPublicKeyInfo, hexadecimal."""
        public = openssl("x509", "-in", self.path(name + ".pem"), "-noout", "-pubkey")
        der = openssl("pkey", "-pubin", "-outform", "DER", text=public)
        return openssl("dgst", "-sha256", text=der).split()[-1].decode()

    def context(self, version=None, certificate=None):
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        if version:
            context.minimum_version = context.maximum_version = version
        if certificate:
            context.load_cert_chain(self.path(certificate + ".pem"), self.path(certificate + ".key"))
        return context

    def close(self):
        self._folder.cleanup()


class World:
    """One running family. words: the command `tls` of c/tls_world.c."""

    def __init__(self, words):
        self._folder = tempfile.TemporaryDirectory(prefix="bulkhead-world-")
        self.log_path = os.path.join(self._folder.name, "log")
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen([os.path.join(BUILD, "tests", "system", "tls_world"), BUILD, self.log_path],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        answer = self.tell("tls " + words).split()
        if not answer:
            raise AssertionError(f"the family did not start:\n{self.log()}")
        self.port, self.frontend, self.signer = int(answer[1]), int(answer[3]), int(answer[5])

    def tell(self, command):
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def counter(self, name):
        return int(dict(word.split("=") for word in self.tell("counters").split())[name])

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_log(self, text, count=1):
        wait_until(lambda: self.log().count(text) >= count, f"the log says {text!r} {count} times")

    def memory_bytes(self):
        """Private memory of the frontend."""
        with open(f"/proc/{self.frontend}/status", encoding="ascii") as file:
            return int(file.read().split("RssAnon:")[1].split()[0]) * 1024

    def tcp(self):
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.settimeout(DEADLINE)
        return sock

    def plain(self):
        """A connection whose INFO has been read."""
        sock = self.tcp()
        info = b""
        while not info.endswith(b"\n"):
            got = sock.recv(1)  # what follows it is for others
            if not got:
                break
            info += got
        return sock, info

    def client(self, context, session=None, name="localhost"):
        sock, _ = self.plain()
        return context.wrap_socket(sock, server_hostname=name, session=session)

    def close(self):
        self._process.stdin.close()
        status = self._process.wait(DEADLINE)
        text = self.log()
        self._folder.cleanup()
        problems = [line for line in text.splitlines() if any(mark in line for mark in REPORTS)]
        if status != 0 or problems:
            raise AssertionError(f"the family ended with {status}:\n{text[-4000:]}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except (AssertionError, BrokenPipeError):
            if kind is None:
                raise


def read_until(sock, mark):
    data = b""
    while mark not in data:
        got = sock.recv(65536)
        if not got:
            raise AssertionError(f"the end came before {mark!r}: {data[-200:]!r}")
        data += got
    return data


def read_rest(sock):
    """All until the end; a reset counts as one."""
    data = b""
    try:
        while got := sock.recv(65536):
            data += got
    except ConnectionResetError:
        pass
    return data


def ping(sock):
    sock.sendall(b"PING\r\n")
    return read_until(sock, b"PONG\r\n")
