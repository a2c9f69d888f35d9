"""What a client may see: one answer for reads, lists, webhooks and MQTT alike."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from bridge.notation import from_json, to_json
from bridge.parties import Caller, View
from bridge.store.sqlite import one, rows


def view(db: Any, caller: Caller) -> View:
    """Return what a caller may see: business logic all, a VEN what was granted to it.

    Granted are the targets of its ven and of that ven's resources, and the ven's own id
    (OpenADR 3.1.0 Definition, Object Privacy).
    """
    if caller.sees_all or caller.client is None:
        return View(caller.sees_all, caller.client, frozenset())
    ven = one(
        db, "SELECT id, targets FROM objects WHERE kind = 'VEN' AND client = ?", (caller.client,)
    )
    if ven is None:
        return View(False, caller.client, frozenset())
    sql = "SELECT targets FROM objects WHERE kind = 'RESOURCE' AND parent = ?"
    said = [ven["targets"], *(r["targets"] for r in rows(db, sql, (ven["id"],)))]
    grants = frozenset(t for text in said for t in json.loads(text))
    return View(False, caller.client, grants | {ven["id"]})


def visibility(db: Any, caller: Caller) -> View:
    """Return a view that is the same for all who see the same programs and events."""
    seen = view(db, caller)
    if not seen.grants:
        return replace(seen, client=None)
    used = {
        target
        for (text,) in db.execute(
            "SELECT DISTINCT audiences FROM events WHERE audiences <> '[]'"
            " UNION SELECT audiences FROM programs WHERE audiences <> '[]'"
        )
        for group in json.loads(text)
        for target in group
    }
    return View(False, None, seen.grants & used)


def audiences(text: str) -> list[Collection[str]]:
    """Return whom a row says it is aimed at: one must be in each of the lists."""
    return json.loads(text) if text != "[]" else []


def hide(document: str, seen: View) -> str:
    """Return a program or an event as it is shown: with no target that was not granted."""
    if seen.all or '"targets"' not in document:
        return document
    shown = from_json(document)
    if "targets" in shown:
        shown["targets"] = seen.shown(shown["targets"])
        if not shown["targets"]:
            del shown["targets"]
    return to_json(shown)
