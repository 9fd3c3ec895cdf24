# SPDX-License-Identifier: Apache-2.0
"""Certificates for the tests, made by the openssl tool.

An Authority is a CA with a folder of its own. What it issues are pairs of PEM files; clients share one key, since nothing
depends on it. Times are days from now: an `expired` certificate ended yesterday.
"""

import hashlib
import os
import ssl
import subprocess
from typing import NamedTuple

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
KEYS = {
    "p256": EC,
    "p384": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "rsa": ("-newkey", "rsa:2048"),
    "rsa1024": ("-newkey", "rsa:1024"),
    "ed25519": ("-newkey", "ed25519"),
}
SERVER_NAMES = "DNS:localhost,IP:127.0.0.1"


def openssl(*arguments, **options):
    """Runs the tool and returns what it printed."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(arguments)}:\n{done.stderr.decode()}")
    return done.stdout


class Pair(NamedTuple):
    cert: str
    key: str

    def pin(self):
        """SHA-256 of the SubjectPublicKeyInfo, in hex."""
        public = openssl("x509", "-in", self.cert, "-noout", "-pubkey")
        return hashlib.sha256(openssl("pkey", "-pubin", "-outform", "DER", input=public)).hexdigest()

    def der(self):
        """The certificate as a peer sends it."""
        with open(self.cert) as file:
            return ssl.PEM_cert_to_DER_cert(file.read())


class Authority:
    def __init__(self, folder, name="ca"):
        self.folder = folder
        self.name = name
        self.cert, self._key = self._path("ca.pem"), self._path("ca.key")
        self._client_key = None
        openssl("req", "-x509", *EC, "-nodes", "-keyout", self._key, "-out", self.cert, "-subj", f"/O=Test/CN={name}",
                "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")

    def _path(self, name):
        return os.path.join(self.folder, f"{self.name}-{name}")

    def server(self, name="server", kind="p256", subject="/O=Test/CN=server"):
        """A server's pair; kind is one of KEYS."""
        return self._issue(name, subject, SERVER_NAMES, KEYS[kind], self._path(f"{name}.key"), "2")

    def client(self, name, subject, names="", expired=False, kind=None):
        """A client's pair. Subject is as `openssl -subj` takes it, names as subjectAltName does. kind: one of KEYS, for a key
        of its own."""
        key = self._path(f"{name}.key" if kind else "client.key")
        made_by = KEYS[kind] if kind else ("-key", key) if os.path.exists(key) else EC
        return self._issue(name, subject, names, made_by, key, "-1" if expired else "2")

    def _issue(self, name, subject, names, made_by, key, days):
        request, cert, extensions = self._path(f"{name}.csr"), self._path(f"{name}.pem"), self._path(f"{name}.ext")
        making = () if made_by[0] == "-key" else ("-nodes", "-keyout", key)
        openssl("req", "-new", *made_by, *making, "-utf8", "-subj", subject, "-out", request)
        with open(extensions, "w") as file:
            file.write("basicConstraints=CA:FALSE\n" + (f"subjectAltName={names}\n" if names else ""))
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-days", days,
                "-extfile", extensions, "-out", cert)
        return Pair(cert, key)

    def context(self, pair=None, **versions):
        """A client's ssl.SSLContext that trusts this CA and shows this pair; versions are minimum_version, maximum_version."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert)
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        for name, value in versions.items():
            setattr(context, name, value)
        return context
