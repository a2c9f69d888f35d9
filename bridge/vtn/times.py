"""Times as clients write them in a query."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator

FIRST_YEAR, LAST_YEAR = 1900, 9999  # of times that can be asked for


def _rfc3339(value: object) -> object:
    # A "+" that was not escaped arrives as a blank.
    text = str(value).replace(" ", "+")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and FIRST_YEAR <= moment.year < LAST_YEAR:
            return moment.astimezone(UTC)
    except ValueError:
        pass
    raise ValueError("write a time as RFC 3339, such as 2027-03-14T00:00:00-08:00")


Time = Annotated[datetime, BeforeValidator(_rfc3339)]
