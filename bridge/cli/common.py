"""What every command has: `-c FILE`, `--json`, and one way to fail."""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bridge.errors import BridgeError, SettingsError
from bridge.model import Document
from bridge.notation import to_json

DEFAULT = Path("bridge.toml")
BAD_SETTINGS, FAILED = 2, 1  # exit statuses


def command(
    group: click.Group, name: str, *, example: str
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command with `-c`, `--json` and an example in its help."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except SettingsError as error:
                fail(str(error), BAD_SETTINGS)
            except BridgeError as error:
                fail(str(error), FAILED)

        run.__doc__ = f"{(function.__doc__ or '').rstrip()}\n\n\b\nExample:\n  {example}\n"
        made = click.option(
            "-c", "--config", type=click.Path(path_type=Path), default=DEFAULT,
            show_default=True, help="The settings file.",
        )(run)  # fmt: skip
        made = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(
            made
        )
        return group.command(name)(made)

    return decorate


def fail(message: str, status: int) -> None:
    """Say what is wrong on stderr and exit."""
    click.echo(message, err=True)
    sys.exit(status)


def say(value: Document | Sequence[Document], text: str, *, as_json: bool) -> None:
    """Print a result, as JSON or in words."""
    click.echo(to_json(value) if as_json else text)


def table(rows: Sequence[Document], columns: Sequence[str]) -> str:
    """Return rows as aligned columns."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [["-" if row.get(c) is None else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
