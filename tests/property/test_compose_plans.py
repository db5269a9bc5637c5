"""Random pipelines: order, associativity, permits, deadlines."""

import asyncio
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from hastack import context
from hastack.errors import HastackError, RateLimited
from hastack.ratelimit._compose import compose
from hastack.ratelimit._fallback import Fallback
from hastack.ratelimit._guard import Admission, Guard
from hastack.ratelimit._hedge import Hedge
from hastack.ratelimit._retry import Retry, RetryBudget
from hastack.ratelimit._timeout import Timeout
from hastack.testing import ManualClock


class Gate(Admission):
    """Counts permits, and refuses, waits or settles as told."""

    def __init__(self, log, name, clock, *, settles, waits, refuses):
        self.log = log
        self.name = name
        self._clock = clock
        self._settles = settles
        self._waits = waits
        self.refuses = refuses
        self.issued = 0
        self.out = set()

    def _admit(self, now, args, kwargs):
        self.log.append((self.name, "admit"))
        if self.refuses:
            raise RateLimited(self.name)
        self.issued += 1
        self.out.add(self.issued)
        return self.issued

    async def _admit_waiting_async(self, args, kwargs):
        await asyncio.sleep(0.5)
        return self._admit(0.0, args, kwargs)

    def _settle(self, permit, now, error, result):
        self.out.remove(permit)  # KeyError when settled twice
        self.log.append((self.name, "settle", type(error), result))


class Trace(Guard):
    def __init__(self, log, name):
        self.log = log
        self.name = name

    def _around(self, call):
        def traced(*args, **kwargs):
            self.log.append((self.name, "in"))
            return call(*args, **kwargs)

        return traced

    def _around_async(self, call):
        async def traced(*args, **kwargs):
            self.log.append((self.name, "in"))
            return await call(*args, **kwargs)

        return traced


# 10^5 take some six minutes; the number for every run is small.
PLANS = int(os.environ.get("HASTACK_RANDOM_PLANS", "200"))
CLOCKS = (ManualClock(), ManualClock())
kinds = st.lists(
    st.one_of(
        st.just("trace"),
        st.tuples(
            st.sampled_from(CLOCKS), st.booleans(), st.booleans(), st.sampled_from([0, 0, 0, 1])
        ),
    ),
    min_size=1,
    max_size=6,
)


def build(kinds, log):
    return [
        Trace(log, f"g{i}")
        if kind == "trace"
        else Gate(log, f"g{i}", kind[0], settles=kind[1], waits=kind[2], refuses=bool(kind[3]))
        for i, kind in enumerate(kinds)
    ]


def nested(guards, draw):
    """The same guards in a random tree of pipelines."""
    if len(guards) == 1:
        return compose(guards[0]) if draw(st.booleans()) else guards[0]
    cut = draw(st.integers(1, len(guards) - 1))
    return compose(nested(guards[:cut], draw), nested(guards[cut:], draw))


def outcome(run):
    try:
        return run()
    except BaseException as error:
        return type(error)


def expected(kinds, body):
    """What the documented order says the log is."""
    log, settles, end = [], [], body
    for i, kind in enumerate(kinds):
        if kind == "trace":
            log.append((f"g{i}", "in"))
            continue
        log.append((f"g{i}", "admit"))
        if kind[3]:
            end = RateLimited
            break
        if kind[1]:
            settles.append(f"g{i}")
    failed = isinstance(end, type)
    for name in reversed(settles):
        log.append((name, "settle", end if failed else type(None), None if failed else end))
    return log, end


@settings(max_examples=300)
@given(kinds=kinds, body=st.sampled_from([1, KeyError, KeyboardInterrupt]), data=st.data())
def test_any_nesting_is_the_flat_plan(kinds, body, data):
    log = []
    guards = build(kinds, log)

    def work():
        if isinstance(body, type):
            raise body
        return body

    async def work_async():
        await asyncio.sleep(0)
        return work()

    want = expected(kinds, body)
    tree = nested(guards, data.draw)
    for guard in (compose(*guards), tree):
        log.clear()
        assert (outcome(guard(work)), log) == (want[1], want[0])
        if body is KeyboardInterrupt:
            continue  # it would stop the event loop
        log.clear()
        assert outcome(lambda guard=guard: CLOCKS[0].run(guard(work_async)())) == want[1]
        assert log == want[0]


@settings(max_examples=150)
@given(kinds=kinds, at=st.integers(0, 12), body=st.sampled_from([1, KeyError]))
def test_cancel_at_any_await_settles_each_permit_once(kinds, at, body):
    log = []
    guards = build(kinds, log)

    @compose(*guards)
    async def work():
        for _ in range(3):
            await asyncio.sleep(0)
        if body is KeyError:
            raise KeyError
        return 1

    coroutine = work()

    async def main():
        # A hand-driven task: cancelled at its n-th suspension, whichever that is.
        task = asyncio.ensure_future(_cancelled_at(coroutine, at))
        return await asyncio.wait_for(task, 100)

    result = outcome(lambda: CLOCKS[0].run(main()))
    assert result in {1, KeyError, RateLimited, asyncio.CancelledError}
    for guard in guards:
        if isinstance(guard, Gate):
            settled = [entry for entry in log if entry[:2] == (guard.name, "settle")]
            assert len(settled) == (guard.issued if guard._settles else 0)
            assert not guard._settles or not guard.out


class _cancelled_at:  # noqa: N801
    """Awaits ``coroutine`` and throws CancelledError in at suspension number ``at``."""

    def __new__(cls, coroutine, at):
        async def drive():
            return await Stepper(coroutine, at)

        return drive()


class Stepper:
    def __init__(self, coroutine, at):
        self.coroutine = coroutine
        self.at = at

    def __await__(self):
        value = None
        while True:
            try:
                if self.at == 0:
                    self.at = -1
                    step = self.coroutine.throw(asyncio.CancelledError())
                else:
                    self.at -= 1
                    step = self.coroutine.send(value)
            except StopIteration as stop:
                return stop.value
            value = yield step


def policies(clock, budget):
    seconds = st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0, 20.0])
    return st.one_of(
        st.builds(lambda s: Timeout(s or 0.05), seconds),
        st.builds(
            lambda n, base, jitter, b: Retry(
                n, base=base, cap=max(5.0, base), jitter=jitter, budget=budget if b else None
            ),
            st.integers(1, 4),
            seconds,
            st.booleans(),
            st.booleans(),
        ),
        st.builds(lambda s, n: Hedge(s, attempts=n), seconds, st.integers(2, 3)),
        st.just(Fallback(value="fallback")),
    )


class Sleeper:
    """A dependency: sleeps through the context and then succeeds, fails or refuses."""

    def __init__(self, clock, script):
        self.clock = clock
        self.script = script
        self.calls = 0

    def next(self):
        self.calls += 1
        return self.script[(self.calls - 1) % len(self.script)]

    def end(self, result):
        if result == "fail":
            raise KeyError
        if result == "refuse":
            raise RateLimited("dependency", retry_after=2.0)
        return result

    def __call__(self):
        nap, result = self.next()
        context.sleep(nap)
        return self.end(result)

    async def run_async(self):
        nap, result = self.next()
        await asyncio.sleep(nap)
        return self.end(result)


@settings(max_examples=PLANS)
@given(data=st.data(), is_async=st.booleans(), deadline=st.sampled_from([0.0, 0.3, 1.0, 4.0, 9.0]))
def test_no_policy_sleeps_past_the_deadline(data, is_async, deadline):
    clock = ManualClock()
    budget = RetryBudget(clock=clock)
    chosen = data.draw(st.lists(policies(clock, budget), min_size=1, max_size=5))
    if not is_async:
        # Threads race in real time; their bound is tested with a real clock elsewhere.
        chosen = [guard for guard in chosen if not isinstance(guard, Hedge)]
    script = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.2, 2.0, 50.0]), st.sampled_from(["ok", "fail", "refuse"])
            ),
            min_size=1,
            max_size=4,
        )
    )
    work = Sleeper(clock, script)
    guard = compose(*chosen)
    bound = min([deadline, *[g.seconds for g in chosen[:1] if isinstance(g, Timeout)]])

    async def main():
        async with context.timeout(deadline):
            return await guard(work.run_async)()

    with context.using(context.background(clock=clock)):
        try:
            if is_async:
                result = clock.run(main())
            else:
                with context.timeout(deadline):
                    result = guard(work)()
        except (HastackError, KeyError) as error:
            result = error
    assert result in {"ok", "fallback"} or isinstance(result, (HastackError, KeyError))
    assert clock.monotonic() <= 1000.0 + bound + 1e-6
