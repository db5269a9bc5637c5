"""Hedge: races of tasks on a manual clock, races of threads with a scripted clock."""

import asyncio
import threading

import pytest

from hastack import context, events
from hastack.errors import Cancelled, DeadlineExceeded, InvalidArgument
from hastack.ratelimit._hedge import Hedge
from hastack.ratelimit._policy_events import HedgeStarted
from hastack.ratelimit._retry import RetryBudget
from hastack.ratelimit._workers import Workers
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    clock = ManualClock()
    with context.using(context.background(clock=clock)):
        yield clock


class Script:
    """Attempt n takes naps[n] seconds and then ends in outcomes[n]."""

    def __init__(self, clock, *steps):
        self.clock = clock
        self.steps = list(steps)
        self.started = []
        self.cancelled = []
        self.contexts = []

    async def __call__(self):
        rank = len(self.started)
        self.started.append(self.clock.monotonic() - 1000.0)
        self.contexts.append(context.current())
        nap, outcome = self.steps[rank]
        try:
            await asyncio.sleep(nap)
        except asyncio.CancelledError:
            self.cancelled.append(rank)
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def no_tasks_left(coroutine):
    try:
        return await coroutine
    finally:
        assert asyncio.all_tasks() == {asyncio.current_task()}


def race(clock, hedge, script):
    return clock.run(no_tasks_left(hedge(script)()))


def test_quick_first_attempt_needs_no_hedge(clock):
    script = Script(clock, (0.5, "one"))
    assert race(clock, Hedge(1.0), script) == "one"
    assert script.started == [0]


def test_hedge_wins_and_the_loser_is_cancelled(clock):
    script = Script(clock, (9.0, "one"), (0.5, "two"))
    assert race(clock, Hedge(1.0), script) == "two"
    assert script.started == [0, 1]
    assert script.cancelled == [0]
    assert clock.monotonic() == 1001.5
    assert "first" in str(script.contexts[0].cause())
    assert not script.contexts[1].done


def test_first_attempt_may_still_win(clock):
    script = Script(clock, (1.5, "one"), (9.0, "two"))
    assert race(clock, Hedge(1.0), script) == "one"
    assert script.cancelled == [1]


def test_three_attempts(clock):
    script = Script(clock, (9.0, 1), (9.0, 2), (9.0, 3))
    assert race(clock, Hedge(1.0, attempts=3), script) == 1
    assert script.started == [0, 1, 2]


def test_a_failure_starts_nothing(clock):
    error = KeyError()
    script = Script(clock, (0.25, error), (0.5, "two"))
    with pytest.raises(KeyError) as caught:
        race(clock, Hedge(1.0), script)
    assert caught.value is error
    assert script.started == [0]


def test_a_failure_leaves_the_race_to_the_others(clock):
    script = Script(clock, (1.25, KeyError()), (0.5, "two"), (9.0, "three"))
    assert race(clock, Hedge(1.0, attempts=3), script) == "two"
    assert script.started == [0, 1]
    script = Script(clock, (1.25, KeyError()), (5.0, "two"), (0.5, "three"))
    clock.set(1000.0)
    assert race(clock, Hedge(1.0, attempts=3), script) == "three"
    assert script.started == [0, 1, 2]


def test_all_fail(clock):
    first, second = KeyError("one"), ValueError("two")
    script = Script(clock, (2.0, second), (0.5, first))
    with pytest.raises(KeyError) as caught:
        race(clock, Hedge(1.0, name="db"), script)
    assert caught.value is first
    assert first.__notes__ == ["db: failure 2 of 2: ValueError('two')"]


def test_budget(clock):
    budget = RetryBudget(0.5, min_per_second=0.0, clock=clock)
    hedge = Hedge(1.0, attempts=3, budget=budget)
    script = Script(clock, (0.5, 1))
    assert race(clock, hedge, script) == 1
    clock.set(1000.0)
    script = Script(clock, (9.0, 1), (9.0, 2), (9.0, 3))
    assert race(clock, hedge, script) == 1
    assert script.started == [0, 1]  # two calls pay for one attempt


def test_success_beats_a_failure_of_the_same_moment(clock):
    script = Script(clock, (2.0, OSError()), (1.0, "two"))
    assert race(clock, Hedge(1.0, on=KeyError), script) == "two"


@pytest.mark.parametrize("error", [OSError(), Cancelled("gone"), InvalidArgument("n", 1, "2")])
def test_final_errors_end_the_race(clock, error):
    script = Script(clock, (9.0, "one"), (0.5, error))
    on = KeyError if type(error) is OSError else None
    with pytest.raises(type(error)):
        race(clock, Hedge(1.0, on=on), script)
    assert script.cancelled == [0]


def test_zero_delay_starts_all(clock):
    script = Script(clock, (3.0, 1), (2.0, 2), (1.0, 3))
    assert race(clock, Hedge(0, attempts=3), script) == 3
    assert script.started == [0, 0, 0]


def test_caller_cancelled(clock):
    script = Script(clock, (9.0, 1), (9.0, 2))

    async def main():
        task = asyncio.create_task(Hedge(1.0)(script)())
        await asyncio.sleep(2.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(no_tasks_left(main()))
    assert script.cancelled == [0, 1]


def test_caller_cancelled_twice_still_waits_for_the_losers(clock):
    ended = []

    async def stubborn():
        try:
            await asyncio.sleep(99.0)
        except asyncio.CancelledError:
            await asyncio.sleep(1.0)
            ended.append(1)
            raise

    async def main():
        task = asyncio.create_task(Hedge(1.0)(stubborn)())
        await asyncio.sleep(2.0)
        task.cancel()
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(no_tasks_left(main()))
    assert ended == [1, 1]


def test_caller_cancelled_while_the_loser_ends(clock):
    async def main():
        naps = [99.0, 0.5]

        async def stubborn():
            try:
                await asyncio.sleep(naps.pop(0))
            except asyncio.CancelledError:
                await asyncio.sleep(1.0)
                raise

        task = asyncio.create_task(Hedge(1.0)(stubborn)())
        await asyncio.sleep(2.0)  # there is a winner, and the loser is still at it
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(no_tasks_left(main()))
    assert clock.monotonic() == 1002.5


@pytest.mark.parametrize("is_async", [False, True])
def test_deadline_before_the_hedge_is_due(clock, is_async):
    async def main():
        with context.timeout(2.0):
            await Hedge(5.0)(asyncio.sleep)(9.0)

    with pytest.raises(DeadlineExceeded):
        if is_async:
            clock.run(no_tasks_left(main()))
        else:
            with context.timeout(2.0):
                Hedge(5.0)(context.sleep)(9.0)
    assert clock.monotonic() == 1002.0


def test_nothing_stays_behind_in_the_context(clock):
    async def main():
        with context.with_cancel() as ctx:
            await Hedge(1.0)(asyncio.sleep)(0.5)
            Hedge(1.0)(lambda: None)()
            assert ctx._live is None

    clock.run(main())


def test_attempt_that_cancels_itself(clock):
    with pytest.raises(asyncio.CancelledError):
        race(clock, Hedge(1.0), Script(clock, (0.0, asyncio.CancelledError())))


def test_deadline_without_a_task_scope(clock):
    script = Script(clock, (9.0, 1), (9.0, 2))

    async def main():
        with context.timeout(2.0), pytest.raises(DeadlineExceeded):
            await Hedge(1.0)(script)()
        with context.timeout(0.0), pytest.raises(DeadlineExceeded):
            await Hedge(1.0)(script)()

    clock.run(no_tasks_left(main()))
    assert script.started == [0, 1]
    assert script.cancelled == [0, 1]
    assert clock.monotonic() == 1002.0


def test_context_cancelled_elsewhere(clock):
    script = Script(clock, (9.0, 1), (9.0, 2))

    async def main():
        with context.with_cancel() as ctx:
            asyncio.get_running_loop().call_later(0.5, ctx.cancel, "shutdown")
            with pytest.raises(Cancelled):
                await Hedge(1.0)(script)()

    clock.run(no_tasks_left(main()))
    assert clock.monotonic() == 1000.5
    assert script.cancelled == [0]


def test_event(clock):
    seen = []
    stop = events.subscribe(seen.append, HedgeStarted)
    try:
        race(clock, Hedge(1.0, name="db"), Script(clock, (9.0, 1), (0.5, 2)))
    finally:
        stop()
    assert [(e.name, e.attempt) for e in seen] == [("db", 2)]


class Calls:
    """A plain function whose attempts wait until the test lets them go."""

    def __init__(self, outcomes):
        self.lock = threading.Lock()
        self.outcomes = outcomes
        self.gates = [threading.Event() for _ in outcomes]
        self.entered = [threading.Event() for _ in outcomes]
        self.contexts = []
        self.count = 0

    def __call__(self):
        with self.lock:
            rank = self.count
            self.count += 1
            self.contexts.append(context.current())
        self.entered[rank].set()
        assert self.gates[rank].wait(30.0)
        outcome = self.outcomes[rank]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def then(self, *steps):
        """Run ``steps`` on a thread; wait for that attempt number, or open its gate."""

        def run():
            for step, rank in steps:
                if step == "pause":
                    threading.Event().wait(rank)
                elif step == "wait":
                    assert self.entered[rank].wait(30.0)
                else:
                    self.gates[rank].set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def test_threads_hedge_wins():
    calls = Calls(["one", "two"])
    helper = calls.then(("wait", 0), ("wait", 1), ("open", 1))
    with context.with_value("user", "ada"):
        assert Hedge(0.001)(calls)() == "two"
    helper.join()
    assert isinstance(calls.contexts[0].cause(), Cancelled)
    assert not calls.contexts[1].done
    assert calls.contexts[0].value("user") == "ada"
    calls.gates[0].set()


def test_threads_first_wins_without_hedge():
    calls = Calls(["one", "two"])
    calls.gates[0].set()
    assert Hedge(60.0)(calls)() == "one"
    assert calls.count == 1


def test_threads_all_fail():
    calls = Calls([KeyError("one"), ValueError("two")])
    helper = calls.then(("wait", 0), ("wait", 1), ("open", 0), ("pause", 0.05), ("open", 1))
    with pytest.raises(KeyError) as caught:
        Hedge(0)(calls)()
    helper.join()
    assert caught.value.__notes__ == ["hedge: failure 2 of 2: ValueError('two')"]


def test_threads_final_error():
    calls = Calls([OSError(), 1])
    calls.gates[0].set()
    with pytest.raises(OSError):
        Hedge(60.0, on=KeyError)(calls)()


def test_threads_deadline_and_cancel():
    calls = Calls(["one", "two", "three"])
    hedge = Hedge(1.0)
    clock = ManualClock(autojump=None)

    def pass_time():
        assert calls.entered[0].wait(30.0)
        for _ in range(3000):
            clock.advance(1.0)
            if calls.entered[1].wait(0.01):
                break
        clock.advance(1e6)

    helper = threading.Thread(target=pass_time)
    helper.start()
    root = context.background(clock=clock)
    with context.timeout(1e6, parent=root) as ctx, pytest.raises(DeadlineExceeded):
        hedge(calls)()
    helper.join()
    assert all(c.done for c in calls.contexts)
    with context.with_cancel() as ctx, pytest.raises(Cancelled):
        ctx.cancel()
        hedge(calls)()
    assert calls.count == 2
    for gate in calls.gates:
        gate.set()


@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_threads_all_busy(delay):
    blocker = Calls(["a", "b"])
    holding = Hedge(60.0, max_threads=2)
    hedge = Hedge(delay)
    hedge._workers = holding._workers
    holders = [threading.Thread(target=holding(blocker)) for _ in range(2)]
    for thread in holders:
        thread.start()
    for entered in blocker.entered:
        assert entered.wait(30.0)
    here = []
    hedge(lambda: here.append(threading.current_thread()))()
    assert here == [threading.current_thread()]  # unhedged, but served
    for gate in blocker.gates:
        gate.set()
    for thread in holders:
        thread.join(30.0)


def test_threads_busy_when_the_hedge_is_due():
    other = Calls(["x"])
    hedge = Hedge(0.001, max_threads=2)
    slow = Hedge(60.0)
    slow._workers = hedge._workers
    holder = threading.Thread(target=slow(other))
    holder.start()
    assert other.entered[0].wait(30.0)
    calls = Calls(["one", "two"])
    timer = threading.Timer(0.02, calls.gates[0].set)
    timer.start()
    assert hedge(calls)() == "one"
    assert calls.count == 1
    other.gates[0].set()
    holder.join(30.0)
    timer.join()


def test_workers_are_reused():
    workers = Workers(4, "test")
    names = []
    for _ in range(20):
        done = threading.Event()

        def job(done=done):
            names.append(threading.current_thread())
            done.set()

        assert workers.submit(job)
        assert done.wait(30.0)
        while not workers._idle:
            threading.Event().wait(0.001)
    assert len(set(names)) == 1
    assert names[0].daemon


def test_idle_workers_end(monkeypatch):
    monkeypatch.setattr("hastack.ratelimit._workers.IDLE", 0.001)
    workers = Workers(1, "test")
    threads = []
    for _ in range(3):
        done = threading.Event()
        while not workers.submit(
            lambda done=done: threads.append(threading.current_thread()) or done.set()
        ):
            threading.Event().wait(0.001)
        assert done.wait(30.0)
        threads[-1].join(30.0)
        assert workers._running == 0
        assert not workers._idle
    assert len(set(threads)) == 3


def test_no_thread_to_be_had(monkeypatch):
    workers = Workers(1, "test")

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not workers.submit(lambda: None)
    assert workers._running == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"delay": -1},
        {"delay": "1"},
        {"attempts": 1},
        {"on": BaseException},
        {"max_threads": 1},
        {"budget": 1},
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(InvalidArgument, match=f"^{next(iter(bad))}="):
        Hedge(**({"delay": 1.0} | bad))


def test_blocks_and_generators_are_refused():
    def items():
        yield 1

    with pytest.raises(InvalidArgument, match="with block"), Hedge(1.0):
        pass
    with pytest.raises(InvalidArgument, match="Hedge cannot stand around"):
        Hedge(1.0)(items)
    assert repr(Hedge(1.0)) == "Hedge(delay=1, attempts=2, name='hedge')"
