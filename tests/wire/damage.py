"""Documents that are damaged, or say something else in a place: to be read, or refused as such."""

from hypothesis import strategies as st

from bridge.errors import WireError

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
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
    """Return "read" or why it was refused; whatever else is raised is a mistake."""
    try:
        found = read(content)
    except WireError as error:
        return str(error)
    return "read" if found is not None else ""
