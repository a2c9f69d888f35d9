"""A simulated UtilityAPI: what it has collected is set by a test, how it fails too.

It counts every request, and apart from them every one that would cost money.
"""

import json
from collections import defaultdict
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from aiohttp import web

from bridge.notation import to_json
from tests.peers import Served

PACIFIC = ZoneInfo("America/Los_Angeles")
TOKEN = "a-token-that-opens-the-account"
QUARTER = timedelta(minutes=15)


def local(moment):
    """Write a time as UtilityAPI does: with the utility's offset, and microseconds."""
    return moment.astimezone(PACIFIC).isoformat(timespec="microseconds")


def point(kind, value, unit="kwh", number="A98"):
    return {"type": kind, "unit": unit, "value": value, "meter_number": number}


def reading(start, points, step=QUARTER, end=None, kwh=None):
    return {
        "start": local(start), "end": local(end or start + step), "kwh": kwh, "datapoints": points,
    }  # fmt: skip


def chunk(uid, meter, readings, updated, authorization="a1", **base):
    """Return an interval object; its readings come newest first."""
    return {
        "uid": uid, "meter_uid": meter, "authorization_uid": authorization, "utility": "DEMO",
        "created": local(updated), "updated": local(updated), "notes": [],
        "blocks": ["base", "sources", "readings"],
        "base": {"service_tariff": "E1", "meter_numbers": ["A98"], "qualities": ["revenue"], **base},
        "sources": [{"type": "greenbutton_cmd", "raw_url": "https://utilityapi.example/files/1"}],
        "readings": readings[::-1],
    }  # fmt: skip


def bill(uid, meter, start, end, kwh, cost, **base):
    said = {
        "bill_start_date": local(start), "bill_end_date": local(end), "bill_total_cost": cost,
        "bill_total_kwh": kwh, "bill_total_unit": "kwh", "bill_total_volume": kwh, **base,
    }  # fmt: skip
    return {
        "uid": uid, "meter_uid": meter, "authorization_uid": "a1", "created": local(end),
        "updated": local(end), "blocks": ["base"], "base": said,
    }  # fmt: skip


class UtilityApi(Served):
    """The API: `authorizations`, `meters`, `chunks` and `bills` are what it has."""

    path = "/api/v2/{rest:.*}"

    def __init__(self, clock):
        super().__init__()
        self.clock, self.token = clock, TOKEN
        self.authorizations, self.meters = {}, {}
        self.chunks, self.bills = defaultdict(list), defaultdict(list)
        self.events = []  # newest first
        self.asked = []  # (time, method, path, query)
        self.paid = []  # (path, document): what would cost money
        self.balance = 50
        self.page = {"events": 1000, "meters": 1000, "intervals": 1000}
        self.whole_chunks = False  # whether chunks that lie partly in a window are left out
        self.incomplete = False
        self.fail = None  # a function of (path, query) that answers instead
        self.odd = None  # a function of an order and its answer that answers instead
        self.forms = {"f1"}

    def authorize(self, uid="a1", **about):
        self.authorizations[uid] = {
            "uid": uid, "created": local(self.clock.now()), "expires": None, "is_expired": False,
            "declined": None, "is_declined": False, "revoked": None, "is_revoked": False,
            "is_archived": False, "is_test": False, "notes": [], "status": "updated",
            "status_message": "", "referrals": [], "utility": "DEMO", **about,
        }  # fmt: skip

    def install(self, uid, authorization="a1", **about):
        """Let a meter be seen."""
        if authorization not in self.authorizations:
            self.authorize(authorization)
        self.meters[uid] = {
            "uid": uid, "authorization_uid": authorization, "created": local(self.clock.now()),
            "is_archived": False, "is_activated": True, "notes": [], "status": "updated",
            "status_message": "", "ongoing_monitoring": {"frequency": "off"}, "utility": "DEMO",
            "bill_count": 0, "bill_coverage": [], "interval_count": 0, "interval_coverage": [],
            "blocks": ["base"],
            "base": {
                "service_tariff": "E1", "service_class": "res-electric", "meter_numbers": ["A98"],
                "service_address": "123 Main St", "billing_contact": "Philip J. Fry",
            }, **about,
        }  # fmt: skip

    def happen(self, kind, meter=None, authorization="a1", at=None, uid=None):
        """Let something be told by the events feed."""
        event = {
            "uid": uid or f"e{len(self.events)}", "type": kind, "ts": local(at or self.clock.now()),
            "delivery_method": "webhook", "delivery_target": None, "is_delivered": False,
        }  # fmt: skip
        event |= {"meter_uid": meter} if meter else {}
        event |= {"authorization_uid": authorization} if authorization else {}
        self.events.insert(0, event)

    def collect(self, uid, readings, name=None, tell=True, **base):
        """Let an interval object be there, and be told of; one of the same name is replaced."""
        name = name or f"{uid}-{len(self.chunks[uid])}"
        made = chunk(name, uid, readings, self.clock.now(), **base)
        self.chunks[uid] = [c for c in self.chunks[uid] if c["uid"] != name] + [made]
        stamps = [
            datetime.fromisoformat(r[k])
            for c in self.chunks[uid]
            for r in c["readings"]
            for k in ("start", "end")
        ]
        meter = self.meters[uid]
        meter["interval_count"] = sum(len(c["readings"]) for c in self.chunks[uid])
        meter["interval_coverage"] = [[local(min(stamps)), local(max(stamps))]]
        if tell:
            self.happen("meter_intervals_added", uid)

    def billed(self, made):
        uid = made["meter_uid"]
        self.bills[uid].append(made)
        base = [b["base"] for b in self.bills[uid]]
        self.meters[uid]["bill_count"] = len(base)
        self.meters[uid]["bill_coverage"] = [
            [min(b["bill_start_date"] for b in base), max(b["bill_end_date"] for b in base)]
        ]
        self.happen("meter_bills_added", uid)

    def downloads(self):
        """Return when intervals and bills were asked for."""
        return [at for at, _, path, _ in self.asked if path in {"intervals", "bills"}]

    def windows(self, path="intervals"):
        return [(q["start"], q["end"]) for _, _, p, q in self.asked if p == path]

    async def answer(self, request):
        path, query = request.match_info["rest"], dict(request.query)
        self.asked.append((self.clock.now(), request.method, path, query))
        if self.fail and (said := self.fail(path, query)) is not None:
            return said
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return problem(401, "invalid_token", "This access token is not valid.")
        if request.method == "POST":
            done = self._post(path, json.loads(await request.read()))
            return await self.odd(request, done) if self.odd else done
        if request.method != "GET":
            return problem(405, "not_allowed", "")
        match path:
            case "events":
                return self._page(path, self.events, query)
            case "authorizations":
                return self._authorizations(query)
            case "meters":
                uids, owners = (_listed(query, k) for k in ("uids", "authorizations"))
                found = [
                    m for m in self.meters.values()
                    if (not uids or m["uid"] in uids) and (not owners or m["authorization_uid"] in owners)
                    and not (query.get("is_archived") == "false" and m["is_archived"])
                ]  # fmt: skip
                return self._page(path, found, query)
            case "intervals" | "bills":
                return self._usage(path, query)
        return problem(404, "not_found", "")

    def _authorizations(self, query):
        uids, referrals = (_listed(query, k) for k in ("uids", "referrals"))
        found = [
            dict(a) for a in self.authorizations.values()
            if (not uids or a["uid"] in uids) and (not referrals or referrals & set(a["referrals"]))
        ]  # fmt: skip
        if query.get("include") == "meters":
            for one in found:
                mine = [m for m in self.meters.values() if m["authorization_uid"] == one["uid"]]
                one["meters"] = {"meters": mine, "next": None}
        return self._page("authorizations", found, query)

    def _usage(self, path, query):
        uids = _listed(query, "meters")
        if not uids:
            return problem(400, "required_param_missing", "meters or authorizations")
        if uids - set(self.meters):
            return problem(404, "not_found", "")
        edges = [datetime.fromisoformat(query[k]) for k in ("start", "end")]
        kept = self.chunks if path == "intervals" else self.bills
        found = [c for uid in sorted(uids) for c in reversed(kept[uid])]  # the latest first
        if path == "bills":
            found = [
                b for b in found if _inside(b["base"], edges, "bill_start_date", "bill_end_date")
            ]
        elif self.whole_chunks:
            found = [c for c in found if all(_inside(r, edges) for r in c["readings"])]
        else:
            cut = [(c, [r for r in c["readings"] if _inside(r, edges)]) for c in found]
            found = [{**c, "readings": readings} for c, readings in cut if readings]
        return self._page(path, found, query)

    def _page(self, key, found, query):
        uids = [one["uid"] for one in found]
        first = uids.index(query["after"]) + 1 if "after" in query else 0
        size = self.page.get(key, 1000)
        page, rest = found[first : first + size], found[first + size :]
        more = "&".join(
            f"{k}={v}" for k, v in {**query, "after": page[-1]["uid"] if page else ""}.items()
        )
        url = f"{self.url}/{key}?{more}".replace("+", "%2B") if rest else None
        said = {key: page, "next": url}
        if key == "intervals":
            said["is_incomplete"] = self.incomplete
        return web.Response(text=to_json(said), content_type="application/json")

    def _post(self, path, document):
        if path == "forms/f1/test-submit":
            code = f"ref{len(self.authorizations)}"
            self.authorize(f"t{len(self.authorizations)}", referrals=[code], is_test=True)
            self.install(f"m{len(self.meters)}", list(self.authorizations)[-1], is_activated=False)
            return web.json_response({"success": True, "referral": code})
        if path not in {"meters/historical-collection", "meters/ongoing-monitoring"}:
            return problem(404, "not_found", "")
        self.paid.append((path, document))
        if self.balance <= 0:
            return problem(402, "payment_required", "You must have a positive balance.")
        started = [uid for uid in document["meters"] if self._may_collect(uid)]
        if not started:
            return problem(400, "expired_or_revoked", "All authorizations are expired.")
        for uid in started:
            self.meters[uid] |= {"is_activated": True, "status": "pending"}
        return web.json_response({"success": True, **document, "meters": started})

    def _may_collect(self, uid):
        owner = self.authorizations[self.meters[uid]["authorization_uid"]]
        return not (owner["is_revoked"] or owner["is_expired"])


def problem(status, error, description):
    said = {
        "error": error,
        "error_description": description,
        "url": "https://utilityapi.example/docs",
    }
    return web.json_response(said, status=status)


def too_many(wait=120):
    """Answer as the API does when it is asked too often: in HTML."""
    page = "<html><h1>Too many requests</h1></html>"
    return web.Response(
        status=429, text=page, content_type="text/html", headers={"Retry-After": str(wait)}
    )


def _listed(query, key):
    return set(query[key].split(",")) if query.get(key) else set()


def _inside(one, edges, first="start", last="end"):
    start, end = (datetime.fromisoformat(one[k]) for k in (first, last))
    return edges[0] <= start and end <= edges[1]
