"""The admin endpoint: how the bridge is, what it knows, and what it owes."""

from bridge.admin.api import Api
from bridge.admin.health import HealthPages, Vitals

__all__ = ["Api", "HealthPages", "Vitals"]
