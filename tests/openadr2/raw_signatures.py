"""XML signatures of OpenADR 2.0b, made and checked by hand: canonical XML, digests, one key.

A message's signature stands before its oadrSignedObject, refers to it and to the property that
guards against replays, and shows the signer's certificate. Whatever can be wrong with one can
be asked for: `sign` takes what to do otherwise.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from lxml import etree

from tests.openadr2.raw_messages import OADR

DS = "http://www.w3.org/2000/09/xmldsig#"
DSP = "http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
RSA_SHA256, ECDSA_SHA256 = MORE + "rsa-sha256", MORE + "ecdsa-sha256"
RSA_SHA1, ECDSA_SHA1 = DS + "rsa-sha1", MORE + "ecdsa-sha1"
HMAC_SHA256 = MORE + "hmac-sha256"
DIGESTS = {
    "http://www.w3.org/2001/04/xmlenc#sha256": hashlib.sha256,
    DS + "sha1": hashlib.sha1,
    MORE + "sha224": hashlib.sha224,
}
SHA256 = next(iter(DIGESTS))
OBJECT = f"{{{OADR}}}oadrSignedObject"
ID = f"{{{OADR}}}Id"
X509 = f"{{{DS}}}X509Certificate"


class SignatureError(Exception):
    """What is wrong with a signature."""


class Signed(NamedTuple):
    """What a good signature says."""

    element: Any  # the oadrSignedObject it covers
    cert: x509.Certificate
    nonce: str
    at: datetime


def canonical(element: Any, method: str = C14N) -> bytes:
    """Return canonical XML of an element where it stands, with the namespaces in scope."""
    # lxml writes wrong default namespaces for an element within a document, so it is one alone.
    alone = etree.fromstring(etree.tostring(element, with_tail=False, encoding="UTF-8"))
    return etree.tostring(alone, method="c14n", exclusive=method == EXCLUSIVE, with_comments=False)


def certificate_text(cert: x509.Certificate) -> str:
    return base64.b64encode(cert.public_bytes(serialization.Encoding.DER)).decode()


SKELETON = (
    '<Signature xmlns="{ds}"><SignedInfo><CanonicalizationMethod Algorithm="{c14n}"/>'
    '<SignatureMethod Algorithm="{algorithm}"/>{references}</SignedInfo>'
    "<SignatureValue/><KeyInfo>{key_info}</KeyInfo>"
    '<Object Id="guards"><SignatureProperties><SignatureProperty Id="guard" '
    'Target="#oadrSignedObject"><r:ReplayProtect xmlns:r="{dsp}">{replay}</r:ReplayProtect>'
    "</SignatureProperty></SignatureProperties></Object></Signature>"
)
REFERENCE = (
    '<Reference URI="{uri}"><Transforms>{transforms}</Transforms>'
    '<DigestMethod Algorithm="{digest}"/><DigestValue/></Reference>'
)


def sign(
    message: str,
    cert: x509.Certificate | None,
    key: Any,
    *,
    covers: Iterable[str] = ("#oadrSignedObject", "#guard"),
    algorithm: str | None = None,
    digest: str = SHA256,
    method: str = C14N,
    transforms: str | None = None,
    at: datetime | str | None = None,
    nonce: str | None = None,
    der: bool = False,
    secret: bytes = b"",
    before: Callable[[Any], None] | None = None,
    after: Callable[[Any], None] | None = None,
) -> bytes:
    """Return the message, signed.

    `covers` names what is signed by URI: `#guard` is the property against replays, `#guards`
    the Object around it. `cert` is shown and may be another than the key's; `before` changes
    the message once the signature is in its place, `after` when it is signed.
    """
    root = etree.fromstring(message.encode())
    steps = transforms or f'<Transform Algorithm="{method}"/>'
    at = datetime.now(UTC) if at is None else at
    when = at if isinstance(at, str) else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    nonce = uuid4().hex if nonce is None else nonce
    signature = etree.fromstring(
        SKELETON.format(
            ds=DS,
            dsp=DSP,
            c14n=method,
            algorithm=algorithm or (RSA_SHA256 if _is_rsa(key) else ECDSA_SHA256),
            references="".join(
                REFERENCE.format(uri=uri, transforms=steps, digest=digest) for uri in covers
            ),
            key_info=_key_info(cert),
            replay=f"<r:timestamp>{when}</r:timestamp><r:nonce>{nonce}</r:nonce>",
        )
    )
    root.insert(0, signature)
    if before:
        before(root)
    _fill(root, signature, key, der=der, secret=secret)
    if after:
        after(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _key_info(cert: x509.Certificate | None) -> str:
    if cert is None:
        return "<KeyName>none</KeyName>"
    return f"<X509Data><X509Certificate>{certificate_text(cert)}</X509Certificate></X509Data>"


def _fill(root: Any, signature: Any, key: Any, *, der: bool, secret: bytes) -> None:
    """Compute the digests and the signature."""
    info = signature.find(f"{{{DS}}}SignedInfo")
    for reference in info.findall(f"{{{DS}}}Reference"):
        reference.find(f"{{{DS}}}DigestValue").text = _digest(root, reference)
    method = info.find(f"{{{DS}}}SignatureMethod").get("Algorithm")
    data = canonical(info, info.find(f"{{{DS}}}CanonicalizationMethod").get("Algorithm"))
    value = base64.b64encode(_value(data, method, key, der=der, secret=secret)).decode()
    signature.find(f"{{{DS}}}SignatureValue").text = value


def _digest(root: Any, reference: Any) -> str:
    make = DIGESTS[reference.find(f"{{{DS}}}DigestMethod").get("Algorithm")]
    steps = [t.get("Algorithm") for t in reference.iter(f"{{{DS}}}Transform")]
    if any("xpath" in step for step in steps):
        data = b""  # the ones used here choose nothing
    else:
        uri = reference.get("URI")
        found = by_id(root, uri[1:])[0] if uri else root
        data = canonical(found, EXCLUSIVE if EXCLUSIVE in steps else C14N)
    return base64.b64encode(make(data).digest()).decode()


def _value(data: bytes, method: str, key: Any, *, der: bool, secret: bytes) -> bytes:
    if method == HMAC_SHA256:
        made = hmac.HMAC(secret, hashes.SHA256())
        made.update(data)
        return made.finalize()
    kind = hashes.SHA1() if method.endswith("sha1") else hashes.SHA256()  # noqa: S303 -- to be refused
    if _is_rsa(key):
        return bytes(key.sign(data, padding.PKCS1v15(), kind))
    value = key.sign(data, ec.ECDSA(kind))
    if der:
        return bytes(value)
    size = (key.curve.key_size + 7) // 8
    return b"".join(n.to_bytes(size, "big") for n in decode_dss_signature(value))


def _is_rsa(key: Any) -> bool:
    return isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey)


def by_id(root: Any, name: str) -> list[Any]:
    """Return what bears an Id, OpenADR's own or a signature's."""
    return [e for e in root.iter("*") if name in {e.get("Id"), e.get(ID)}]


def verify(content: bytes, signers: Iterable[x509.Certificate]) -> Signed:
    """Check a signed message by hand; raise SignatureError with what is wrong."""
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    signatures = root.findall(f"{{{DS}}}Signature")
    _want(len(signatures) == 1, f"there are {len(signatures)} signatures")
    signature, info = signatures[0], signatures[0].find(f"{{{DS}}}SignedInfo")
    cert = _shown(signature)
    _want(cert in list(signers), "it was signed by another certificate")
    references = info.findall(f"{{{DS}}}Reference")
    covered = [_covered(root, reference) for reference in references]
    signed = root.find(OBJECT)
    _want(signed in covered, "it does not cover the message")
    guards = [e for c in covered for e in c.iter(f"{{{DSP}}}ReplayProtect")]
    _want(len(guards) == 1 and len(covered) == 2, "it covers other things than it should")
    _verify_value(signature, info, cert.public_key())
    nonce = guards[0].findtext(f"{{{DSP}}}nonce")
    at = datetime.fromisoformat(guards[0].findtext(f"{{{DSP}}}timestamp"))
    _want(bool(nonce) and at.tzinfo is not None, "its guard says too little")
    _want(abs(datetime.now(UTC) - at) < timedelta(minutes=1), f"it was made at {at}")
    return Signed(signed, cert, nonce, at)


def _want(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SignatureError(otherwise)


def shown_in(content: bytes) -> x509.Certificate:
    """Return the certificate that a message shows as its signer's."""
    signature = etree.fromstring(content).find(f"{{{DS}}}Signature")
    _want(signature is not None, "the message is not signed")
    return _shown(signature)


def _shown(signature: Any) -> x509.Certificate:
    shown = signature.findtext(f"{{{DS}}}KeyInfo/{{{DS}}}X509Data/{X509}")
    _want(bool(shown), "no certificate is shown")
    return x509.load_der_x509_certificate(base64.b64decode("".join(shown.split())))


def _covered(root: Any, reference: Any) -> Any:
    """Return what a reference refers to, once its digest is right."""
    uri = reference.get("URI") or ""
    found = by_id(root, uri[1:])
    _want(uri.startswith("#") and len(found) == 1, f"{uri} refers to {len(found)} elements")
    steps = [t.get("Algorithm") for t in reference.iter(f"{{{DS}}}Transform")]
    _want(steps in ([], [C14N], [EXCLUSIVE]), f"{uri} is transformed by {steps}")
    _want(
        reference.find(f"{{{DS}}}DigestMethod").get("Algorithm") == SHA256,
        "the digest is another than SHA-256",
    )
    wanted = "".join(reference.findtext(f"{{{DS}}}DigestValue").split())
    _want(_digest(root, reference) == wanted, f"the digest of {uri} is wrong")
    return found[0]


def _verify_value(signature: Any, info: Any, public: Any) -> None:
    method = info.find(f"{{{DS}}}SignatureMethod").get("Algorithm")
    wanted = RSA_SHA256 if _is_rsa(public) else ECDSA_SHA256
    _want(method == wanted, f"the algorithm is {method}")
    value = base64.b64decode("".join(signature.findtext(f"{{{DS}}}SignatureValue").split()))
    form = info.find(f"{{{DS}}}CanonicalizationMethod").get("Algorithm")
    _want(form in {C14N, EXCLUSIVE}, f"the canonical form is {form}")
    data = canonical(info, form)
    try:
        if _is_rsa(public):
            public.verify(value, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            half = len(value) // 2
            _want(half == (public.curve.key_size + 7) // 8, "the value has another length")
            numbers = (int.from_bytes(part, "big") for part in (value[:half], value[half:]))
            public.verify(encode_dss_signature(*numbers), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError("the signature's value is wrong") from None
