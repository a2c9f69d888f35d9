"""Store to receiver: fan out what changed, send it, try again, give up."""

from bridge.deliver.fan_out import FanOut
from bridge.deliver.notifications import Notifications
from bridge.deliver.publisher import Publisher
from bridge.deliver.workers import Workers

__all__ = ["FanOut", "Notifications", "Publisher", "Workers"]
