"""openleadr 0.5.36 as this program uses it, with what must be mended in it.

openleadr writes and checks OpenADR 2.0b messages; it does not run anything here. `harden`
mends the message layer process-wide, once. What each mend is for:

- an internal entity in any message ends the process (lxml >= 5.4 with a schema attached):
  a parser that resolves none, and no document type at all;
- templates do not escape: an `&` in a name makes the message malformed: autoescape;
- the private key is parsed and validated twice for each signed message (72 ms with RSA):
  parsed once;
- a signature older than 5 s is refused, one from the future never, and used nonces are
  searched one by one: a window both ways, and nonces that expire;
- identifiers that look like numbers become numbers (`007`, `1.2.3`): they stay text;
- a client wants the computer's time zone by name, which a container may not have: UTC;
- its loggers are set to INFO on import and write whole messages: warnings only.

Its event handling, poll loop and scheduler are not used at all, which is the mend for the
rest: one failing or repeated event opts out of all others, vanished events are ignored,
`run` gives up silently, times come from the wall clock, values become floats.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import openleadr.client
import xmltodict
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from openleadr import messaging, utils
from signxml.exceptions import InvalidSignature

from bridge.certificates import short_fingerprint
from bridge.errors import BridgeError, WireError

SUPPORTED = "0.5.36"
SIGNED_OBJECT = "{http://openadr.org/oadr-2.0b/2012/07}oadrSignedObject"
X509 = "{http://www.w3.org/2000/09/xmldsig#}X509Certificate"
REPLAY_WINDOW = timedelta(minutes=5)
NONCES_KEPT = 100_000

_TEXT_TAGS = {
    "vtnComment", "modificationReason", "responseDescription", "marketContext",
    "oadrVenName", "groupName", "signalName", "optReason", "requestID",
}  # fmt: skip
_seen_nonces: OrderedDict[tuple[str, str], datetime] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Message:
    """A checked message: its type, openleadr's reading of it, and the element itself."""

    type: str
    payload: dict[str, Any]
    element: etree._Element


@lru_cache(maxsize=1)
def harden() -> None:
    """Mend openleadr for the whole process; refuse a version the mends were not made for."""
    found = version("openleadr")
    if found != SUPPORTED:
        raise BridgeError(
            f"openleadr {found} is installed, but this program mends openleadr {SUPPORTED} "
            f"and no other: install openleadr=={SUPPORTED}"
        )
    messaging.XML_PARSER = etree.XMLParser(
        schema=messaging.XML_SCHEMA, resolve_entities=False, no_network=True, load_dtd=False
    )
    messaging.TEMPLATES.autoescape = True
    messaging.load_private_key = load_key
    messaging._verify_replay_protect = _refuse_replay
    messaging.parse_message = _parse
    openleadr.client.tzlocal = SimpleNamespace(get_localzone=lambda: "UTC")
    for name in ("openleadr", "apscheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)


def load_key(key: Any, passphrase: str | bytes | None = None) -> PrivateKeyTypes:
    """Load a private key from PEM, or return one that is already loaded."""
    if not isinstance(key, bytes | str):
        return key
    return _loaded(utils.ensure_bytes(key), utils.ensure_bytes(passphrase))


@lru_cache(maxsize=16)
def _loaded(key: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    return load_pem_private_key(key, passphrase)


def message_writer(
    cert: bytes | None = None, key: PrivateKeyTypes | None = None
) -> Callable[..., str]:
    """Return what writes a message of a type, signed where a certificate and key are given."""
    harden()
    return partial(messaging.create_message, cert=cert, key=key)


def read_message(content: bytes, signed_by: Callable[[str], bool] | None = None) -> Message:
    """Check and read a message; raise WireError when it is not a good 2.0b message.

    `signed_by` is asked, with the signer's certificate (PEM), whether it may sign; where
    it is given, an unsigned message is refused.
    """
    harden()
    if b"<!DOCTYPE" in content.replace(b"\0", b""):
        raise WireError("the message holds a document type, which OpenADR 2.0b does not allow")
    try:
        tree = etree.fromstring(content, messaging.XML_PARSER)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise WireError(f"the message is not valid OpenADR 2.0b: {error}") from error
    if tree.getroottree().docinfo.internalDTD is not None:
        raise WireError("the message holds a document type, which OpenADR 2.0b does not allow")
    signed = _verified(tree, signed_by) if signed_by else tree.find(SIGNED_OBJECT)
    if signed is None or not len(signed):
        raise WireError("the message holds no oadrSignedObject")
    kind, payload = _read_signed_object(signed)
    return Message(kind, payload, signed[0])


def _verified(tree: etree._Element, signed_by: Callable[[str], bool]) -> etree._Element:
    """Return the very element that was signed."""
    found = tree.find(f".//{X509}")
    if found is None:
        raise WireError("the message is not signed, but `sign = true` asks for it")
    cert = utils.extract_pem_cert(tree)
    if not signed_by(cert):
        raise WireError(
            f"the message is signed by another certificate ({short_fingerprint(cert)}) than "
            "the VTN's"
        )
    try:
        references = messaging.VERIFIER.verify(
            tree, x509_cert=utils.ensure_bytes(cert), expect_references=2
        )
        messaging._verify_replay_protect(tree)
    except (InvalidSignature, ValueError, etree.LxmlError) as error:
        raise WireError(f"the message's signature does not hold: {error}") from error
    for reference in references:
        if reference.signed_xml is not None and reference.signed_xml.tag == SIGNED_OBJECT:
            return reference.signed_xml
    raise WireError("the signature does not cover the oadrSignedObject")


def _read_signed_object(signed: etree._Element) -> tuple[str, dict[str, Any]]:
    kind = etree.QName(signed[0]).localname
    if kind == "oadrDistributeEvent":  # its events are read exactly by wire/openadr2.py
        return kind, {"response": _response(signed[0])}
    try:
        return kind, _parse(etree.tostring(signed))[1]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WireError(f"the {kind} cannot be read: {error}") from error


def _response(element: etree._Element) -> dict[str, Any]:
    said = {
        "response_code": element.findtext("{*}eiResponse/{*}responseCode"),
        "response_description": element.findtext("{*}eiResponse/{*}responseDescription"),
    }
    return {key: text.strip() for key, text in said.items() if text}


class _Text:
    """Keeps a text out of openleadr's guessing until it is done."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def _keep_text(_path: Any, key: str, value: Any) -> tuple[str, Any]:
    name = key.rsplit(":", 1)[-1]
    is_text = isinstance(value, str) and (name.endswith("ID") or name in _TEXT_TAGS)
    return key, _Text(value) if is_text else value


def _release_text(value: Any) -> Any:
    if isinstance(value, _Text):
        return value.text
    if isinstance(value, dict):
        return {k: _release_text(v) for k, v in value.items()}
    return [_release_text(v) for v in value] if isinstance(value, list) else value


def _parse(data: bytes | str) -> tuple[str, dict[str, Any]]:
    """Do what openleadr's `parse_message` does, with identifiers kept as text."""
    document = xmltodict.parse(
        data,
        process_namespaces=True,
        namespaces=messaging.NAMESPACES,
        postprocessor=_keep_text,
    )
    signed = document.get("oadrPayload", document)["oadrSignedObject"]
    kind = next(name for name in reversed(signed) if not name.startswith("@"))
    return kind, _release_text(utils.normalize_dict(signed[kind]))


def _refuse_replay(tree: etree._Element) -> None:
    """Refuse a signature from outside the window, and one that was used already."""
    ns = "{http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties}"
    stamp, nonce = tree.findtext(f".//{ns}timestamp"), tree.findtext(f".//{ns}nonce")
    if not stamp or not nonce:
        raise ValueError("its ReplayProtect has no timestamp or no nonce")
    signed_at, now = datetime.fromisoformat(stamp), datetime.now(UTC)
    if abs(now - signed_at) > REPLAY_WINDOW:
        raise ValueError(
            f"it was signed at {stamp}, which is more than {REPLAY_WINDOW} from the time "
            "here; compare the clocks"
        )
    while _seen_nonces and (
        len(_seen_nonces) >= NONCES_KEPT
        or now - next(iter(_seen_nonces.values())) > 2 * REPLAY_WINDOW
    ):
        _seen_nonces.popitem(last=False)
    if (stamp, nonce) in _seen_nonces:
        raise ValueError("its timestamp and nonce were used already")
    _seen_nonces[stamp, nonce] = now
