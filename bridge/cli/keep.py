"""backup, restore, db: the store as a file."""

from pathlib import Path

import click

from bridge.cli.common import command, say
from bridge.config import read_settings
from bridge.store import files


@click.group()
def db() -> None:
    """Look after the database file."""


def add_keeping(main: click.Group) -> None:
    """Add these commands to the command line."""
    main.add_command(db)
    for made in (backup, restore):
        main.add_command(made)


_top = click.Group()


@command(_top, "backup", example="openadr-bridge backup bridge-2027-01-01.db")
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path, config: Path, as_json: bool) -> None:
    """Write a copy of the store, also while the bridge runs.

    Certificates, keys and secret files are not in it: keep those apart, and safe.
    """
    size = files.backup(read_settings(config, files=False).store.path, file)
    words = f"{file}: {size} bytes; certificates, keys and secret files are not in it"
    say({"file": str(file), "bytes": size}, words, as_json=as_json)


@command(_top, "restore", example="openadr-bridge restore bridge-2027-01-01.db")
@click.argument("file", type=click.Path(path_type=Path))
def restore(file: Path, config: Path, as_json: bool) -> None:
    """Put a backup in the store's place; the bridge must not be running.

    The backup is checked first; what stood there is kept beside it.
    """
    path = read_settings(config, files=False).store.path
    former = files.restore(file, path)
    words = f"{path}: restored" + (f"; what stood there is {former}" if former else "")
    say({"store": str(path), "former": str(former) if former else None}, words, as_json=as_json)


@command(db, "stats", example="openadr-bridge db stats")
def stats(config: Path, as_json: bool) -> None:
    """Say how many rows of what the store holds."""
    path = read_settings(config, files=False).store.path
    about = files.check(path)
    counts = files.counts(path)
    words = "\n".join(f"{name:16} {n:>10}" for name, n in counts.items())
    say({**about, "bytes": path.stat().st_size, "rows": counts}, words, as_json=as_json)


@command(db, "vacuum", example="openadr-bridge db vacuum")
def vacuum(config: Path, as_json: bool) -> None:
    """Rewrite the file without its gaps; the bridge must not be running."""
    path = read_settings(config, files=False).store.path
    before, after = files.vacuum(path)
    say({"before": before, "after": after}, f"{path}: {before} → {after} bytes", as_json=as_json)
