"""Green Button files for tests: any length, any interval, with what real ones do wrong."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from xml.etree import ElementTree

SAID = "2026-01-02T03:04:05Z"
START = 1_767_254_400  # 2026-01-01T08:00Z: midnight in Los Angeles
POINT = "Subscription/0/UsagePoint/1"
HOST = "https://utility.example/DataCustodian/espi/1_1/resource/"
ENERGY = {
    "accumulationBehaviour": 4, "commodity": 1, "currency": 840, "dataQualifier": 12,
    "flowDirection": 1, "intervalLength": 3600, "kind": 12, "phase": 769,
    "powerOfTenMultiplier": 0, "timeAttribute": 0, "uom": 72,
}  # fmt: skip
HEAD = '<?xml version="1.0" encoding="UTF-8"?><?xml-stylesheet type="text/xsl" href="x.xslt"?>'
FEED = (
    f"{HEAD}<feed xmlns='http://www.w3.org/2005/Atom'><id>urn:uuid:0</id><updated>{SAID}</updated>"
)


def element(name: str, value: Any) -> str:
    return "" if value is None else f"<{name}>{value}</{name}>"


def thing(name: str, *content: str) -> str:
    return f'<{name} xmlns="http://naesb.org/espi">{"".join(content)}</{name}>'


def reading(
    start: Any = START,
    value: Any = 0,
    duration: Any = 3600,
    *,
    cost: Any = None,
    quality: Any = (),
    extra: str = "",
) -> str:
    qualities = [quality] if isinstance(quality, int | str) else quality
    return (
        "<IntervalReading>"
        + element("cost", cost)
        + "".join(f"<ReadingQuality><quality>{q}</quality></ReadingQuality>" for q in qualities)
        + f"<timePeriod>{element('duration', duration)}{element('start', start)}</timePeriod>"
        + element("value", value)
        + f"{extra}</IntervalReading>"
    )


def readings(
    values: Iterable[Any], start: int = START, length: int = 3600, **about: Any
) -> list[str]:
    about = {"duration": length, **about}
    return [reading(start + n * length, value, **about) for n, value in enumerate(values)]


def block(rows: Sequence[str], start: Any = START, duration: Any = 86400) -> str:
    interval = f"<interval>{element('duration', duration)}{element('start', start)}</interval>"
    return thing("IntervalBlock", interval, *rows)


def entry(
    content: str, own: str | None = None, up: str | None = None, related: Sequence[str] = (),
    *, updated: str | None = SAID, host: str = HOST, identity: str = "urn:uuid:1", last: bool = False,
) -> str:  # fmt: skip
    """An entry; `last` has the links after the content, as some exporters do."""
    hrefs = [("self", own), ("up", up), *(("related", r) for r in related)]
    links = "".join(f'<link rel="{rel}" href="{host}{h}"/>' for rel, h in hrefs if h is not None)
    parts = [f'<content type="atom+xml">{content}</content>', element("updated", updated)]
    return f"<entry>{element('id', identity)}{''.join([*parts, links] if last else [links, *parts])}</entry>\n"


def feed(*entries: str) -> bytes:
    return (FEED + "\n" + "".join(entries) + "</feed>\n").encode()


def point(path: str = POINT, service: Any = 0, **about: Any) -> str:
    category = thing("UsagePoint", f"<ServiceCategory>{element('kind', service)}</ServiceCategory>")
    return entry(category, path, path.rpartition("/")[0], [f"{path}/MeterReading"], **about)


def meter_reading(number: Any = 1, path: str = POINT, kind: Any = None, **about: Any) -> str:
    own = f"{path}/MeterReading/{number}"
    related = [f"{own}/IntervalBlock", f"ReadingType/{number if kind is None else kind}"]
    return entry(thing("MeterReading"), own, own.rpartition("/")[0], related, **about)


def typed(number: Any = 1, *, host: str = HOST, **said: Any) -> str:
    """A ReadingType, of energy unless something else is said; what is None is not said."""
    fields = "".join(element(name, value) for name, value in (ENERGY | said).items())
    return entry(thing("ReadingType", fields), f"ReadingType/{number}", "ReadingType", host=host)


def intervals(
    rows: Sequence[str], number: Any = 1, path: str = POINT, at: Any = 1, **about: Any
) -> str:
    up = f"{path}/MeterReading/{number}/IntervalBlock"
    return entry(block(rows), f"{up}/{at}", up, **about)


def local_times(
    offset: Any = -28800, saved: Any = 3600, begin: str = "360E2000", end: str = "B40E2000"
) -> str:
    fields = (
        ("dstEndRule", end),
        ("dstOffset", saved),
        ("dstStartRule", begin),
        ("tzOffset", offset),
    )
    times = thing("LocalTimeParameters", *(element(*field) for field in fields))
    return entry(times, "LocalTimeParameters/1", "LocalTimeParameters")


def download(
    rows: Sequence[str], *, path: str = POINT, service: Any = 0, per_block: int = 24, **said: Any
) -> bytes:
    """A whole download of one MeterReading."""
    parts = [rows[n : n + per_block] for n in range(0, len(rows), per_block)]
    blocks = [intervals(part, path=path, at=n) for n, part in enumerate(parts)]
    return feed(
        point(path, service), local_times(), meter_reading(path=path), typed(**said), *blocks
    )


def long(
    count: int, *, length: int = 900, per_block: int = 96, last: bool = False, known: bool = True
) -> Iterator[bytes]:
    """A file of so many readings, piece by piece; not `known` says nowhere what they are."""
    yield feed(
        point(), *([meter_reading(), typed(intervalLength=length)] if known else ())
    ).removesuffix(b"</feed>\n")
    for n in range(0, count, per_block):
        begin, end = intervals(["*"], at=n, last=last).split("*")
        yield begin.encode()
        for m in range(n, min(n + per_block, count), 1000):
            values = (str(k * 7919 % 4999) for k in range(m, min(m + 1000, n + per_block, count)))
            yield "\n".join(readings(values, START + m * length, length, quality=17)).encode()
        yield end.encode()
    yield b"</feed>\n"


def prefixed(text: bytes) -> bytes:
    """The same with a prefix for each namespace, as serialisers write it."""
    return ElementTree.tostring(ElementTree.fromstring(text))  # noqa: S314 -- our own


def each_said_by_itself(text: bytes, begin: datetime) -> bytes:
    """The same, but of every entry another second at which it was said."""
    seconds = (begin + timedelta(seconds=n) for n in count())
    return re.sub(SAID.encode(), lambda _: f"{next(seconds):%FT%TZ}".encode(), text)
