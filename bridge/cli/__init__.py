"""The command line: `openadr-bridge`."""

from bridge.cli.main import main

__all__ = ["main"]
