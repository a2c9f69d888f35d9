"""The key file beside the store: it signs access tokens and seals secrets that must be usable.

It is made with the store, readable by its owner only, and never part of a backup. Without it
tokens that were given out are void, and callback secrets have to be said again.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import jwt
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.types import Options

from bridge.errors import StoreError
from bridge.model import Document

SUFFIX = ".key"
ISSUER, ALGORITHM = "openadr-bridge", "HS256"
# Whether a token is over is told by the bridge's own clock
OPTIONS: Options = {"verify_exp": False, "verify_iat": False, "require": ["sub", "iat", "exp"]}


class Vault:
    """Seals text with the key that stands beside a store."""

    def __init__(self, path: Path) -> None:
        file = path.with_name(path.name + SUFFIX)
        with suppress(FileExistsError):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as made:
                made.write(Fernet.generate_key())
                made.flush()
                os.fsync(made.fileno())
        try:
            key = file.read_bytes().strip()
            self._fernet = Fernet(key)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{file}: is not a key of openadr-bridge ({error}); put the right one there, or "
                "remove it: clients then ask for new tokens, and subscriptions are made anew"
            ) from error

        self._signing = HKDF(SHA256(), 32, salt=None, info=b"access tokens").derive(key)

    def sign(self, claims: Document) -> str:
        """Return claims as a JSON Web Token that only this vault can have signed."""
        return jwt.encode({"iss": ISSUER, **claims}, self._signing, ALGORITHM)

    def verify(self, token: str) -> Document | None:
        """Return the claims of a token of this vault's, be it over or not; None for others."""
        try:
            return jwt.decode(token, self._signing, [ALGORITHM], OPTIONS, issuer=ISSUER)
        except (jwt.InvalidTokenError, ValueError):
            return None

    def seal(self, purpose: str, text: str, at: datetime) -> str:
        """Return a text that only this vault can open, and only for the same purpose."""
        return self._fernet.encrypt_at_time(
            f"{purpose}\n{text}".encode(), int(at.timestamp())
        ).decode()

    def open(self, purpose: str, sealed: str) -> str | None:
        """Return what was sealed, or None where it was not by this vault, or for this purpose."""
        try:
            said = self._fernet.decrypt(sealed.encode())
        except (InvalidToken, ValueError):
            return None
        found, _, text = said.decode().partition("\n")
        return text if found == purpose else None
