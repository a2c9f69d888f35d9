"""What meters measured, written to a bridge's store while it runs, or beside it."""

from datetime import timedelta
from decimal import Decimal

from bridge.notation import millis
from bridge.store.packing import to_columns
from bridge.usage import Measured, Origin, Reading, Stream

MILLISECOND = timedelta(milliseconds=1)


async def keep(store, meter, start, step, values, at, direction="import", **about):
    """Keep amounts (in kWh; None is none) that a meter measured one after the other."""
    readings = [
        Reading(millis(start + n * step), step // MILLISECOND, *to_columns(Decimal(str(value))))
        for n, value in enumerate(values)
        if value is not None
    ]
    said = Measured(Stream(meter, direction, **about), readings, Origin("api", "tests"))
    await store.meters.keep([said], at, durable=False)
