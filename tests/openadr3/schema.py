"""The official schema of OpenADR 3.1.0, with its slips put right: each with its reason."""

import json
from typing import Any

import pytest
import yaml

from tests.peers import SHARED

PROBLEM = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/problem"}}}}


def official() -> dict[str, Any]:
    """Return the patched schema; skip where it is not at hand."""
    path = SHARED / "spec" / "openadr-3.1.0.yaml"
    if not path.exists():
        pytest.skip("the official schema is not at hand")
    # A stray hyphen makes a default of BlVenRequest a sentence.
    document = yaml.safe_load(path.read_text().replace("default: null          -", "default: null"))
    schemas = document["components"]["schemas"]
    _shown_types(schemas)
    # Without a type, a description may be anything at all.
    schemas["programRequest"]["properties"]["programDescriptions"]["items"]["type"] = "object"
    # A token has to go into a header.
    entry = schemas["subscriptionRequest"]["properties"]["objectOperations"]
    entry["items"]["properties"]["bearerToken"] |= {"pattern": "^[ -~]*$", "maxLength": 4096}
    entry["maxItems"] = 16
    schemas["duration"]["maxLength"] = 64  # P9999Y is the longest there is
    _nulls(schemas)
    _answers(document["paths"])
    flows = document["components"]["securitySchemes"]["oAuth2ClientCredentials"]["flows"]
    flows["clientCredentials"]["scopes"]["read_bl"] = "used, and not declared"
    del document["servers"]
    return json.loads(json.dumps(document, default=str))


def _shown_types(schemas):
    """A ven that is shown is a VEN and not the request it was made by; a resource likewise."""
    for name, kind in (("ven", "VEN"), ("resource", "RESOURCE")):
        shown = json.loads(json.dumps(schemas[f"Bl{name.capitalize()}Request"]))
        shown["properties"]["objectType"]["enum"] = [kind]
        schemas[name]["allOf"][1] = shown


def _nulls(schemas):
    """Null is absent, wherever something is optional: clients of 3.0 write it everywhere."""
    for request in ("subscriptionRequest", "eventRequest", "programRequest", "reportRequest",
                    "BlResourceRequest", "VenResourceRequest", "interval", "intervalPeriod"):  # fmt: skip
        shape = schemas[request]
        for name, about in shape.get("properties", {}).items():
            # A VEN may leave out its own venID: it has but one ven.
            if about.get("nullable"):
                continue
            if name not in shape.get("required", ()) or (request, name) == (
                "VenResourceRequest",
                "venID",
            ):
                shape["properties"][name] = {
                    "anyOf": [about, {"type": "string", "nullable": True, "enum": [None]}]
                }


def _answers(paths):
    """What any HTTP server says is not documented for each operation."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            if method not in {"get", "post", "put", "delete"}:
                continue
            codes = ["400", "401", "403", "429"]
            codes += ["404"] if "{" in path else []
            if method in {"post", "put"}:
                codes += ["404", "409", "413", "415"]
                if "requestBody" in operation:
                    operation["requestBody"]["required"] = True
            for code in codes:
                operation["responses"].setdefault(
                    code, {"description": "as HTTP has it", **PROBLEM}
                )
