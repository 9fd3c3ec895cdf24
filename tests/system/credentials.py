# SPDX-License-Identifier: Apache-2.0
"""What clients prove themselves with: nkeys and their signatures, and hashes of passwords.

libsodium and libcrypt do the work; both are there wherever the server is built.
"""

import base64
import binascii
import ctypes
import ctypes.util
import os

_SODIUM = ctypes.CDLL(ctypes.util.find_library("sodium"))
_CRYPT = ctypes.CDLL(ctypes.util.find_library("crypt"))
_CRYPT.crypt.restype = ctypes.c_char_p

USER_PREFIX = 0xA0
ACCOUNT_PREFIX = 0x00


def _text(prefix, body):
    """Base32 of prefix bytes, body and checksum."""
    data = prefix + body
    return base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")


class Nkey:
    """A key pair of a user. seed and public are texts, raw_seed are the 32 bytes."""

    def __init__(self, raw_seed=None, prefix=USER_PREFIX):
        self.raw_seed = raw_seed or os.urandom(32)
        raw_public, self._secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        _SODIUM.crypto_sign_seed_keypair(raw_public, self._secret, self.raw_seed)
        self.public = _text(bytes([prefix]), raw_public.raw)
        self.seed = _text(bytes([0x90 | prefix >> 5, (prefix & 31) << 3]), self.raw_seed)

    def sign(self, text):
        """The 64 bytes of a signature."""
        signature = ctypes.create_string_buffer(64)
        _SODIUM.crypto_sign_detached(signature, None, text, ctypes.c_ulonglong(len(text)), self._secret)
        return signature.raw

    def login(self, info):
        """The keys of a CONNECT that answers this INFO."""
        return {"nkey": self.public, "sig": url_base64(self.sign(info["nonce"].encode()))}


def url_base64(data):
    """URL alphabet, no padding: what client libraries send."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def bcrypt_hash(password, cost=4, prefix="$2a$"):
    """A bcrypt hash under any of the four prefixes: all stand for the same function."""
    alphabet = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = bytes(alphabet[byte & 63] for byte in os.urandom(21)) + b"."
    made = _CRYPT.crypt(password.encode()[:72], b"$2b$%02d$" % cost + salt)
    if not made or not made.startswith(b"$2b$"):
        raise AssertionError(f"libcrypt made no bcrypt hash: {made}")
    return prefix + made[len(b"$2b$"):].decode()
