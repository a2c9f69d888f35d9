"""Who is enrolled as an OpenADR 2.0b VEN, by which certificates; and registrations."""

import json
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlite_utils import Database

from bridge.errors import StoreError
from bridge.model import Document
from bridge.notation import from_millis, millis
from bridge.store import changes
from bridge.store.sqlite import one, rows, write_many
from bridge.vens import Ven

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ID = re.compile(r"[!-~]{1,64}")
LONGEST_WORD = 128
_SHORT, _WHOLE = 20, 64  # hex digits of OpenADR's fingerprint, and of a whole SHA-256
_LIST = """
SELECT v.*, coalesce(o.owed, 0) AS messages FROM vens v LEFT JOIN (
    SELECT ven, count(*) AS owed FROM ven_messages GROUP BY ven
) o ON o.ven = v.name
"""


def read_fingerprint(text: str) -> str:
    """Return a fingerprint as it is kept: 20 or 64 hex digits."""
    digits = re.sub(r"[:\s]", "", text).upper()
    if len(digits) not in {_SHORT, _WHOLE} or set(digits) - set("0123456789ABCDEF"):
        raise StoreError(
            f"{text!r} is no fingerprint; write OpenADR's 10 bytes, or the whole SHA-256, as hex: "
            "AA:BB:… (see `openadr-bridge certs fingerprint`)"
        )
    return digits


def check_new(db: Any, name: str, ven_id: str | None = None, words: Sequence[str] = ()) -> None:
    """Raise StoreError unless a VEN can be enrolled so."""
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot be a name: letters, digits, . _ and -, at most 64")
    if one(db, "SELECT 1 FROM vens WHERE name = ?", (name,)):
        raise StoreError(
            f"a VEN {name!r} is there already; `ven renew` gives it another certificate, "
            "`ven remove` takes it away"
        )
    if ven_id is not None and not (_ID.fullmatch(ven_id) and any(c.isalpha() for c in ven_id)):
        raise StoreError(
            f"{ven_id!r} cannot be a venID: 1 to 64 printable characters without spaces, a letter "
            "among them, for some VENs read one without as a number"
        )
    if ven_id is not None and one(db, "SELECT 1 FROM vens WHERE ven_id = ?", (ven_id,)):
        raise StoreError(f"the venID {ven_id!r} is another VEN's")
    for word in words:
        if not word.strip() or not word.isprintable() or len(word) > LONGEST_WORD:
            raise StoreError(
                f"{word!r} cannot be a resource, group or program: 1 to {LONGEST_WORD} printable "
                "characters"
            )


def add(
    db: Database,
    name: str,
    at: datetime,
    *,
    fingerprint: str,
    ven_id: str | None = None,
    resources: Sequence[str] = (),
    groups: Sequence[str] = (),
    programs: Sequence[str] = ("*",),
    test_events: bool = False,
    signs: bool = False,
    ends: datetime | None = None,
) -> Document:
    """Enrol a VEN with its first certificate, and when it ends; return what is known of it."""
    check_new(db, name, ven_id, [*resources, *groups, *programs])
    ven_id = ven_id or f"{name}-{uuid4().hex[:8]}"
    db.conn.execute(
        "INSERT INTO vens (name, ven_id, signs, test_events, programs, resources, groups, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (name, ven_id, signs, test_events, json.dumps(programs), json.dumps(resources),
         json.dumps(groups), millis(at)),
    )  # fmt: skip
    _certify(db, name, fingerprint, at, ends)
    changes.append(db, at, "CREATE", "ENROLMENT", name)
    touch(db, name)
    return found(db, name)


def renew(
    db: Database, name: str, fingerprint: str, at: datetime, ends: datetime | None = None
) -> Document:
    """Let a VEN use another certificate beside those it has; return what is known of it."""
    found(db, name)
    _certify(db, name, fingerprint, at, ends)
    touch(db, name)
    return found(db, name)


def remove(db: Database, name: str, at: datetime, fingerprint: str | None = None) -> None:
    """Take a VEN away, or one of its certificates."""
    known = found(db, name)
    if fingerprint is None:
        db.conn.execute("DELETE FROM vens WHERE name = ?", (name,))
        changes.append(db, at, "DELETE", "ENROLMENT", name)
    else:
        digits = read_fingerprint(fingerprint)
        gone = [c for c in known["certificates"] if _is_named(c, digits)]
        if not gone:
            raise StoreError(f"{name!r} has no certificate {fingerprint}; `ven show` lists them")
        if len(gone) == len(known["certificates"]):
            raise StoreError(
                f"it is the only certificate of {name!r}; give it another with `ven renew` first, "
                "or take the VEN away"
            )
        for one_gone in gone:
            db.conn.execute(
                "DELETE FROM ven_certificates WHERE fingerprint = ?", (one_gone["fingerprint"],)
            )
    touch(db)  # of all: there is no row any more that could say so


def ask_again(db: Database, name: str, at: datetime) -> None:
    """Ask a VEN, when it polls next, to register again: its reports are told anew then."""
    _need_registration(db, name)
    say(db, name, "oadrRequestReregistration", {}, at)


def end_registration(db: Database, name: str, at: datetime) -> None:
    """Tell a VEN, when it polls next, that its registration ends; it may register anew."""
    _need_registration(db, name)
    say(db, name, "oadrCancelPartyRegistration", {}, at)


def _need_registration(db: Any, name: str) -> None:
    if found(db, name)["registration_id"] is None:
        raise StoreError(f"{name!r} is not registered; it is asked to when it polls")


def say(
    db: Database,
    ven: str,
    kind: str,
    payload: Document,
    at: datetime,
    request_id: str | None = None,
) -> None:
    """Leave a message that a VEN is told when it polls, until it answers."""
    db.conn.execute(
        "INSERT INTO ven_messages (ven, kind, request_id, payload, at) VALUES (?, ?, ?, ?, ?)",
        (ven, kind, request_id, json.dumps(payload), millis(at)),
    )
    touch(db, ven)


def answered(db: Database, ven: str, kind: str, requests: Collection[str | None]) -> bool:
    """Forget messages that a VEN answered, by their requests; return whether there were any."""
    sql = "SELECT turn, request_id FROM ven_messages WHERE ven = ? AND kind = ?"
    waiting = rows(db, sql, (ven, kind))
    gone = [(row["turn"],) for row in waiting if row["request_id"] in requests]
    write_many(db, "DELETE FROM ven_messages WHERE turn = ?", gone)
    if gone:
        touch(db, ven)
    return bool(gone)


def touch(db: Database, ven: str | None = None) -> None:
    """Note that something was changed from which polls are answered: of one VEN, or of all."""
    db.conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'vens'")
    version = "(SELECT value FROM meta WHERE key = 'vens')"
    if ven is None:
        db.conn.execute(f"UPDATE meta SET value = {version} WHERE key = 'vens_whole'")  # noqa: S608 -- a constant
    else:
        db.conn.execute(f"UPDATE vens SET version = {version} WHERE name = ?", (ven,))  # noqa: S608 -- a constant


def found(db: Any, name: str) -> Document:
    """Return what is known of a VEN; raise StoreError where there is none."""
    known = listing(db, [name])
    if not known:
        raise StoreError(f"there is no VEN {name!r}; `ven list` shows them")
    return known[0]


def listing(db: Any, names: Collection[str] | None = None) -> list[Document]:
    """Return VENs by name, all or these, each with its certificates, nothing secret among it."""
    marks = "" if names is None else f"({', '.join('?' * len(names))})"
    of_certificates = f" WHERE ven IN {marks}" if marks else ""
    of_vens = f" WHERE v.name IN {marks}" if marks else ""
    certificates: dict[str, list[Document]] = {}
    sql = f"SELECT * FROM ven_certificates{of_certificates} ORDER BY added, fingerprint"  # noqa: S608 -- marks
    for row in rows(db, sql, names or ()):
        certificates.setdefault(row.pop("ven"), []).append(row)
    return [
        {
            **row,
            **{key: json.loads(row[key]) for key in ("programs", "resources", "groups")},
            "signs": bool(row["signs"]),
            "test_events": bool(row["test_events"]),
            "certificates": certificates.get(row["name"], []),
        }
        for row in rows(db, f"{_LIST}{of_vens} ORDER BY v.name", names or ())
    ]


def patterns(db: Any) -> set[str]:
    """Return the names and globs of the programs that any VEN follows."""
    return {p for (text,) in db.execute("SELECT programs FROM vens") for p in json.loads(text)}


def to_ven(row: Document) -> Ven:
    """Return a row of `listing` as a Ven."""
    certificates: dict[str, datetime | None] = {}
    for certificate in row["certificates"]:
        whole = certificate["sha256"]
        ends = from_millis(certificate["ends"]) if certificate["seen"] else None
        certificates[whole or certificate["fingerprint"]] = ends
    return Ven(
        name=row["name"],
        ven_id=row["ven_id"],
        registration_id=row["registration_id"],
        signs=row["signs"],
        test_events=row["test_events"],
        programs=tuple(row["programs"]),
        resources=tuple(row["resources"]),
        groups=tuple(row["groups"]),
        certificates=certificates,
    )


def recognised(db: Database, fingerprint: str, sha256: str, at: datetime, ends: datetime) -> None:
    """Note that an enrolled certificate was seen: from now on it is known by its whole SHA-256."""
    db.conn.execute(
        "UPDATE ven_certificates SET sha256 = ?, seen = ?, ends = ?"
        " WHERE fingerprint = ? OR sha256 = ?",
        (sha256, millis(at), millis(ends), fingerprint, fingerprint),
    )
    row = one(db, "SELECT ven FROM ven_certificates WHERE sha256 = ?", (sha256,))
    if row:
        touch(db, row["ven"])


def register(
    db: Database, name: str, ven_name: str, *, signs: bool, knows: bool, at: datetime
) -> str:
    """Register a VEN, or again under the id that it has; return its registrationID.

    One that does not know its registration may know no event either: all are owed to it anew.
    """
    known = one(db, "SELECT registration_id FROM vens WHERE name = ?", (name,)) or {}
    registration = known.get("registration_id") or uuid4().hex
    db.conn.execute(
        "UPDATE vens SET registration_id = ?, ven_name = ?, registered = ?,"
        " signs = max(signs, ?) WHERE name = ?",
        (registration, ven_name, millis(at), signs, name),
    )
    _delete(db, "ven_messages", name, "kind = 'oadrRequestReregistration'")
    if not knows:
        db.conn.execute(
            # A cancellation, or what amounts to one, that is told twice confuses some.
            "UPDATE ven_events SET answered = NULL WHERE ven = ? AND taken_back IS NULL"
            " AND event NOT IN (SELECT event FROM ven_offers WHERE cancelled)",
            (name,),
        )
    touch(db, name)
    return registration


def deregister(db: Database, name: str) -> None:
    """Forget a registration, and what hangs on it; what was measured stays."""
    db.conn.execute("UPDATE vens SET registration_id = NULL WHERE name = ?", (name,))
    for table in ("ven_messages", "ven_events", "ven_opts", "ven_points", "ven_requests"):
        _delete(db, table, name)
    touch(db, name)


def _delete(db: Database, table: str, name: str, where: str = "1") -> None:
    db.conn.execute(f"DELETE FROM {table} WHERE ven = ? AND {where}", (name,))  # noqa: S608 -- constants


def _certify(
    db: Database, name: str, fingerprint: str, at: datetime, ends: datetime | None
) -> None:
    digits = read_fingerprint(fingerprint)
    taken = [r for r in rows(db, "SELECT * FROM ven_certificates") if _is_named(r, digits)]
    if taken:
        raise StoreError(f"this certificate is enrolled already, for the VEN {taken[0]['ven']!r}")
    db.conn.execute(
        "INSERT INTO ven_certificates (fingerprint, ven, sha256, added, ends)"
        " VALUES (?, ?, ?, ?, ?)",
        (digits, name, digits if len(digits) == _WHOLE else None, millis(at),
         millis(ends) if ends else None),
    )  # fmt: skip


def _is_named(certificate: Document, digits: str) -> bool:
    """Whether a certificate has this fingerprint, be it the short one or the whole."""
    known = (certificate["sha256"] or "", certificate["fingerprint"])
    return any(k and (k.endswith(digits) or digits.endswith(k)) for k in known)
