"""Private keys from files, and public host keys as text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
from functools import lru_cache
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from paramiko.pkey import UnknownKeyType

from pytest_vbox.files import read_regular
from pytest_vbox.guest.errors import KeyUnusable

# Bytes of a private key's file; an RSA key of 16384 bits takes 13 KiB.
_LONGEST = 64 * 1024
# The failures of paramiko and cryptography while they read a key have no common base.
_UNREADABLE = (paramiko.SSHException, UnknownKeyType, ValueError, TypeError, IndexError, EOFError)


def load_key(path: Path) -> paramiko.PKey:
    """A private key, read without asking anybody: RSA, ECDSA or ed25519, in OpenSSH's or a PEM format.

    Meant to be called before a machine is started, so that a wrong file costs no boot.

    Args:
        path: The file; ``~`` is expanded.

    Raises:
        KeyUnusable: It is missing, unreadable, encrypted, or not a private key.
    """
    path = Path(path).expanduser()
    try:
        text = read_regular(path, _LONGEST)
    except OSError as error:
        raise KeyUnusable(path, error.strerror or str(error)) from error
    return _parsed(path, text)


# Checking an RSA key's numbers takes 75 ms, and the same key serves machine after machine.
@lru_cache(maxsize=8)
def _parsed(path: Path, text: bytes) -> paramiko.PKey:
    try:
        if b"BEGIN PRIVATE KEY" in text:
            return _from_pkcs8(text)
        key = paramiko.PKey.from_path(path)
    except paramiko.PasswordRequiredException as error:
        raise KeyUnusable(path, _ENCRYPTED) from error
    except _UNREADABLE as error:
        raise KeyUnusable(path, _why_unreadable(text, error)) from error
    except Exception as error:
        # cryptography's own exceptions (an unsupported algorithm) are not worth an import of it.
        if type(error).__module__.startswith("cryptography."):
            raise KeyUnusable(path, f"{error}") from error
        raise
    if key.get_name() == "ssh-dss":
        # Releases of paramiko before 4 still read it.
        raise KeyUnusable(path, _DSA)
    return key


def _from_pkcs8(text: bytes) -> paramiko.PKey:
    """The PEM format without an algorithm in its first line, which paramiko does not read by itself."""
    key = serialization.load_pem_private_key(text, password=None)
    rewritten = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return paramiko.Ed25519Key.from_private_key(io.StringIO(rewritten))
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey.from_private_key(io.StringIO(rewritten))
    return paramiko.ECDSAKey.from_private_key(io.StringIO(rewritten))


_ENCRYPTED = "it is encrypted, and nobody is there to type a passphrase; use a key without one"
_DSA = "it is a DSA key, which today's SSH refuses; make another: ssh-keygen -t ed25519"


def _why_unreadable(text: bytes, error: BaseException) -> str:
    start = text.lstrip()[:64]
    if start.startswith(b"PuTTY-User-Key-File"):
        return "it is a PuTTY key; convert it with: puttygen FILE -O private-openssh -o NEW"
    if start.startswith((b"ssh-", b"ecdsa-", b"---- BEGIN SSH2 PUBLIC", b"-----BEGIN PUBLIC")):
        return "it is the public half of a key; name the private one (usually the same name without .pub)"
    if b"ENCRYPTED" in text or _is_encrypted_openssh(text):
        return _ENCRYPTED
    if b"DSA PRIVATE KEY" in start or "dsa" in str(error).lower().split():
        return _DSA
    if b"PRIVATE KEY" not in start:
        return "it is not a private key"
    return f"it is damaged or of a kind that is not supported ({type(error).__name__}: {error})"


def _is_encrypted_openssh(text: bytes) -> bool:
    """Whether a file in OpenSSH's format names a cipher; libraries differ in what they make of it."""
    body = b"".join(line.strip() for line in text.splitlines() if b"-" not in line)
    try:
        start = base64.b64decode(body[:64])
    except binascii.Error:
        return False
    magic, name = b"openssh-key-v1\0", b"\0\0\0\4none"
    return start.startswith(magic) and not start[len(magic) :].startswith(name)


def parse_host_key(text: str) -> str:
    """A public host key as ``type base64``, without comment.

    Args:
        text: As ``ssh-keyscan`` or a ``.pub`` file has it, the host's name left out.

    Raises:
        ValueError: It is not a public key, or type and content disagree.
    """
    fields = text.split()
    try:
        kind, blob = fields[0], base64.b64decode(fields[1], validate=True)
        length = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + length].decode("ascii") != kind:
            raise ValueError("type and content disagree")
    except (IndexError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise ValueError(f"not a public host key such as 'ssh-ed25519 AAAA…': {text[:80]!r}") from error
    return f"{kind} {fields[1]}"


def host_key_text(key: paramiko.PKey) -> str:
    """A key's public half as ``type base64``."""
    return f"{key.get_name()} {key.get_base64()}"


def fingerprint(text: str) -> str:
    """Type and SHA-256 fingerprint, as ``ssh-keygen -l`` shows it, of a key given as ``type base64``."""
    kind, blob = text.split()
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def new_key(path: Path) -> str:
    """Make an ed25519 key pair without a passphrase.

    Args:
        path: Where the private key goes, in OpenSSH's format; a file that is not there yet. Only its owner may
            read it. (The public half stands in the private file, and comes out of it again by `public_key`.)

    Returns:
        The public half as ``type base64``.

    Raises:
        FileExistsError: There is such a file.
    """
    key = ed25519.Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text)
    return (
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    )


def public_key(path: Path) -> str:
    """The public half of a private key file, as ``type base64``.

    Raises:
        KeyUnusable: As `load_key` says.
    """
    return host_key_text(load_key(path))
