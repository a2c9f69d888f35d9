"""OpenADR 2.0b for devices: its listener, what it answers from, and what it asks of VENs."""

from bridge.vtn.openadr2.board import Board
from bridge.vtn.openadr2.endpoint import Endpoint, Terms
from bridge.vtn.openadr2.identity import Files, Identity
from bridge.vtn.openadr2.offering import Offering
from bridge.vtn.openadr2.outs import Outs
from bridge.vtn.openadr2.services import Services

__all__ = ["Board", "Endpoint", "Files", "Identity", "Offering", "Outs", "Services", "Terms"]
