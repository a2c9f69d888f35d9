"""Signals and usage in: one adapter a file. The list:"""

from bridge.sources.openadr2 import OpenADR2

AnySource = OpenADR2  # with a second adapter: a union told apart by `kind`

__all__ = ["AnySource", "OpenADR2"]
