"""What a circuit breaker decides: one table of transitions, and the counts behind it.

Pure: time is an argument, nothing here locks. `hastack.ratelimit._circuit` holds the lock.
"""

from __future__ import annotations

import enum
from math import ceil, inf
from typing import TYPE_CHECKING, Final, NamedTuple, final

from ._outcome_window import CountWindow, Epoch, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable


class BreakerState(enum.Enum):
    """State of a circuit breaker.

    The first three follow each other by themselves; the others last until somebody ends them.
    """

    CLOSED = "closed"
    """Calls pass and are counted."""
    OPEN = "open"
    """Calls are refused until the open time is over."""
    HALF_OPEN = "half-open"
    """A few probes pass; their outcomes decide."""
    FORCED_OPEN = "forced open"
    """Calls are refused until somebody changes it."""
    DISABLED = "disabled"
    """Calls pass and nothing is counted."""
    OBSERVE_ONLY = "observe only"
    """Calls pass and are counted; what would have opened the breaker is only reported."""


class Signal(enum.Enum):
    """Why a breaker changes its state."""

    FAILURE_RATE = "failure rate reached"
    SLOW_RATE = "slow-call rate reached"
    OPEN_TIME_OVER = "open time over"
    PROBES_SUCCEEDED = "probes succeeded"
    PROBES_FAILED = "probes failed"
    FORCE_OPEN = "force_open()"
    DISABLE = "disable()"
    OBSERVE_ONLY = "observe_only()"
    ENABLE = "enable()"
    RESET = "reset()"


_AUTOMATIC = (BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN)
_MANUAL = (BreakerState.FORCED_OPEN, BreakerState.DISABLED, BreakerState.OBSERVE_ONLY)

TRANSITIONS: Final[dict[tuple[BreakerState, Signal], BreakerState]] = {
    (BreakerState.CLOSED, Signal.FAILURE_RATE): BreakerState.OPEN,
    (BreakerState.CLOSED, Signal.SLOW_RATE): BreakerState.OPEN,
    (BreakerState.OPEN, Signal.OPEN_TIME_OVER): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, Signal.PROBES_SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, Signal.PROBES_FAILED): BreakerState.OPEN,
    # Only reported: "would have opened".
    (BreakerState.OBSERVE_ONLY, Signal.FAILURE_RATE): BreakerState.OBSERVE_ONLY,
    (BreakerState.OBSERVE_ONLY, Signal.SLOW_RATE): BreakerState.OBSERVE_ONLY,
    **{(state, Signal.ENABLE): BreakerState.CLOSED for state in _MANUAL},
    **{(state, Signal.RESET): BreakerState.CLOSED for state in (*_AUTOMATIC, *_MANUAL)},
    **{
        (state, signal): target
        for signal, target in (
            (Signal.FORCE_OPEN, BreakerState.FORCED_OPEN),
            (Signal.DISABLE, BreakerState.DISABLED),
            (Signal.OBSERVE_ONLY, BreakerState.OBSERVE_ONLY),
        )
        for state in (*_AUTOMATIC, *_MANUAL)
        if state is not target
    },
}
"""The whole state machine. A pair that is missing changes nothing."""

SUCCESS: Final = 0
FAILURE: Final = 1
IGNORED: Final = 2
"""Says nothing about the dependency; a probe gives its slot back."""
ABANDONED: Final = 3
"""Cancelled by the caller: counts as slow if it had already lasted that long, else ignored."""


class Change(NamedTuple):
    """One transition that happened."""

    old: BreakerState
    new: BreakerState
    signal: Signal
    generation: int
    calls: int
    failures: int
    slow: int


@final
class BreakerRules:
    """Settings of one breaker, already validated; see `CircuitBreaker` for their meaning."""

    def __init__(
        self,
        *,
        failure_rate: float,
        slow_rate: float,
        slow_call: float,
        window: float,
        window_calls: int,
        min_calls: int,
        open_for: float,
        open_factor: float,
        open_max: float,
        jitter: float,
        half_open_calls: int,
        half_open_success: float,
        half_open_timeout: float,
    ) -> None:
        self.failure_rate: float = failure_rate
        self.slow_rate: float = slow_rate
        self.slow_call: float = slow_call
        self.window: float = window
        self.window_calls: int = window_calls
        self.min_calls: int = min_calls
        self.open_for: float = open_for
        self.open_factor: float = open_factor
        self.open_max: float = open_max
        self.jitter: float = jitter
        self.half_open_calls: int = half_open_calls
        # The tolerance keeps 0.1 * 30 from asking for four out of thirty.
        self.probes_needed: int = max(1, ceil(half_open_success * half_open_calls - 1e-9))
        self.half_open_timeout: float = half_open_timeout

    def new_window(self) -> Epoch:
        """An empty window: of calls when ``window_calls`` is set, else of time."""
        if self.window_calls:
            return CountWindow(self.window_calls)
        return TimeWindow(self.window, self.min_calls)


@final
class Probe(Epoch):
    """One call let through while half-open; never calm, so its outcome is always looked at."""

    def __init__(self, expires: float) -> None:
        super().__init__(-inf)
        self.expires: float = expires


@final
class BreakerCore:
    """State machine of one breaker. The caller serialises the methods.

    ``epoch``, ``shut_from`` and ``shut_until`` may be read without a lock: they are written in
    an order that makes every mixture of old and new values lead to a correct decision or to a
    method that takes the lock.

    Attributes:
        epoch: What permits are given under right now; ``None`` when calls need `grant`.
        shut_from: With ``shut_until``, the time in which every call is refused outright.
    """

    def __init__(self, rules: BreakerRules, rng: Callable[[], float], now: float) -> None:
        self.rules: BreakerRules = rules
        self.rng: Callable[[], float] = rng
        self.state: BreakerState = BreakerState.CLOSED
        self.generation: int = 0
        self.since: float = now
        self.opened_in_row: int = 0
        self.open_time: float = 0.0
        self.probes: dict[Probe, None] = {}
        self.probes_passed: int = 0
        self.probes_failed: int = 0
        self.shut_until: float = -inf
        self.shut_from: float = inf
        self.epoch: Epoch | None = rules.new_window()

    def wake(self, now: float) -> Change | None:
        """Do what has fallen due by ``now``: end the open time, fail probes that are overdue."""
        if now < self.since:
            self._rebase(now)
        if self.state is BreakerState.OPEN and now >= self.shut_until:
            return self.fire(Signal.OPEN_TIME_OVER, now)
        if self.state is BreakerState.HALF_OPEN:
            for probe in [probe for probe in self.probes if now >= probe.expires]:
                change = self.record(probe, now, now, FAILURE)
                if change is not None:
                    return change
        return None

    def grant(self, now: float) -> Epoch | None:
        """What a call that starts at ``now`` runs under, or ``None``: refused."""
        if self.state is not BreakerState.HALF_OPEN:
            return self.epoch
        # Probes that reported keep their place in the quota until the state is decided.
        taken = len(self.probes) + self.probes_passed + self.probes_failed
        if taken >= self.rules.half_open_calls:
            return None
        probe = Probe(now + self.rules.half_open_timeout)
        self.probes[probe] = None
        return probe

    def retry_after(self, now: float) -> float | None:
        """Seconds until a refused call may be tried again; ``None`` when nobody knows."""
        if self.state is BreakerState.OPEN:
            return max(0.0, self.shut_until - max(now, self.since))
        return None

    def record(self, epoch: Epoch, start: float, now: float, outcome: int) -> Change | None:
        """Count the outcome of a call that ran under ``epoch`` from ``start`` to ``now``.

        Outcomes of an older generation, of an overdue probe, or reported twice by a probe
        change nothing.
        """
        slow = now - start > self.rules.slow_call
        if isinstance(epoch, Probe):
            return self._record_probe(epoch, slow, now, outcome)
        if epoch is not self.epoch or outcome == IGNORED or (outcome == ABANDONED and not slow):
            return None
        epoch.add(now, outcome == FAILURE, slow)
        if epoch.calls < self.rules.min_calls:
            return None
        if epoch.failures and epoch.failures >= self.rules.failure_rate * epoch.calls - 1e-9:
            return self.fire(Signal.FAILURE_RATE, now)
        if epoch.slow and epoch.slow >= self.rules.slow_rate * epoch.calls - 1e-9:
            return self.fire(Signal.SLOW_RATE, now)
        return None

    def _record_probe(self, probe: Probe, slow: bool, now: float, outcome: int) -> Change | None:
        if probe not in self.probes:
            return None
        del self.probes[probe]
        if outcome == IGNORED or (outcome == ABANDONED and not slow):
            return None
        if outcome == SUCCESS and not slow:
            self.probes_passed += 1
            if self.probes_passed >= self.rules.probes_needed:
                return self.fire(Signal.PROBES_SUCCEEDED, now)
            return None
        self.probes_failed += 1
        if self.probes_failed > self.rules.half_open_calls - self.rules.probes_needed:
            return self.fire(Signal.PROBES_FAILED, now)
        return None

    def fire(self, signal: Signal, now: float) -> Change | None:
        """Take the transition that the table has for ``signal``, if it has one."""
        old = self.state
        new = TRANSITIONS.get((old, signal))
        if new is None:
            return None
        calls, failures, slow = self.counts()
        # Drawn before anything changes: whatever the generator does, no transition is half done.
        luck = self.rng() if new is BreakerState.OPEN else 0.0
        # First of all no lock-free path may admit or refuse any more.
        self.epoch = None
        self.shut_from = inf
        self.generation += 1
        self.probes = {}
        self.probes_passed = self.probes_failed = 0
        if new is BreakerState.OPEN:
            self._open(old, now, luck)
        elif new is BreakerState.FORCED_OPEN:
            self.shut_until = inf
            self.shut_from = -inf
        if signal is Signal.RESET or old in _MANUAL:
            self.opened_in_row = 0
            self.open_time = 0.0
        self.state = new
        self.since = now
        if new is BreakerState.DISABLED:
            self.epoch = Epoch(inf)
        elif new in _COUNTING:
            self.epoch = self.rules.new_window()
        return Change(old, new, signal, self.generation, calls, failures, slow)

    def counts(self) -> tuple[int, int, int]:
        """Calls, failures and slow calls that count in the present state."""
        if self.state is BreakerState.HALF_OPEN:
            return self.probes_passed + self.probes_failed, self.probes_failed, 0
        if self.epoch is None:
            return 0, 0, 0
        return self.epoch.calls, self.epoch.failures, self.epoch.slow

    def _open(self, old: BreakerState, now: float, luck: float) -> None:
        # The delay starts over only after a healthy close: one that lasted at least as long as
        # the breaker had been open before. A breaker that flaps keeps growing its delay.
        if old is BreakerState.CLOSED and now - self.since >= self.open_time:
            self.opened_in_row = 0
        rules = self.rules
        # The exponent is bounded, or the power would overflow long after the cap is reached.
        delay = rules.open_for * rules.open_factor ** min(self.opened_in_row, 64)
        self.open_time = min(delay, rules.open_max)
        self.opened_in_row += 1
        wait = self.open_time * (1.0 + rules.jitter * (2.0 * luck - 1.0))
        self.shut_until = now + wait
        self.shut_from = now

    def _rebase(self, now: float) -> None:
        """The clock went backwards: keep what is left of every wait, counted from ``now``."""
        shift = self.since - now
        self.since = now
        if self.state is BreakerState.OPEN:
            self.shut_until -= shift
            self.shut_from = now
        for probe in self.probes:
            probe.expires -= shift

    def forget_callers(self) -> None:
        """In a forked child: the probes in flight belong to the parent."""
        self.probes = {}


_COUNTING = (BreakerState.CLOSED, BreakerState.OBSERVE_ONLY)


def transition_diagram() -> str:
    """The automatic part of the table, one arrow per line, for the documentation."""
    rows = [
        (state.value, signal.value, target.value)
        for (state, signal), target in TRANSITIONS.items()
        if state in _AUTOMATIC and target in _AUTOMATIC and signal is not Signal.RESET
    ]
    wide = max(len(state) for state, _, _ in rows)
    long = max(len(signal) for _, signal, _ in rows)
    return "\n".join(
        f"{state:<{wide}}  ── {signal} {'─' * (long - len(signal))}──▶  {target}"
        for state, signal, target in rows
    )
