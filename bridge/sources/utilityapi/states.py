"""How one stands with a meter at UtilityAPI: a word, a sentence, and what to do next."""

from collections.abc import Iterable
from datetime import datetime

from bridge.model import Document
from bridge.notation import write_time
from bridge.usage import MeterState
from bridge.wire.utilityapi import Authorization, Meter, Note

OK, GONE = "ok", "gone"
REVOKED, DECLINED, EXPIRED, ARCHIVED = "revoked", "declined", "expired", "archived"
# In these nothing is asked for any more; what is known already stays.
STOPPED = frozenset({REVOKED, DECLINED, EXPIRED, ARCHIVED, GONE})
AUTHORIZE = "Have the customer authorize again; what is known already stays."
# A note that is the last of its kind → the state that it means
REFUSED = ("access_invalid", "access_locked", "access_code_needed", "access_unsupported")
WAITING = ("waiting", "retrying")


def state_of(
    name: str, source: str, meter: Meter, authorization: Authorization | None, now: datetime
) -> MeterState:
    """Return how one stands with a meter that is listed."""
    state, says, next_step = (
        _of_authorization(authorization, now)
        or _of_meter(meter, source, now)
        or _of_access([*(authorization.notes if authorization else ()), *meter.notes])
        or (OK, _reach(meter), "")
    )
    return MeterState(name, state, says, next_step, _about(meter, authorization))


def gone(name: str, uid: str, authorization: Authorization | None, now: datetime) -> MeterState:
    """Return how one stands with a meter that was listed once."""
    state, says, next_step = _of_authorization(authorization, now) or (
        GONE,
        "UtilityAPI does not list it any more: it was archived or deleted, or this token may not"
        " see it.",
        "Look at the account at UtilityAPI; what is known already stays.",
    )
    return MeterState(name, state, says, next_step, {"uid": uid})


def _of_authorization(found: Authorization | None, now: datetime) -> tuple[str, str, str] | None:
    if found is None:
        return None
    if found.revoked:
        return REVOKED, "The customer has revoked the authorization.", AUTHORIZE
    if found.declined:
        return DECLINED, "The authorization was declined.", AUTHORIZE
    if found.expired or (found.expires and found.expires <= now):
        when = f" on {found.expires:%Y-%m-%d}" if found.expires else ""
        return EXPIRED, f"The authorization has expired{when}.", AUTHORIZE
    return None


def _of_meter(meter: Meter, source: str, now: datetime) -> tuple[str, str, str] | None:
    if meter.archived:
        return ARCHIVED, "It is archived at UtilityAPI.", "Bring it back there to go on."
    if meter.activated is False:
        return (
            "needs_activation",
            "The customer has authorized it, but nothing was ever collected: service exists but no"
            " logs yet.",
            f"`openadr-bridge utilityapi collect {source} {meter.uid}` has it collected. That"
            " costs money, and is asked for first.",
        )
    waiting = next((n for n in reversed(meter.notes) if n.type in WAITING), None)
    if waiting and waiting.eta and waiting.eta > now:
        when = write_time(waiting.eta)
        return "waiting", f"{waiting.message} It goes on at {when}.".strip(), "Wait."
    if meter.status == "pending":
        says = f"UtilityAPI is collecting. {meter.message}".strip()
        return "pending", says, "Wait; what is there already is fetched."
    return None


def _of_access(notes: list[Note]) -> tuple[str, str, str] | None:
    """Return what the last note on the access to the utility's account means."""
    last = next((n for n in reversed(notes) if n.type.startswith("access_")), None)
    if last is None or last.type not in REFUSED:
        return None
    says = f"UtilityAPI cannot get at the customer's account with the utility. {last.message}"
    return last.type, says.strip(), "Have the customer update the authorization."


def _reach(meter: Meter) -> str:
    if meter.intervals:
        return f"UtilityAPI has intervals up to {write_time(meter.intervals[-1][1])}."
    if any(note.type == "intervals_empty" for note in meter.notes):
        return "The utility has no intervals of it."
    return "UtilityAPI has no intervals of it yet."


def _about(meter: Meter, authorization: Authorization | None) -> Document:
    kinds = sorted({note.type for note in meter.notes if note.type})
    about = {
        "uid": meter.uid,
        "authorization": meter.authorization,
        "status": meter.status,
        "monitoring": meter.monitoring,
        "notes": kinds,
        "interval_count": meter.interval_count,
        "interval_coverage": _stretches(meter.intervals),
        "bill_count": meter.bill_count,
        "bill_coverage": _stretches(meter.bills),
        **meter.facts,
    }
    if authorization and authorization.test:
        about["test"] = True
    return {name: fact for name, fact in about.items() if fact not in (None, "", [])}


def _stretches(spans: Iterable[tuple[datetime, datetime]]) -> list[list[str]]:
    return [[write_time(start), write_time(end)] for start, end in spans]
