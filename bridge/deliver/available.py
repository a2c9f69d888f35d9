"""What a device is told of history: that there are prices, that there are readings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from uuid import uuid4

from bridge.deliver.bodies import PRICES, USAGE, USAGE_AFTERWARDS, prices_body, usage_body
from bridge.deliver.states import States
from bridge.model import Audience, Change, Delivery, Receiver
from bridge.notation import from_millis

TYPES = ("PRICES", "USAGE")
Groups = Mapping[Audience, Sequence[Receiver]]


def is_told(change: Change) -> bool:
    """Whether a change is of history, and not a moment of it."""
    return change.object_type in TYPES and change.operation != "MOMENT"


def merged(changes: Sequence[Change]) -> list[Change]:
    """Return changes with those of one program, or meter, told as one, the last."""
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    found: list[Change] = []
    for change in reversed(changes):
        if not is_told(change):
            found.append(change)
            continue
        about, key = change.after or {}, (change.object_type, change.object_id)
        start, end = spans.get(key, (about["start"], about["end"]))
        if key not in spans:
            found.append(change)
        spans[key] = min(start, about["start"]), max(end, about["end"])
    return [
        replace(c, after={**(c.after or {}), "start": span[0], "end": span[1]})
        if is_told(c) and (span := spans.get((c.object_type, c.object_id)))
        else c
        for c in reversed(found)
    ]


def deliveries(change: Change, groups: Groups, states: States, now: datetime) -> Iterator[Delivery]:
    """Yield what is told of a change to those who follow the program, or the meter."""
    about = change.after or {}
    if change.object_type == "PRICES":
        end = from_millis(about["end"])
        if end <= now:  # a device asks for history, it is not told of it
            return
        receivers = [
            receiver
            for audience, found in groups.items()
            if audience.includes(about["program"], (), test=False)
            for receiver in found
        ]
        kind, write, expires = PRICES, prices_body, end
    else:
        receivers = [
            receiver
            for found in groups.values()
            for receiver in found
            if any(fnmatchcase(about["meter"], pattern) for pattern in receiver.meters)
        ]
        kind, write, expires = USAGE, usage_body, now + USAGE_AFTERWARDS
    for receiver in receivers:
        if receiver.format != "state":
            yield Delivery(
                id=str(uuid4()),
                device=receiver.name,
                type=kind,
                body=write(change, receiver, states.json(receiver)),
                due=now,
                expires=expires,
                moment=kind,
                instant=change.at,
            )
