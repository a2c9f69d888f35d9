"""The key file beside the store: it signs access tokens and seals secrets that must be usable.

It is made with the store, readable by its owner only, and never part of a backup. Without it
tokens that were given out are void, and callback secrets have to be said again.
"""

import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from bridge.errors import StoreError

SUFFIX = ".key"


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
            self._fernet = Fernet(file.read_bytes().strip())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{file}: is not a key of openadr-bridge ({error}); put the right one there, or "
                "remove it: clients then ask for new tokens, and subscriptions are made anew"
            ) from error

    def seal(self, purpose: str, text: str, at: datetime) -> str:
        """Return a text that only this vault can open, and only for the same purpose."""
        return self._fernet.encrypt_at_time(
            f"{purpose}\n{text}".encode(), int(at.timestamp())
        ).decode()

    def open(
        self, purpose: str, sealed: str, at: datetime, lasts: timedelta | None = None
    ) -> str | None:
        """Return what was sealed, or None where it was not by this vault, or lasted less."""
        try:
            if lasts is None:
                said = self._fernet.decrypt(sealed.encode())
            else:
                seconds, now = int(lasts.total_seconds()), int(at.timestamp())
                said = self._fernet.decrypt_at_time(sealed.encode(), seconds, now)
        except (InvalidToken, ValueError):
            return None
        found, _, text = said.decode().partition("\n")
        return text if found == purpose else None
