"""What devices' states are at one instant."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from bridge import timeline
from bridge.deliver.bodies import state_key
from bridge.model import Audience, Event, Receiver
from bridge.notation import ZERO, to_json
from bridge.timeline import Silence


class States:
    """States at one instant, worked out once for all devices that are alike."""

    def __init__(
        self,
        events: Iterable[Event],
        offsets: Mapping[tuple[str, str], timedelta],
        programs: Mapping[str, Sequence[str]],
        silences: Mapping[tuple[str, timedelta], datetime],
        now: datetime,
    ) -> None:
        self._offsets, self._programs, self._silences = offsets, programs, silences
        self._now = now
        self._counted = [e for e in events if e.in_force]
        self._random = [e for e in self._counted if e.randomize]
        self._found: dict[object, tuple[str, str]] = {}  # as JSON, and its key
        self._followed: dict[Audience, list[Event]] = {}

    def json(self, receiver: Receiver) -> str:
        """Return a device's state as JSON."""
        return self._look_up(receiver)[0]

    def key(self, receiver: Receiver) -> str:
        """Return what tells whether a device's state changed."""
        return self._look_up(receiver)[1]

    def offset(self, event: Event, receiver: Receiver) -> timedelta:
        """Return how much later an event starts at a device."""
        if not event.randomize:
            return ZERO
        return self._offsets.get((event.id, receiver.name), ZERO)

    def withheld(self, event: Event, receiver: Receiver) -> bool:
        """Whether a dispatch does not begin at a device because its source is silent."""
        return timeline.withheld(event, receiver, self._silent(receiver))

    def _look_up(self, receiver: Receiver) -> tuple[str, str]:
        alike: object = (
            receiver.audience, receiver.refresh, receiver.stale_after, receiver.on_stale,
            receiver.name if self._random else None,
        )  # fmt: skip
        if alike not in self._found:
            events = [e.shifted(self.offset(e, receiver)) for e in self._follows(receiver.audience)]
            state = timeline.state(events, receiver, self._now, self._silent(receiver))
            self._found[alike] = (to_json(state), state_key(state))
        return self._found[alike]

    def _follows(self, audience: Audience) -> list[Event]:
        if audience not in self._followed:
            self._followed[audience] = [
                e for e in self._counted if audience.includes(e.program, e.audiences, test=e.test)
            ]
        return self._followed[audience]

    def _silent(self, receiver: Receiver) -> Mapping[str, Silence]:
        """Return the silent sources among those the device follows."""
        audience, programs = receiver.audience, self._programs
        return {
            source: Silence(source, since)
            for (source, limit), since in self._silences.items()
            if limit == receiver.stale_after
            and any(audience.includes(p, (), test=False) for p in programs.get(source, ("",)))
        }
