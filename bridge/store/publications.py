"""What pricing sources publish: kept in the series, told in the change log, once per change."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlite_utils import Database

from bridge.model import Document, Price, Publication, Tariff
from bridge.notation import millis, to_json
from bridge.store import changes, event_rows, price_days, programs, series
from bridge.store.packing import Painted, to_columns
from bridge.store.price_days import FACTS
from bridge.store.sqlite import one, rows, write_many

# Price days that begin within this time are armed: their intervals reach devices.
NEAR = timedelta(days=3)
NEARER_AT_ONCE = 50  # programs in one transaction


def publish(db: Database, source: str, publication: Publication, at: datetime) -> int:
    """Keep what was published, inside a transaction; write a change where something changed.

    Returns how many prices were written or withdrawn.
    """
    if not (publication.prices or publication.whole):
        return 0
    tariff = publication.tariff
    if tariff.derived_from:  # it moves with the program that it is derived from
        move = "UPDATE OR IGNORE programs SET source = ? WHERE context = ?"
        db.conn.execute(move, (source, tariff.context))
    program = programs.program_id(db, source, tariff.context, tariff.program, at, settled=False)
    described = _described(db, program)
    _keep_facts(db, program, tariff, at)
    number = series.priced_id(
        db, program, tariff.payload_type, tariff.unit or "", tariff.currency or ""
    )
    if described not in {None, _described(db, program)}:
        changes.append(db, at, "UPDATE", "PROGRAM", program, after={"program": tariff.program})
    changed = _replace(db, number, publication, at)
    if changed.span:
        _tell(db, program, number, changed.span, at)
    return len(changed.new) or len(changed.gone)


def _described(db: Database, program: str) -> str | None:
    """Return all that a program says of itself beside its prices; None for a new one."""
    tariff = one(db, "SELECT * FROM tariffs WHERE program = ?", (program,))
    if tariff is None:
        return None
    facts = {name: tariff[name] for name in FACTS}
    return to_json([facts, series.by_program(db, program)])


def _replace(db: Database, number: int, publication: Publication, at: datetime) -> series.Replaced:
    """Bring the series up to what was published."""
    painted = [_painted(p) for p in sorted(publication.prices, key=lambda p: p.start)]
    said = [p for p in painted if p.length > 0]  # shorter than times are kept
    whole = [(millis(start), millis(end)) for start, end in publication.whole]
    edges = [(p.start, p.start + p.length) for p in said] + whole
    if not edges:
        return series.Replaced((), ())
    lo, hi = min(start for start, _ in edges), max(end for _, end in edges)
    names = series.component_names(db)
    known = series.within(db, number, lo, hi, names)
    kept = [k for k in known if not any(start <= k.price.start < end for start, end in whole)]
    wanted = series.overlay(kept, said)
    # What reaches out of the window must not be cut where it does.
    lo = min([lo, *(k.price.start for k in known)])
    hi = max([hi, *(k.price.start + k.price.length for k in known)])
    return series.replace(db, number, wanted, lo, hi, at)


def _painted(price: Price) -> Painted:
    start, end = millis(price.start), millis(price.end)
    return Painted(
        start,
        end - start,
        *to_columns(price.value),
        price.status,
        tuple((c.name, c.type) for c in price.components),
        tuple(to_columns(c.price) for c in price.components),
    )


def _keep_facts(db: Database, program: str, tariff: Tariff, at: datetime) -> None:
    facts = {name: value for name, value in asdict(tariff).items() if name in FACTS}
    columns = {"program": program, **facts, "issued": 0, "near_to": millis(at + NEAR)}
    update = ", ".join(f"{name} = excluded.{name}" for name in facts)
    # In another zone other days are near: they are armed anew (`nearer`).
    update += f", near_to = iif(zone = excluded.zone, near_to, {millis(at)})"
    changed = " OR ".join(f"{name} IS NOT excluded.{name}" for name in facts)
    db.conn.execute(
        f"INSERT INTO tariffs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 -- constants
        f" ON CONFLICT (program) DO UPDATE SET {update} WHERE {changed}",
        list(columns.values()),
    )


def _tell(db: Database, program: str, number: int, changed: tuple[int, int], at: datetime) -> None:
    """Write the change, and set the moments of the price days near now that it touches."""
    about = one(db, price_days.TARIFF + " WHERE t.program = ?", (program,)) or {}
    until = series.covers_until(db.conn, number, millis(at))
    seq = changes.append(
        db, at, "UPDATE", "PRICES", program,
        after={
            "program": about["name"],
            "start": changed[0],
            "end": changed[1],
            "covers_until": until,
        },
    )  # fmt: skip
    db.conn.execute("UPDATE tariffs SET issued = ? WHERE program = ?", (seq, program))
    lo, hi = max(changed[0], millis(at)), min(changed[1], about["near_to"])
    if not price_days.followed(db)(about["name"]):
        return
    _arm(db, {**about, "issued": seq}, lo, hi, at)


def _arm(db: Database, about: Document, lo: int, hi: int, at: datetime) -> None:
    """Set the tracks of a program's price days that hold something of [lo, hi) milliseconds."""
    if lo >= hi:
        return
    found = {day.name: day for day in price_days.render(db.conn, about, lo, hi)}
    for name in {*found, *price_days.names(about, lo, hi)}:
        if name in found:
            event_rows.arm(db, found[name], at)
        else:
            event_rows.disarm(db, name)


def nearer(db: Database, at: datetime) -> int:
    """Arm price days that have come near; return how many programs were looked at."""
    horizon = millis(at + NEAR)
    found = rows(
        db,
        price_days.TARIFF + " WHERE t.near_to < ? ORDER BY t.near_to LIMIT ?",
        (horizon, NEARER_AT_ONCE),
    )
    wanted = price_days.followed(db)
    for about in found:
        # A day further, so that this is done once a day.
        to = horizon + timedelta(days=1) // timedelta(milliseconds=1)
        db.conn.execute("UPDATE tariffs SET near_to = ? WHERE program = ?", (to, about["program"]))
        if not wanted(about["name"]):
            continue
        coming = list(price_days.render(db.conn, about, about["near_to"], to))
        for day in coming:
            event_rows.arm(db, day, at)
        if coming:
            changes.append(
                db, at, "MOMENT", "PRICES", about["program"], after={"program": about["name"]}
            )
    return len(found)


def note(db: Database, source: str, marks: Mapping[str, str]) -> None:
    """Keep how far a source has got, in the transaction that keeps what it said."""
    write_many(
        db,
        "INSERT OR REPLACE INTO marks (source, name, mark) VALUES (?, ?, ?)",
        ((source, name, mark) for name, mark in marks.items()),
    )
