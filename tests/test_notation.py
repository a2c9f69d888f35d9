"""Durations, times and JSON."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bridge import notation


@given(st.timedeltas(min_value=timedelta(days=-400), max_value=timedelta(days=4000)))
def test_a_duration_is_written_and_read_back(length):
    assert notation.read_duration(notation.write_duration(length)) == length


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("PT1H", timedelta(hours=1)),
        ("P1W", timedelta(weeks=1)),
        ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("-PT5M", timedelta(minutes=-5)),
        ("PT0S", timedelta(0)),
        ("P", timedelta(0)),
        ("P1M", timedelta(days=30)),
        ("PT0.5S", timedelta(milliseconds=500)),
        ("PT15M", timedelta(minutes=15)),
    ],
)
def test_durations_of_the_field(text, length):
    assert notation.read_duration(text) == length


@pytest.mark.parametrize("text", ["", "PP", "1H", "PT1X", "tomorrow"])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        notation.read_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("PT1M", 60)]
)
def test_durations_of_settings(text, seconds):
    assert TypeAdapter(notation.Duration).validate_python(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["5", "5 parsecs", 5, ""])
def test_a_duration_without_a_unit_is_refused(text):
    with pytest.raises(ValidationError, match="number with a unit"):
        TypeAdapter(notation.Duration).validate_python(text)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_decimal(number):
    back = notation.from_json(notation.to_json({"n": number}))["n"]
    assert Decimal(back) == number


def test_json_writes_times_and_refuses_the_rest():
    assert notation.to_json(datetime(2027, 1, 1, tzinfo=UTC)) == '"2027-01-01T00:00:00Z"'
    with pytest.raises(TypeError, match="does not go into JSON"):
        notation.to_json(object())


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)))  # noqa: DTZ001 -- made aware below
def test_times_are_kept_to_the_millisecond(naive):
    moment = naive.replace(tzinfo=UTC)
    assert (
        timedelta(0)
        <= moment - notation.from_millis(notation.millis(moment))
        < timedelta(milliseconds=1)
    )
