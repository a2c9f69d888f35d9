"""Every shape the store has had, oldest first.

Times are whole milliseconds since 1970; a day of prices is a number of UTC days. Key columns
come first: `integrity_check` of SQLite 3.40 finds fault with any other order in tables
without a rowid.
"""

from itertools import groupby

import structlog
from sqlite_utils import Database, Migrations

from bridge.errors import Unfit
from bridge.notation import from_millis
from bridge.store import series
from bridge.store import usage as store_usage
from bridge.store.packing import DAY, Kept, Painted
from bridge.store.shapes import FIRST, OPENADR2, OPENADR3, PRICES
from bridge.store.sqlite import rows
from bridge.store.upstream_shapes import UPSTREAM_REPORTS
from bridge.store.usage_rows import SHORT, day_rows, rewrite
from bridge.store.usage_shapes import LONG_READINGS, USAGE
from bridge.usage import NET, UNKNOWN, Measured, Origin, Reading, Stream, kept_unit

log = structlog.get_logger()
migrations = Migrations("bridge")


@migrations()
def the_first_shape(db: Database) -> None:
    """Events, prices, devices, deliveries, and the change log between them."""
    _run(db, FIRST)


@migrations()
def prices_by_day(db: Database) -> None:
    """Prices packed by day, with components; what a pricing source's series are the price of."""
    db.conn.execute("ALTER TABLE prices RENAME TO price_rows")
    db.conn.execute("ALTER TABLE price_revisions RENAME TO price_revision_rows")
    _run(db, PRICES)
    _pack_rows(db, "price_rows", "")
    _pack_rows(db, "price_revision_rows", ", replaced")
    for table in ("price_rows", "price_revision_rows"):
        longest = f"SELECT max(length) FROM {table} WHERE series = series.id"  # noqa: S608 -- constants
        db.conn.execute(f"UPDATE series SET longest = max(longest, coalesce(({longest}), 0))")  # noqa: S608 -- constants
    _run(db, "DROP TABLE price_rows; DROP TABLE price_revision_rows;")


@migrations()
def openadr3_objects(db: Database) -> None:
    """Objects of OpenADR 3, the clients who write them, and what their reports measured."""
    _run(db, OPENADR3)
    # What happened before there was anyone to tell is told to nobody.
    db.conn.execute("INSERT INTO cursors SELECT 'notify', coalesce(max(seq), 0) FROM changes")


@migrations()
def openadr2_vens(db: Database) -> None:
    """OpenADR 2.0b clients: who is enrolled, what each is offered, what it said."""
    _run(db, OPENADR2)
    db.conn.execute("INSERT INTO meta VALUES ('vens', '0'), ('vens_whole', '0')")


@migrations()
def usage(db: Database) -> None:
    """Keep readings by stream and day; contracts, and to whom they are granted."""
    _run(db, USAGE + LONG_READINGS)
    for row in rows(db, "SELECT * FROM readings ORDER BY since"):
        protocol, colon, client = row["client"].rpartition(":")
        protocol = protocol if colon else "openadr3"
        unit, power = kept_unit(row["unit"] or UNKNOWN)
        stream = Stream(f"{protocol}:{client}:{row['meter']}", NET, row["kind"].lower(), unit)
        amount = Reading(
            row["start"], row["length"], row["value"], row["exponent"] + power, row["quality"]
        )
        origin = Origin(protocol, client, row["report"], row["reading_type"] or "")
        try:
            store_usage.keep(db, [Measured(stream, [amount], origin)], from_millis(row["since"]))
        except Unfit as error:  # readings have bounds now; the backup has it still
            log.warning("reading left out", meter=stream.meter, start=row["start"], why=str(error))
    db.conn.execute("DROP TABLE readings")


@migrations()
def upstream_reports(db: Database) -> None:
    """Keep what upstreams ask for, how far it was told, and what is being told."""
    _run(db, UPSTREAM_REPORTS)


@migrations()
def long_readings(db: Database) -> None:
    """Give readings of more than a day rows of their own."""
    if "longest" not in db["streams"].columns_dict:  # the store was made so
        return
    _run(db, LONG_READINGS)
    db.conn.execute("ALTER TABLE streams ADD COLUMN hourly INTEGER NOT NULL DEFAULT -1000000")
    db.conn.execute("UPDATE streams SET hourly = compacted")
    streams = rows(db, "SELECT id FROM streams WHERE longest > ?", (SHORT,))
    for number in [row["id"] for row in streams]:
        days = rows(db, "SELECT day FROM usage WHERE stream = ?", (number,))
        for day in [row["day"] for row in days]:
            held = [r for _, found in day_rows(db, number, day, day) for r in found]
            rewrite(db, number, held, held)
    db.conn.execute("ALTER TABLE streams DROP COLUMN longest")


def _run(db: Database, script: str) -> None:
    """Run statements one by one: executescript would commit what went before."""
    for statement in filter(str.strip, script.split(";")):
        db.conn.execute(statement)


def _pack_rows(db: Database, table: str, replaced: str) -> None:
    """Pack a table of one row for each interval; `replaced` is a further column of its key."""
    found = db.conn.execute(
        f"SELECT series, start / {DAY}{replaced or ', NULL'},"  # noqa: S608 -- constants
        f" start, length, value, exponent, since FROM {table} ORDER BY 1, 2, 3"
    )
    for (number, day, stamp), group in groupby(found, key=lambda row: row[:3]):
        kept = [Kept(Painted(*row[3:7]), row[7]) for row in group]
        if stamp is None:
            series.write_day(db, number, day, kept, lambda _: 0)
        else:
            series.write_revisions(db, number, day, stamp, kept, lambda _: 0)
