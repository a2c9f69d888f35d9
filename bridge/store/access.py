"""Tokens: made once, shown once, kept as a hash."""

import hashlib
import secrets
from datetime import datetime

from sqlite_utils import Database

from bridge.errors import StoreError
from bridge.model import Document
from bridge.notation import millis
from bridge.store.sqlite import Sqlite, one, rows

PREFIX = "oadrb_"  # lets a secret scanner recognise one
SCOPES = ("read", "operate", "admin")  # each includes those before it


def new_token(db: Database, name: str, scope: str, at: datetime) -> str:
    """Make a token and return it; only its hash is kept.

    It holds 256 random bits, so that a plain SHA-256 is enough to keep it by.
    """
    if one(db, "SELECT 1 FROM tokens WHERE name = ? AND revoked IS NULL", (name,)):
        raise StoreError(
            f"a token named {name!r} is there already; choose another name or revoke it"
        )
    token = PREFIX + secrets.token_urlsafe(32)
    db.conn.execute("DELETE FROM tokens WHERE name = ?", (name,))
    db.conn.execute(
        "INSERT INTO tokens (name, scope, hash, created) VALUES (?, ?, ?, ?)",
        (name, scope, _hash(token), millis(at)),
    )
    return token


def revoke_token(db: Database, name: str, at: datetime) -> bool:
    """Revoke a token; return whether there was one."""
    done = db.conn.execute(
        "UPDATE tokens SET revoked = ? WHERE name = ? AND revoked IS NULL", (millis(at), name)
    )
    return bool(done.rowcount)


def list_tokens(db: Database) -> list[Document]:
    """Return all tokens by name, without anything secret."""
    return rows(db, "SELECT name, scope, created, revoked FROM tokens ORDER BY name")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Access:
    """Knows who may do what."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def scope(self, token: str) -> str | None:
        """Return a token's scope, or None when it is not a token or was revoked."""
        if not token.startswith(PREFIX):
            return None
        digest = _hash(token)
        row = await self._file.read(
            lambda db: one(
                db, "SELECT scope FROM tokens WHERE hash = ? AND revoked IS NULL", (digest,)
            )
        )
        return str(row["scope"]) if row else None
