"""Which reports that a VTN asks for are told, when of what, and which are refused."""

from collections.abc import Iterator
from datetime import datetime

from bridge.reporting import (
    HISTORY_USAGE,
    REPORTS,
    TELEMETRY_STATUS,
    Asked,
    Offer,
    Resource,
    Wanted,
    plan,
)
from bridge.wire.openadr2_telemetry import (
    INVALID_DATA,
    INVALID_ID,
    NOT_ALLOWED,
    NOT_SUPPORTED,
    Refused,
)

MOST_INTERVALS = 100_000  # of what is over, that one request may ask for


def judge(asked: Asked, offer: Offer, now: datetime, *, room: bool) -> Wanted | Refused:
    """Return a request with its plan, or why it is refused: for want of `room`, for one."""
    resources = list(_resources(asked, offer))
    if len(resources) < len(asked.r_ids) or not resources:
        what = "rID" if asked.specifier in offer.reports else "reportSpecifierID"
        return Refused(asked.request_id, INVALID_ID, f"the {what} is none that is offered")
    if REPORTS[asked.specifier] == HISTORY_USAGE and not asked.start:
        return Refused(asked.request_id, INVALID_DATA, "history needs a reportInterval")
    if not room:
        return Refused(asked.request_id, NOT_ALLOWED, "too many reports are told already")
    try:
        made = plan(asked, max(resource.every for resource in resources), now)
    except (ValueError, OverflowError) as error:
        return Refused(asked.request_id, INVALID_DATA, str(error))
    if ((made.end or now) - made.origin) // made.step > MOST_INTERVALS:
        return Refused(asked.request_id, NOT_SUPPORTED, f"more than {MOST_INTERVALS} intervals")
    return asked, made


def too_fine(wanted: Wanted, offer: Offer) -> Iterator[str]:
    """Yield what is to be said of intervals that are asked for and that no reading fills."""
    asked, made = wanted
    if REPORTS[asked.specifier] == TELEMETRY_STATUS:
        return
    for resource in _resources(asked, offer):
        if made.step < resource.every:
            yield (
                f"report {asked.request_id} asks for intervals of {made.step} of {resource.name},"
                f" which is measured every {resource.every}: what no reading fills is told as a gap"
            )


def _resources(asked: Asked, offer: Offer) -> Iterator[Resource]:
    found = (offer.find(asked.specifier, r_id) for r_id in asked.r_ids)
    return (resource for resource in found if resource)
