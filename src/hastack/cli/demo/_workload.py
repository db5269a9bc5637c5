"""When requests arrive, when the dependency is sick, and what a perfect breaker would say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import attrs

from hastack.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen(kw_only=True)
class Plan:
    """One experiment, the same for every strategy. All times in seconds.

    Attributes:
        rate: Mean arrivals per second.
        duration: Length of the load.
        seed: Of arrivals, service times and errors.
        workers: Calls that the dependency serves at once.
        service_time: Mean time that one call occupies a worker.
        queue: Calls that may wait in the dependency; more are refused.
        deadline: After this a client has no use for the answer.
        patience: After this a client stops listening; latencies are cut off here.
        sick_from: Start of the brown-out, as a share of ``duration``.
        sick_to: Its end, likewise.
        sick_capacity: Share of the capacity that is left in the brown-out.
        sick_errors: Share of calls that fail in the brown-out.
        tick: Time between two looks at the breaker.
    """

    rate: float = 320.0
    duration: float = 9.0
    seed: int = 1
    workers: int = 8
    service_time: float = 0.05
    queue: int = 320
    deadline: float = 1.0
    patience: float = 2.0
    sick_from: float = 1 / 3
    sick_to: float = 2 / 3
    sick_capacity: float = 0.3
    sick_errors: float = 0.6
    tick: float = 0.1

    @property
    def capacity(self) -> float:
        """Calls per second that the healthy dependency can answer."""
        return self.workers / self.service_time

    @property
    def beat(self) -> float:
        """One second, or less when the whole run is shorter than nine.

        Every time constant that must fit into the run (the oracle's grace, how long a breaker
        stays open) is a multiple of it, for all strategies alike.
        """
        return min(1.0, self.duration / 9.0)

    @property
    def brownout(self) -> tuple[float, float]:
        """Start and end of the brown-out, in seconds from the start of the load."""
        return self.duration * self.sick_from, self.duration * self.sick_to

    def sick(self, at: float) -> bool:
        """Whether the dependency is in its brown-out ``at`` seconds after the start."""
        start, end = self.brownout
        return start <= at < end

    def judged(self, at: float) -> bool:
        """Whether a breaker is judged at this moment: not within the grace after a change."""
        return not any(change <= at < change + self.beat for change in self.brownout)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return attrs.asdict(self)


def poisson(rate: float, duration: float, seed: int) -> list[float]:
    """Arrival times of a Poisson process: what many independent clients look like."""
    rng = random.Random(f"arrivals-{seed}")
    times: list[float] = []
    at = rng.expovariate(rate)
    while at < duration:
        times.append(at)
        at += rng.expovariate(rate)
    return times


def replay(
    stamps: Sequence[float], resolution: float, *, rate: float, duration: float, seed: int
) -> list[float]:
    """Arrival times with the shape of a log, fitted to ``duration`` and to the mean ``rate``.

    Stamps that were cut to ``resolution`` seconds are spread evenly at random over it. A log
    with more requests than needed is thinned at random; one with fewer is repeated, each
    repetition spread anew, so that bursts and pauses keep their place.

    Args:
        stamps: Times of the log's requests, in seconds, in any order.
        resolution: Step of the stamps, in seconds.
        rate: Mean arrivals per second of the result.
        duration: Length of the result, in seconds.
        seed: Of the choice and the spreading.

    Raises:
        InvalidArgument: There are no stamps.
    """
    if not stamps:
        raise InvalidArgument("stamps", len(stamps), "at least one time")
    rng = random.Random(f"replay-{seed}")
    wanted = max(1, round(rate * duration))
    whole, rest = divmod(wanted, len(stamps))
    chosen = [*stamps] * whole + rng.sample(list(stamps), rest)
    first = min(stamps)
    scale = duration / (max(stamps) - first + resolution)
    times = ((stamp - first + rng.random() * resolution) * scale for stamp in chosen)
    # Rounding may push the last one onto the end, which is outside.
    return sorted(min(at, duration * (1 - 1e-9)) for at in times)
