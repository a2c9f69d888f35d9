"""Mutated requests, seeded: what a broken or hostile VEN might send, and what may come back.

`mutations` yields at least as many as are asked for: every systematic one of every message,
then drawn ones. The VEN they come from is enrolled and registered; nothing of them may touch
another one.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from lxml import etree

from tests.openadr2 import raw_messages as messages
from tests.openadr2.mutators import BYTES, DOCTYPES, ENCODINGS, SENT, TREES, VALUES
from tests.openadr2.raw_reading import PLAIN, schema
from tests.openadr2.raw_ven import PREFIX, XML

SLOW = 2.0  # seconds
ANSWERS = {
    "oadrCreatedPartyRegistration", "oadrCanceledPartyRegistration", "oadrRequestReregistration",
    "oadrDistributeEvent", "oadrResponse", "oadrRegisteredReport", "oadrUpdatedReport",
    "oadrCreateReport", "oadrCancelReport", "oadrCancelPartyRegistration", "oadrCreatedOpt",
    "oadrCanceledOpt", "oadrRegisterReport", "oadrCreatedReport", "oadrCanceledReport",
}  # fmt: skip


class Ids(NamedTuple):
    """What is a VEN's own."""

    ven: str
    registration: str
    request: str = "request-1"  # of a report
    event: str = "event-1"
    modification: int = 0
    opt: str = "opt-1"
    resource: str = "meter"


class Mutation(NamedTuple):
    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    refused: bool = False  # it must not be done, whatever else comes back


def fixtures(own: Ids) -> dict[str, str]:
    """Return one good body of each message a VEN sends, and several of those with variants.

    The VEN's own registration is not cancelled, so that all that follows still comes from a
    registered VEN.
    """
    at = datetime.now(UTC).replace(microsecond=0)
    usage = [(at - n * timedelta(minutes=1), "PT1M", {"energy": n, "power": 1.5}) for n in (2, 1)]
    state = [(at, None, {"state": (True, False, 50)})]
    past = [(at - n * timedelta(hours=1), "PT1H", {"past": n}) for n in (3, 2, 1)]
    report, ven = messages.report, own.ven
    offers = [messages.usage_offer(), messages.status_offer(), messages.history_offer()]
    return {
        "query": messages.query_registration(),
        "register": messages.create_party_registration(name="a ven", ven_id=ven),
        "reregister": messages.create_party_registration(
            name="a ven", ven_id=ven, registration_id=own.registration
        ),
        "cancel": messages.cancel_party_registration("no such registration", ven),
        "canceled": messages.canceled_party_registration("no such registration", ven),
        "response": messages.response(ven),
        "poll": messages.poll(ven),
        "request_event": messages.request_event(ven, 5),
        "created_event": messages.created_event(
            ven, [(own.event, own.modification, "optIn"), ("none", 0, "optOut")]
        ),
        "register_report": messages.register_report(ven, offers),
        "created_report": messages.created_report(ven, [own.request]),
        "canceled_report": messages.canceled_report(ven),
        "usage": messages.update_report(ven, [report(own.request, "usage", "TELEMETRY_USAGE", usage)]),
        "status": messages.update_report(
            ven, [report(own.request, "status", "TELEMETRY_STATUS", state)]
        ),
        "history": messages.update_report(
            ven, [report(own.request, "history", "HISTORY_USAGE", past)]
        ),
        "opt_times": messages.create_opt(
            ven, own.opt, available=[(at, "PT1H"), (at + timedelta(days=1), "PT2H")],
            resources=[own.resource], context="http://example.com/A?b=c",
        ),
        "opt_event": messages.create_opt(ven, "opt-2", event=(own.event, own.modification)),
        "cancel_opt": messages.cancel_opt(ven, "no such opt"),
    }  # fmt: skip


def path_of(body: str) -> str:
    return f"{PREFIX}/{messages.SERVICES[messages.kind_of(body)]}"


def mutations(
    own: Ids, other: Ids, *, count: int = 4000, seed: int = 20270314
) -> Iterator[Mutation]:
    """Yield mutations of every message, the same each time for a seed."""
    draw = random.Random(seed)
    bodies = fixtures(own)
    made = 0
    for one in chain(systematic(bodies, draw), of_others(own, other)):
        made += 1
        yield one
    names = sorted(bodies)
    while made < count:
        name = draw.choice(names)
        drawn = _drawn(name, bodies[name], draw)
        if drawn:
            made += 1
            yield drawn


def systematic(bodies: dict[str, str], draw: random.Random) -> Iterator[Mutation]:
    """Yield what is done to every message alike."""
    for name, body in bodies.items():
        message, path = messages.wrap(body), path_of(body)
        for kind, alter in ENCODINGS.items():
            yield Mutation(f"{name}: {kind}", "POST", path, XML, alter(message))
        for kind, alter in DOCTYPES.items():
            yield Mutation(f"{name}: {kind}", "POST", path, XML, alter(message), refused=True)
        for kind, alter in SENT.items():
            yield Mutation(f"{name}: {kind}", *alter(path, dict(XML), message.encode()))
        for kind, alter in TREES.items():
            altered = alter(etree.fromstring(message.encode()), draw)
            yield Mutation(f"{name}: {kind}", "POST", path, XML, altered)


def of_others(own: Ids, other: Ids) -> Iterator[Mutation]:
    """Yield messages that speak of, or for, another VEN or of what there is not."""
    good = {k: v for k, v in zip(own._fields, own, strict=True) if isinstance(v, str)}
    for field, mine in good.items():
        for value in (getattr(other, field), "", " ", mine + " ", mine.swapcase(), "0", "никто"):
            if value == mine:
                continue
            for name, body in fixtures(own._replace(**{field: value})).items():
                if body == fixtures(own)[name]:
                    continue
                path = path_of(body)
                refused = field == "ven" and value.strip() not in {"", mine}
                whose = "the other's" if value == getattr(other, field) else repr(value)
                yield Mutation(
                    f"{name}: {field} is {whose}", "POST", path, XML,
                    messages.wrap(body).encode(), refused=refused,
                )  # fmt: skip
    theirs = {
        "cancel": messages.cancel_party_registration(other.registration, own.ven),
        "cancel without a venID": messages.cancel_party_registration(other.registration),
        "cancel for them": messages.cancel_party_registration(other.registration, other.ven),
        "canceled": messages.canceled_party_registration(other.registration, None),
        "register as them": messages.create_party_registration(
            ven_id=other.ven, registration_id=other.registration
        ),
        "register with theirs": messages.create_party_registration(
            registration_id=other.registration
        ),
        "cancel their opt": messages.cancel_opt(own.ven, other.opt),
    }
    for name, body in theirs.items():
        # An opt's id is its VEN's own: another may have one by the same.
        refused = name not in {"canceled", "cancel their opt"}
        yield Mutation(
            f"theirs: {name}", "POST", path_of(body), XML, messages.wrap(body).encode(), refused
        )


def _drawn(name: str, body: str, draw: random.Random) -> Mutation | None:
    """Return a message with something drawn done to it: to its bytes, its values or its tree."""
    message, path = messages.wrap(body), path_of(body)
    way = draw.choice(["bytes", "value", "value", "tree"])
    if way == "bytes":
        kind = draw.choice(sorted(BYTES))
        altered = BYTES[kind](message.encode(), draw)
        return Mutation(f"{name}: {kind}", "POST", path, XML, altered)
    if way == "tree":
        root = etree.fromstring(message.encode())
        kinds = [draw.choice(sorted(TREES)) for _ in range(draw.randint(1, 3))]
        altered = message.encode()
        for kind in kinds:
            altered = TREES[kind](root, draw)
            try:
                root = etree.fromstring(altered, etree.XMLParser(huge_tree=True))
            except etree.XMLSyntaxError:
                break  # it is bad enough
        return Mutation(f"{name}: {', '.join(kinds)}", "POST", path, XML, altered)
    return _with_value(name, message, path, draw)


def _with_value(name: str, message: str, path: str, draw: random.Random) -> Mutation | None:
    root = etree.fromstring(message.encode())
    leaves = [e for e in root.iter("*") if not len(e)]
    tags = []
    for leaf in draw.sample(leaves, draw.randint(1, min(2, len(leaves)))):
        value = draw.choice(VALUES)
        tag = etree.QName(leaf).localname
        if tag == "registrationID" and "oadrCancelParty" in message:
            return None
        leaf.text = value
        tags.append(f"{tag} = {value[:20]!r}")
    altered = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return Mutation(f"{name}: {', '.join(tags)}", "POST", path, XML, altered)


def fault_of(
    mutation: Mutation, status: int, content_type: str, content: bytes, seconds: float
) -> str:
    """Say what is wrong with an answer; nothing where it is as it may be."""
    if not (status == 200 or 400 <= status < 500):
        return f"HTTP {status}"
    if seconds > SLOW:
        return f"took {seconds:.2f} s"
    if b"Traceback" in content or b"root:x:" in content:
        return "says what is nobody's business"
    if status == 200 and not content and b"oadrResponse" in mutation.body:
        return ""  # what was itself an answer needs none
    root = _parsed(content_type, content)
    if isinstance(root, str):
        return root if status == 200 and mutation.method != "HEAD" else ""
    kind = etree.QName(root[-1][0]).localname if len(root) and len(root[-1]) else ""
    if status == 200 and kind not in ANSWERS:
        return f"answers with {kind or etree.QName(root).localname}"
    code = root.findtext(".//{*}eiResponse/{*}responseCode") or ""
    if code.startswith("5"):
        return f"answers with responseCode {code}"
    if mutation.refused and status == 200 and not code.startswith("4"):
        return f"was done, with {kind} {code}"
    return ""


def _parsed(content_type: str, content: bytes) -> Any:
    """Return the root of a message; else say what is wrong with it."""
    if "xml" not in content_type:
        return f"is {content_type or 'nothing'}"
    try:
        root = etree.fromstring(content, PLAIN)
    except etree.XMLSyntaxError as error:
        return f"is not well-formed: {error}"
    if not schema().validate(root):
        return f"is not OpenADR 2.0b: {schema().error_log.last_error}"
    return root
