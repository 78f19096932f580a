"""Passwords as /etc/shadow has them: SHA-512 crypt, which every Linux of the last fifteen years reads.

Python's own ``crypt`` module is gone since 3.13, and the libraries that took its place either install themselves
over passlib or are not there on every platform; so this is Ulrich Drepper's specification (Unix crypt using
SHA-256 and SHA-512, version 0.6), step by step, with its test vectors in the tests.
"""

from __future__ import annotations

import secrets
from hashlib import sha512
from typing import Final

_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS: Final = 5000
_SIZE: Final = 64


def hashed_password(password: str, salt: str | None = None) -> str:
    """A password's hash, ``$6$salt$…``.

    Args:
        password: Any text.
        salt: Up to 16 of the characters ``./0-9A-Za-z``; by default random ones.
    """
    salt = "".join(secrets.choice(_ALPHABET) for _ in range(16)) if salt is None else salt[:16]
    key, salted = password.encode(), salt.encode()
    digest = _first_digest(key, salted)
    key_digest = sha512(key * len(key)).digest()
    salt_digest = sha512(salted * (16 + digest[0])).digest()
    repeated_key, repeated_salt = _stretched(key_digest, len(key)), _stretched(salt_digest, len(salted))
    for step in range(_ROUNDS):
        mixed = repeated_key if step % 2 else digest
        if step % 3:
            mixed += repeated_salt
        if step % 7:
            mixed += repeated_key
        digest = sha512(mixed + (digest if step % 2 else repeated_key)).digest()
    return f"$6${salt}${_encoded(digest)}"


def _first_digest(key: bytes, salt: bytes) -> bytes:
    other = sha512(key + salt + key).digest()
    mixed = key + salt + _stretched(other, len(key))
    # Each bit of the length, the lowest first, adds one thing or the other.
    length = len(key)
    while length:
        mixed += other if length & 1 else key
        length >>= 1
    return sha512(mixed).digest()


def _stretched(digest: bytes, length: int) -> bytes:
    return (digest * (length // _SIZE + 1))[:length]


def _encoded(digest: bytes) -> str:
    text = []
    # Three bytes at a time, 21 apart, in an order that turns with each group; the last byte stands alone.
    for group in range(21):
        first, second, third = (digest[(group + 21 * ((group + turn) % 3)) % 63] for turn in range(3))
        text.append(_sextets(first << 16 | second << 8 | third, 4))
    text.append(_sextets(digest[63], 2))
    return "".join(text)


def _sextets(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(count))
