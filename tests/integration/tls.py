"""A certificate authority, and VirtualBox web services that show its certificates."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from second_account import ADDRESS

from pytest_vbox.deadline import Deadline


class Authority:
    """A certificate authority of its own.

    Attributes:
        file: Its certificate.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = _new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pytest-vbox tests: {folder.name}")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(self._name, self._key, timedelta(days=30))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certificate(self, name: str, *, days: int = 30) -> Path:
        """A file with a key and a certificate for a host.

        Args:
            name: Its name, or its address.
            days: For how long it is valid; negative: it has expired so long ago.
        """
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, timedelta(days=days))
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name)]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        file = self._folder / f"{name}.pem"
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def _builder(self, subject: x509.Name, key: rsa.RSAPrivateKey, valid: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + valid)
            .add_extension(own, critical=False)
            .add_extension(issuer, critical=False)
        )


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class WebServices:
    """Starts VirtualBox's web service on an address of this computer that is not loopback."""

    def __init__(self, free_port: int) -> None:
        self._port = free_port
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, certificate: Path, *, authentication: str = "VBoxAuthSimple") -> str:
        """Start one that speaks https. Returns its address."""

        program = Path(os.environ["VBOX_RIG_BIN"]) / "vboxwebsrv"
        command = [str(program), "-H", str(ADDRESS), "-p", str(self._port)]
        command += ["-s", "-K", str(certificate), "-A", authentication]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._processes.append(process)
        self._wait(process, Deadline(30))
        return f"https://{ADDRESS}:{self._port}"

    def _wait(self, process: subprocess.Popen[bytes], deadline: Deadline) -> None:
        pause = threading.Event()
        while process.poll() is None and not deadline.expired:
            try:
                socket.create_connection((str(ADDRESS), self._port), timeout=1).close()
            except OSError:
                pause.wait(0.05)  # nothing tells when it listens
            else:
                return
        process.kill()
        output = process.stdout.read().decode(errors="replace") if process.stdout is not None else ""
        raise AssertionError(f"vboxwebsrv does not listen: {output}")

    def stop(self) -> None:
        """End them all."""
        for process in self._processes:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
