"""The objects that VENs make too: vens, resources, subscriptions, reports.

Each is kept as it was written, with the columns that lists are filtered by beside it.
"""

import json
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlite_utils import Database

from bridge.errors import Conflict, Unfit, Unknown
from bridge.model import Document
from bridge.notation import from_json, millis, to_json, write_time
from bridge.parties import SUBSCRIPTION, Caller, View, Wanted
from bridge.store import changes, offered, privacy, reported
from bridge.store.sqlite import one, rows, write_many
from bridge.store.vault import Vault

VEN, RESOURCE, SUBSCRIPTIONS, REPORT = "VEN", "RESOURCE", "SUBSCRIPTION", "REPORT"
STAMPS = ("id", "createdDateTime", "modificationDateTime", "objectType")
NAMES = {
    VEN: "venName",
    RESOURCE: "resourceName",
    SUBSCRIPTIONS: "clientName",
    REPORT: "clientName",
}
CALLBACK = "callback"  # what bearer tokens are sealed for


def listed(db: Any, seen: View, wanted: Wanted) -> Iterator[str]:
    """Yield documents in the order in which they were made."""
    conditions: dict[str, Any] = {
        "kind = ?": wanted.kind,
        "client = ?": None if seen.all else seen.client or "",
        "name = ?": wanted.name,
        "program = ?": wanted.program,
        "parent = ?": wanted.ven or wanted.event,
    }
    given = {text: value for text, value in conditions.items() if value is not None}
    sql = f"SELECT document, targets FROM objects WHERE {' AND '.join(given)} ORDER BY turn"  # noqa: S608 -- constants
    skipped = shown = 0
    for document, targets in db.execute(sql, list(given.values())):
        if shown >= wanted.limit:
            return
        if not _matches(document, targets, wanted):
            continue
        if skipped < wanted.skip:
            skipped += 1
            continue
        shown += 1
        yield document


def _matches(document: str, targets: str, wanted: Wanted) -> bool:
    if wanted.targets and wanted.targets.isdisjoint(json.loads(targets)):
        return False
    if not wanted.objects:
        return True
    said = {o for entry in from_json(document)["objectOperations"] for o in entry["objects"]}
    return not wanted.objects.isdisjoint(said)


def found(db: Any, kind: str, object_id: str, seen: View) -> Document:
    """Return an object's row; raise Unknown where there is none, for this client at least."""
    row = one(db, "SELECT * FROM objects WHERE kind = ? AND id = ?", (kind, object_id))
    if row is None or not (seen.all or (seen.client and row["client"] == seen.client)):
        raise unknown(kind, object_id)
    return row


def unknown(kind: str, object_id: str) -> Unknown:
    """Return what is said of an object that is not there, or is hidden."""
    return Unknown(f"there is no {kind.lower()} {object_id!r}")


def create(
    db: Database, kind: str, caller: Caller, document: Document, at: datetime, vault: Vault
) -> str:
    """Keep a new object and return it as it is shown."""
    stamp = {"id": str(uuid4()), "createdDateTime": write_time(at)}
    return _save(db, kind, caller, document, at, vault, stamp, None)


def replace(
    db: Database, kind: str, object_id: str, caller: Caller, document: Document,
    at: datetime, vault: Vault,
) -> str:  # fmt: skip
    """Replace an object and return it as it is shown."""
    had = found(db, kind, object_id, privacy.view(db, caller))
    was = from_json(had["document"])
    stamp = {"id": object_id, "createdDateTime": was["createdDateTime"]}
    return _save(db, kind, caller, document, at, vault, stamp, had)


def delete(db: Database, kind: str, object_id: str, seen: View, at: datetime) -> str:
    """Take an object away, and what hangs on it; return what it was."""
    row = found(db, kind, object_id, seen)
    remove(db, row, at)
    return str(row["document"])


def remove(db: Database, row: Document, at: datetime) -> None:
    """Take an object away, and the resources of a ven with it; tell of each."""
    if row["kind"] == VEN:
        sql = "SELECT * FROM objects WHERE kind = 'RESOURCE' AND parent = ? ORDER BY turn"
        for resource in rows(db, sql, (row["id"],)):
            remove(db, resource, at)
    if row["kind"] == SUBSCRIPTIONS:
        stop_sending(db, row["id"], at, "the subscription was deleted")
    db.conn.execute("DELETE FROM objects WHERE id = ?", (row["id"],))
    changes.append(db, at, "DELETE", row["kind"], row["id"], before=_told(row))


def stop_sending(db: Database, subscription: str, at: datetime, why: str) -> None:
    """Give up what a subscription is still owed."""
    db.conn.execute(
        "UPDATE deliveries SET outcome = 'given_up', settled = ?, problem = ?"
        " WHERE outcome IS NULL AND device >= ? AND device < ?",
        (millis(at), why, f"{SUBSCRIPTION}{subscription}:", f"{SUBSCRIPTION}{subscription};"),
    )


def _told(row: Document) -> Document:
    """Return what the change log keeps of an object."""
    ven = {VEN: row["id"], RESOURCE: row["parent"]}.get(row["kind"])
    return {
        "document": row["document"],
        "client": row["client"],
        "ven": ven,
        "program": row["program"],
    }


def _save(
    db: Database, kind: str, caller: Caller, document: Document, at: datetime, vault: Vault,
    stamp: Document, had: Document | None,
) -> str:  # fmt: skip
    seen = privacy.view(db, caller)
    document, secrets = _without_secrets(document) if kind == SUBSCRIPTIONS else (document, None)
    columns = _RULES[kind](db, seen, document, had)
    said = {k: v for k, v in document.items() if k not in (*STAMPS, "clientID", "targets")}
    shown = {
        **stamp,
        "modificationDateTime": write_time(at),
        "objectType": kind,
        "clientID": columns["client"],
        **said,
        **({"venID": columns["parent"]} if kind == RESOURCE else {}),
        **({"targets": columns["targets"]} if columns["targets"] else {}),
    }
    row = {
        "id": stamp["id"], "kind": kind, **columns, "name": document[NAMES[kind]],
        "targets": to_json(columns["targets"]), "document": to_json(shown),
        "secrets": vault.seal(CALLBACK, to_json(secrets), at) if secrets else None,
        "scopes": to_json(sorted(caller.scopes)), "disabled": None,
    }  # fmt: skip
    _write(db, row, new=had is None)
    seq = changes.append(
        db, at, "UPDATE" if had else "CREATE", kind, stamp["id"],
        before=_told(had) if had else None, after=_told(row),
    )  # fmt: skip
    if kind == REPORT:
        reported.keep(db, shown, from_json(had["document"]) if had else None, at)
    if kind == SUBSCRIPTIONS:
        db.conn.execute("UPDATE objects SET since = ? WHERE id = ?", (seq, stamp["id"]))
        stop_sending(db, stamp["id"], at, "the subscription was changed")
    if kind == VEN and had and had["client"] != columns["client"]:
        _hand_over(db, stamp["id"], had["client"], columns["client"], at)
    return str(row["document"])


def _write(db: Database, row: Document, *, new: bool) -> None:
    if new:
        marks = ", ".join("?" * len(row))
        db.conn.execute(
            f"INSERT INTO objects ({', '.join(row)}) VALUES ({marks})",  # noqa: S608 -- column names
            list(row.values()),
        )
        return
    update = ", ".join(f"{column} = ?" for column in row)
    db.conn.execute(
        f"UPDATE objects SET {update} WHERE id = ?",  # noqa: S608 -- column names
        [*row.values(), row["id"]],
    )


def _hand_over(db: Database, ven: str, former: str | None, client: str, at: datetime) -> None:
    """Give a ven's resources to the client that the ven belongs to now."""
    sql = "SELECT * FROM objects WHERE kind = 'RESOURCE' AND parent = ? AND client IS ?"
    for row in rows(db, sql, (ven, former)):
        document = {**from_json(row["document"]), "clientID": client}
        given = {**row, "client": client, "document": to_json(document)}
        db.conn.execute(
            "UPDATE objects SET client = ?, document = ? WHERE id = ?",
            (client, given["document"], row["id"]),
        )
        changes.append(db, at, "UPDATE", RESOURCE, row["id"], before=_told(row), after=_told(given))


def _without_secrets(document: Document) -> tuple[Document, list[str | None] | None]:
    """Return a subscription without its bearer tokens, and these apart."""
    entries = document["objectOperations"]
    tokens = [entry.get("bearerToken") for entry in entries]
    # Null says that none is shown; some clients cannot read an answer without it.
    bare = [{**entry, "bearerToken": None} for entry in entries]
    return {**document, "objectOperations": bare}, tokens if any(tokens) else None


def disable_subscription(db: Database, receiver: str, reason: str, at: datetime) -> None:
    """Note that a subscriber asks never to be sent anything again."""
    subscription = receiver.removeprefix(SUBSCRIPTION).partition(":")[0]
    db.conn.execute("UPDATE objects SET disabled = ? WHERE id = ?", (reason, subscription))
    stop_sending(db, subscription, at, reason)
    changes.append(db, at, "UPDATE", "SUBSCRIBER", subscription, after={"disabled": reason})


def note_problem(db: Database, receivers: Collection[str], problem: str | None, at: int) -> None:
    """Note how the last attempt with subscribers went; no problem is a success."""
    ids = {r.removeprefix(SUBSCRIPTION).partition(":")[0] for r in receivers}
    write_many(
        db,
        "UPDATE objects SET last_problem = ?, last_success = coalesce(?, last_success)"
        " WHERE id = ?",
        ((problem, None if problem else at, i) for i in ids),
    )


# --- what is particular to each kind ---------------------------------------------------------


def _ven(db: Any, seen: View, document: Document, had: Document | None) -> Document:
    if seen.all:
        own = seen.client if document.get("objectType") == "VEN_VEN_REQUEST" else None
        client = document.get("clientID") or (had and had["client"]) or own
        if not client:
            raise Unfit("clientID: is missing; business logic says whose ven it is")
    else:
        client = seen.client
    _free(db, "venName", "kind = 'VEN' AND name = ?", (document["venName"],), had)
    _free(db, "clientID", "kind = 'VEN' AND client = ?", (client,), had)
    return {"client": client, "parent": None, "program": None} | _granted(seen, document, had)


def _resource(db: Any, seen: View, document: Document, had: Document | None) -> Document:
    own = one(db, "SELECT id FROM objects WHERE kind = 'VEN' AND client = ?", (seen.client,))
    said = document.get("venID") or (had and had["parent"])
    said = said or (own["id"] if own and not seen.all else None)
    if not said:
        raise Unfit("venID: is missing; it is the id of the ven that the resource belongs to")
    ven = found(db, VEN, said, seen)
    client = (document.get("clientID") or ven["client"]) if seen.all else seen.client
    name = (said, document["resourceName"])
    _free(db, "resourceName", "kind = 'RESOURCE' AND parent = ? AND name = ?", name, had)
    return {"client": client, "parent": said, "program": None} | _granted(seen, document, had)


def _granted(seen: View, document: Document, had: Document | None) -> Document:
    """Return targets: only business logic grants them, what a VEN says of them is dropped."""
    if seen.all:
        return {"targets": document.get("targets") or []}
    return {"targets": json.loads(had["targets"]) if had else []}


def _subscription(db: Any, seen: View, document: Document, had: Document | None) -> Document:
    program = document.get("programID")
    if program is not None:
        offered.need_program(db, program, seen)
    client = had["client"] if had else seen.client
    targets = document.get("targets") or []
    return {"client": client, "parent": None, "program": program, "targets": targets}


def _report(db: Any, seen: View, document: Document, had: Document | None) -> Document:
    program = offered.program_of(db, document["eventID"], seen)
    client = had["client"] if had else seen.client
    return {
        "client": client, "parent": document["eventID"], "program": program, "targets": [],
    }  # fmt: skip


def _free(db: Any, what: str, where: str, values: tuple[Any, ...], had: Document | None) -> None:
    taken = one(db, f"SELECT id FROM objects WHERE {where}", values)  # noqa: S608 -- constants
    if taken and (had is None or taken["id"] != had["id"]):
        raise Conflict(f"{what}: {values[-1]!r} is taken by another object")


_RULES = {VEN: _ven, RESOURCE: _resource, SUBSCRIPTIONS: _subscription, REPORT: _report}


def secrets_of(row: Document, vault: Vault, at: datetime) -> list[str | None] | None:
    """Return a subscription's bearer tokens; None where this vault cannot open them."""
    if row["secrets"] is None:
        return [None] * len(json.loads(row["document"])["objectOperations"])
    opened = vault.open(CALLBACK, row["secrets"])
    return json.loads(opened) if opened is not None else None
