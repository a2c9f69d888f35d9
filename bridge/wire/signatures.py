"""XML signatures as OpenADR 2.0b uses them, and nothing else of XML signatures.

A message's signature is detached and has two references: the oadrSignedObject, and the
ReplayProtect property that says when it was signed (OpenADR 2.0 Profile Specification B
Profile, section 10.6). Nothing but what those references cover is ever handed on. Canonical
forms are libxml2's, keys and hashes OpenSSL's (docs/decisions/0008).
"""

import base64
import hashlib
import ssl
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar, cast
from uuid import uuid4

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from lxml import etree

from bridge.certificates import short_fingerprint
from bridge.errors import SettingsError, WireError
from bridge.notation import read_time, write_time

T = TypeVar("T")

DS, OADR, DSP = (
    "{http://www.w3.org/2000/09/xmldsig#}",
    "{http://openadr.org/oadr-2.0b/2012/07}",
    "{http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties}",
)
SIGNED_OBJECT, SIGNATURE = f"{OADR}oadrSignedObject", f"{DS}Signature"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
# Canonical form → whether it is exclusive; comments are never kept when a message is read
_CANONICAL = {C14N: False, "http://www.w3.org/2001/10/xml-exc-c14n#": True}
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_ENCRYPTION = "http://www.w3.org/2001/04/xmlenc#"
_DIGESTS = {
    f"{_ENCRYPTION}sha256": "sha256",
    f"{_MORE}sha384": "sha384",
    f"{_ENCRYPTION}sha512": "sha512",
}
_METHODS: dict[str, tuple[type, hashes.HashAlgorithm]] = {
    f"{_MORE}{name}-{found.name}": (kind, found)
    for name, kind in (("rsa", rsa.RSAPublicKey), ("ecdsa", ec.EllipticCurvePublicKey))
    for found in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
}
NONCES_KEPT = 100_000
LONGEST_NONCE = 128  # characters: so many are remembered, and no more of each


class Signer:
    """Signs messages with a key that was parsed once."""

    def __init__(self, cert: bytes, key: PrivateKeyTypes) -> None:
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise SettingsError("messages are signed with RSA or EC keys; this one is another")
        self._key = key
        self._method = f"{_MORE}{'ecdsa' if self.elliptic else 'rsa'}-sha256"
        self._shown = base64.b64encode(ssl.PEM_cert_to_DER_cert(_first(cert.decode()))).decode()

    @property
    def elliptic(self) -> bool:
        """Whether the key is an elliptic curve's."""
        return isinstance(self._key, ec.EllipticCurvePrivateKey)

    def sign(self, signed_object: str) -> bytes:
        """Return a whole oadrPayload around an oadrSignedObject, signed now.

        The parts are put together in the very form in which they are signed.
        """
        protected = _PROTECTED.format(write_time(datetime.now(UTC)), uuid4().hex)
        small = len(signed_object) < _SMALL  # such as the answer to most polls
        digest = _digest_often(signed_object) if small else _digest_of(signed_object)
        info = _INFO.format(self._method, digest, _digest(protected.encode()))
        return (
            f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:oadrPayload {_NAMESPACE}>'
            f'<ds:Signature xmlns:ds="{DS[1:-1]}">{info}'
            f"<ds:SignatureValue>{self._value(info.encode())}</ds:SignatureValue><ds:KeyInfo>"
            f"<ds:X509Data><ds:X509Certificate>{self._shown}</ds:X509Certificate></ds:X509Data>"
            f"</ds:KeyInfo>{protected}</ds:Signature>{signed_object}</oadr:oadrPayload>"
        ).encode()

    def _value(self, info: bytes) -> str:
        if isinstance(self._key, rsa.RSAPrivateKey):
            made = self._key.sign(info, padding.PKCS1v15(), hashes.SHA256())
        else:
            size = (self._key.key_size + 7) // 8
            pair = decode_dss_signature(self._key.sign(info, ec.ECDSA(hashes.SHA256())))
            made = b"".join(number.to_bytes(size, "big") for number in pair)
        return base64.b64encode(made).decode()


_TRUSTED = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
_IDS = etree.XPath("//@*[local-name() = 'Id']")
_NAMESPACE = f'xmlns:oadr="{OADR[1:-1]}"'
# In canonical form already, as parts of the whole message: with the namespaces around them
_BOTH = f'xmlns:ds="{DS[1:-1]}" {_NAMESPACE}'
_REFERENCE = (
    '<ds:Reference URI="{}"><ds:Transforms>'
    f'<ds:Transform Algorithm="{C14N}"></ds:Transform></ds:Transforms>'
    f'<ds:DigestMethod Algorithm="{_ENCRYPTION}sha256"></ds:DigestMethod>'
    "<ds:DigestValue>{{}}</ds:DigestValue></ds:Reference>"
)
_INFO = (
    f"<ds:SignedInfo {_BOTH}>"
    f'<ds:CanonicalizationMethod Algorithm="{C14N}"></ds:CanonicalizationMethod>'
    '<ds:SignatureMethod Algorithm="{}"></ds:SignatureMethod>'
    + _REFERENCE.format("#oadrSignedObject")
    + _REFERENCE.format("#prop")
    + "</ds:SignedInfo>"
)
_PROTECTED = (
    f'<ds:Object {_BOTH} Id="prop"><ds:SignatureProperties>'
    '<ds:SignatureProperty Id="myid" Target="#mytarget">'
    f'<dsp:ReplayProtect xmlns:dsp="{DSP[1:-1]}"><dsp:timestamp>{{}}</dsp:timestamp>'
    "<dsp:nonce>{}</dsp:nonce></dsp:ReplayProtect></ds:SignatureProperty>"
    "</ds:SignatureProperties></ds:Object>"
)


def _canonical(element: etree._Element, *, exclusive: bool = False) -> bytes:
    """Return an element as it stands in its message, in canonical form."""
    around = element.getparent()
    if around is not None and None in around.nsmap:
        # lxml 6.1.3 puts xmlns="" where the default namespace of the whole document is another.
        element = etree.fromstring(etree.tostring(element, with_tail=False), _TRUSTED)
    try:
        return etree.tostring(
            element, method="c14n", exclusive=exclusive, with_comments=False, with_tail=False
        )
    except etree.LxmlError as error:  # of a namespace that is none, for one
        raise WireError(f"the signed message has no canonical form: {error}") from error


def _digest(content: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


def _digest_of(signed_object: str) -> str:
    """Return the digest of an oadrSignedObject as it will stand in its message."""
    return _digest(
        _canonical(etree.fromstring(f"<p {_NAMESPACE}>{signed_object}</p>", _TRUSTED)[0])
    )


_SMALL = 4000
_digest_often = lru_cache(maxsize=1000)(_digest_of)


class ReplayGuard:
    """Refuses a signature from outside a window, and one that was used already."""

    def __init__(
        self, window: timedelta = timedelta(minutes=5), skew: timedelta = timedelta(minutes=5)
    ) -> None:
        self._window, self._skew = window, skew
        self._seen: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, stamp: str, nonce: str) -> None:
        """Raise WireError unless this was signed lately and is seen for the first time."""
        if len(stamp) > LONGEST_NONCE or len(nonce) > LONGEST_NONCE:
            raise WireError(
                f"the signature's timestamp or nonce is longer than {LONGEST_NONCE} characters"
            )
        try:
            signed_at = read_time(stamp)
        except (ValueError, OverflowError) as error:
            raise WireError(f"the signature's timestamp {stamp[:40]!r} is none") from error
        with self._lock:  # large messages are read in threads
            self._check(signed_at, stamp, nonce)

    def _check(self, signed_at: datetime, stamp: str, nonce: str) -> None:
        now = datetime.now(UTC)
        if not -self._window <= signed_at - now <= self._skew:
            raise WireError(
                f"it was signed at {stamp[:40]}, and it is {write_time(now)} here: more than "
                f"{self._window} late or {self._skew} early; compare the clocks"
            )
        while self._seen and (
            len(self._seen) >= NONCES_KEPT
            or now - next(iter(self._seen.values())) > self._window + self._skew
        ):
            self._seen.popitem(last=False)
        if (stamp, nonce) in self._seen:
            raise WireError("its timestamp and nonce were used already")
        self._seen[stamp, nonce] = now

    @property
    def kept(self) -> int:
        """Return how many used nonces are remembered."""
        return len(self._seen)


def is_elliptic(tree: etree._Element) -> bool:
    """Whether a message is signed by an elliptic curve's key."""
    method = tree.find(f"{DS}Signature/{DS}SignedInfo/{DS}SignatureMethod")
    return method is not None and "ecdsa" in method.get("Algorithm", "")


def verified(tree: etree._Element, signer: bytes, guard: ReplayGuard) -> etree._Element:
    """Return the oadrSignedObject that this certificate (DER) signed; else raise WireError."""
    signature = tree.find(f"{DS}Signature")
    if signature is None:
        raise WireError("the message is not signed, but a signature is asked for")
    _check_certificate(signature, signer)
    signed, protected = _covered(tree, signature)
    if not (_digests_hold(signature, signed, protected) and _is_by(signature, signer)):
        raise WireError(
            "the message's signature does not hold: it was changed after it was signed, or "
            "signed by another key"
        )
    stamp, nonce = (protected.findtext(f".//{DSP}{name}") for name in ("timestamp", "nonce"))
    if not stamp or not nonce:
        raise WireError("the signature's ReplayProtect has no timestamp or no nonce")
    guard.check(stamp.strip(), nonce.strip())
    return signed


def _check_certificate(signature: etree._Element, signer: bytes) -> None:
    """Refuse a signature that says it is by another certificate than the one expected."""
    for found in signature.iterfind(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate"):
        if "".join((found.text or "").split()) == _shown(signer):
            return
    raise WireError(
        "the message is signed by another certificate than that of the connection "
        f"({short_fingerprint(ssl.DER_cert_to_PEM_cert(signer))}), or says none"
    )


def _digests_hold(signature: etree._Element, *covered: etree._Element) -> bool:
    """Whether what is referred to is as it was when it was signed."""
    by_id = {e.get("Id") or e.get(f"{OADR}Id"): e for e in covered}
    for reference in signature.iterfind(f"{DS}SignedInfo/{DS}Reference"):
        transforms = reference.findall(f"{DS}Transforms/{DS}Transform")
        if len(transforms) > 1:
            raise WireError("the signature transforms what it covers more than once")
        form = _allowed(_CANONICAL, *transforms) if transforms else False
        algorithm = _allowed(_DIGESTS, *reference.iterfind(f"{DS}DigestMethod"))
        said = "".join((reference.findtext(f"{DS}DigestValue") or "").split())
        found = _canonical(by_id[(reference.get("URI") or "")[1:]], exclusive=form)
        if _digest(found, algorithm) != said:
            return False
    return True


def _is_by(signature: etree._Element, signer: bytes) -> bool:
    """Whether the digests were signed with the key of this very certificate."""
    info = signature.find(f"{DS}SignedInfo")
    if info is None:
        return False
    form = _allowed(_CANONICAL, *info.iterfind(f"{DS}CanonicalizationMethod"))
    kind, algorithm = _allowed(_METHODS, *info.iterfind(f"{DS}SignatureMethod"))
    key, content = _key_of(signer), _canonical(info, exclusive=form)
    said = "".join((signature.findtext(f"{DS}SignatureValue") or "").split())
    try:
        value = base64.b64decode(said, validate=True)
        if not isinstance(key, kind):
            return False
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(value, content, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            half = (key.key_size + 7) // 8
            if len(value) != 2 * half:
                return False
            pair = (int.from_bytes(value[:half], "big"), int.from_bytes(value[half:], "big"))
            key.verify(encode_dss_signature(*pair), content, ec.ECDSA(algorithm))
    except (InvalidSignature, ValueError):
        return False
    return True


def _allowed(known: Mapping[str, T], *said: etree._Element) -> T:
    """Return what an algorithm is; refuse those that OpenADR 2.0b does not use, and parameters."""
    names = [element.get("Algorithm") or "" for element in said]
    if len(names) != 1 or names[0] not in known or len(said[0]):
        raise WireError(
            f"the signature uses {', '.join(names)[:200] or 'no algorithm'}; RSA or ECDSA with "
            "SHA-256, and canonical XML, are expected"
        )
    return known[names[0]]


def _covered(
    tree: etree._Element, signature: etree._Element
) -> tuple[etree._Element, etree._Element]:
    """Return the signed object, and the element with the ReplayProtect, that are referred to."""
    uris = [r.get("URI") or "" for r in signature.iterfind(f"{DS}SignedInfo/{DS}Reference")]
    signed = tree.find(SIGNED_OBJECT)
    named: list[etree._Element] = [found.getparent() for found in cast("list[Any]", _IDS(tree))]
    found = [[e for e in named if uri[1:] in (e.get("Id"), e.get(f"{OADR}Id"))] for uri in uris]
    if len(uris) != 2 or any(u[:1] != "#" for u in uris) or any(len(f) != 1 for f in found):
        raise WireError(
            "the signature must refer by Id to just two elements: the oadrSignedObject and the "
            "ReplayProtect"
        )
    covered = [f[0] for f in found]
    protected = [e for e in covered if e is not signed]
    if len(protected) != 1 or signed is None or signed.get(f"{OADR}Id") is None:
        raise WireError("the signature does not cover the oadrSignedObject")
    if protected[0].get("Id") is None or signature not in protected[0].iterancestors():
        raise WireError("the signature does not cover its own ReplayProtect")
    if len(protected[0].findall(f".//{DSP}ReplayProtect")) != 1:
        raise WireError("the signature does not cover just one ReplayProtect")
    return signed, protected[0]


# Only what is enrolled is remembered, nothing that a message says.
@lru_cache(maxsize=1024)
def _shown(certificate: bytes) -> str:
    return base64.b64encode(certificate).decode()


@lru_cache(maxsize=1024)
def _key_of(certificate: bytes) -> object:
    return x509.load_der_x509_certificate(certificate).public_key()


def _first(pem: str) -> str:
    """Return the first certificate of a PEM file."""
    end = "-----END CERTIFICATE-----"
    return pem[pem.index("-----BEGIN CERTIFICATE") : pem.index(end) + len(end)]
