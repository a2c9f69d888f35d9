"""OpenADR 3.1.0 request bodies: what each object must hold before it is kept verbatim.

Liberal in what is read: null is absent, unknown properties are kept, discriminators may be
missing. What a property holds is checked as the schema says (OpenADR 3.1.0, openadr3.yaml).
"""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.functional_validators import BeforeValidator

from bridge.errors import WireError
from bridge.model import Document
from bridge.notation import from_json
from bridge.wire.openadr3 import is_number

OBJECT_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_DURATION = re.compile(
    r"-?P(?=[0-9]|T[0-9])(?:[0-9]+Y)?(?:[0-9]+M)?(?:[0-9]+[DW])?"
    r"(?:T(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+(?:\.[0-9]+)?S)?)?"
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
INT32 = 2**31
LONGEST_DURATION = 64  # characters
DEEPEST = 64  # of objects and lists in each other
MOST_OPERATIONS = 16  # of one subscription: each is called by itself
LARGEST = Decimal(10) ** 30


def read_request(shape: type["Request"], body: bytes) -> Document:
    """Return a request's document as it was written, less what is null.

    Raises WireError that names the property, what is wrong, and what would be right.
    """
    try:
        said = from_json(body)
        if not isinstance(said, dict):
            raise WireError("the body is not a JSON object")
        document = _present(said)
    except (ValueError, ArithmeticError) as error:
        raise WireError(f"the body is not JSON: {error}") from error
    try:
        shape.model_validate(document)
    except ValidationError as error:
        raise WireError(_first_mistake(error)) from error
    if _SURROGATE.search(body) and not _is_text(document):
        raise WireError("the body holds a character that is none (a lone surrogate)")
    return document


def _is_text(value: Any) -> bool:
    """Whether every string in it can be written as UTF-8."""
    if isinstance(value, dict):
        return all(_is_text(k) and _is_text(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(_is_text, value))
    return not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)


def _present(value: Any, depth: int = 0) -> Any:
    """Return JSON without members that are null: they count as absent."""
    if depth > DEEPEST:
        raise WireError(f"the body is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        return {k: _present(v, depth + 1) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_present(v, depth + 1) for v in value]
    return value


def _first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"] if not str(step).startswith("function-"))
    said = first["msg"].removeprefix("Value error, ")
    said = "is missing" if first["type"] == "missing" else said[0].lower() + said[1:]
    return f"{where}: {said}"


def _time(text: str) -> str:
    if text[:4] in {"0000", "0001"}:  # "now"
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or "T" not in text.upper().replace(" ", "T"):
        raise ValueError('write a time as RFC 3339, such as "2027-03-14T00:00:00Z"')
    return text


def _duration(text: str) -> str:
    if len(text) > LONGEST_DURATION or not _DURATION.fullmatch(text):
        raise ValueError('write a duration as ISO 8601, such as "PT1H"')
    return text


def _whole(value: object) -> object:
    if isinstance(value, Decimal) and abs(value) < LARGEST and value == value.to_integral_value():
        return int(value)  # JSON knows one kind of number: 1.0 is an integer
    return value


def _value(value: Any) -> Any:
    point = isinstance(value, dict) and all(is_number(value.get(k)) for k in ("x", "y"))
    if not (isinstance(value, str | bool) or is_number(value) or point):
        raise ValueError("must be a number, a string, a boolean, or a point {x, y}")
    return value


def _number(value: Any) -> Any:
    if not is_number(value):
        raise ValueError("must be a number")
    return value


def _uri(text: str) -> str:
    try:
        good = bool(urlsplit(text).scheme)
    except ValueError:
        good = False
    if not good:
        raise ValueError("write an absolute URI, such as https://utility.example/program")
    return text


def _a_token(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or len(text) > 4096:
        raise ValueError("must be at most 4096 printable ASCII characters, to go into a header")
    return text


Name = Annotated[str, Field(min_length=1, max_length=128)]
ObjectId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]*$", min_length=1, max_length=128)]
Time = Annotated[
    str, AfterValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})
]
Duration = Annotated[
    str,
    AfterValidator(_duration),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_DURATION.pattern}$", "maxLength": LONGEST_DURATION}
    ),
]
Integer = Annotated[int, Field(ge=-INT32, lt=INT32), BeforeValidator(_whole)]
Positive = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Number = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]
_POINT = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
    "required": ["x", "y"],
}
Value = Annotated[
    Any,
    AfterValidator(_value),
    WithJsonSchema({"anyOf": [{"type": t} for t in ("number", "string", "boolean")] + [_POINT]}),
]
Token = Annotated[
    str,
    AfterValidator(_a_token),
    WithJsonSchema({"type": "string", "pattern": "^[ -~]*$", "maxLength": 4096}),
]
Uri = Annotated[
    str,
    Field(min_length=2, max_length=8000),
    AfterValidator(_uri),
    WithJsonSchema({"type": "string", "format": "uri", "minLength": 2, "maxLength": 8000}),
]


class Request(BaseModel):
    """A JSON object: its members have exactly the types that are said."""

    model_config = ConfigDict(strict=True, extra="ignore")


class ValuesMap(Request):
    """Values of a type."""

    type: Name
    values: list[Value]


class IntervalPeriod(Request):
    """When, and for how long."""

    start: Time | None = None
    duration: Duration | None = None
    randomizeStart: Duration | None = None  # noqa: N815 -- OpenADR's name


class Interval(Request):
    """What holds when."""

    id: Integer
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    payloads: list[ValuesMap]


class EventDescriptor(Request):
    """The unit and currency of a payload type."""

    objectType: Literal["EVENT_PAYLOAD_DESCRIPTOR"] | None = None  # noqa: N815
    payloadType: Name  # noqa: N815
    units: Name | None = None
    currency: str | None = None


class ReportDescriptor(Request):
    """What the values of a report mean."""

    objectType: Literal["REPORT_PAYLOAD_DESCRIPTOR"] | None = None  # noqa: N815
    payloadType: Name  # noqa: N815
    readingType: Name | None = None  # noqa: N815
    units: Name | None = None
    accuracy: Number = 0
    confidence: Annotated[int, Field(ge=0, le=100), BeforeValidator(_whole)] | None = None


class AskedReport(Request):
    """A report that an event asks for."""

    payloadType: Name  # noqa: N815
    readingType: Name | None = None  # noqa: N815
    units: Name | None = None
    targets: list[Name] | None = None
    aggregate: bool = False
    startInterval: Integer = -1  # noqa: N815
    numIntervals: Integer = -1  # noqa: N815
    historical: bool = True
    frequency: Integer = -1
    repeat: Integer = 1
    reportIntervals: Literal["INTERVALS", "SUB_INTERVALS", "OPEN_INTERVALS"] = "INTERVALS"  # noqa: N815


class Described(Request):
    """A description elsewhere."""

    URL: Uri


class Program(Request):
    """A program, as a business-logic client writes it."""

    programName: Name  # noqa: N815
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    programDescriptions: list[Described] | None = None  # noqa: N815
    payloadDescriptors: list[EventDescriptor | ReportDescriptor] | None = None  # noqa: N815
    attributes: list[ValuesMap] | None = None
    targets: list[Name] | None = None


class Event(Request):
    """An event, as a business-logic client writes it."""

    programID: ObjectId  # noqa: N815
    eventName: str | None = None  # noqa: N815
    duration: Duration | None = None
    priority: Positive | None = None
    targets: list[Name] | None = None
    reportDescriptors: list[AskedReport] | None = None  # noqa: N815
    payloadDescriptors: list[EventDescriptor] | None = None  # noqa: N815
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    intervals: list[Interval] | None = None


class Reported(Request):
    """What a report says of one resource."""

    resourceName: Name  # noqa: N815
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    intervals: list[Interval]


class Report(Request):
    """A report, as a VEN writes it."""

    eventID: ObjectId  # noqa: N815
    clientName: Name  # noqa: N815
    reportName: str | None = None  # noqa: N815
    payloadDescriptors: list[ReportDescriptor] | None = None  # noqa: N815
    resources: list[Reported]


class ObjectOperation(Request):
    """Which operations on which objects are told where."""

    objects: list[Literal["PROGRAM", "EVENT", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE"]]
    operations: list[Literal["READ", "CREATE", "UPDATE", "DELETE"]]
    callbackUrl: Uri  # noqa: N815
    bearerToken: Token | None = None  # noqa: N815
    mechanism: Literal["WEBHOOK"] | None = None  # of 3.1.1


class Subscription(Request):
    """A subscription, as either client writes it."""

    clientName: Name  # noqa: N815
    programID: ObjectId | None = None  # noqa: N815
    objectOperations: Annotated[list[ObjectOperation], Field(max_length=MOST_OPERATIONS)]  # noqa: N815
    targets: list[Name] | None = None


class Ven(Request):
    """A ven: business logic says whose it is, a VEN need not."""

    objectType: Literal["BL_VEN_REQUEST", "VEN_VEN_REQUEST", "VEN"] | None = None  # noqa: N815
    clientID: Name | None = None  # noqa: N815
    venName: Name  # noqa: N815
    targets: list[Name] | None = None
    attributes: list[ValuesMap] | None = None


class Resource(Request):
    """A resource of a ven."""

    objectType: Literal["BL_RESOURCE_REQUEST", "VEN_RESOURCE_REQUEST", "RESOURCE"] | None = None  # noqa: N815
    clientID: Name | None = None  # noqa: N815
    resourceName: Name  # noqa: N815
    venID: ObjectId | None = None  # noqa: N815
    targets: list[Name] | None = None
    attributes: list[ValuesMap] | None = None
