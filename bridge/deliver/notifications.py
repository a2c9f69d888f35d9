"""Follows the change log and writes a row for each client that an operation concerns.

What is written is frozen: a subscriber or the broker gets the same bytes again until it has
them. The rows and the cursor are one transaction, as with devices (`fan_out.py`).
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal
from uuid import uuid4

from bridge.clock import Clock
from bridge.model import Change, Delivery, Document
from bridge.notation import from_json, from_millis, millis, read_time, to_json
from bridge.parties import BROKER, Notebook, Notice, Subscriber, View
from bridge.supervise import Job
from bridge.wire import openadr3_topics as topics

AT_ONCE = 200  # changes in one transaction
SMALL = 50  # rows that are planned in about a millisecond
SETTLE = 0.01  # seconds: devices are told first, and a burst of changes is taken together
USEFUL = timedelta(hours=24)  # after this a client asks, and is not told any more
ALL = View(True, None, frozenset())
WHO = {"SUBSCRIPTION", "VEN", "RESOURCE", "CLIENT", "SUBSCRIBER"}  # whose changes change whom
Topics = Literal["none", "shared", "private"]


class Notifications:
    """The one job that turns changes into notifications."""

    def __init__(self, notebook: Notebook, clock: Clock, published: Topics) -> None:
        self._notebook, self._clock, self._published = notebook, clock, published
        self._subscribers: Sequence[Subscriber] = ()
        self._vens: Mapping[str, View] = {}

    async def run(self, job: Job) -> None:
        """Follow the change log until cancelled."""
        bell = self._notebook.bell("notifications")
        cursor = await self._notebook.cursor()
        await self._look_up()
        while True:
            changes = await self._notebook.changes(cursor, AT_ONCE)
            if not changes:
                job.succeeded(self._clock.now())
                await self._clock.wait(bell, None)
                await asyncio.sleep(SETTLE)
                continue
            if WHO & {c.object_type for c in changes}:
                await self._look_up()
            owed: list[Delivery] = []
            if self._subscribers or self._published != "none":
                notices = [notice for c in changes for notice in await self._notices(c)]
                owed = await self._planned(notices)
            cursor = changes[-1].seq
            await self._notebook.save(owed, cursor, self._clock.now())

    async def _look_up(self) -> None:
        self._subscribers = await self._notebook.subscribers()
        self._vens = await self._notebook.vens() if self._published == "private" else {}

    async def _planned(self, notices: Sequence[Notice]) -> list[Delivery]:
        if len(notices) * (1 + len(self._subscribers) + len(self._vens)) <= SMALL:
            return self.plan(notices)
        return await asyncio.to_thread(self.plan, notices)

    # --- what happened --------------------------------------------------------------------

    async def _notices(self, change: Change) -> list[Notice]:
        if change.object_type == "PRICES":
            return await self._repriced(change)
        if change.operation == "MOMENT":
            return []
        if change.object_type == "EVENT":
            before, after = _shown(change.before), _shown(change.after)
        else:
            before, after = change.before, change.after
        if change.object_type == "PROGRAM" and after and "document" not in after:
            program = await self._notebook.program(change.object_id)
            after = {"document": to_json(program), "audiences": []} if program else None
        return _noticed(change, before, after)

    async def _repriced(self, change: Change) -> list[Notice]:
        """Return the price days that are new or say something else now."""
        about, now = change.after or {}, millis(self._clock.now())
        if change.operation == "MOMENT" or about["end"] <= now:  # history is asked for
            return []
        start = max(about["start"], now)
        days, gone = await self._notebook.price_days(change.object_id, start, about["end"])
        shown = [from_json(day.document) for day in days]
        made = [(_operation(document, change.at), document) for document in shown]
        return [
            Notice("EVENT", operation, document, (), change.seq, change.at,
                   program=change.object_id)
            for operation, document in [*made, *(("DELETE", d) for d in gone)]
        ]  # fmt: skip

    # --- who is told ----------------------------------------------------------------------

    def plan(self, notices: Sequence[Notice]) -> list[Delivery]:
        """Return the rows that these notices make necessary."""
        return [row for notice in notices for row in self._rows(notice)]

    def _rows(self, notice: Notice) -> Iterator[Delivery]:
        bodies = _Bodies()
        for subscriber in self._subscribers:
            seen = _as_told(notice, partial(_concerns, subscriber))
            if seen and seen.operation in subscriber.operations:
                body = bodies.of(seen, subscriber.view)
                yield self._row(notice, subscriber.receiver, notice.kind, seen.operation, body)
        if self._published != "none":
            for path in topics.shared(notice):
                yield from self._published_at(notice, path, partial(topics.is_shared, path), ALL)
        if self._published == "private":
            for path in (*topics.of_business_logic(notice), *topics.of_its_ven(notice)):
                yield from self._published_at(notice, path, lambda _: True, ALL)
            if notice.audiences or (notice.former and notice.former.audiences):
                for ven, view in self._vens.items():
                    path = topics.aimed_at(notice, ven)
                    yield from self._published_at(notice, path, partial(_is_aimed_at, view), view)

    def _published_at(
        self, notice: Notice, path: str, belongs: Callable[[Notice], bool], view: View
    ) -> Iterator[Delivery]:
        seen = _as_told(notice, belongs)
        # Nobody can wait for the creation of one object.
        if seen and not (seen.operation == "CREATE" and topics.is_one_object(seen, path)):
            topic = topics.topic(path, seen.operation)
            yield self._row(notice, BROKER, topic, topic, _Bodies().of(seen, view))

    def _row(self, notice: Notice, receiver: str, kind: str, moment: str, body: bytes) -> Delivery:
        now = self._clock.now()
        return Delivery(
            id=str(uuid4()),
            device=receiver,
            type=kind,
            body=body,
            due=now,
            expires=now + USEFUL,
            event=notice.document["id"],
            modification=notice.seq,
            moment=moment,
            instant=notice.at,
        )


def _shown(snapshot: Document | None) -> Document | None:
    """Return what clients were shown of an event: nothing of one that does not count."""
    if not snapshot or not snapshot["in_force"] or snapshot["test"]:
        return None
    return snapshot if "document" in snapshot else None


def _noticed(change: Change, before: Document | None, after: Document | None) -> list[Notice]:
    if before == after or not (before or after):
        return []
    former = _notice(change, "UPDATE", before) if before and "document" in before else None
    if after is None or "document" not in after:
        return [_notice(change, "DELETE", before)] if former and before else []
    # A utility's program is said without what it was before.
    updated = former or (change.object_type == "PROGRAM" and change.operation == "UPDATE")
    made = _notice(change, "UPDATE" if updated else "CREATE", after, former)
    same = former and (former.document, former.audiences) == (made.document, made.audiences)
    return [] if same else [made]


def _notice(
    change: Change, operation: str, about: Document, former: Notice | None = None
) -> Notice:
    document = from_json(about["document"])
    program = None if change.object_type == "PROGRAM" else about.get("program")
    if change.object_type == "EVENT":
        program = document.get("programID")
    return Notice(
        kind=change.object_type,
        operation=operation,
        document=document,
        audiences=tuple(frozenset(group) for group in about.get("audiences", ())),
        seq=change.seq,
        at=change.at,
        client=about.get("client"),
        ven=about.get("ven"),
        program=program,
        former=former,
    )


def _operation(day: Document, at: datetime) -> str:
    """Say whether a price day became known by a change, or was known before it."""
    known = read_time(day["createdDateTime"]) < from_millis(millis(at))
    return "UPDATE" if known else "CREATE"


def _as_told(notice: Notice, belongs: Callable[[Notice], bool]) -> Notice | None:
    """Return a notice as it is to those whom some objects concern, and others do not.

    What comes to concern them is new to them, and what does so no more is gone.
    """
    now = belongs(notice)
    before = belongs(notice.former) if notice.former else notice.operation == "UPDATE"
    if notice.operation != "UPDATE":
        return notice if now else None
    if now:
        return notice if before else replace(notice, operation="CREATE", former=None)
    if notice.former is None or not before:
        return None
    return replace(notice.former, operation="DELETE")


def _sees(view: View, notice: Notice) -> bool:
    if notice.aimed:
        return view.sees(notice.audiences)
    return view.all or (notice.client is not None and notice.client == view.client)


def _is_aimed_at(view: View, notice: Notice) -> bool:
    """Whether an object belongs on a ven's own topics: what is aimed at nobody is for all."""
    return bool(notice.audiences) and _sees(view, notice)


def _concerns(subscriber: Subscriber, notice: Notice) -> bool:
    """Whether an object is one that a subscriber asks to be told of, and may see."""
    if notice.kind not in subscriber.objects or not _sees(subscriber.view, notice):
        return False
    # A program is not of a program: whoever subscribes to one hears of others, too.
    if subscriber.program and notice.program and notice.program != subscriber.program:
        return False
    targets = notice.document.get("targets") or ()
    shown: Collection[str] = subscriber.view.shown(targets) if notice.aimed else targets
    return not subscriber.targets or not subscriber.targets.isdisjoint(shown)


class _Bodies:
    """A notice as JSON, written once for all who see the same of it."""

    def __init__(self) -> None:
        self._written: dict[tuple[str, int, tuple[str, ...]], bytes] = {}

    def of(self, notice: Notice, view: View) -> bytes:
        """Return a notification, without targets that the client must not know of."""
        document, targets = notice.document, notice.document.get("targets")
        if notice.aimed and targets is not None:
            shown = view.shown(targets)
            document = {k: v for k, v in document.items() if k != "targets"}
            document |= {"targets": shown} if shown else {}
        key = (notice.operation, id(notice.document), tuple(document.get("targets") or ()))
        if key not in self._written:
            said = {"objectType": notice.kind, "operation": notice.operation, "object": document}
            self._written[key] = to_json(said).encode()
        return self._written[key]
