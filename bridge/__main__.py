"""`python -m bridge` is `openadr-bridge`."""

from bridge.cli import main

main()
