"""The VTN for OpenADR 3.1.0: programs, events and their kin for any client of the standard."""

from bridge.vtn.openadr3.auth import Auth
from bridge.vtn.openadr3.callbacks import Callbacks, Challenge
from bridge.vtn.openadr3.notifiers import Broker, Notifiers
from bridge.vtn.openadr3.objects import Objects

__all__ = ["Auth", "Broker", "Callbacks", "Challenge", "Notifiers", "Objects"]
