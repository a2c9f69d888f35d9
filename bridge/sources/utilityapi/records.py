"""What is wanted of an account at UtilityAPI, and what is known of its meters from run to run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from bridge.notation import from_json, to_json
from bridge.sources.progress import Progress
from bridge.wire.utilityapi import Event

METER_MARK = "meter "  # what the mark of a meter is called, before its uid


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wanted of an account."""

    name: str  # of the source
    authorizations: tuple[str, ...]
    meters: tuple[str, ...]
    names: Mapping[str, str]
    history: timedelta
    bills: bool
    currency: str | None

    def meter_name(self, uid: str) -> str:
        """Return what a meter is called here."""
        return self.names.get(uid, f"{self.name}/{uid}")

    def concerns(self, event: Event) -> bool:
        """Whether an event may be about what is wanted."""
        pairs = ((self.authorizations, event.authorization), (self.meters, event.meter))
        named = event.authorization or event.meter
        return bool(named) and all(not wanted or not uid or uid in wanted for wanted, uid in pairs)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a meter from one run to the next."""

    authorization: str
    stopped: bool = False  # it may not be asked for any more
    several: bool = False  # it is several meters, told apart by their numbers
    alone: tuple[str, ...] = ()  # numbers that were said while it was one meter
    turn: int = 0  # how often there was news of it
    intervals: Progress = field(default_factory=Progress)
    bills: Progress = field(default_factory=Progress)

    def write(self) -> str:
        """Return it as the text of a mark."""
        return to_json(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Record":
        """Return what `write` wrote."""
        said = from_json(text)
        parts = {name: Progress.read(said[name]) for name in ("intervals", "bills")}
        return cls(**{**said, **parts, "alone": tuple(said.get("alone", ()))})
