"""Green Button (ESPI) files: read together (`files`), and written (`writer`).

`feed` reads the XML piece by piece, `blocks` the readings, `links` finds what they are of,
`codes` what ESPI's numbers mean, `times` its local time, `spool` holds what must wait.
"""

from bridge.wire.greenbutton.feed import refusal
from bridge.wire.greenbutton.files import TRUNCATED, Files
from bridge.wire.greenbutton.writer import write

__all__ = ["TRUNCATED", "Files", "refusal", "write"]
