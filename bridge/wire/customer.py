"""The utility's Customer Information & Usage API: its documents, read and written.

The token and what is known of a contract are documented. The body of usage is not: its shape
here is inferred from what is said of it, a report as OpenADR 3 has them with payload types of
its own, and is read with as much tolerance as keeps anything from being guessed.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bridge.errors import WireError
from bridge.model import Document
from bridge.notation import from_json, read_amount, read_duration, write_duration, write_time
from bridge.usage import (
    EXPORT,
    IMPORT,
    NET,
    SUBSCRIPTION_POST,
    SUBSCRIPTION_PRE,
    UNKNOWN,
    USAGE,
    Bucket,
    Contract,
    Reading,
    kept_unit,
)
from bridge.wire.readings import read_moment, reading

CONTRACT, CUSTOMER = "X-Contract-Id", "X-Customer-Uuid"  # base64 of what they name
LONGEST_ID, LONGEST_NAME, LONGEST_TOKEN = 128, 64, 16 * 1024  # characters
LONGEST = timedelta(hours=25)  # an interval of a day, on the day that the clocks go back
DEEPEST = 6  # wrappings around what is looked for
SUBSCRIPTION = "subscription"  # before billing or after, by when it is asked for
PAYLOADS: Mapping[str, tuple[str, str]] = {
    "CONSUMPTION": (IMPORT, USAGE),
    "GENERATION": (EXPORT, USAGE),
    "BASELINE_CONSUMPTION": (IMPORT, SUBSCRIPTION),
    "BASELINE_GENERATION": (EXPORT, SUBSCRIPTION),
}
# What is known of a contract → what else it is called, all without case and underscores
FIELDS: Mapping[str, tuple[str, ...]] = {
    "contractId": (), "customerUuid": (), "meterAccountId": (), "rateCode": (),
    "voltageClass": (), "rateCodeHasVoltageClass": (),
    "circuitId": ("representativecircuitid", "representativecircuit"), "hasCca": (), "cca": (),
}  # fmt: skip
FLAGS = frozenset({"rateCodeHasVoltageClass", "hasCca"})
_NUMBER = re.compile(r"-?[0-9]{1,18}")
VOLTAGES = {"primary": "P", "secondary": "S", "transmission": "T"}


def read_token(body: bytes) -> tuple[str, timedelta | None]:
    """Return a token and for how long it holds, where that is said.

    It comes as it is, as a JSON string or in a JSON object. Raises WireError for anything else.
    """
    try:
        said = from_json(body)
    except ValueError:
        said = body.decode("ascii", "replace").strip()
    lasts = None
    if isinstance(said, dict):
        fields = _lowered(said)
        seconds = fields.get("expiresin")
        if isinstance(seconds, int) and 0 < seconds < LONGEST_TOKEN:
            lasts = timedelta(seconds=seconds)
        said = next((fields[k] for k in ("accesstoken", "token", "idtoken") if k in fields), None)
    if not isinstance(said, str) or not 0 < len(said) <= LONGEST_TOKEN:
        raise WireError("the answer is not a token")
    if not (said.isascii() and said.isprintable()) or {" ", "<"} & set(said):
        raise WireError("the answer is not a token")
    return said, lasts


def identity(contract: str, customer: str) -> dict[str, str]:
    """Return the headers that say whose data are asked for."""
    pairs = ((CONTRACT, contract), (CUSTOMER, customer))
    return {name: base64.b64encode(value.encode()).decode() for name, value in pairs}


def read_identity(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the contract and the customer that are asked for; raise WireError without them."""
    said = {name.lower(): value for name, value in headers.items()}
    contract, customer = (_decoded(name, said.get(name.lower())) for name in (CONTRACT, CUSTOMER))
    return contract, customer


def _decoded(name: str, said: str | None) -> str:
    try:
        text = base64.b64decode((said or "").encode("ascii"), validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise WireError(f"{name} is not base64 of an id") from error
    if not 0 < len(text) <= LONGEST_ID or not text.isprintable():
        raise WireError(f"{name} is not base64 of an id")
    return text


def read_info(body: bytes) -> Document:
    """Return what is known of a contract, by the names that `FIELDS` lists.

    Raises WireError where the answer says nothing of one.
    """
    for fields in _objects(_read(body)):
        found = {
            name: value
            for name, others in FIELDS.items()
            for key in (name.lower(), *others)
            if (value := _fact(name, fields.get(key))) is not None
        }
        if found:
            return found
    raise WireError("the answer says nothing of a contract")


def write_info(contract: Contract) -> Document:
    """Return what is known of a contract as the utility would say it."""
    known = {**contract.about, "contractId": contract.id, "customerUuid": contract.customer}
    return {name: known[name] for name in FIELDS if known.get(name) is not None}


def rate_name(info: Document) -> str | None:
    """Return the rate as prices are asked for by it: inferred, the documents do not say so."""
    rate, voltage = info.get("rateCode"), str(info.get("voltageClass", "")).lower()
    if not isinstance(rate, str):
        return None
    if not info.get("rateCodeHasVoltageClass"):
        return rate
    return rate + VOLTAGES[voltage] if voltage in VOLTAGES else None


def _fact(name: str, said: Any) -> str | bool | None:
    if name in FLAGS:
        text = str(said).strip().lower()
        return {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}.get(
            text
        )
    if isinstance(said, int) and not isinstance(said, bool):
        said = str(said)
    if not isinstance(said, str) or not said.strip().isprintable():
        return None
    return said.strip()[:LONGEST_ID] or None


class Said(NamedTuple):
    """What the utility says under one payload type, in the unit that it is kept in."""

    payload_type: str
    unit: str  # UNKNOWN where none is said
    readings: list[Reading]


def read_usage(body: bytes) -> tuple[list[Said], list[str]]:
    """Return the readings of an answer by payload type, and what of it could not be used.

    Nulls are gaps. Raises WireError where it is no report at all.
    """
    refused: Counter[str] = Counter()
    found: dict[tuple[str, str], dict[tuple[int, int], Reading]] = {}
    document = _read(body)
    reports = list(_reports(document, _Context()))
    if document and not reports:
        raise WireError("the answer has no intervals")
    for context, intervals in reports:
        placed = _in_their_places(intervals)
        for position, interval in enumerate(intervals):
            try:
                start, end = _period(context, interval, position if placed else None)
            except WireError as error:
                refused[str(error)] += 1
                continue
            except (ValueError, OverflowError):
                refused["its time cannot be read"] += 1
                continue
            payloads = _get(interval, "payloads")
            for payload in payloads if isinstance(payloads, list) else ():
                _put(found, context, payload, start, end, refused)
    doubts = [f"{count} left out: {why}" for why, count in sorted(refused.items())[:3]]
    return [
        Said(kind, unit, [known[key] for key in sorted(known)])
        for (kind, unit), known in found.items()
    ], doubts


def stream_of(payload_type: str, *, ahead: bool) -> tuple[str, str]:
    """Return direction and kind of a payload type; of a subscription by whether it lies ahead."""
    direction, kind = PAYLOADS.get(payload_type, (NET, payload_type.lower()))
    if kind == SUBSCRIPTION:
        kind = SUBSCRIPTION_PRE if ahead else SUBSCRIPTION_POST
    return direction, kind


def payload_type(direction: str, kind: str) -> str | None:
    """Return how the utility calls what a meter measured; None where it has no word for it."""
    kind = SUBSCRIPTION if kind in {SUBSCRIPTION_PRE, SUBSCRIPTION_POST} else kind
    return next((name for name, said in PAYLOADS.items() if said == (direction, kind)), None)


def write_usage(amounts: Mapping[str, Iterable[Bucket]], unit: str = "KWH") -> Document:
    """Return amounts by payload type as the utility would say them.

    Every interval says when it is. What is not known all through is left out: no zeros.
    """
    by_time: dict[tuple[datetime, datetime], dict[str, Bucket]] = {}
    for name, buckets in amounts.items():
        for bucket in buckets:
            if bucket.whole:
                by_time.setdefault((bucket.start, bucket.end), {})[name] = bucket
    names = [name for name in amounts if any(name in said for said in by_time.values())]
    return {
        "payloadDescriptors": [
            {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": name, "units": unit}
            for name in names
        ],
        "intervals": [
            {
                "id": number,
                "intervalPeriod": {
                    "start": write_time(start), "duration": write_duration(end - start),
                },
                "payloads": [
                    {"type": name, "values": [said[name].value]} for name in names if name in said
                ],
            }
            for number, ((start, end), said) in enumerate(sorted(by_time.items()))
        ],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Context:
    """What is said once for all intervals of a report."""

    period: Any = None
    units: tuple[tuple[str, str], ...] = ()

    def within(self, fields: Mapping[str, Any]) -> "_Context":
        """Return what holds inside an object."""
        units = dict(self.units)
        for descriptor in fields.get("payloaddescriptors") or ():
            name, unit = _get(descriptor, "payloadtype", "type"), _get(descriptor, "units", "unit")
            if isinstance(name, str) and isinstance(unit, str) and unit.isprintable():
                units[name.strip().upper()] = unit[:LONGEST_NAME]
        period = fields.get("intervalperiod")
        return _Context(self.period if period is None else period, tuple(units.items()))


def _reports(
    document: Any, context: _Context, depth: int = 0
) -> Iterator[tuple[_Context, list[Any]]]:
    """Yield every list of intervals with what holds of it, however it is wrapped."""
    if depth > DEEPEST:
        return
    if isinstance(document, list):
        for item in document:
            yield from _reports(item, context, depth + 1)
    if not isinstance(document, dict):
        return
    fields = _lowered(document)
    descriptors = fields.get("payloaddescriptors")
    if not isinstance(descriptors, list):
        fields["payloaddescriptors"] = None
    inside = context.within(fields)
    if isinstance(fields.get("intervals"), list):
        yield inside, fields["intervals"]
        return
    for value in document.values():
        yield from _reports(value, inside, depth + 1)


def _objects(document: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield objects, the outermost first, by names without case and underscores."""
    if isinstance(document, dict):
        yield _lowered(document)
    inner = document.values() if isinstance(document, dict) else document
    if isinstance(document, dict | list) and depth < DEEPEST:
        for value in inner:
            yield from _objects(value, depth + 1)


def _period(context: _Context, interval: Any, position: int | None) -> tuple[datetime, datetime]:
    """Return when an interval begins and ends: as it says itself, or by its place in the list."""
    own, common = _get(interval, "intervalperiod"), context.period
    if own is None and _get(interval, "start") is not None:
        own = interval
    if own is None and common is None:
        raise WireError("it is not said when it is")
    if own is None and position is None:
        raise WireError("others are missing, and it is not said when it is")
    first = read_moment(_get(common if own is None else own, "start"))
    length = _length(own, first) or _length(common, None)
    if length is None:
        raise WireError("it is not said how long it is")
    if not timedelta(milliseconds=1) <= length <= LONGEST:
        raise WireError(f"it does not end within {LONGEST // timedelta(hours=1)} hours")
    if own is None:
        first += (position or 0) * length
    return first, first + length


def _length(period: Any, start: datetime | None) -> timedelta | None:
    duration, end = _get(period, "duration"), _get(period, "end")
    if isinstance(duration, str):
        return read_duration(duration)
    return read_moment(end) - start if end is not None and start is not None else None


def _in_their_places(intervals: list[Any]) -> bool:
    """Whether no interval is missing in a list, as far as their ids tell; without any, none is."""
    ids = [_get(interval, "id") for interval in intervals]
    numbers = [int(i) if isinstance(i, str) and _NUMBER.fullmatch(i) else i for i in ids]
    if all(number is None for number in numbers):
        return True
    first = numbers[0]
    return isinstance(first, int) and numbers == list(range(first, first + len(ids)))


def _put(
    found: dict[tuple[str, str], dict[tuple[int, int], Reading]],
    context: _Context,
    payload: Any,
    start: datetime,
    end: datetime,
    refused: Counter[str],
) -> None:
    name, values = _get(payload, "type", "payloadtype"), _get(payload, "values", "value")
    values = values if isinstance(values, list) else [values]
    if values in ([], [None]):
        return  # nothing is known: no zero
    if not isinstance(name, str) or not name.isprintable() or len(values) > 1:
        refused["it is not one value of one type"] += 1
        return
    name = name.strip().upper()[:LONGEST_NAME]
    unit, power = kept_unit(dict(context.units).get(name, UNKNOWN))
    try:
        amount = read_amount(values[0])
    except ValueError:
        refused["its value is not an amount"] += 1
        return
    try:
        new = reading(start, end, amount, power)
    except ValueError as error:
        refused[str(error)] += 1
        return
    known = found.setdefault((name, unit), {})
    if known.setdefault((new.start, new.length), new) != new:
        refused["there is another value of the same time"] += 1


def _read(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        raise WireError("the answer is not JSON") from error


def _lowered(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower().replace("_", ""): value for key, value in document.items()}


def _get(document: Any, *names: str) -> Any:
    if not isinstance(document, dict):
        return None
    fields = _lowered(document)
    return next((fields[name] for name in names if name in fields), None)
