"""Signals out: one adapter a file. The list:"""

from bridge.devices.subscriber import Subscribers
from bridge.devices.webhook import Webhook

AnyDevice = Webhook  # with a second adapter: a union told apart by `kind`

__all__ = ["AnyDevice", "Subscribers", "Webhook"]
