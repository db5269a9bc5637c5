"""Rates and histories out of totals that somebody looks at now and then.

Nothing here counts. Whoever owns a total says what it is and when, and gets the rate of the last
seconds; what no longer reports is forgotten, so that the memory is bounded by what is alive.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ("Rate", "Sampler", "Track")


@final
class Rate:
    """Growth per second of one total over the last ``window`` seconds.

    A total that is smaller than before was begun anew: all of it is growth. A clock that stands
    still or goes backwards adds nothing.

    Args:
        window: Seconds over which the rate is a mean; one interval at least.
        most: Readings kept at most.

    Example:
        >>> rate = Rate(window=5.0)
        >>> rate.look(0.0, 100), rate.look(1.0, 150), rate.look(2.0, 160)
        (None, 50.0, 30.0)
    """

    def __init__(self, window: float, most: int = 64) -> None:
        self._window = window
        self._seen: deque[tuple[float, float]] = deque(maxlen=max(most, 2))
        self._total: float | None = None
        self.grown = 0.0

    def look(self, now: float, total: float) -> float | None:
        """Take in a reading; the rate, or ``None`` before there are two."""
        before, self._total = self._total, total
        if before is not None:
            self.grown += total - before if total >= before else total
        seen = self._seen
        if not seen or now > seen[-1][0]:
            seen.append((now, self.grown))
        while len(seen) > 2 and seen[1][0] <= now - self._window:
            seen.popleft()
        return self.value

    @property
    def value(self) -> float | None:
        """The rate as of the last reading."""
        if len(self._seen) < 2:
            return None
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return max(last - first, 0.0) / (ended - began)

    @property
    def latest(self) -> float | None:
        """The rate between the last two readings alone."""
        if len(self._seen) < 2:
            return None
        (began, first), (ended, last) = self._seen[-2], self._seen[-1]
        return max(last - first, 0.0) / (ended - began)


@final
class Track:
    """The last values of something, oldest first; the oldest makes room.

    Example:
        >>> track = Track(3)
        >>> for value in (1, 2, None, 4):
        ...     track.put(value)
        >>> track.values
        [2, None, 4]
    """

    def __init__(self, most: int) -> None:
        self._values: deque[float | None] = deque(maxlen=most)

    def put(self, value: float | None) -> None:
        """Add the value of now; ``None`` where there is none."""
        self._values.append(value)

    @property
    def values(self) -> list[float | None]:
        """What is kept."""
        return list(self._values)


@final
class Sampler:
    """All rates and tracks of a dashboard, by key.

    Args:
        window: Seconds of each `Rate`.
        most: Values of each `Track`.

    Example:
        >>> sampler = Sampler(window=5.0, most=60)
        >>> for now, total in ((0.0, 0), (1.0, 10)):
        ...     sampler.begin(now)
        ...     rate = sampler.rate("calls", total)
        ...     sampler.track("calls", rate)
        ...     sampler.end()
        >>> rate, sampler.history("calls")
        (10.0, [None, 10.0])
    """

    def __init__(self, *, window: float, most: int) -> None:
        self._window = window
        self._most = most
        self._rates: dict[Hashable, Rate] = {}
        self._tracks: dict[Hashable, Track] = {}
        self._reported: set[Hashable] = set()
        self._now = 0.0
        self._before: float | None = None
        self._began = False

    def begin(self, now: float) -> None:
        """A look begins; ``now`` is the time of all its readings."""
        self._before = self._now if self._began else None
        self._began = True
        self._now = now
        self._reported.clear()

    def rate(self, key: Hashable, total: float, *, born: bool = False) -> float | None:
        """Growth per second of the total called ``key``.

        Args:
            key: Whose.
            total: The total now.
            born: A total that was not there at the look before was 0 then.
        """
        self._reported.add(key)
        found = self._rates.get(key)
        if found is None:
            found = self._rates[key] = Rate(self._window)
            if born and self._before is not None:
                found.look(self._before, 0.0)
        return found.look(self._now, total)

    def latest(self, key: Hashable) -> float | None:
        """The rate between the last two looks alone, for a history that is not smoothed."""
        found = self._rates.get(key)
        return None if found is None else found.latest

    def track(self, key: Hashable, value: float | None) -> None:
        """Remember the value of now under ``key``."""
        self._reported.add(key)
        found = self._tracks.get(key)
        if found is None:
            found = self._tracks[key] = Track(self._most)
        found.put(value)

    def history(self, key: Hashable) -> list[float | None]:
        """What is remembered under ``key``."""
        found = self._tracks.get(key)
        return [] if found is None else found.values

    def end(self) -> None:
        """The look is over: forget what reported nothing in it."""
        for known in (self._rates, self._tracks):
            for key in [key for key in known if key not in self._reported]:
                del known[key]

    def __len__(self) -> int:
        """How many rates and tracks are kept."""
        return len(self._rates) + len(self._tracks)
