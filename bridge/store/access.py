"""Who calls: tokens, made once, shown once, kept as a hash; and OpenADR clients."""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from sqlite_utils import Database

from bridge.errors import StoreError
from bridge.model import Document
from bridge.notation import millis
from bridge.parties import Caller
from bridge.store import clients
from bridge.store.sqlite import Sqlite, one, rows
from bridge.store.vault import Vault

PREFIX = "oadrb_"  # lets a secret scanner recognise one
SCOPES = (*clients.TIERS, "operate", "admin")  # each includes those before it


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
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


TOKEN_LASTS = timedelta(hours=1)
AT_ONCE = 2  # secrets that are checked at the same time: each takes 16 MiB and 50 ms
REMEMBERED = 10_000  # callers, at most


class Access:
    """Knows who calls: by a token of ours, an access token, or a client's id and secret.

    Who was recognised once is remembered until something was committed: a client or a
    token that is revoked stops at once.
    """

    def __init__(self, file: Sqlite, vault: Vault) -> None:
        self._file, self._vault = file, vault
        self._known: dict[str, tuple[Caller, datetime | None]] = {}
        self._right: dict[bytes, bytes] = {}  # digest of id and secret → hash it matched
        self._seen = -1
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def caller(self, token: str, at: datetime, *, patient: bool = True) -> Caller | None:
        """Return who holds a token; None where it is none, is over, or was revoked.

        Only the `patient` check a secret that was not right before: it takes long.
        """
        commits = self._file.commits
        if self._seen != commits:
            self._seen = commits
            self._known.clear()
        known = self._known.get(token)
        if known is None:
            known = await self._recognise(token, at, patient)
            if known is None:
                return None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            if commits == self._file.commits:
                self._known[token] = known
        caller, until = known
        return caller if until is None or at < until else None

    async def _recognise(
        self, token: str, at: datetime, patient: bool
    ) -> tuple[Caller, datetime | None] | None:
        if token.startswith(PREFIX):
            return await self._by_token(_hash(token))
        if said := self._vault.verify(token):
            until = datetime.fromtimestamp(said["exp"], UTC)
            client = await self.client(said["sub"])
            if client is None or client["created"] != said["created"] or at >= until:
                return None
            scopes = client["scopes"] & set(said["scope"].split())
            return Caller(said["sub"], scopes, said["sub"]), until
        pair = _basic(token)
        client = await self.check(*pair, patient=patient) if pair else None
        if pair is None or client is None:
            return None
        return Caller(pair[0], client["scopes"], pair[0]), None

    async def _by_token(self, digest: bytes) -> tuple[Caller, None] | None:
        row = await self._file.read(
            lambda db: one(
                db, "SELECT name, scope FROM tokens WHERE hash = ? AND revoked IS NULL", (digest,)
            )
        )
        if row is None:
            return None
        scopes = SCOPES[: SCOPES.index(row["scope"]) + 1]
        return Caller(row["name"], frozenset(scopes)), None

    async def sync(self, settled: Mapping[str, tuple[Collection[str], str]], at: datetime) -> None:
        """Make the clients of the settings (id → scopes, secret) those that are kept."""
        await self._file.write(lambda db: clients.sync(db, settled, at))

    async def client(self, client_id: str) -> Document | None:
        """Return a client that was not revoked."""
        return await self._file.read(lambda db: clients.find(db, client_id))

    async def check(self, client_id: str, secret: str, *, patient: bool = True) -> Document | None:
        """Return a client if this is its secret, or was when it was last looked at."""
        client = await self.client(client_id)
        digest = _hash(f"{client_id}\n{secret}")
        if client and self._right.get(digest) == client["hash"]:
            return client
        # As slow for a client that is not there: nobody learns which ids are.
        probe = client or {"salt": b"", "hash": b""}
        if not patient:
            return None
        async with self._turns:
            right = await asyncio.to_thread(clients.matches, probe, secret)
        if not right or client is None:
            return None
        if len(self._right) >= REMEMBERED:
            self._right.clear()
        self._right[digest] = client["hash"]
        return client

    def narrow(self, client: Document, asked: Collection[str]) -> frozenset[str] | None:
        """Return the scopes that a client has of those asked for; None where one is not known."""
        wanted = {clients.ALIASES.get(scope, scope) for scope in asked}
        if not wanted <= set(clients.SCOPES):
            return None
        held: frozenset[str] = client["scopes"]
        return held & clients.with_tiers(wanted) if wanted else held

    def issue(
        self, client: Document, scopes: Collection[str], at: datetime
    ) -> tuple[str, timedelta]:
        """Return an access token; it is over after `TOKEN_LASTS`, and with its client."""
        # As RFC 9068 names them; `created` voids a token when its client gets another secret.
        said = {
            "sub": client["id"], "scope": " ".join(sorted(scopes)), "created": client["created"],
            "iat": int(at.timestamp()), "exp": int((at + TOKEN_LASTS).timestamp()),
        }  # fmt: skip
        return self._vault.sign(said), TOKEN_LASTS


def _basic(token: str) -> tuple[str, str] | None:
    """Return the id and secret of a static token, base64 of `client_id:client_secret`."""
    try:
        client, colon, secret = base64.b64decode(token, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (client, secret) if colon and client else None
