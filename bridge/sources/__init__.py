"""Signals and usage in: one adapter a file. The list:"""

from typing import Annotated

from pydantic import Field

from bridge.sources.gridx import GridX
from bridge.sources.openadr2 import OpenADR2

AnySource = Annotated[OpenADR2 | GridX, Field(discriminator="kind")]

__all__ = ["AnySource", "GridX", "OpenADR2"]
