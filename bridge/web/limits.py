"""How much of anybody is borne: requests in a second, and what went wrong in a minute."""

import time
from collections import deque
from collections.abc import Callable, Hashable

MINUTE, MOST_REMEMBERED = 60.0, 10_000


class RateLimit:
    """Lets each caller ask so many times in a second, and as many at once after a rest."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left: dict[Hashable, tuple[float, float]] = {}  # who → how many, when

    def take(self, who: Hashable) -> int | None:
        """Return how many more requests are allowed now, or None where this one is not."""
        now = self._clock()
        left, then = self._left.get(who, (float(self.rate), now))
        left = min(left + (now - then) * self.rate, float(self.rate))
        if who not in self._left and len(self._left) >= MOST_REMEMBERED:
            self._left = {w: found for w, found in self._left.items() if now - found[1] < 1}
        if left < 1:
            return None
        self._left[who] = left - 1, now
        return int(left - 1)


class Patience:
    """Counts what went wrong in the last minute, by whoever it went wrong with."""

    def __init__(self) -> None:
        self._times: dict[Hashable, deque[float]] = {}

    def lasts(self, who: Hashable, most: int) -> bool:
        """Whether fewer than so many things went wrong in the last minute."""
        times, now = self._times.get(who, deque()), time.monotonic()
        while times and now - times[0] > MINUTE:
            times.popleft()
        return len(times) < most

    def note(self, who: Hashable) -> None:
        """Note that something went wrong now."""
        now = time.monotonic()
        if len(self._times) > MOST_REMEMBERED:
            self._times = {k: t for k, t in self._times.items() if t and now - t[-1] <= MINUTE}
        self._times.setdefault(who, deque(maxlen=1000)).append(now)

    def forget(self, who: Hashable) -> None:
        """Take the last note back: it went well after all."""
        if times := self._times.get(who):
            times.pop()
