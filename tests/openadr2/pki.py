"""Certificates for tests: an authority, a server's certificate and any number of clients'."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files."""

    name: str
    cert: Path
    key: Path

    @cached_property
    def loaded(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.read_bytes())

    @cached_property
    def private(self) -> Any:
        return serialization.load_pem_private_key(self.key.read_bytes(), None)

    @property
    def kind(self) -> str:
        return "rsa" if isinstance(self.private, rsa.RSAPrivateKey) else "ec"

    @property
    def sha256(self) -> str:
        return sha256(self.loaded)

    @property
    def fingerprint(self) -> str:
        return short(self.loaded)


def sha256(cert: x509.Certificate) -> str:
    """Return the whole SHA-256 of a certificate, as colon hex."""
    digest = hashlib.sha256(cert.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return ":".join(digest[n : n + 2] for n in range(0, len(digest), 2))


def short(cert: x509.Certificate) -> str:
    """Return OpenADR's fingerprint: the last ten bytes of the SHA-256."""
    return sha256(cert)[-29:]


def new_key(kind: str = "ec") -> Any:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """Signs certificates; one is made in a folder of its own."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = new_key()
        public = self._key.public_key()
        made = self._builder(self._name, public).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        made = made.add_extension(_usage(keyCertSign=True, cRLSign=True), critical=True)
        self.loaded = made.sign(self._key, hashes.SHA256())
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(self.loaded.public_bytes(serialization.Encoding.PEM))
        # The bridge takes the site's authority with its key where it issues certificates.
        (folder / "ca.key").write_bytes(_pem(self._key))

    def server(self, name: str = "vtn", kind: str = "ec") -> Identity:
        return self.issue(name, kind, server=True)

    def issue(
        self,
        name: str,
        kind: str = "ec",
        *,
        server: bool = False,
        key: Any = None,
        subject: str | None = None,
        file: str | None = None,
    ) -> Identity:
        """Issue a certificate; its files are named after it."""
        key = key or new_key(kind)
        who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject or name)])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = (
            self._builder(who, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digitalSignature=True, keyEncipherment=True), critical=True)
            .add_extension(issuer, critical=False)
            .add_extension(x509.SubjectAlternativeName(_names()), critical=False)
        )
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if server:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        cert = made.sign(self._key, hashes.SHA256())
        found = Identity(
            name, self.folder / f"{file or name}.crt", self.folder / f"{file or name}.key"
        )
        found.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        found.key.write_bytes(_pem(key))
        found.key.chmod(0o600)
        return found

    def _builder(self, subject: x509.Name, public: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )


def _names() -> list[x509.GeneralName]:
    return [
        x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        for host in HOSTS
    ]


def _pem(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=wanted.get("digitalSignature", False),
        content_commitment=False,
        key_encipherment=wanted.get("keyEncipherment", False),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=wanted.get("keyCertSign", False),
        crl_sign=wanted.get("cRLSign", False),
        encipher_only=False,
        decipher_only=False,
    )
