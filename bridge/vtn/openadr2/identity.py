"""The certificates that the VTN shows and signs with: read again when their files change."""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from bridge import certificates
from bridge.errors import SettingsError
from bridge.wire.signatures import Signer

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Files:
    """Where certificates, their keys, and the authorities of VENs are."""

    certs: Sequence[Path]
    keys: Sequence[Path]
    ca: Path
    legacy_ciphers: bool = False

    def context(self) -> ssl.SSLContext:
        """Return a TLS context that asks for a client's certificate; raise SettingsError."""
        for cert, key in zip(self.certs, self.keys, strict=True):
            certificates.check_match(cert, key)
        return certificates.server_context(
            self.certs, self.keys, clients=self.ca, legacy_ciphers=self.legacy_ciphers
        )

    def signers(self) -> dict[bool, Signer]:
        """Return what signs, by whether its key is elliptic."""
        found = [
            Signer(cert.read_bytes(), certificates.read_key(key))
            for cert, key in zip(self.certs, self.keys, strict=True)
        ]
        return {signer.elliptic: signer for signer in found}

    def stamps(self) -> list[tuple[int, int]]:
        """Return what tells whether any file is another than before."""
        found = []
        for path in (*self.certs, *self.keys, self.ca):
            try:
                about = path.stat()
                found.append((about.st_mtime_ns, about.st_size))
            except OSError:
                found.append((0, 0))
        return found


class Identity:
    """A TLS context, and signers, that follow their files: no restart is needed for new ones.

    What is wrong with new files is said, and the former ones stay in use.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._stamps = files.stamps()
        self._looked = time.monotonic()
        self._context, self._signers = files.context(), files.signers()
        self.problem: str | None = None
        self.context = files.context()  # the one that the listener holds
        self.context.sni_callback = self._choose

    def signer(self, *, elliptic: bool) -> Signer:
        """Return what signs with a key of the same kind as a VEN's, or else with any."""
        self._look()
        return self._signers.get(elliptic) or next(iter(self._signers.values()))

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        """Let a handshake that begins now use the files as they are now."""
        self._look()
        connection.context = self._context

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked, stamps = now, self._files.stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._context, self._signers = self._files.context(), self._files.signers()
            self.problem = None
            log.info("certificates were read again", listener="openadr2")
        except (SettingsError, OSError, ValueError) as error:
            self.problem = f"the former certificates are still in use: {error}"
            log.warning("certificates cannot be used", listener="openadr2", problem=str(error))
