"""Signatures that must be refused, each by name: what a forger or a broken VEN would send.

Each makes messages of a body; the last one is to be refused, those before it are as they
should be (a replay needs one). `mine` signs, `other` is another enrolled VEN.
"""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization
from lxml import etree

from tests.openadr2.pki import new_key
from tests.openadr2.raw_messages import OADR, wrap
from tests.openadr2.raw_signatures import (
    DIGESTS,
    DS,
    DSP,
    ECDSA_SHA1,
    EXCLUSIVE,
    HMAC_SHA256,
    ID,
    OBJECT,
    RSA_SHA1,
    sign,
)

XPATH = "http://www.w3.org/TR/1999/REC-xpath-19991116"
Making = Callable[[Any, Any, str], list[bytes]]
FAULTS: dict[str, Making] = {}


def fault(make: Making) -> Making:
    FAULTS[make.__name__] = make
    return make


def good(mine: Any, body: str, **otherwise: Any) -> bytes:
    """Sign a body as it should be, but for what is said."""
    cert, key = otherwise.pop("cert", mine.shown), otherwise.pop("key", mine.private)
    return sign(wrap(body), cert, key, **otherwise)


def simple(name: str, **otherwise: Any) -> None:
    """Name a fault that is an option of `sign`."""
    FAULTS[name] = lambda mine, _, body: [good(mine, body, **otherwise)]


@fault
def unsigned(mine: Any, other: Any, body: str) -> list[bytes]:
    return [wrap(body).encode()]


@fault
def sha1(mine: Any, other: Any, body: str) -> list[bytes]:
    weak = RSA_SHA1 if mine.sign == "rsa" else ECDSA_SHA1
    return [good(mine, body, algorithm=weak)]


@fault
def the_other_kind_of_key(mine: Any, other: Any, body: str) -> list[bytes]:
    """Say ECDSA of an RSA key's signature, or the other way round."""
    kind = "ecdsa" if mine.sign == "rsa" else "rsa"
    said = f"http://www.w3.org/2001/04/xmldsig-more#{kind}-sha256"
    return [good(mine, body, algorithm=said)]


@fault
def secret_is_the_certificate(mine: Any, other: Any, body: str) -> list[bytes]:
    """Use what everybody knows as the key of an HMAC."""
    public = mine.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return [good(mine, body, algorithm=HMAC_SHA256, secret=public)]


simple("weak_digest", digest=next(d for d in DIGESTS if d.endswith("sha1")))
simple("old", at=datetime.now(UTC) - timedelta(hours=1))
simple("long_ago", at="1970-01-01T00:00:00Z")
simple("future", at=datetime.now(UTC) + timedelta(hours=1))
simple("far_future", at="9999-12-31T23:59:59Z")
simple("no_time", at="")
simple("nonsense_time", at="yesterday")
simple("time_without_zone", at=(datetime.now(UTC) + timedelta(hours=3)).strftime("%FT%T"))
simple("no_nonce", nonce="")
simple("no_certificate", cert=None)
simple("covers_only_the_guard", covers=("#guard",))
simple("covers_only_the_message", covers=("#oadrSignedObject",))
simple("covers_the_message_twice", covers=("#oadrSignedObject", "#oadrSignedObject"))
simple("covers_the_guard_twice", covers=("#guard", "#guards"))
simple(
    "chooses_nothing",
    transforms=f'<Transform Algorithm="{XPATH}"><XPath>false()</XPath></Transform>',
)


@fault
def der_encoded(mine: Any, other: Any, body: str) -> list[bytes]:
    """Write an ECDSA value as X.509 does, which XML signatures do not; cut an RSA one."""
    if mine.sign == "ec":
        return [good(mine, body, der=True)]
    return [good(mine, body, after=_shorten)]


def _shorten(root: Any) -> None:
    value = root.find(f".//{{{DS}}}SignatureValue")
    value.text = value.text[4:]


@fault
def no_value(mine: Any, other: Any, body: str) -> list[bytes]:
    def empty(root: Any) -> None:
        root.find(f".//{{{DS}}}SignatureValue").text = ""

    return [good(mine, body, after=empty)]


@fault
def zeros(mine: Any, other: Any, body: str) -> list[bytes]:
    """Give the pair of zeros that once passed as an ECDSA signature of anything."""

    def zero(root: Any) -> None:
        root.find(f".//{{{DS}}}SignatureValue").text = "A" * 86 + "=="

    return [good(mine, body, after=zero)]


@fault
def another_key(mine: Any, other: Any, body: str) -> list[bytes]:
    return [good(mine, body, key=new_key(mine.sign))]


@fault
def another_ven(mine: Any, other: Any, body: str) -> list[bytes]:
    """Have it signed, as it should be, by another VEN that is enrolled."""
    return [good(mine, body, cert=other.shown, key=other.private)]


@fault
def both_certificates(mine: Any, other: Any, body: str) -> list[bytes]:
    """Show the right certificate beside the one of the key that signed."""

    def show(root: Any) -> None:
        data = root.find(f".//{{{DS}}}X509Data")
        more = deepcopy(data)
        more[0].text = etree.fromstring(good(mine, body)).findtext(f".//{{{DS}}}X509Certificate")
        data.addprevious(more)

    return [good(mine, body, cert=other.shown, key=other.private, before=show)]


@fault
def changed(mine: Any, other: Any, body: str) -> list[bytes]:
    """Change the message once it is signed."""

    def change(root: Any) -> None:
        root.find(OBJECT)[0].set(
            "{http://docs.oasis-open.org/ns/energyinterop/201110}schemaVersion", "2.0a"
        )

    return [good(mine, body, after=change)]


@fault
def other_time(mine: Any, other: Any, body: str) -> list[bytes]:
    def change(root: Any) -> None:
        root.find(f".//{{{DSP}}}nonce").text = "another"

    return [good(mine, body, after=change)]


@fault
def replayed(mine: Any, other: Any, body: str) -> list[bytes]:
    said = good(mine, body)
    return [said, said]


@fault
def replayed_with_spaces(mine: Any, other: Any, body: str) -> list[bytes]:
    """Send the same once more, in other bytes that mean the same."""
    said = good(mine, body)
    return [said, said.replace(b"<SignatureValue>", b"<SignatureValue>\n ")]


@fault
def used_nonce(mine: Any, other: Any, body: str) -> list[bytes]:
    """Sign anew with the time and the nonce of before."""
    about = {"at": datetime.now(UTC), "nonce": f"nonce-of-{id(mine)}-{datetime.now(UTC)}"}
    return [good(mine, body, **about), good(mine, body, method=EXCLUSIVE, **about)]


@fault
def replayed_with_a_fresh_guard(mine: Any, other: Any, body: str) -> list[bytes]:
    """Put a guard of now, which is not signed, before the used one."""
    said = good(mine, body)
    root = etree.fromstring(said)
    own = root.find(f"{{{DS}}}Signature/{{{DS}}}Object")
    added = deepcopy(own)
    for element in added.iter():
        if element.get("Id"):
            element.set("Id", element.get("Id") + "2")
    added.find(f".//{{{DSP}}}nonce").text = "fresh"
    added.find(f".//{{{DSP}}}timestamp").text = datetime.now(UTC).strftime("%FT%TZ")
    own.addprevious(added)
    return [said, etree.tostring(root)]


def _wrapping(body: str, evil: str, mine: Any, place: Callable[[Any, Any, Any], None]) -> bytes:
    """Sign a harmless message, move it away, and put another in its place."""
    root = etree.fromstring(good(mine, body))
    signed = root.find(OBJECT)
    forged = etree.fromstring(wrap(evil).encode()).find(OBJECT)
    place(root, signed, forged)
    return etree.tostring(root)


def _into_object(root: Any, signed: Any, identifier: str | None, forged: Any) -> None:
    root.replace(signed, forged)
    if identifier is None:
        del forged.attrib[ID]
    else:
        forged.set(ID, identifier)
    holder = etree.SubElement(root.find(f"{{{DS}}}Signature"), f"{{{DS}}}Object")
    holder.append(signed)


def wrapped(mine: Any, harmless: str, evil: str) -> dict[str, bytes]:
    """Return messages where the evil body stands where a body is read, and the harmless is signed."""

    def before(root: Any, signed: Any, forged: Any) -> None:
        signed.addprevious(forged)

    def within(root: Any, signed: Any, forged: Any) -> None:
        root.replace(signed, forged)
        forged.append(signed)

    return {
        "without an Id": _wrapping(
            harmless, evil, mine, lambda r, s, f: _into_object(r, s, None, f)
        ),
        "with another Id": _wrapping(
            harmless, evil, mine, lambda r, s, f: _into_object(r, s, "other", f)
        ),
        "with the same Id": _wrapping(
            harmless, evil, mine, lambda r, s, f: _into_object(r, s, "oadrSignedObject", f)
        ),
        "before the signed one": _wrapping(harmless, evil, mine, before),
        "around the signed one": _wrapping(harmless, evil, mine, within),
    }


@fault
def same_id_elsewhere(mine: Any, other: Any, body: str) -> list[bytes]:
    """Give the signature's own Object the Id of the message."""

    def doubled(root: Any) -> None:
        holder = etree.SubElement(root.find(f"{{{DS}}}Signature"), f"{{{DS}}}Object")
        holder.set("Id", "oadrSignedObject")

    return [good(mine, body, after=doubled)]


@fault
def second_signature(mine: Any, other: Any, body: str) -> list[bytes]:
    """Put another VEN's signature before the right one: only one can be meant."""
    root = etree.fromstring(good(mine, body, cert=other.shown, key=new_key(mine.sign)))
    right = etree.fromstring(good(mine, body)).find(f"{{{DS}}}Signature")
    root.insert(1, right)
    return [etree.tostring(root)]


@fault
def entity_in_the_message(mine: Any, other: Any, body: str) -> list[bytes]:
    said = good(mine, body)
    head, _, rest = said.partition(b"?>")
    return [head + b'?>\n<!DOCTYPE oadrPayload [<!ENTITY a "b">]>' + rest]


__all__ = ["FAULTS", "OADR", "good", "wrapped"]
