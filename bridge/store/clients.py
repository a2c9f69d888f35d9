"""OpenADR clients: who they are, what they may do, and the hash of each one's secret."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from bridge.errors import StoreError
from bridge.model import Document
from bridge.notation import millis
from bridge.store import changes, objects
from bridge.store.sqlite import one, rows

# Role → what it may do (OpenADR 3.1.0, openadr3.yaml, securitySchemes)
ROLES: Mapping[str, tuple[str, ...]] = {
    "bl": (
        "read_all", "read_bl", "read_targets", "read_ven_objects", "write_programs",
        "write_events", "write_subscriptions", "write_vens",
    ),
    "ven": (
        "read_targets", "read_ven_objects", "write_reports", "write_subscriptions", "write_vens",
    ),
}  # fmt: skip
# Tiers of the bridge's own API, each with those before it; "read" is all of them
TIERS = ("prices:read", "usage:read", "usage:raw", "read")
SCOPES = (*dict.fromkeys(s for scopes in ROLES.values() for s in scopes), *TIERS)
# What other VTNs call the same
ALIASES = {
    f"{scope}_{role}": scope
    for scope in ("write_vens", "write_subscriptions", "write_reports")
    for role in ("bl", "ven")
}


def with_tiers(scopes: Iterable[str]) -> frozenset[str]:
    """Return scopes with the tiers that are below them."""
    held = frozenset(scopes)
    highest = max((TIERS.index(s) for s in held if s in TIERS), default=-1)
    return held | frozenset(TIERS[: highest + 1])


def scopes_of(role: str, more: Collection[str] = ()) -> list[str]:
    """Return the scopes of a role and those beside it, as they are kept."""
    return sorted({*ROLES[role], *(ALIASES.get(s, s) for s in more)})


def add(
    db: Database,
    client: str,
    scopes: Collection[str],
    secret: str | None,
    at: datetime,
    *,
    settled: bool = False,
) -> str:
    """Add a client and return its secret; only a slow hash of it is kept.

    `settled` clients are those of the settings file.
    """
    had = one(db, "SELECT settled, revoked FROM clients WHERE id = ?", (client,))
    if had and had["revoked"] is None:
        raise StoreError(
            f"a client {client!r} is there already; choose another id or revoke it first"
        )
    secret = secret or secrets.token_urlsafe(32)
    salt = secrets.token_bytes(16)
    db.conn.execute(
        "INSERT OR REPLACE INTO clients (id, scopes, salt, hash, settled, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (client, json.dumps(sorted(scopes)), salt, slow_hash(secret, salt), settled, millis(at)),
    )
    changes.append(db, at, "CREATE", "CLIENT", client)
    return secret


def revoke(db: Database, client: str, at: datetime) -> bool:
    """Revoke a client; return whether there was one. What it made stays."""
    done = db.conn.execute(
        "UPDATE clients SET revoked = ? WHERE id = ? AND revoked IS NULL", (millis(at), client)
    )
    if done.rowcount:
        changes.append(db, at, "DELETE", "CLIENT", client)
        db.conn.execute("DELETE FROM grants WHERE client = ? AND NOT settled", (client,))
        # Whoever comes back by this name must say anew what is to be told, and where.
        sql = "SELECT id FROM objects WHERE kind = 'SUBSCRIPTION' AND client = ?"
        for row in rows(db, sql, (client,)):
            objects.disable_subscription(db, row["id"], "its client was revoked", at)
    return bool(done.rowcount)


def renew(db: Database, client: str, secret: str | None, at: datetime) -> str | None:
    """Give a client another secret, and return it; its tokens are void from now on.

    Returns None where there is no such client.
    """
    secret, salt = secret or secrets.token_urlsafe(32), secrets.token_bytes(16)
    done = db.conn.execute(
        "UPDATE clients SET salt = ?, hash = ?, created = ? WHERE id = ? AND revoked IS NULL",
        (salt, slow_hash(secret, salt), millis(at), client),
    )
    if not done.rowcount:
        return None
    changes.append(db, at, "UPDATE", "CLIENT", client)
    return secret


def listing(db: Any) -> list[Document]:
    """Return all clients by id, without anything secret."""
    found = rows(db, "SELECT id, scopes, settled, created, revoked FROM clients ORDER BY id")
    return [{**r, "scopes": json.loads(r["scopes"]), "settled": bool(r["settled"])} for r in found]


def find(db: Any, client: str) -> Document | None:
    """Return a client that was not revoked."""
    row = one(db, "SELECT * FROM clients WHERE id = ? AND revoked IS NULL", (client,))
    return {**row, "scopes": with_tiers(json.loads(row["scopes"]))} if row else None


def sync(db: Database, settled: Mapping[str, tuple[Collection[str], str]], at: datetime) -> None:
    """Make the clients of the settings (id → scopes, secret) those that are kept."""
    for row in rows(db, "SELECT * FROM clients WHERE revoked IS NULL"):
        wanted = settled.get(row["id"])
        if wanted and not row["settled"]:
            raise StoreError(
                f"client {row['id']!r} stands in the settings and was also added by command; "
                "revoke it, or take it out of the settings"
            )
        same = (
            wanted is not None
            and json.loads(row["scopes"]) == sorted(wanted[0])
            and matches(row, wanted[1])
        )
        if row["settled"] and not same:
            revoke(db, row["id"], at)
    for client, (scopes, secret) in settled.items():
        if not find(db, client):
            add(db, client, scopes, secret, at, settled=True)


def matches(client: Document, secret: str) -> bool:
    """Whether a secret is this client's. Takes some 50 ms, so that guessing takes long."""
    return hmac.compare_digest(slow_hash(secret, client["salt"]), client["hash"])


def slow_hash(secret: str, salt: bytes) -> bytes:
    """Return what is kept of a secret (RFC 7914, with OWASP's smallest memory: 16 MiB)."""
    return hashlib.scrypt(secret.encode("utf-8", "surrogatepass"), salt=salt, n=2**14, r=8, p=1)
