"""What a VEN's opts say of an event: the last counts, be it of the event or of its time."""

from collections.abc import Sequence
from datetime import datetime

from bridge.vens import Offer, Opt, Said


def out_by_schedule(opts: Sequence[Opt], offer: Offer) -> tuple[bool, datetime | None]:
    """Return whether a VEN as a whole is out of an event's time, and since when it says so."""
    said = [o for o in opts if o.event is None and not o.resources and o.covers(offer)]
    return (said[-1].opt == "optOut", said[-1].at) if said else (False, None)


def is_out(opts: Sequence[Opt], said: Said | None, offer: Offer) -> bool:
    """Whether a VEN as a whole is out of an event."""
    by_schedule, since = out_by_schedule(opts, offer)
    if said is None or said.opt is None:
        return by_schedule
    later = since is not None and (said.at is None or since >= said.at)
    return by_schedule if later else said.opt == "optOut"


def resources_out(opts: Sequence[Opt], offer: Offer) -> frozenset[str]:
    """Return which resources of a VEN are out of an event."""
    out: frozenset[str] = frozenset()
    for opt in opts:
        if opt.resources and (opt.event == offer.event or opt.covers(offer)):
            out = out | opt.resources if opt.opt == "optOut" else out - opt.resources
    return out
