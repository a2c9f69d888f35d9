"""Signals and usage in: one adapter a file. The list:"""

from typing import Annotated

from pydantic import Field

from bridge.sources.customer import Customer
from bridge.sources.feed import Feed
from bridge.sources.greenbutton import GreenButton
from bridge.sources.gridx import GridX
from bridge.sources.midas import Midas
from bridge.sources.mqtt import Mqtt
from bridge.sources.openadr2 import OpenADR2
from bridge.sources.pricing import PricingSource
from bridge.sources.utilityapi import UtilityAPI

AnySource = Annotated[
    OpenADR2 | GridX | Midas | Feed | GreenButton | UtilityAPI | Customer | Mqtt,
    Field(discriminator="kind"),
]

__all__ = [
    "AnySource",
    "Customer",
    "Feed",
    "GreenButton",
    "GridX",
    "Midas",
    "Mqtt",
    "OpenADR2",
    "PricingSource",
    "UtilityAPI",
]
