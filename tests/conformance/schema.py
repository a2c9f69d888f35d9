"""The form of each answer, by the specification's YAML with its slips mended.

The file is shared/spec/openadr-3.1.0.yaml beside the project, or what OPENADR3_YAML names.
Without it answers are not held against their schemas, which is said at the end of the run.
"""

import copy
import os
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

BESIDE = Path(__file__).parents[3] / "shared" / "spec" / "openadr-3.1.0.yaml"
ROOT = "urn:openadr3"
KINDS = {
    "PROGRAM": "program",
    "EVENT": "event",
    "REPORT": "report",
    "SUBSCRIPTION": "subscription",
    "VEN": "ven",
    "RESOURCE": "resource",
}
PROBLEM = {"type": str, "title": str, "status": int, "detail": str, "instance": str}
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _date_time(value: object) -> bool:
    if not isinstance(value, str) or value in {"0001-01-01", "0001-01-01T00:00:00"}:
        return True  # 'now', by the description of intervalPeriod
    if not re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$", value, re.IGNORECASE
    ):
        return False
    return bool(datetime.fromisoformat(value))


@FORMATS.checks("uri")
def _uri(value: object) -> bool:
    return not isinstance(value, str) or bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$", value))


@cache
def document() -> dict[str, Any] | None:
    """Return the patched YAML, or None when there is none."""
    path = Path(os.environ.get("OPENADR3_YAML") or BESIDE)
    if not path.exists():
        return None
    return _mended(path.read_text(encoding="utf-8"))


def _mended(text: str) -> dict[str, Any]:
    text = text.replace("default: null          -\n", "default: null\n")
    found: dict[str, Any] = yaml.safe_load(text)
    schemas = found["components"]["schemas"]
    # the VTN's ven and resource are said to carry the objectType of the client's request
    for kind, request in (("ven", "BlVenRequest"), ("resource", "BlResourceRequest")):
        own = copy.deepcopy(schemas[request])
        own["properties"]["objectType"] = {"enum": [kind.upper()]}
        schemas[kind]["allOf"][1] = own
    # a subscription with a programID is an event too, by the letter of oneOf
    shape = schemas["notification"]["properties"]["object"]
    shape["anyOf"] = shape.pop("oneOf")
    for kind in KINDS.values():
        schemas[kind]["allOf"].append({"properties": {"objectType": {"enum": [kind.upper()]}}})
    _to_json_schema(found)
    return found


def _to_json_schema(part: Any) -> None:
    """Turn OpenAPI 3.0's own words into those of JSON Schema."""
    if isinstance(part, list):
        for item in part:
            _to_json_schema(item)
    elif isinstance(part, dict):
        if part.pop("nullable", False) is True and isinstance(part.get("type"), str):
            part["type"] = [part["type"], "null"]
        if part.get("exclusiveMaximum") is True:
            part["exclusiveMaximum"] = part.pop("maximum")
        part.pop("discriminator", None)
        for item in part.values():
            _to_json_schema(item)


@cache
def _validator(name: str, many: bool = False) -> Draft202012Validator:
    registry: Registry[Any] = Registry().with_resource(
        ROOT, DRAFT202012.create_resource(document())
    )
    ref = {"$ref": f"{ROOT}#/components/schemas/{name}"}
    wanted = {"type": "array", "items": ref} if many else ref
    return Draft202012Validator(wanted, registry=registry, format_checker=FORMATS)


def valid(body: Any, name: str, *, many: bool = False) -> None:
    """Fail unless a body has the form of that name."""
    if document() is None:
        return
    for error in _validator(name, many).iter_errors(body):
        raise AssertionError(f"not a {name}: {error.json_path}: {error.message}: {body}")


def check(method: str, path: str, answer: Any) -> None:
    """Fail unless an answer has the form that is documented for it."""
    told = f"{method} {path}: {answer.status} {answer.text[:500]}"
    assert answer.status != 429, f"raise the VTN's limit of requests for the kit: {told}"
    assert answer.status < 500 or answer.status == 501, told
    if method == "HEAD" or answer.status == 304:
        return
    kind = answer.headers.get("Content-Type", "")
    assert kind.startswith(("application/json", "application/problem+json")), f"{kind!r}: {told}"
    if path == "/auth/token" and answer.status in {400, 401}:
        valid(answer.json, "authError")  # RFC 6749, which the YAML describes but does not name
        assert answer.json["error"], told
    elif answer.status >= 400:
        problem(answer)
    elif name := _documented(method, path):
        valid(answer.json, name.removesuffix("[]"), many=name.endswith("[]"))


def problem(answer: Any) -> None:
    """Fail unless the answer is a problem that says what its status says."""
    told = f"{answer.status} {answer.text[:500]}"
    for key, kind in PROBLEM.items():
        assert type(answer.json.get(key)) is kind, f"{key}: {told}"
    assert answer.json["status"] == answer.status, told
    valid(answer.json, "problem")


def _documented(method: str, path: str) -> str:
    """Return the name of what a successful answer holds, with [] for a list of them."""
    first, *rest = path.strip("/").split("/")
    if first in {"programs", "events", "reports", "subscriptions", "vens", "resources"}:
        return first[:-1] + ("[]" if method == "GET" and not rest else "")
    if first == "notifiers":
        return "notifierTopicsResponse" if rest else "notifiersResponse"
    return {"auth/server": "authServerInfo", "auth/token": "clientCredentialResponse"}.get(
        path.strip("/"), ""
    )
