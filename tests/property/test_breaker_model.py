"""The breaker against a naive model, under random schedules of everything that can happen."""

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from hastack import events
from hastack.ratelimit import BreakerChanged, BreakerState, CircuitBreaker
from hastack.testing import ManualClock

CLOSED, OPEN, HALF = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
PASSING = {CLOSED, BreakerState.DISABLED, BreakerState.OBSERVE_ONLY}
ERRORS = {"failure": OSError, "cancelled": asyncio.CancelledError, "answer": KeyError}
OUTCOMES = st.sampled_from(["success", "failure", "cancelled", "answer"])
SLOTS = 10


class Model:
    """Says the same as the breaker by keeping every outcome and counting them anew."""

    def __init__(self, now, settings):
        self.__dict__.update(settings)
        self.state, self.since, self.generation = CLOSED, now, 0
        self.log = []  # (slot, failed, slow) of this generation
        self.probes = {}  # permit -> when it was given
        self.reported = []
        self.until, self.in_row, self.open_time = None, 0, 0.0

    def enter(self, state, now):
        if state is OPEN:
            if self.state is CLOSED and now - self.since >= self.open_time:
                self.in_row = 0
            self.open_time = min(self.open_for * 2.0**self.in_row, self.open_max)
            self.in_row += 1
            self.until = now + self.open_time
        self.state, self.since = state, now
        self.generation += 1
        self.log, self.probes, self.reported = [], {}, []

    def by_hand(self, state, now):
        manual = {BreakerState.FORCED_OPEN, BreakerState.DISABLED, BreakerState.OBSERVE_ONLY}
        if state is CLOSED or self.state in manual:
            self.in_row, self.open_time = 0, 0.0
        self.enter(state, now)

    def ask(self, now):
        """Whether a call is admitted."""
        if self.state in PASSING:
            return True
        if self.state is OPEN and now >= self.until:
            self.enter(HALF, now)
        if self.state is HALF:
            for permit, given in list(self.probes.items()):
                if self.state is HALF and now >= given + self.half_open_timeout:
                    self.report_probe(permit, False, now)
        return self.state is HALF and len(self.probes) + len(self.reported) < self.half_open_calls

    def report_probe(self, permit, good, now):
        del self.probes[permit]
        self.reported.append(good)
        if self.reported.count(True) >= self.needed:
            self.enter(CLOSED, now)
        elif self.reported.count(False) > self.half_open_calls - self.needed:
            self.enter(OPEN, now)

    def report(self, permit, generation, given, outcome, now):
        slow = now - given > self.slow_call
        silent = outcome == "cancelled" and not slow
        if generation != self.generation:
            return
        if self.state is HALF:
            if permit not in self.probes:
                return
            if silent:
                del self.probes[permit]
            else:
                good = outcome in {"success", "answer"} and not slow
                self.report_probe(permit, good, now)
        elif self.state in {CLOSED, BreakerState.OBSERVE_ONLY} and not silent:
            newest = max([slot for slot, _, _ in self.log], default=0)
            self.log.append((max(self.slot(now), newest), outcome == "failure", slow))
            self.judge(now)

    def slot(self, now):
        return int(now // (self.window / SLOTS))

    def remembered(self, now):
        if self.window_calls:
            return self.log[-self.window_calls :]
        return [entry for entry in self.log if entry[0] > self.slot(now) - SLOTS]

    def judge(self, now):
        seen = self.remembered(now)
        failures = sum(failed for _, failed, _ in seen)
        slow = sum(slow for _, _, slow in seen)
        if len(seen) < self.min_calls:
            return
        reached = failures >= self.failure_rate * len(seen) or slow >= self.slow_rate * len(seen)
        if reached:
            self.enter(OPEN if self.state is CLOSED else self.state, now)


def broken_subscriber(event):
    raise ZeroDivisionError


class AgainstModel(RuleBasedStateMachine):
    permits = Bundle("permits")

    @initialize(
        count_window=st.booleans(),
        quota=st.integers(1, 4),
        share=st.sampled_from([0.25, 0.5, 1.0]),
        min_calls=st.integers(1, 6),
    )
    def build(self, count_window, quota, share, min_calls):
        chosen = {
            "failure_rate": 0.5,
            "slow_rate": 0.75,
            "slow_call": 2.0,
            "min_calls": min_calls,
            "open_for": 4.0,
            "open_max": 16.0,
            "half_open_calls": quota,
            "half_open_timeout": 12.0,
            "window": 10.0,
            "window_calls": 8 if count_window else 0,
        }
        self.clock = ManualClock()
        self.model = Model(
            self.clock.monotonic(), chosen | {"needed": max(1, -int(-share * quota // 1))}
        )
        chosen.pop("window" if count_window else "window_calls")
        self.breaker = CircuitBreaker(
            **chosen,
            half_open_success=share,
            jitter=0.0,
            clock=self.clock,
            failures=OSError,
        )
        self.stop = events.subscribe(broken_subscriber, BreakerChanged)

    def teardown(self):
        if hasattr(self, "stop"):
            self.stop()

    @rule(target=permits)
    def admit(self):
        now = self.clock.monotonic()
        expected = self.model.ask(now)
        permit = self.breaker.try_acquire()
        assert bool(permit) == expected
        if expected and self.model.state is HALF:
            self.model.probes[permit] = now
        return permit, self.model.generation, now

    @rule(entry=consumes(permits), outcome=OUTCOMES)
    def report(self, entry, outcome):
        self.tell(entry, outcome)

    @rule(entry=permits, outcome=OUTCOMES)
    def report_perhaps_twice(self, entry, outcome):
        self.tell(entry, outcome)

    def tell(self, entry, outcome):
        permit, generation, given = entry
        told = permit._permit is None
        if outcome == "success":
            permit.success()
        else:
            permit.failure(ERRORS[outcome]())
        if not told:
            self.model.report(permit, generation, given, outcome, self.clock.monotonic())

    @rule(outcome=OUTCOMES, times=st.integers(1, 8))
    def whole_calls(self, outcome, times):
        for _ in range(times):
            entry = self.admit()
            self.tell(entry, outcome)

    @rule(quarters=st.integers(1, 80))
    def time_passes(self, quarters):
        self.clock.advance(quarters / 4)

    @precondition(lambda self: self.model.state is OPEN)
    @rule()
    def open_time_passes(self):
        self.clock.advance(max(0.0, self.model.until - self.clock.monotonic()))

    @rule(target_state=st.sampled_from(list(BreakerState)))
    def by_hand(self, target_state):
        method = {
            BreakerState.FORCED_OPEN: self.breaker.force_open,
            BreakerState.DISABLED: self.breaker.disable,
            BreakerState.OBSERVE_ONLY: self.breaker.observe_only,
            CLOSED: self.breaker.reset,
            OPEN: self.breaker.enable,
            HALF: self.breaker.enable,
        }[target_state]
        method()
        automatic = target_state in {OPEN, HALF}
        if automatic and self.model.state in {CLOSED, OPEN, HALF}:
            return
        wanted = CLOSED if automatic else target_state
        if wanted is not self.model.state or wanted is CLOSED:
            self.model.by_hand(wanted, self.clock.monotonic())

    @invariant()
    def same_as_model(self):
        if not hasattr(self, "model"):
            return
        snapshot = self.breaker.snapshot()
        assert snapshot.state is self.model.state
        assert snapshot.generation == self.model.generation
        assert snapshot.probes_in_flight == len(self.model.probes)
        if self.model.state in {CLOSED, BreakerState.OBSERVE_ONLY}:
            seen = self.model.remembered(self.clock.monotonic())
            assert (snapshot.calls, snapshot.failures, snapshot.slow) == (
                len(seen),
                sum(failed for _, failed, _ in seen),
                sum(slow for _, _, slow in seen),
            )
        if self.model.state is OPEN:
            left = max(0.0, self.model.until - self.clock.monotonic())
            assert snapshot.retry_after == left


class UnderBadClocks(RuleBasedStateMachine):
    """What must hold whatever the clock does, backward jumps included."""

    permits = Bundle("permits")

    @initialize(quota=st.integers(1, 3), min_calls=st.integers(1, 4))
    def build(self, quota, min_calls):
        self.clock = ManualClock()
        self.quota = quota
        self.breaker = CircuitBreaker(
            min_calls=min_calls,
            open_for=4.0,
            open_max=8.0,
            half_open_calls=quota,
            half_open_timeout=12.0,
            slow_call=3.0,
            clock=self.clock,
        )
        self.given = Counter()
        self.returned = Counter()

    @rule(target=permits)
    def admit(self):
        permit = self.breaker.try_acquire()
        generation = self.breaker.snapshot().generation
        if permit and self.breaker.state is HALF:
            self.given[generation] += 1
        return permit, generation

    @rule(entry=permits, outcome=OUTCOMES)
    def report(self, entry, outcome):
        permit, generation = entry
        before = self.breaker.snapshot()
        if outcome == "success":
            permit.success()
        else:
            permit.failure(ERRORS[outcome]())
        after = self.breaker.snapshot()
        if generation < before.generation:
            assert after.generation == before.generation
            assert after.probes_in_flight == before.probes_in_flight
            assert after.calls == before.calls
        if before.state is HALF and after.generation == before.generation:
            gone = before.probes_in_flight - after.probes_in_flight
            self.returned[generation] += gone - (after.calls - before.calls)

    @rule(reading=st.floats(-1e9, 1e9))
    def clock_jumps(self, reading):
        self.clock.set(reading)

    @rule(seconds=st.floats(0.0, 40.0))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def half_open_always_resolves(self):
        """Whatever happened before, a dependency that is well closes the breaker in bounded time."""
        for _ in range(4 * self.quota + 4):
            permit = self.breaker.try_acquire()
            if permit:
                permit.success()
            if self.breaker.state is CLOSED:
                return
            self.clock.advance(13.0)  # more than any open time and than the probe's timeout
        raise AssertionError(self.breaker.snapshot())

    @invariant()
    def quota_holds(self):
        if not hasattr(self, "breaker"):
            return
        snapshot = self.breaker.snapshot()
        assert snapshot.probes_in_flight <= self.quota
        if snapshot.state is HALF:
            assert snapshot.probes_in_flight + snapshot.calls <= self.quota
        else:
            assert snapshot.probes_in_flight == 0
        for generation, given in self.given.items():
            assert given - self.returned[generation] <= self.quota


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, derandomize=True
)
TestUnderBadClocks = UnderBadClocks.TestCase
TestUnderBadClocks.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, derandomize=True
)
