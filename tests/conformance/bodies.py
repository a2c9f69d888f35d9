"""Request bodies: the least that each kind of object asks for, under names of their own."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

Json = dict[str, Any]
UNKNOWN = "no-such-object-0000"  # well formed, and no object's id
UNREACHED = "https://example.com/callback"
BEGINNING = "0001-01-01T00:00:00Z"  # 'now', User Guide 7.3
FOREVER = "P9999Y"


def name(kind: str) -> str:
    return f"kit-{kind}-{uuid4().hex[:12]}"


def moment(**ago_or_ahead: int) -> str:
    """Return now, or now plus so many hours, as the specification writes it."""
    found = datetime.now(UTC) + timedelta(**ago_or_ahead)
    return found.isoformat(timespec="seconds").replace("+00:00", "Z")


def payload(*values: Any, kind: str = "PRICE") -> Json:
    return {"type": kind, "values": list(values)}


def intervals(*prices: Any) -> list[Json]:
    return [{"id": n, "payloads": [payload(price)]} for n, price in enumerate(prices)]


def program(**more: Any) -> Json:
    return {"programName": name("program"), **more}


def event(program_id: str, **more: Any) -> Json:
    """Return a price for an hour from now on; what is None in `more` is left out."""
    period = {"start": moment(), "duration": "PT1H"}
    usual = {"programID": program_id, "intervalPeriod": period, "intervals": intervals(1.5)}
    return {key: value for key, value in {**usual, **more}.items() if value is not None}


def ven_by_bl(client_id: str, **more: Any) -> Json:
    return {"objectType": "BL_VEN_REQUEST", "clientID": client_id, "venName": name("ven"), **more}


def ven_by_ven(**more: Any) -> Json:
    return {"objectType": "VEN_VEN_REQUEST", "venName": name("ven"), **more}


def resource_by_bl(ven: Json, **more: Any) -> Json:
    return {
        "objectType": "BL_RESOURCE_REQUEST",
        "clientID": ven["clientID"],
        "resourceName": name("resource"),
        "venID": ven["id"],
        **more,
    }


def resource_by_ven(ven: Json, **more: Any) -> Json:
    return {
        "objectType": "VEN_RESOURCE_REQUEST",
        "resourceName": name("resource"),
        "venID": ven["id"],
        **more,
    }


def report(event_id: str, **more: Any) -> Json:
    measured = {"id": 0, "payloads": [payload(0.17, kind="USAGE")]}
    return {
        "eventID": event_id,
        "clientName": name("client"),
        "resources": [{"resourceName": "RESOURCE-1", "intervals": [measured]}],
        **more,
    }


def subscription(url: str, objects: str = "EVENT", operations: str = "CREATE", **more: Any) -> Json:
    """Return a subscription to kinds and operations, each given as words in one string."""
    wanted = {
        "objects": objects.split(),
        "operations": operations.split(),
        "callbackUrl": url,
        "bearerToken": "test-token",
    }
    return {"clientName": name("client"), "objectOperations": [wanted], **more}
