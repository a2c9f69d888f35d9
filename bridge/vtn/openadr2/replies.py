"""Answers to VENs: a message type and its parts, or what is wrong, written by openleadr."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bridge.errors import BridgeError
from bridge.wire import openleadr
from bridge.wire.signatures import OADR, Signer

# Response codes (OpenADR 2.0b Profile Specification, table of application error codes)
OK, NOT_ALLOWED, INVALID_ID, INVALID_DATA, COMPLIANCE, NOT_AUTHORIZED = 200, 451, 452, 454, 459, 463
# What says no to a message; an oadrResponse to all others
_REFUSALS = {
    "oadrQueryRegistration": "oadrCreatedPartyRegistration",
    "oadrCreatePartyRegistration": "oadrCreatedPartyRegistration",
    "oadrCancelPartyRegistration": "oadrCanceledPartyRegistration",
    "oadrRegisterReport": "oadrRegisteredReport",
    "oadrUpdateReport": "oadrUpdatedReport",
    "oadrCreateOpt": "oadrCreatedOpt",
    "oadrCancelOpt": "oadrCanceledOpt",
}
_END = "</oadr:oadrDistributeEvent>"


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to a VEN."""

    kind: str
    payload: Mapping[str, Any]
    events: Sequence[bytes] = ()  # of an oadrDistributeEvent


@dataclass(slots=True)
class Refusal(BridgeError):  # noqa: N818 -- reads as a fact at the raise
    """What a VEN asks for is not done, and why."""

    code: int
    text: str
    parts: Mapping[str, Any] = field(default_factory=dict)

    def reply(self, kind: str, request_id: str, vtn_id: str, ven_id: str) -> Reply:
        """Return the message that says so in answer to a message of this type."""
        ids: dict[str, Any] = {
            "response": response(request_id, self.code, self.text), "ven_id": ven_id,
            "vtn_id": vtn_id, "registration_id": None, "opt_id": "", "report_requests": [],
            "profiles": PROFILES,
        }  # fmt: skip
        return Reply(_REFUSALS.get(kind, "oadrResponse"), ids | dict(self.parts))


PROFILES = [{"profile_name": "2.0b", "transports": [{"transport_name": "simpleHttp"}]}]


def response(request_id: str = "", code: int = OK, text: str = "OK") -> dict[str, Any]:
    """Return an eiResponse."""
    return {"response_code": code, "response_description": text, "request_id": request_id}


def done(request_id: str, ven_id: str) -> Reply:
    """Return an oadrResponse that says only that all is well."""
    return Reply("oadrResponse", {"response": response(request_id), "ven_id": ven_id})


def write(reply: Reply, signer: Signer | None = None) -> bytes:
    """Return a reply as it goes out, signed where there is a signer."""
    signed_object = _nothing(reply.payload["ven_id"]) if _is_nothing(reply) else _object(reply)
    if signer:
        return signer.sign(signed_object)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:oadrPayload xmlns:oadr="{OADR[1:-1]}">'
        f"{signed_object}</oadr:oadrPayload>"
    ).encode()


def _is_nothing(reply: Reply) -> bool:
    """Whether it is the answer to most polls."""
    said = reply.payload.get("response", {})
    return (
        reply.kind == "oadrResponse" and said.get("response_code") == OK and not said["request_id"]
    )


@lru_cache(maxsize=10_000)
def _nothing(ven_id: str) -> str:
    return _object(done("", ven_id))


def _object(reply: Reply) -> str:
    parts = (
        {**reply.payload, "events": []} if reply.kind == "oadrDistributeEvent" else reply.payload
    )
    written = openleadr.signed_object(openleadr.message_writer()(reply.kind, **parts).decode())
    if not reply.events:
        return written
    return written.replace(_END, b"".join(reply.events).decode() + _END)
