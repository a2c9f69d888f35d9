"""The admin endpoint: how the bridge is, what it knows, and what it owes."""

from bridge.admin.api import Api
from bridge.admin.health import HealthPages, Vitals
from bridge.admin.meters import MeterPages
from bridge.admin.metrics import Metrics

__all__ = ["Api", "HealthPages", "MeterPages", "Metrics", "Vitals"]
