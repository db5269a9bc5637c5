"""Where every unit is: sent, queued, in flight, spilled, or dropped for a reason.

A unit is what a receiver counts: a span, a log record, a data point. The identity

    emitted + recovered = sent + queued + in flight + spilled + dropped

holds between any two calls, because every method moves units from one place to another.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@final
@attrs.frozen(kw_only=True)
class Account:
    """What happened to everything that was emitted, at one moment.

    Units are spans, log records or data points.

    Attributes:
        emitted: Units handed in by this process.
        recovered: Units found in the spill of a process that ended before.
        sent: Units that the backend took.
        queued: Units in memory, those that wait for a further try included.
        in_flight: Units in a request whose answer is not known yet.
        spilled: Units on disk.
        dropped: Units lost, by reason; `hastack.observe.Pipeline` lists the reasons.
        requests: Requests made.
        retried: Requests made again because of an answer or because there was none.
        repaired: Values that could not be sent as they were, and were sent as something close.
        suppressed: Units made by the exporter's own threads, which are never exported.

    Example:
        >>> from hastack.observe import Account
        >>> account = Account(emitted=5, sent=3, queued=1, dropped={"rejected": 1})
        >>> account.balanced, account.lost
        (True, 1)
    """

    emitted: int = 0
    recovered: int = 0
    sent: int = 0
    queued: int = 0
    in_flight: int = 0
    spilled: int = 0
    dropped: Mapping[str, int] = attrs.field(factory=lambda: MappingProxyType({}))
    requests: int = 0
    retried: int = 0
    repaired: int = 0
    suppressed: int = 0

    @property
    def lost(self) -> int:
        """Units dropped, for whatever reason."""
        return sum(self.dropped.values())

    @property
    def pending(self) -> int:
        """Units whose fate is open: queued, in flight or spilled."""
        return self.queued + self.in_flight + self.spilled

    @property
    def balanced(self) -> bool:
        """Whether nothing is unaccounted for. Always true; a false one is a bug in hastack."""
        return self.emitted + self.recovered == self.sent + self.pending + self.lost

    def __str__(self) -> str:
        parts = [f"{self.emitted} emitted"]
        if self.recovered:
            parts.append(f"{self.recovered} recovered")
        parts.append(f"{self.sent} sent")
        for name in ("queued", "in_flight", "spilled"):
            count = getattr(self, name)
            if count:
                parts.append(f"{count} {name.replace('_', ' ')}")
        parts += [f"{count} dropped ({reason})" for reason, count in sorted(self.dropped.items())]
        return ", ".join(parts)


def total(accounts: Iterable[Account]) -> Account:
    """The sum of several accounts."""
    counts = {f.name: 0 for f in attrs.fields(Account) if f.name != "dropped"}
    dropped: dict[str, int] = {}
    for each in accounts:
        for name in counts:
            counts[name] += getattr(each, name)
        for reason, count in each.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Account(**counts, dropped=MappingProxyType(dropped))


@final
class Ledger:
    """The running account; whoever calls holds a lock.

    ``emitted`` and ``queued`` are also counted up directly on the hot path.
    """

    __slots__ = (
        "dropped",
        "emitted",
        "in_flight",
        "queued",
        "recovered",
        "repaired",
        "requests",
        "retried",
        "sent",
        "spilled",
        "suppressed",
    )

    def __init__(self) -> None:
        self.emitted = 0
        self.recovered = 0
        self.sent = 0
        self.queued = 0
        self.in_flight = 0
        self.spilled = 0
        self.requests = 0
        self.retried = 0
        self.repaired = 0
        self.suppressed = 0
        self.dropped: dict[str, int] = {}

    def snapshot(self) -> Account:
        """The account at this moment."""
        return Account(
            emitted=self.emitted,
            recovered=self.recovered,
            sent=self.sent,
            queued=self.queued,
            in_flight=self.in_flight,
            spilled=self.spilled,
            dropped=MappingProxyType(dict(self.dropped)),
            requests=self.requests,
            retried=self.retried,
            repaired=self.repaired,
            suppressed=self.suppressed,
        )

    def _lose(self, units: int, reason: str) -> None:
        if units:
            self.dropped[reason] = self.dropped.get(reason, 0) + units

    def refuse(self, units: int, reason: str) -> None:
        """Emitted and dropped at once."""
        self.emitted += units
        self._lose(units, reason)

    def recover(self, units: int) -> None:
        """Found on disk."""
        self.recovered += units
        self.spilled += units

    def drop_queued(self, units: int, reason: str) -> None:
        """Lost out of memory."""
        self.queued -= units
        self._lose(units, reason)

    def drop_spilled(self, units: int, reason: str) -> None:
        """Lost from disk."""
        self.spilled -= units
        self._lose(units, reason)

    def drop_in_flight(self, units: int, reason: str) -> None:
        """The answer, or that there will be none, means that these are lost."""
        self.in_flight -= units
        self._lose(units, reason)

    def spill(self, units: int) -> None:
        """Out of memory, onto disk."""
        self.queued -= units
        self.spilled += units

    def launch(self, units: int, *, from_disk: bool) -> None:
        """Into a request."""
        if from_disk:
            self.spilled -= units
        else:
            self.queued -= units
        self.in_flight += units
        self.requests += 1

    def land(self, units: int, rejected: int) -> None:
        """The backend answered: taken, but for those it rejected."""
        self.in_flight -= units
        self.sent += units - rejected
        self._lose(rejected, "rejected")

    def come_back(self, units: int, *, to_disk: bool) -> None:
        """Out of a request that has to be made again."""
        self.in_flight -= units
        if to_disk:
            self.spilled += units
        else:
            self.queued += units
