"""A simulated Customer Information & Usage API: what it says is set by a test, how it fails too."""

import base64
import json
from datetime import datetime, timedelta

from aiohttp import web

from bridge.notation import to_json, write_duration, write_time
from tests.peers import Served

HOUR = timedelta(hours=1)
CLIENT, SECRET = "asp", "a-secret-of-the-client"
CONTRACT, CUSTOMER = "0012345678", "6f1e0a52-0c57-4d1f-9d3a-2f6c1f0f9a11"
DESCRIPTORS = [
    {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": "KWH"}
    for kind in ("CONSUMPTION", "GENERATION", "BASELINE_CONSUMPTION", "BASELINE_GENERATION")
]


def interval(number, start, values, length=HOUR):
    """Return an interval that says when it is; `values` by payload type."""
    return {
        "id": number,
        "intervalPeriod": {"start": write_time(start), "duration": write_duration(length)},
        "payloads": [{"type": kind, "values": [value]} for kind, value in values.items()],
    }


def report(intervals, **about):
    return {"payloadDescriptors": DESCRIPTORS, "intervals": intervals, **about}


class CustomerApi(Served):
    """The API: `contracts` are who may be asked for, `usage` what is known of each hour."""

    path = "/v1/{rest:.*}"

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.contracts = {}  # (contract, customer) → what is said of it
        self.foreign = set()  # contracts of others
        self.usage = {}  # contract → {start: {payload type: value}}
        self.tokens = {}  # token → until when it holds
        self.asked = []  # (time, path, contract, query)
        self.token_form = lambda token: token  # as it is
        self.lasts = HOUR
        self.fail = None  # a function of (path, contract, query) that answers instead
        self.shape = report  # how intervals are said

    def sign_up(self, contract=CONTRACT, customer=CUSTOMER, **about):
        self.contracts[contract, customer] = {
            "contractId": contract, "customerUuid": customer, "meterAccountId": "SP1",
            "rateCode": "EV2A", "voltageClass": "secondary", "rateCodeHasVoltageClass": True,
            "circuitId": "013532223", "hasCca": True, "cca": "MCE", **about,
        }  # fmt: skip
        self.usage.setdefault(contract, {})

    def measure(self, start, values, contract=CONTRACT):
        """Let hours from `start` on be known: each is a value by payload type."""
        for n, value in enumerate(values):
            self.usage[contract].setdefault(start + n * HOUR, {}).update(value)

    def count(self, path):
        return sum(1 for _, p, *_ in self.asked if p == path)

    def windows(self, contract=CONTRACT):
        return [
            tuple(datetime.fromisoformat(q[k]) for k in ("start", "end"))
            for _, path, who, q in self.asked
            if path == "customer/usage" and who == contract
        ]

    async def answer(self, request):
        path, query = request.match_info["rest"], dict(request.query)
        contract, customer = (_named(request, h) for h in ("X-Contract-Id", "X-Customer-Uuid"))
        self.asked.append((self.clock.now(), path, contract, query))
        if self.fail and (said := self.fail(path, contract, query)) is not None:
            return said
        if path == "auth/token":
            return self._token(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or self.tokens.get(token, self.clock.now()) <= self.clock.now():
            return web.json_response({"message": "Unauthorized"}, status=401)
        if contract in self.foreign:
            return web.json_response({"message": "Forbidden"}, status=403)
        if (contract, customer) not in self.contracts:
            return web.json_response({"message": "Not found"}, status=404)
        if path == "customer/info":
            return web.json_response(self.contracts[contract, customer])
        start, end = (datetime.fromisoformat(query[k]) for k in ("start", "end"))
        found = sorted(s for s in self.usage[contract] if start <= s < end)
        said = [interval(n, s, self.usage[contract][s]) for n, s in enumerate(found)]
        return web.Response(text=to_json(self.shape(said)), content_type="application/json")

    def _token(self, request):
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {basic}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        token = f"eyJhbGciOiJSUzI1NiJ9.{len(self.tokens)}.c2ln"
        self.tokens[token] = self.clock.now() + self.lasts
        said = self.token_form(token)
        return web.Response(text=said if isinstance(said, str) else json.dumps(said))


def _named(request, header):
    return base64.b64decode(request.headers.get(header, "")).decode()
