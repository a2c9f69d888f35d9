"""GridX documents: samples and schemas, read and written; what is wrong is said."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from bridge.errors import WireError
from bridge.model import PriceDay, PriceRow, Tariff
from bridge.notation import day_span
from bridge.wire import gridx
from tests.peers import SHARED
from tests.utilities import SCE, curve, detail, hours_of

ZONE = "America/Los_Angeles"
DAY = date(2025, 3, 1)
SPEC = SHARED / "spec" / "gridx"


def answer(*curves, code=200):
    return json.dumps({"meta": {"code": code, "response": "said"}, "data": list(curves)})


def read_both(text):
    found = gridx.read_pricing(text, ZONE)
    return found.curves, list(found.doubts)


def kept(curve, asked):
    """Return a day as the store would answer it."""
    tariff = gridx.tariff(asked, curve, ZONE, None)
    start, end = curve.span(ZONE)
    rows = tuple(
        PriceRow(
            "P", p.start, p.end, p.value, "PRICE", "KWH", "USD", start,
            status=p.status, components=p.components,
        )
        for p in curve.prices
    )  # fmt: skip
    return PriceDay(tariff, start, end, rows)


def validator(utility):
    if not SPEC.exists():
        pytest.skip("../shared is not here")
    if utility == "sce":
        api = yaml.safe_load((SPEC / "sce" / "openapi.yaml").read_text())
        schema = {"$ref": "#/components/schemas/PricingResponse", "components": api["components"]}
        return Draft202012Validator(schema)
    loaded = {p.name: json.loads(p.read_text()) for p in (SPEC / "schemas").glob("*.json")}
    registry = Registry().with_resources(
        [(name, Resource.from_contents(schema)) for name, schema in loaded.items()]
    )
    return Draft202012Validator(loaded["gridx-pricing-response.schema.json"], registry=registry)


@pytest.mark.parametrize("utility", ["pge", "sce"])
def test_the_utilitys_samples_are_read_and_written_alike(utility):
    check = validator(utility)
    text = (SPEC / utility / "examples" / f"{utility}-pricing-response-sample.json").read_text()
    sample = json.loads(text)
    check.validate(sample)
    curves, doubts = read_both(text)
    count = len(sample["data"][0]["priceDetails"])
    assert doubts == [
        f"the day of {sample['data'][0]['priceHeader']['startTime']}: recordCount is 24, but there"
        f" are {count} prices"
    ]
    assert not curves[0].whole
    asked = gridx.read_query(json.loads(sample["meta"]["requestBody"]))
    written = json.loads(
        gridx.write_pricing(asked, [kept(curves[0], asked)], "http://b/v1/getPricing")
    )
    check.validate(written)
    assert written["meta"]["requestBody"] == sample["meta"]["requestBody"]
    sample["data"][0]["priceHeader"]["recordCount"] = count
    assert written["data"] == sample["data"]


@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize("day", [date(2025, 3, 9), date(2025, 11, 2), date(2026, 7, 4)])
def test_what_is_written_is_read_back(day, minutes):
    length = timedelta(minutes=minutes)
    said = curve(
        [detail(s, "-0.000831", SCE) for s in hours_of(day, length=length)],
        "SCE-CalFUSE-TOU-EV-9S-SECONDARY", minutes,
    )  # fmt: skip
    (read,), doubts = read_both(answer(said))
    assert (doubts, read.whole, len(read.prices)) == ([], True, len(said["priceDetails"]))
    assert all(a.end == b.start for a, b in zip(read.prices, read.prices[1:], strict=False))
    assert (read.prices[0].start, read.prices[-1].end) == day_span(day, ZONE)
    asked = gridx.Asked("SCE", "TOU-EV-9S", "Eagle Rock", None, day, day)
    assert json.loads(gridx.write_pricing(asked, [kept(read, asked)], "u"))["data"] == [said]


@pytest.mark.parametrize("text", ["-0.000000", "0.000000", "1.0892", "-0.040800", "12.000001"])
def test_amounts_are_written_as_they_were_sent(text):
    one = detail(hours_of(DAY)[0], "0")
    one["intervalPrice"] = text
    (read,), _ = read_both(answer(curve([one])))
    asked = gridx.Asked("PGE", "EELEC", "1", None, DAY, DAY)
    written = json.loads(gridx.write_pricing(asked, [kept(read, asked)], "u"))
    assert written["data"][0]["priceDetails"][0]["intervalPrice"] == text


def test_amounts_of_other_sources_get_six_decimals():
    start, end = day_span(DAY, ZONE)
    row = PriceRow(
        "P", start, start + timedelta(hours=1), Decimal("0.1"), "PRICE", None, None, start
    )
    tariff = Tariff("P", "c", zone=ZONE, utility="PGE", rate="R", circuit="1")
    asked = gridx.Asked("PGE", "R", "1", None, DAY, DAY)
    (day,) = json.loads(gridx.write_pricing(asked, [PriceDay(tariff, start, end, (row,))], "u"))[
        "data"
    ]
    assert day["priceDetails"][0]["intervalPrice"] == "0.100000"
    assert day["priceHeader"]["priceCurveName"] == "PGE-CalFUSE-R"


def broken(**changes):
    said = curve([detail(s, "0.1") for s in hours_of(DAY)])
    for where, value in changes.items():
        if where in said:
            said[where] = value
        elif where in said["priceHeader"]:
            said["priceHeader"][where] = value
        else:
            said["priceDetails"][3][where] = value
    return said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"priceHeader": None}, "no priceHeader"),
        ({"priceDetails": "x"}, "no priceHeader or no priceDetails"),
        ({"priceDetails": [1]}, "a price is not an object"),
        ({"intervalLengthInMinutes": "an hour"}, "intervalLengthInMinutes is no number"),
        ({"intervalLengthInMinutes": 0}, "is 0, not 15 or 60"),
        ({"intervalLengthInMinutes": 10**12}, "not 15 or 60"),
        ({"intervalLengthInMinutes": 120}, "prices are 60 minutes apart"),
        ({"priceCurveName": ["x"]}, "['x'] is not a name"),
        ({"settlementUnit": 7}, "7 is not a name"),
        ({"marketName": "\ud800"}, "is not a name"),
        ({"priceStatus": {"a": 1}}, "is not a name"),
        ({"intervalPrice": "9" * 5000}, "is not an amount"),
        ({"intervalPrice": "free"}, "'free' is not an amount"),
        ({"intervalPrice": None}, "None is not an amount"),
        ({"intervalPrice": True}, "True is not an amount"),
        ({"intervalPrice": "NaN"}, "'NaN' is not an amount"),
        ({"priceComponents": {"a": 1}}, "priceComponents is not a list"),
        ({"priceComponents": [{"component": "x", "intervalPrice": "?"}]}, "'?' is not an amount"),
        ({"startIntervalTimeStamp": "2025-03-01T03:00:00"}, "has no offset"),
        ({"startIntervalTimeStamp": "tomorrow"}, "is not a time"),
        ({"startIntervalTimeStamp": 5}, "is not a time"),
        ({"startIntervalTimeStamp": "2025-03-01T03:00:00-0700"}, "is not that of America/Los_Angeles"),
        ({"startIntervalTimeStamp": "2025-03-02T03:00:00-0800"}, "holds prices of other days"),
    ],
)  # fmt: skip
def test_a_day_that_is_wrong_is_left_out_and_the_others_are_not(changes, said):
    good = curve([detail(s, "0.2") for s in hours_of(DAY + timedelta(days=1))])
    curves, doubts = read_both(answer(broken(**changes), good))
    assert [c.day(ZONE) for c in curves] == [DAY + timedelta(days=1)]
    assert said in doubts[0], doubts


def test_two_prices_for_one_hour_are_told_and_the_first_is_taken():
    details = [detail(s, "0.1") for s in hours_of(DAY)]
    same = curve([*details, details[0]], count=24)
    curves, doubts = read_both(answer(same))
    assert len(curves[0].prices) == 24
    differs = curve([*details, detail(hours_of(DAY)[0], "0.2")], count=25)
    curves, doubts = read_both(answer(differs))
    assert curves[0].prices[0].value == Decimal("0.1")
    assert doubts == [
        "the day of 2025-03-01T00:00:00-0800: there are two prices for 2025-03-01T08:00Z"
    ]


def test_other_forms_that_are_seen_are_read():
    # colons in offsets, no components, five decimals: a public integration's recorded document
    one = {"startIntervalTimeStamp": "2025-03-01T00:00:00-08:00", "intervalPrice": "0.05304",
           "priceStatus": "Final", "priceComponents": []}  # fmt: skip
    (read,), doubts = read_both(answer(curve([one])))
    assert (doubts, str(read.prices[0].value)) == ([], "0.05304")
    assert read.prices[0].start == datetime(2025, 3, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"), ("<html>", "not JSON"), ("3", "meta.code is not 200"),
        (answer(code=400), "said"), ('{"meta": {"code": 200}}', "no list of days"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_said(text, said):
    with pytest.raises(WireError, match=said):
        gridx.read_pricing(text, ZONE)


def test_a_query_is_read_back():
    asked = gridx.Asked("SCE", "TOU-PRIME", "Eagle Rock", None, DAY, DAY + timedelta(days=13))
    assert gridx.read_query(asked.query()) == asked
    with_cca = gridx.Asked("PGE", "EELEC", "013532223", "PCE", DAY, DAY)
    assert gridx.read_query(with_cca.query()) == with_cca
    assert list(with_cca.query())[-1] == "cca"
    assert gridx.program_name("EELEC", "013532223", "PCE") == "EELEC-013532223-PCE"
