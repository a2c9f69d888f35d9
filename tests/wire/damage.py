"""Documents that are damaged, or say something else in a place: to be read, or refused as such."""

from dataclasses import fields, is_dataclass

from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.usage import Reading, out_of_bounds

TIMES = ("1969-12-31T23:00:00Z", "2199-12-31T23:59:59Z", "2400-01-01T00:00:00-08:00", "0001-01-01")
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(TIMES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def cuts_of(content):
    """Return a strategy for what is cut out of a content, and put in."""
    one = st.tuples(st.integers(0, len(content) - 1), st.binary(max_size=6), st.integers(0, 30))
    return st.lists(one, min_size=1, max_size=4)


def damaged(content, cuts):
    for place, put, length in cuts:
        content = content[:place] + put + content[place + length :]
    return content


def change_a_part(data, document):
    """Put something else into a place of a document."""
    place = document
    while isinstance(place, dict | list) and place:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(ANYTHING)
            return
        place = place[key]


def outcome(read, content):
    """Return "read" or why it was refused; whatever else is raised is a mistake.

    So is a reading that a store would refuse.
    """
    try:
        found = read(content)
    except WireError as error:
        return str(error)
    assert [r for r in readings_in(found) if out_of_bounds(r.start, r.length)] == []
    return "read" if found is not None else ""


def readings_in(found):
    """Yield the readings in whatever a reader returned."""
    if isinstance(found, Reading):
        yield found
    elif is_dataclass(found):
        yield from readings_in([getattr(found, field.name) for field in fields(found)])
    elif isinstance(found, list | tuple | dict):
        for inner in found.values() if isinstance(found, dict) else found:
            yield from readings_in(inner)
