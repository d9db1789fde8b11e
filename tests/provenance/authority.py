"""A time stamping authority, with the openssl command as its engine."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """
[tsa]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ordering = yes
ess_cert_id_alg = sha256
"""


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    def __init__(self, folder: Path, since: datetime.datetime | None = None, days: int = 3650) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._since = since or datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        self._until = self._since + datetime.timedelta(days=days)
        self._root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = self._certificate("root", self._root_key, ca=True, usage=False)
        leaf = self._certificate("tsa", self._key, ca=False, usage=True)
        bare = self._certificate("tsa", self._key, ca=False, usage=False)
        self.chain = self._pem(leaf) + self._pem(root)
        self.without_usage = self._pem(bare) + self._pem(root)
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "tsa.key").write_bytes(key)
        (folder / "tsa.pem").write_text(self._pem(leaf))
        (folder / "serial").write_text("01\n")
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))

    def _pem(self, certificate: x509.Certificate) -> str:
        return certificate.public_bytes(Encoding.PEM).decode()

    def _certificate(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool, usage: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._since)
            .not_valid_after(self._until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if usage:
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            builder = builder.add_extension(purposes, critical=True)
        return builder.sign(self._root_key, hashes.SHA256())

    def stamp(self, data: bytes) -> bytes:
        """The response of the authority for this data."""
        folder = self.folder
        (folder / "data").write_bytes(data)
        query = ["openssl", "ts", "-query", "-data", folder / "data", "-sha256", "-cert", "-out", folder / "query"]
        subprocess.run(query, check=True, capture_output=True)
        return self.reply((folder / "query").read_bytes())

    def reply(self, query: bytes) -> bytes:
        """The response of the authority to a query."""
        folder = self.folder
        (folder / "query").write_bytes(query)
        reply = ["openssl", "ts", "-reply", "-config", folder / "openssl.cnf", "-section", "tsa"]
        reply += ["-queryfile", folder / "query", "-signer", folder / "tsa.pem", "-inkey", folder / "tsa.key"]
        subprocess.run([*reply, "-out", folder / "reply"], check=True, capture_output=True)
        return (folder / "reply").read_bytes()
