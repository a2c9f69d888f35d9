"""Green Button files: what reading costs beside a bare iterparse of the same bytes.

A recorded year of hours, ten times over, where it is at hand, else one that is made.
"""

import gc
import io
import time
from xml.etree import ElementTree

from bridge.wire.greenbutton import Files
from tests import greenbutton
from tests.peers import SHARED

COPIES, ROUNDS = 10, 5
ESPI = "{http://naesb.org/espi}"


def text():
    """A file of 87,600 readings, in blocks of twelve."""
    found = list((SHARED / "data" / "greenbutton").glob("Coastal*"))
    if not found:
        return b"".join(greenbutton.long(8760 * COPIES, length=3600, per_block=12))
    year = found[0].read_bytes()
    begin, end = year.index(b"<entry>", year.index(b"<ReadingType ")), year.rindex(b"</feed>")
    return year[:begin] + year[begin:end] * COPIES + year[end:]


def bare(data):
    """Yield start, length and value of each reading, as the least program does."""
    for _, element in ElementTree.iterparse(io.BytesIO(data)):  # noqa: S314 -- our own
        if element.tag == f"{ESPI}IntervalReading":
            period = element.find(f"{ESPI}timePeriod")
            start, length = (int(period.findtext(f"{ESPI}{n}")) for n in ("start", "duration"))
            yield start, length, int(element.findtext(f"{ESPI}value"))
            element.clear()


def ours(data):
    for measured in Files().read([("x.xml", lambda: io.BytesIO(data))]):
        yield from measured.readings


def spent(what, data):
    """Return the processor's seconds of the best of some rounds, taken in turn."""
    gc.collect()
    began = time.process_time()
    assert sum(1 for _ in what(data)) == 8760 * COPIES
    return time.process_time() - began


def bench(show):
    data = text()
    plain, read = (
        min(times)
        for times in zip(
            *((spent(bare, data), spent(ours, data)) for _ in range(ROUNDS)), strict=True
        )
    )
    rate = len(data) / read / 1e6
    show(
        f"Green Button, {rate:.0f} MB/s, beside a bare iterparse",
        f"{plain / read:.2f} x",
        ">= 0.5 x, with storing",
    )
