"""One look at a process: what the readers of rows may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._sampling import Sampler

__all__ = ("Look",)


@final
class Look:
    """What is the same for all rows of one snapshot.

    Args:
        sampler: Rates and histories.
        counts: What the recorder counted: ``(kind, name, reason)`` -> total.
        reloads: Outcome of the last reload of a configuration.
        last_of: Last line of the log about each plugin.
        held: Rows whose readiness the dashboard holds.
        key: Identity of an object's row.
        tally: What an object let through since it is watched.
        breaker_calls: Calls that a breaker counted since it is watched.
        wall: Wall clock in seconds since the epoch.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        counts: dict[tuple[str, str, str], int],
        reloads: Mapping[str, Any],
        last_of: Mapping[str, str],
        held: Mapping[str, object],
        key: Callable[[object], str],
        tally: Callable[[Any], int],
        breaker_calls: Callable[[Any], int],
        wall: float,
    ) -> None:
        self.sampler = sampler
        self.counts = counts
        self.reloads = reloads
        self.last_of = last_of
        self.held = held
        self.key = key
        self.allowed = self.calls = tally
        self.breaker_calls = breaker_calls
        self.wall = wall
        self._refused: dict[str, dict[str, int]] = {}
        for (kind, name, reason), total in counts.items():
            if kind == "rejected":
                self._refused.setdefault(name, {})[reason] = total
        # Once per name and not per row: two guards may share a name, and with it their refusals.
        self._rates = {
            name: {
                reason: sampler.rate(("rejected", name, reason), total, born=True)
                for reason, total in reasons.items()
            }
            for name, reasons in self._refused.items()
        }

    def refusals(self, name: str) -> tuple[int, float | None, dict[str, float]]:
        """Refused in all, per second, and per second by reason, under this name."""
        total = sum(self._refused.get(name, {}).values())
        rates = {
            reason: rate for reason, rate in self._rates.get(name, {}).items() if rate is not None
        }
        return total, sum(rates.values()), {k: v for k, v in rates.items() if v}

    def latest_refused(self, name: str) -> float:
        """Refused per second between the last two looks."""
        reasons = self._refused.get(name, {})
        found = (self.sampler.latest(("rejected", name, reason)) for reason in reasons)
        return sum(each or 0.0 for each in found)
