"""Signatures made by hand are taken by the bridge's reader, bad ones by neither it nor the hand."""

import pytest
from cryptography.hazmat.primitives import serialization
from lxml import etree

from bridge.errors import WireError
from bridge.wire.signatures import ReplayGuard, Signer, verified
from tests.openadr2 import raw_messages as messages
from tests.openadr2.pki import Authority
from tests.openadr2.raw_faults import FAULTS, good, wrapped
from tests.openadr2.raw_reading import PLAIN, schema
from tests.openadr2.raw_signatures import EXCLUSIVE, SignatureError, canonical, verify
from tests.openadr2.raw_ven import RawVen

GOOD = [
    {},
    {"covers": ("#guard", "#oadrSignedObject")},
    {"covers": ("#oadrSignedObject", "#guards")},
    {"method": EXCLUSIVE},
]
KINDS = ["rsa", "ec"]
# What the schema, or the ban on document types, refuses before a signature is looked at
ELSEWHERE = {"entity_in_the_message"}
# What the hand does not look at: whether a nonce was used
FRESHNESS = {"replayed", "replayed_with_spaces", "used_nonce", "replayed_with_a_fresh_guard"}


@pytest.fixture(scope="module")
def signers(tmp_path_factory):
    """Return a VEN and another one for each kind of key."""
    authority = Authority(tmp_path_factory.mktemp("signers"))
    return {
        kind: [
            RawVen.of(authority.issue(f"{name}-{kind}", kind), "", authority.ca, sign=kind)
            for name in ("mine", "other")
        ]
        for kind in KINDS
    }


def by_the_bridge(content, ven, guard):
    tree = etree.fromstring(content, PLAIN)
    return verified(tree, ven.shown.public_bytes(serialization.Encoding.DER), guard)


def test_a_canonical_form_has_only_the_namespaces_that_are_there():
    # lxml 6.1.3 gives <d> an empty default namespace where the whole document's root has another.
    root = etree.fromstring('<a xmlns="urn:a"><b xmlns="urn:b"><c><d/></c></b></a>')
    assert canonical(root[0]) == b'<b xmlns="urn:b"><c><d></d></c></b>'


@pytest.mark.parametrize("otherwise", GOOD)
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_signature_holds_for_both(signers, kind, otherwise):
    mine, _ = signers[kind]
    content = good(mine, messages.create_opt("ven & co", "opt-1"), **otherwise)
    assert verify(content, [mine.shown]).element.tag.endswith("oadrSignedObject")
    signed = by_the_bridge(content, mine, ReplayGuard())
    assert signed[0].tag.endswith("oadrCreateOpt")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_bridge_signs_holds_by_hand(signers, kind):
    mine, _ = signers[kind]
    signed = (  # in the prefixes of the bridge's own messages
        f'<oadr:oadrSignedObject xmlns:oadr="{messages.OADR}" oadr:Id="oadrSignedObject">'
        f'<oadr:oadrPoll xmlns:ei="{messages.EI}" ei:schemaVersion="2.0b">'
        "<ei:venID>ven &amp; co</ei:venID></oadr:oadrPoll></oadr:oadrSignedObject>"
    )
    content = Signer(mine.cert.read_bytes(), mine.private).sign(signed)
    assert schema().validate(etree.fromstring(content))
    again = Signer(mine.cert.read_bytes(), mine.private).sign(signed)
    nonces = {verify(one, [mine.shown]).nonce for one in (content, again)}
    assert len(nonces) == 2


@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_signature_holds_for_none(signers, kind, name):
    mine, other = signers[kind]
    guard = ReplayGuard()
    *before, last = FAULTS[name](mine, other, messages.poll("ven"))
    for content in before:
        by_the_bridge(content, mine, guard)
    if name not in ELSEWHERE:
        with pytest.raises(WireError):
            by_the_bridge(last, mine, guard)
    if name not in ELSEWHERE | FRESHNESS:
        with pytest.raises((SignatureError, ValueError)):
            verify(last, [mine.shown])


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_in_a_signed_ones_place_holds_for_none(signers, kind):
    mine, _ = signers[kind]
    for content in wrapped(mine, messages.poll("mine"), messages.poll("evil")).values():
        for check in (
            lambda c: by_the_bridge(c, mine, ReplayGuard()),
            lambda c: verify(c, [mine.shown]),
        ):
            with pytest.raises((WireError, SignatureError)):
                check(content)
