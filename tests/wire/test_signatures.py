"""Signatures: others' are understood, others understand ours, and nothing else gets through."""

import base64
import re
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from lxml import etree
from openleadr import messaging
from signxml import XMLSigner, XMLVerifier, methods

from bridge.certificates import read_key
from bridge.errors import SettingsError, WireError
from bridge.wire import openleadr, signatures
from bridge.wire.signatures import DS, OADR, ReplayGuard, Signer, verified
from tests.peers import response

KINDS = pytest.mark.parametrize("kind", ["rsa", "ec"])


def own(certs, kind="ec", name="vtn"):
    """Return a signer and its certificate as DER and PEM."""
    stem = certs / kind / name
    pem = stem.with_suffix(".crt").read_bytes()
    return Signer(pem, read_key(stem.with_suffix(".key"))), ssl.PEM_cert_to_DER_cert(pem.decode())


def poll(signer):
    return openleadr.message_writer(signer)("oadrPoll", ven_id="V1")


def read(content, der, guard=None):
    return verified(openleadr.read_tree(content), der, guard or ReplayGuard())


def context_of(tree, der):
    """Return libxmlsec1's view of a message that this certificate signed."""
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(der, xmlsec.KeyFormat.CERT_DER)
    context.register_id(tree[1], "Id", OADR[1:-1])
    context.register_id(tree[0][-1], "Id")
    return context


def stock(certs, kind, **about):
    """Return a poll that signxml signed, as a stock openleadr does."""
    stem = certs / kind / "vtn"
    signed = openleadr.signed_object(openleadr.message_writer()("oadrPoll", ven_id="V1").decode())
    signer = XMLSigner(
        method=methods.detached, c14n_algorithm=about.get("form", signatures.C14N),
        signature_algorithm=about.get("method", {"rsa": "rsa-sha256", "ec": "ecdsa-sha256"}[kind]),
        digest_algorithm=about.get("digest", "sha256"),
    )  # fmt: skip
    signer.namespaces["oadr"] = OADR[1:-1]
    made = signer.sign(
        etree.fromstring(signed), key=stem.with_suffix(".key").read_bytes(),
        cert=stem.with_suffix(".crt").read_bytes(), reference_uri="#oadrSignedObject",
        signature_properties=messaging._create_replay_protect(),
    )  # fmt: skip
    return (
        f'<oadr:oadrPayload xmlns:oadr="{OADR[1:-1]}">{etree.tostring(made).decode()}{signed}'
        "</oadr:oadrPayload>"
    ).encode()


@KINDS
def test_signxml_and_libxmlsec1_take_what_is_signed_here(certs, kind):
    signer, der = own(certs, kind)
    tree = openleadr.read_tree(poll(signer))
    pem = ssl.DER_cert_to_PEM_cert(der)
    covered = XMLVerifier().verify(tree, x509_cert=pem, expect_references=2)
    assert [c.signed_xml.tag for c in covered] == [f"{OADR}oadrSignedObject", f"{DS}Object"]
    context_of(tree, der).verify(tree[0])  # raises where it does not hold, as with another text
    tree[1][0][0].text = "V2"
    with pytest.raises(xmlsec.Error):
        context_of(tree, der).verify(tree[0])


@KINDS
@pytest.mark.parametrize("form", sorted(signatures._CANONICAL))
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_what_signxml_signs_is_taken(certs, kind, form, digest):
    _, der = own(certs, kind)
    assert read(stock(certs, kind, form=form, digest=digest), der)[0][0].text == "V1"


@KINDS
def test_what_libxmlsec1_signs_is_taken(certs, kind):
    signer, der = own(certs, kind)
    tree = etree.fromstring(poll(signer))
    for emptied in tree[0].iter(f"{DS}DigestValue", f"{DS}SignatureValue"):
        emptied.text = None
    context = xmlsec.SignatureContext()
    key = (certs / kind / "vtn.key").read_bytes()
    context.key = xmlsec.Key.from_memory(key, xmlsec.KeyFormat.PEM)
    context.register_id(tree[1], "Id", OADR[1:-1])
    context.register_id(tree[0][-1], "Id")
    context.sign(tree[0])
    assert read(etree.tostring(tree), der)[0][0].text == "V1"


def test_namespaces_that_stand_around_a_message_are_signed_with_it(certs):
    signer, der = own(certs)
    text = etree.tostring(etree.fromstring(response().encode())[0]).decode()
    whole = text.replace(
        "<oadr:oadrSignedObject", '<oadr:oadrSignedObject oadr:Id="oadrSignedObject"'
    )
    assert read(signer.sign(whole), der)[0].tag == f"{OADR}oadrResponse"


def test_a_changed_message_is_refused(certs):
    signer, der = own(certs)
    with pytest.raises(WireError, match="does not hold"):
        read(poll(signer).replace(b">V1<", b">V2<"), der)
    with pytest.raises(WireError, match="does not hold"):
        read(re.sub(b"<dsp:nonce>.", b"<dsp:nonce>x", poll(signer)), der)
    with pytest.raises(WireError, match="not signed"):
        read(response().encode(), der)


def test_another_certificate_is_refused_and_so_is_another_key(certs):
    signer, der = own(certs)
    other, other_der = own(certs, name="ven")
    with pytest.raises(WireError, match="another certificate"):
        read(poll(signer), other_der)
    borrowed = poll(other).replace(base64.b64encode(other_der), base64.b64encode(der))
    with pytest.raises(WireError, match="does not hold"):
        read(borrowed, der)
    _, rsa = own(certs, "rsa")
    with pytest.raises(WireError, match="does not hold"):
        read(poll(signer).replace(base64.b64encode(der), base64.b64encode(rsa)), rsa)
    with pytest.raises(WireError, match="says none"):
        read(
            re.sub(b"<ds:X509Data>.*</ds:X509Data>", b"<ds:KeyName>x</ds:KeyName>", poll(signer)),
            der,
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"xmldsig-more#ecdsa-sha256", b"xmldsig-more#hmac-sha256"),
        (b"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", b"http://www.w3.org/2000/09/xmldsig#dsa-sha1"),
        (b"http://www.w3.org/2001/04/xmlenc#sha256", b"http://www.w3.org/2000/09/xmldsig#sha1"),
        (b'<ds:Transform Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"', b'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"'),
        (b'<ds:Transform Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"', b'<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"'),
    ],
)  # fmt: skip
def test_other_algorithms_are_refused(certs, old, new):
    signer, der = own(certs)
    with pytest.raises(WireError, match="the signature uses"):
        read(poll(signer).replace(old, new), der)


def test_a_signature_that_covers_something_else_is_refused(certs):
    signer, der = own(certs)
    good = poll(signer)
    tree = etree.fromstring(good)
    for uri in (b'URI="#oadrSignedObject"', b'URI="#prop"'):
        with pytest.raises(WireError, match="must refer by Id"):
            read(good.replace(uri, b'URI=""'), der)
        with pytest.raises(WireError, match="must refer by Id"):
            read(good.replace(uri, b'URI="#nowhere"'), der)
    # the reference to the signed object alone, and to the property alone
    for gone in (0, 1):
        copy = etree.fromstring(good)
        copy[0][0].remove(copy[0][0].findall(f"{DS}Reference")[gone])
        with pytest.raises(WireError, match="must refer by Id"):
            read(etree.tostring(copy), der)
    # what is executed has another Id than what was signed, which stands inside an Object
    copy = etree.fromstring(good)
    wrapper = etree.SubElement(copy[0], f"{DS}Object")
    moved = etree.fromstring(etree.tostring(tree[1]))
    wrapper.append(moved)
    copy[1].set(f"{OADR}Id", "another")
    copy[1][0][0].text = "V2"
    with pytest.raises(WireError):
        verified(copy, der, ReplayGuard())
    copy[1].set(f"{OADR}Id", "oadrSignedObject")  # or the same: then it is not clear which
    with pytest.raises(WireError, match="must refer by Id"):
        verified(copy, der, ReplayGuard())


def test_comments_split_no_text(certs):
    signer, der = own(certs)
    split = poll(signer).replace(b">V1<", b">V<!-- 2 -->1<")
    assert read(split, der)[0][0].text == "V1"


def test_a_message_is_taken_once_only(certs):
    signer, der = own(certs)
    content, guard = poll(signer), ReplayGuard()
    read(content, der, guard)
    with pytest.raises(WireError, match="used already"):
        read(content, der, guard)


@pytest.mark.parametrize(("minutes", "skew"), [(-6, 5), (6, 5), (2, 1)])
def test_a_signature_from_another_time_says_so(minutes, skew):
    stamp = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    with pytest.raises(WireError, match="compare the clocks"):
        ReplayGuard(skew=timedelta(minutes=skew)).check(stamp, "n")


@pytest.mark.parametrize(
    "stamp", ["yesterday", "", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:59"]
)
def test_a_timestamp_that_is_none_says_so(stamp):
    with pytest.raises(WireError):
        ReplayGuard().check(stamp, "n")


def test_nonces_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(signatures, "NONCES_KEPT", 3)
    guard = ReplayGuard()
    for n in range(9):
        guard.check(datetime.now(UTC).replace(tzinfo=None).isoformat(), str(n))
    assert guard.kept <= 3


def test_keys_that_cannot_sign_are_refused(certs):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    with pytest.raises(SettingsError, match="RSA or EC"):
        Signer((certs / "ec" / "vtn.crt").read_bytes(), Ed25519PrivateKey.generate())
