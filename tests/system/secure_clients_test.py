# SPDX-License-Identifier: Apache-2.0
"""Real client libraries log in by every method, over plain TCP, TLS and mutual TLS, and report what they are refused.

The programs in js/ and c/ make the assertions, against five servers that are there for all of them, and print `ok` at the end.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from certificates import Authority
from credentials import Nkey, bcrypt_hash
from harness import SLOWNESS, Server
from libraries import javascript, libnats

PROGRAM_SECONDS = 50 * SLOWNESS
FEW = 'permissions { publish: ["ok.>", "_INBOX.>"], subscribe: ["ok.> g", "_INBOX.>"] }'


def setUpModule():
    global world, servers
    folder = tempfile.mkdtemp(prefix="bulkhead-clients-")
    unittest.addModuleCleanup(shutil.rmtree, folder)
    os.chmod(folder, 0o755)
    ca, strangers, key, stranger = Authority(folder), Authority(folder, "strangers"), Nkey(), Nkey()
    p256, rsa, mapped = ca.server("p256"), ca.server("rsa", "rsa"), ca.client("mapped", "/O=Test/CN=mapped", "email:mapped@example.com")
    users = """
        accounts {
          A { users: [ {user: ann, password: pa}, {user: slow, password: "%s"}, {nkey: %s}, {user: few, password: p, %s} ] }
          B { users: [ {user: bob, password: pb} ] }
        }
    """ % (bcrypt_hash("slow", 6), key.public, FEW)
    tls = "tls {{ cert_file: {0.cert}, key_file: {0.key}, ca_file: {1}, timeout: 10, {2} }}\n"
    configs = {
        "users": users,
        "token": "authorization { token: t0k3n }\n",
        "tls": users + tls.format(p256, ca.cert, ""),
        "mutual": users + tls.format(rsa, ca.cert, "verify: true"),
        "mapped": tls.format(p256, ca.cert, "verify_and_map: true") +
        'authorization { users: [ {user: "mapped@example.com"}, {user: "CN=few", %s} ] }\n' % FEW,
    }
    servers = {}
    for name, config in configs.items():
        servers[name] = Server(config=config, flags=("-D",))
        unittest.addModuleCleanup(servers[name].stop)
    seed = os.path.join(folder, "seed")
    with open(seed, "w") as file:
        file.write(key.seed)
    world = {"ports": {name: server.port for name, server in servers.items()}, "seedFile": seed, "seed": key.seed,
             "public": key.public, "strangerSeed": stranger.seed, "ca": ca.cert, "strangersCa": strangers.cert, "cert": mapped.cert,
             "key": mapped.key, "unmappedCert": ca.client("unmapped", "/CN=unmapped").cert, "fewCert": ca.client("few", "/CN=few").cert}


class SecureClientsTest(unittest.TestCase):
    def check(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PROGRAM_SECONDS)
        self.assertEqual((done.returncode, done.stdout), (0, "ok\n"))
        for server in servers.values():
            server.check()

    def test_nats_2(self):
        self.check(javascript("secure2.js") + [json.dumps(world)])

    def test_nats_3(self):
        self.check(javascript("secure3.js") + [json.dumps(world)])

    def test_libnats(self):
        names = ("seedFile", "ca", "strangersCa", "cert", "key", "unmappedCert", "fewCert", "public")
        ports = [str(port) for port in world["ports"].values()]
        self.check(libnats("libnats_secure") + ports + [world[name] for name in names])
