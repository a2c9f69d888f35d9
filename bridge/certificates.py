"""Certificates: TLS contexts, fingerprints, what a file holds, and a set for development."""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.errors import SettingsError
from bridge.notation import from_millis, write_time

# The two suites OpenADR 2.0b mandates (OpenADR 2.0b Profile Specification, section 10.3);
# OpenSSL counts the second among those that need security level 0 no more, but both lack
# what TLS defaults ask for today.
LEGACY_CIPHERS = "DEFAULT:ECDHE-ECDSA-AES128-SHA256:AES128-SHA256:@SECLEVEL=1"
DEV_DAYS = 365


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a person wants to know of a certificate file."""

    path: Path
    subject: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str  # the 10 bytes OpenADR shows
    sha256: str


def short_fingerprint(cert: bytes | str) -> str:
    """Return OpenADR's fingerprint of a PEM certificate: the last 10 bytes of its SHA-256."""
    return _colons(_digest(cert)[-20:])


def full_fingerprint(cert: bytes | str) -> str:
    """Return the whole SHA-256 of a PEM certificate, as colon hex."""
    return _colons(_digest(cert))


def short_colons(digits: str) -> str:
    """Return OpenADR's fingerprint of a SHA-256 that is written as plain hex."""
    return _colons(digits[-20:])


def as_shown(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Show an enrolled certificate, a row of the store: what a person compares, and its times."""
    return {
        "fingerprint": short_colons(row["sha256"] or row["fingerprint"]),
        "sha256": row["sha256"],
        "first_seen": row["seen"] and write_time(from_millis(row["seen"])),
        "not_after": row["ends"] and write_time(from_millis(row["ends"])),
    }


def fingerprint_matches(wanted: str, der: bytes) -> bool:
    """Whether a certificate has this fingerprint, be it the short one or the whole."""
    plain = wanted.replace(":", "").upper()
    return hashlib.sha256(der).hexdigest().upper()[-len(plain) :] == plain


def _digest(cert: bytes | str) -> str:
    text = cert.decode() if isinstance(cert, bytes) else cert
    first = text[text.index("-----BEGIN CERTIFICATE") :]
    first = first[: first.index("-----END CERTIFICATE-----") + 25]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest().upper()


def _colons(digest: str) -> str:
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def read_certificate(path: Path) -> Certificate:
    """Read the first certificate of a PEM file."""
    pem = _read(path, "a PEM certificate")
    try:
        cert = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise SettingsError(f"{path}: is not a PEM certificate ({error})") from error
    try:
        sans = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(str(name.value) for name in sans)
    except x509.ExtensionNotFound:
        names = ()
    return Certificate(
        path,
        cert.subject.rfc4514_string(),
        names,
        cert.not_valid_before_utc,
        cert.not_valid_after_utc,
        short_fingerprint(pem),
        full_fingerprint(pem),
    )


def read_key(path: Path, passphrase: str | None = None) -> PrivateKeyTypes:
    """Read a private key."""
    pem = _read(path, "a PEM private key")
    try:
        return serialization.load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{path}: cannot be used as a private key ({error}); give a PEM key, and "
            "`key_passphrase_file` where it is encrypted"
        ) from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); {what} is needed"
        ) from error


def check_match(cert: Path, key: Path, passphrase: str | None = None) -> None:
    """Raise SettingsError unless the key is the certificate's own."""
    read_certificate(cert)
    public = x509.load_pem_x509_certificate(cert.read_bytes()).public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if read_key(key, passphrase).public_key().public_bytes(*form) != public.public_bytes(*form):
        raise SettingsError(f"{key}: is not the key of {cert}")


def check_validity(cert: Path) -> Certificate:
    """Return the certificate; raise SettingsError when it is not valid now."""
    found = read_certificate(cert)
    if not found.not_before <= datetime.now(UTC) <= found.not_after:
        raise SettingsError(
            f"{cert}: is valid from {found.not_before:%Y-%m-%d %H:%M} to "
            f"{found.not_after:%Y-%m-%d %H:%M} UTC, which is not now; renew it or set the clock"
        )
    return found


def client_context(
    ca: Path,
    cert: Path,
    key: Path,
    *,
    passphrase: str | None = None,
    check_hostname: bool = True,
    legacy_ciphers: bool = False,
) -> ssl.SSLContext:
    """Return a TLS context for a client that shows a certificate; TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    if legacy_ciphers:
        context.set_ciphers(LEGACY_CIPHERS)
    for path in (ca, cert, key):
        _read(path, "the file")
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{ca}: holds no CA certificate that can be used ({error})") from error
    try:
        # Without a passphrase OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, passphrase or "")
    except ssl.SSLError as error:
        raise SettingsError(f"{cert}, {key}: cannot be used together ({error})") from error
    return context


def explain_handshake(error: BaseException) -> str | None:
    """Say what a failed TLS handshake means to a person, where it can be told."""
    text = str(error)
    if "HANDSHAKE_FAILURE" in text or "NO_SHARED_CIPHER" in text or "NO_CIPHERS" in text:
        return f"no TLS cipher in common; legacy_ciphers = true if it knows no newer ({text})"
    if "certificate has expired" in text:
        return f"a certificate in the peer's chain has expired ({text})"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"the peer's certificate is not good: check `ca` and the host's name ({text})"
    if isinstance(error, OSError) and error.errno is None and not isinstance(error, TimeoutError):
        return (
            "the peer closed the connection during the TLS handshake: set legacy_ciphers = true "
            "if it knows no newer cipher, and see that it accepts our certificate"
        )
    return None


def server_context(
    certs: Sequence[Path],
    keys: Sequence[Path],
    *,
    clients: Path | None = None,
    legacy_ciphers: bool = False,
) -> ssl.SSLContext:
    """Return a TLS context for a listener; TLS 1.2 or newer.

    With `clients` each client must show a certificate of one of these authorities.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if legacy_ciphers:
        context.set_ciphers(LEGACY_CIPHERS)
    for cert, key in zip(certs, keys, strict=True):
        try:
            context.load_cert_chain(cert, key, "")
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{cert}, {key}: cannot be used together ({error})") from error
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        # No session is taken up again: whom an authority vouches for is asked each time.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        _read(clients, "the file")
        try:
            context.load_verify_locations(clients)
        except ssl.SSLError as error:
            raise SettingsError(f"{clients}: holds no CA certificate ({error})") from error
    return context


def end_of(der: bytes) -> datetime:
    """Return when a certificate ends."""
    return x509.load_der_x509_certificate(der).not_valid_after_utc


def issue(
    ca: Path, ca_key: Path, name: str, folder: Path, kind: str = "ec", days: int = 0
) -> Certificate:
    """Write a client's key and certificate by an authority of one's own; return the certificate.

    The authority is that of the file's certificates whose key it is. Files that stand there are
    kept, and refused.
    """
    key = read_key(ca_key)
    public = key.public_key()
    try:
        known = x509.load_pem_x509_certificates(_read(ca, "a CA certificate"))
    except ValueError as error:
        raise SettingsError(f"{ca}: is not a PEM certificate ({error})") from error
    authority = next((c for c in known if c.public_key() == public), None)
    if authority is None or not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{ca_key}: is not the key of a certificate in {ca}")
    stem = folder / name
    for path in (stem.with_name(f"{name}.crt"), stem.with_name(f"{name}.key")):
        if path.exists():
            raise SettingsError(f"{path}: is there already; move it away, or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = _make(name, kind, (key, authority), ExtendedKeyUsageOID.CLIENT_AUTH, days)
        _write(stem, *made)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written to ({error.strerror})") from error
    return read_certificate(stem.with_name(f"{name}.crt"))


def write_development_set(folder: Path, kind: str = "ec") -> list[Certificate]:
    """Write a CA, a VTN server and a VEN client certificate with keys, for development.

    `kind` is `rsa` (2048 bits) or `ec` (P-256). Files that stand there are kept.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be made ({error.strerror})") from error
    names = [folder / f"{name}.crt" for name in ("ca", "vtn", "ven")]
    if all(path.exists() for path in names):
        return [read_certificate(path) for path in names]
    ca_key, ca = _make("openadr-bridge development CA", kind, None, None)
    _write(folder / "ca", ca_key, ca)
    for name, usage in (
        ("vtn", ExtendedKeyUsageOID.SERVER_AUTH),
        ("ven", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        _write(folder / name, *_make(name, kind, (ca_key, ca), usage))
    return [read_certificate(path) for path in names]


_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def _make(
    name: str,
    kind: str,
    issuer: tuple[_Key, x509.Certificate] | None,
    usage: x509.ObjectIdentifier | None,
    days: int = 0,
) -> tuple[_Key, x509.Certificate]:
    key: _Key = (
        rsa.generate_private_key(65537, 2048)
        if kind == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    signer, authority = issuer or (key, None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days or DEV_DAYS))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .add_extension(_key_usage(ca=authority is None), True)
    )
    if usage:
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), False)
    return key, builder.sign(signer, hashes.SHA256())


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=not ca,
        data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write(stem: Path, key: _Key, cert: x509.Certificate) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    secret = stem.with_name(f"{stem.name}.key")
    secret.touch(mode=0o600)
    secret.write_bytes(private)
    stem.with_name(f"{stem.name}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
