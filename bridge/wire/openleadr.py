"""openleadr 0.5.36 as this program uses it, with what must be mended in it.

openleadr writes and checks OpenADR 2.0b messages; it does not run anything here. `harden`
mends the message layer process-wide, once. What each mend is for:

- an internal entity in any message ends the process (lxml >= 5.4 with a schema attached):
  a parser that resolves none, and no document type at all;
- templates do not escape: an `&` in a name makes the message malformed: autoescape;
- signing takes 72 ms with RSA, a signature older than 5 s is refused and one from the
  future never, and what was signed need not be what is read: wire/signatures.py instead;
- identifiers that look like numbers become numbers (`007`, `1.2.3`): they stay text;
- a client wants the computer's time zone by name, which a container may not have: UTC;
- its loggers are set to INFO on import and write whole messages: warnings only.

Its event handling, poll loop and scheduler are not used at all, which is the mend for the
rest: one failing or repeated event opts out of all others, vanished events are ignored,
`run` gives up silently, times come from the wall clock, values become floats.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openleadr.client
import xmltodict
from lxml import etree
from openleadr import messaging, utils

from bridge.errors import BridgeError, WireError
from bridge.wire.signatures import SIGNATURE, SIGNED_OBJECT, ReplayGuard, Signer, verified

SUPPORTED = "0.5.36"

_TEXT_TAGS = {
    "vtnComment", "modificationReason", "responseDescription", "marketContext",
    "oadrVenName", "groupName", "signalName", "optReason", "requestID",
}  # fmt: skip
# What a VTN says of reports that it is told
_REPORTS = {"oadrCreateReport", "oadrCancelReport", "oadrRegisteredReport", "oadrUpdatedReport"}


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
    messaging.XML_PARSER = _new_parser()
    messaging.TEMPLATES.autoescape = True
    messaging.parse_message = _parse
    openleadr.client.tzlocal = SimpleNamespace(get_localzone=lambda: "UTC")
    for name in ("openleadr", "apscheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _new_parser() -> etree.XMLParser:
    return etree.XMLParser(
        schema=messaging.XML_SCHEMA,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,  # `V1<!-- -->2` would be signed as V12 and read as V1
        remove_pis=True,  # likewise; what was signed with one in it is refused
    )


_own = threading.local()  # each thread's parser: one that is shared is waited for


def _parser() -> etree.XMLParser:
    found: etree.XMLParser | None = getattr(_own, "parser", None)
    if found is None:
        found = _own.parser = _new_parser()
    return found


def message_writer(signer: Signer | None = None) -> Callable[..., bytes]:
    """Return what writes a message of a type, signed where there is a signer."""
    harden()
    write = partial(messaging.create_message, disable_signature=True)
    if signer is None:
        return lambda kind, **payload: write(kind, **payload).encode()
    return lambda kind, **payload: signer.sign(signed_object(write(kind, **payload)))


def signed_object(message: str) -> str:
    """Return the oadrSignedObject of a message that openleadr wrote."""
    begin, end = message.index("<oadr:oadrSignedObject"), message.rindex("</oadr:oadrPayload>")
    return message[begin:end].strip()


def read_tree(content: bytes) -> etree._Element:
    """Return a message's oadrPayload; raise WireError when it is not a valid 2.0b message."""
    harden()
    if b"<!DOCTYPE" in content.replace(b"\0", b""):
        raise WireError("the message holds a document type, which OpenADR 2.0b does not allow")
    try:
        tree = etree.fromstring(content, _parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        raise WireError(f"the message is not valid OpenADR 2.0b: {error}") from error
    if tree.getroottree().docinfo.internalDTD is not None:
        raise WireError("the message holds a document type, which OpenADR 2.0b does not allow")
    return tree


def is_signed(tree: etree._Element) -> bool:
    """Whether a message has a signature, be it good or not."""
    return bool(len(tree)) and tree[0].tag == SIGNATURE


@lru_cache(maxsize=1)
def currencies() -> frozenset[str]:
    """Return the currencies that OpenADR 2.0b's schema knows."""
    folder = Path(messaging.XML_SCHEMA_LOCATION).parent
    tree = etree.parse(folder / "oadr_ISO_ISO3AlphaCurrencyCode_20100407.xsd")
    return frozenset(str(e.get("value")) for e in tree.iterfind(".//{*}enumeration"))


_EVENT = (
    '<o:oadrPayload xmlns:o="http://openadr.org/oadr-2.0b/2012/07"><o:oadrSignedObject>'
    '<o:oadrDistributeEvent><p:requestID xmlns:p="http://docs.oasis-open.org/ns/energyinterop/'
    '201110/payloads">r</p:requestID><e:vtnID xmlns:e="http://docs.oasis-open.org/ns/'
    'energyinterop/201110">v</e:vtnID>{}</o:oadrDistributeEvent></o:oadrSignedObject>'
    "</o:oadrPayload>"
)


def check_event(xml: str) -> None:
    """Raise WireError unless an oadrEvent can stand in a valid message beside others."""
    read_tree(_EVENT.format(xml).encode())


def element_in(tree: etree._Element, signer: bytes | None, guard: ReplayGuard) -> etree._Element:
    """Return the message in an oadrPayload; raise WireError where it is not by `signer`.

    Where a certificate (DER) is given, only what it signed is returned.
    """
    found = verified(tree, signer, guard) if signer else tree[-1] if len(tree) else None
    if found is None or found.tag != SIGNED_OBJECT or not len(found):
        raise WireError("the message holds no oadrSignedObject")
    return found[0]


def read_message(
    content: bytes, signer: bytes | None = None, guard: ReplayGuard | None = None
) -> Message:
    """Check and read a message; raise WireError when it is not a good 2.0b message."""
    element = element_in(read_tree(content), signer, guard or ReplayGuard())
    return Message(etree.QName(element).localname, _read(element), element)


def _read(element: etree._Element) -> dict[str, Any]:
    kind = etree.QName(element).localname
    if kind == "oadrDistributeEvent":  # its events are read exactly by wire/openadr2.py
        return {"response": _response(element)}
    try:
        inner = etree.tostring(element, encoding="unicode", with_tail=False)
        return _parse(f"<oadrSignedObject>{inner}</oadrSignedObject>")[1]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        if (
            kind in _REPORTS
        ):  # read exactly by wire/openadr2_telemetry.py: one bad part spoils no other
            return {"response": _response(element)}
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
