"""certs dev, show, fingerprint."""

from dataclasses import asdict
from pathlib import Path

import click

from bridge.certificates import Certificate, read_certificate, write_development_set
from bridge.cli.common import command, say
from bridge.model import Document


@click.group()
def certs() -> None:
    """Make and look at certificates."""


@command(certs, "dev", example="openadr-bridge certs dev --rsa")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("certs/dev"))
@click.option("--rsa/--ec", default=False, help="RSA (2048 bits) or EC (P-256) keys.")
def dev(folder: Path, rsa: bool, config: Path, as_json: bool) -> None:
    """Make a CA, a VTN server and a VEN client certificate for development.

    They are for one's own machine only, and valid for a year. Files that are there are kept.
    """
    made = write_development_set(folder, "rsa" if rsa else "ec")
    say([_shown(c) for c in made], "\n".join(_text(c) for c in made), as_json=as_json)


@command(certs, "show", example="openadr-bridge certs show certs/ven.crt")
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path, config: Path, as_json: bool) -> None:
    """Show what a certificate file holds."""
    found = read_certificate(file)
    say(_shown(found), _text(found), as_json=as_json)


@command(certs, "fingerprint", example="openadr-bridge certs fingerprint certs/ven.crt")
@click.argument("file", type=click.Path(path_type=Path))
def fingerprint(file: Path, config: Path, as_json: bool) -> None:
    """Print the fingerprint that a utility asks for: the last 10 bytes of the SHA-256."""
    found = read_certificate(file)
    say(
        {"fingerprint": found.fingerprint, "sha256": found.sha256},
        found.fingerprint,
        as_json=as_json,
    )


def _shown(found: Certificate) -> Document:
    return {**asdict(found), "path": str(found.path)}


def _text(found: Certificate) -> str:
    return (
        f"{found.path}: {found.subject}\n"
        f"  names        {', '.join(found.names) or '-'}\n"
        f"  valid        {found.not_before:%Y-%m-%d} to {found.not_after:%Y-%m-%d}\n"
        f"  fingerprint  {found.fingerprint}\n"
        f"  SHA-256      {found.sha256}"
    )
