"""Customers' contracts: which meters count, at which prices, and to whom each is granted.

A contract belongs to the settings, to a source, or, added by command, to the store.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from bridge.errors import StoreError
from bridge.model import Document
from bridge.notation import from_json, to_json
from bridge.store.sqlite import Sqlite, one, rows, write_many
from bridge.usage import Contract

_GRANTED = "SELECT contract FROM grants WHERE client = ?"
SETTINGS, COMMAND = "", "command"  # whose a contract is that no source says


class Contracts:
    """Answers whose contracts there are, and who may see them."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def sync(self, settled: Sequence[Contract]) -> None:
        """Make the contracts of the settings, and to whom they are granted, those kept."""
        await self._file.write(lambda db: sync(db, settled))

    async def granted(self, client: str | None) -> list[Contract]:
        """Return the contracts that a client may see; None sees all."""
        return await self._file.read(lambda db: granted(db, client))


def say(db: Database, source: str, said: Iterable[Contract]) -> None:
    """Keep what a source says of contracts; what the settings say of one goes before."""
    for contract in said:
        had = one(db, "SELECT source FROM contracts WHERE id = ?", (contract.id,))
        if had and had["source"] != source:
            update = "UPDATE contracts SET about = ? WHERE id = ?"
            db.conn.execute(update, (to_json(contract.about), contract.id))
        else:
            _write(db, source, contract)


def sync(db: Database, settled: Sequence[Contract]) -> None:
    """Make the contracts of the settings, and to whom they are granted, those kept."""
    ids = [contract.id for contract in settled]
    for row in rows(db, "SELECT id FROM contracts WHERE source = ?", (SETTINGS,)):
        if row["id"] not in ids:
            db.conn.execute("DELETE FROM contracts WHERE id = ?", (row["id"],))
    db.conn.execute("DELETE FROM grants WHERE settled")
    for contract in settled:
        had = one(db, "SELECT source FROM contracts WHERE id = ?", (contract.id,))
        if had and had["source"] == COMMAND:
            raise StoreError(
                "a contract stands in the settings and was also added by command; remove it by"
                " `contract remove`, or take it out of the settings"
            )
        _write(db, SETTINGS, contract)
        write_many(
            db,
            "INSERT OR REPLACE INTO grants (client, contract, settled) VALUES (?, ?, 1)",
            ((client, contract.id) for client in contract.clients),
        )


def add(db: Database, contract: Contract) -> None:
    """Add a contract by command; raise StoreError where there is one."""
    if one(db, "SELECT 1 FROM contracts WHERE id = ?", (contract.id,)):
        raise StoreError("a contract of this id is there already; remove it first")
    _write(db, COMMAND, contract)


def remove(db: Database, contract: str) -> bool:
    """Remove a contract that the settings do not name; readings stay. Whether there was one."""
    done = db.conn.execute(
        "DELETE FROM contracts WHERE id = ? AND source <> ?", (contract, SETTINGS)
    )
    return bool(done.rowcount)


def grant(db: Database, contract: str, client: str) -> None:
    """Let a client see a contract; raise StoreError where there is no such contract."""
    if not one(db, "SELECT 1 FROM contracts WHERE id = ?", (contract,)):
        raise StoreError("there is no contract of this id; `contract list` shows those there are")
    insert = "INSERT OR IGNORE INTO grants (client, contract, settled) VALUES (?, ?, 0)"
    db.conn.execute(insert, (client, contract))


def withhold(db: Database, contract: str, client: str) -> bool:
    """Take a grant back; return whether it was there, and not by the settings."""
    done = db.conn.execute(
        "DELETE FROM grants WHERE contract = ? AND client = ? AND NOT settled", (contract, client)
    )
    return bool(done.rowcount)


def granted(db: Any, client: str | None) -> list[Contract]:
    """Return the contracts that a client may see, by id; None sees all."""
    ids, values = ("SELECT id FROM contracts", ()) if client is None else (_GRANTED, (client,))
    found = rows(db, f"SELECT * FROM contracts WHERE id IN ({ids}) ORDER BY id", values)  # noqa: S608 -- constants
    meters, clients = (
        _by_contract(db, f"{sql} WHERE contract IN ({ids}) ORDER BY 2", values)
        for sql in (
            "SELECT contract, meter FROM contract_meters", "SELECT contract, client FROM grants",
        )
    )  # fmt: skip
    return [
        Contract(
            row["id"], row["customer"], tuple(meters.get(row["id"], ())), row["program"],
            from_json(row["about"]), frozenset(clients.get(row["id"], ())),
        )
        for row in found
    ]  # fmt: skip


def _by_contract(db: Any, sql: str, values: tuple[str, ...]) -> Mapping[str, Collection[str]]:
    found: dict[str, list[str]] = {}
    for row in rows(db, sql, values):
        contract, other = row.values()
        found.setdefault(contract, []).append(other)
    return found


def listing(db: Any) -> list[Document]:
    """Return all contracts for the operator."""
    sources = {row["id"]: row["source"] for row in rows(db, "SELECT id, source FROM contracts")}
    return [
        {
            "id": c.id, "customer": c.customer, "meters": list(c.meters), "program": c.program,
            "clients": sorted(c.clients), "source": sources[c.id] or "settings",
        }
        for c in granted(db, None)
    ]  # fmt: skip


def _write(db: Database, source: str, contract: Contract) -> None:
    db.conn.execute(
        "INSERT INTO contracts (id, customer, program, source, about) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, source = excluded.source,"
        " program = excluded.program,"
        " about = iif(excluded.about = '{}', about, excluded.about)",
        (contract.id, contract.customer, contract.program, source, to_json(contract.about)),
    )
    db.conn.execute("DELETE FROM contract_meters WHERE contract = ?", (contract.id,))
    write_many(
        db,
        "INSERT OR IGNORE INTO contract_meters (contract, meter) VALUES (?, ?)",
        ((contract.id, meter) for meter in contract.meters),
    )
