"""Retry in both worlds, on a clock that stands still."""

import asyncio
import gc
import weakref

import pytest

from hastack import context, events
from hastack.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    RateLimited,
    RetryBudgetExhausted,
)
from hastack.ratelimit._compose import compose
from hastack.ratelimit._policy_events import RetryScheduled
from hastack.ratelimit._retry import Retry, RetryBudget
from hastack.ratelimit._timeout import Timeout
from hastack.testing import ManualClock


class World:
    """Runs one scripted function, as a plain or as a coroutine function."""

    def __init__(self, is_async):
        self.is_async = is_async
        self.clock = ManualClock()
        self.times = []

    def run(self, guard, script, *, seconds=None):
        steps = list(script)
        start = self.clock.monotonic()

        def work():
            self.times.append(round(self.clock.monotonic() - start, 6))
            step = steps.pop(0)
            if isinstance(step, BaseException):
                raise step
            return step() if callable(step) else step

        async def work_async():
            await asyncio.sleep(0)
            return work()

        with context.using(context.background(clock=self.clock)):
            if not self.is_async:
                with context.timeout(seconds):
                    return guard(work)()

            async def main():
                with context.timeout(seconds):
                    return await guard(work_async)()

            return self.clock.run(main())


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def world(request):
    return World(request.param)


def exact(*args, **kwargs):
    return Retry(*args, jitter=False, **kwargs)


def test_first_success_is_the_result(world):
    assert world.run(exact(), [5]) == 5
    assert world.times == [0]


def test_backoff_between_tries(world):
    script = [KeyError(1), KeyError(2), KeyError(3), "done"]
    assert world.run(exact(4, base=1.0, cap=3.0), script) == "done"
    assert world.times == [0, 1, 3, 6]


def test_jitter_draws_from_zero_to_the_ceiling(world):
    draws = iter([0.5, 0.25])
    retry = Retry(3, base=1.0, rng=lambda: next(draws))
    assert world.run(retry, [KeyError(), KeyError(), 1]) == 1
    assert world.times == [0, 0.5, 1.0]


def test_last_error_itself_with_a_note(world):
    first, last = KeyError(1), KeyError(2)
    with pytest.raises(KeyError) as caught:
        world.run(exact(2, name="db"), [first, last])
    assert caught.value is last
    assert last.__notes__ == ["db: gave up after try 2: all attempts used"]
    assert last.__context__ is first


def test_deadline_ends_retries_at_once(world):
    error = KeyError()
    with pytest.raises(KeyError) as caught:
        world.run(exact(5, base=1.0), [KeyError(), error], seconds=2.0)
    assert caught.value is error
    assert "deadline" in error.__notes__[0]
    assert world.times == [0, 1]
    assert world.clock.monotonic() == 1001.0  # nobody slept to the deadline


def test_other_errors_pass(world):
    with pytest.raises(ValueError):
        world.run(exact(retry_on=(KeyError, OSError)), [KeyError(), ValueError()])
    with pytest.raises(KeyError) as caught:
        world.run(exact(retry_on=lambda error: error.args == (1,)), [KeyError(1), KeyError(2)])
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), Cancelled("gone")])
@pytest.mark.parametrize("retry_on", [None, Exception, OSError, lambda error: True])
def test_context_errors_are_never_retried(world, error, retry_on):
    with pytest.raises(type(error)):
        world.run(exact(retry_on=retry_on), [error])
    assert world.times == [0]


@pytest.mark.parametrize(
    "error", [InvalidArgument("n", 1, "2"), KeyboardInterrupt(), GeneratorExit()]
)
def test_neither_mistakes_nor_interrupts_are_retried(world, error):
    with pytest.raises(type(error)):
        world.run(exact(), [error])
    assert world.times == [0]


def test_cancelled_task_is_not_retried():
    world = World(is_async=True)
    with pytest.raises(asyncio.CancelledError):
        world.run(exact(), [asyncio.CancelledError()])
    assert world.times == [0]


def test_cancel_during_backoff():
    clock = ManualClock()
    tries = []

    async def fail():
        tries.append(1)
        raise KeyError

    async def main():
        task = asyncio.create_task(exact(base=100.0, cap=100.0)(fail)())
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main())
    assert len(tries) == 1


def test_context_cancelled_during_backoff():
    clock = ManualClock()
    with (
        context.using(context.background(clock=clock)),
        context.with_cancel() as ctx,
        pytest.raises(Cancelled) as caught,
    ):
        clock.call_at(1001.0, lambda: ctx.cancel("shutdown"))
        exact(base=10.0)({}.__getitem__)(1)
    assert clock.monotonic() == 1001.0
    assert isinstance(caught.value.__context__ or caught.value.__cause__, (KeyError, Cancelled))


def test_context_that_ended_meanwhile(world):
    error = KeyError()

    def fail():
        context.current().cancel("shutdown")
        raise error

    with pytest.raises(KeyError):
        world.run(exact(), [fail])
    assert error.__notes__ == ["retry: gave up after try 1: the context ended"]


def test_attempt_timeouts():
    world = World(is_async=True)
    naps = [5.0, 5.0, 0.0]

    async def nap():
        world.times.append(world.clock.monotonic() - 1000.0)
        await asyncio.sleep(naps.pop(0))
        return "up"

    async def main(guard, seconds):
        async with context.timeout(seconds):
            return await guard(nap)()

    inside = Timeout(1.0)
    with context.using(context.background(clock=world.clock)):
        with pytest.raises(DeadlineExceeded):
            world.clock.run(main(compose(exact(base=1.0), inside), 60.0))
        assert len(naps) == 2
        guard = compose(exact(base=1.0, retry_on=OSError, attempt_timeouts=True), inside)
        assert world.clock.run(main(guard, 60.0)) == "up"
        naps[:] = [5.0, 5.0]
        with pytest.raises(DeadlineExceeded):
            world.clock.run(main(guard, 0.5))  # the deadline around it is final
        assert len(naps) == 1


def test_retry_after_of_rejections(world):
    script = [RateLimited("api", retry_after=3.0), RateLimited("api"), 1]
    assert world.run(exact(base=0.5), script) == 1
    assert world.times == [0, 3.5, 4.5]


def test_retry_after_too_long(world):
    error = RateLimited("api", retry_after=61.0)
    with pytest.raises(RateLimited):
        world.run(exact(), [error])
    assert "longer than max_retry_after" in error.__notes__[0]


def test_retry_result(world):
    retry = exact(3, base=1.0, retry_result=lambda status: status == 503, retry_after=lambda o: 1.0)
    assert world.run(retry, [503, 503, 200]) == 200
    assert world.times == [0, 2, 5]
    assert world.run(retry, [503, KeyError(), 503]) == 503  # none left: as it is


def test_event(world):
    seen = []
    stop = events.subscribe(seen.append, RetryScheduled)
    try:
        error = KeyError()
        world.run(exact(base=0.5, name="db"), [error, 1])
    finally:
        stop()
    assert [(e.name, e.attempt, e.delay, e.error) for e in seen] == [("db", 2, 0.5, error)]


def test_budget_is_shared(world):
    budget = RetryBudget(0.5, min_per_second=0.0, clock=world.clock)
    one, two = exact(5, base=0.0, budget=budget), exact(5, base=0.0, budget=budget)
    for _ in range(3):
        world.run(one, [1])
    last = KeyError("last")
    with pytest.raises(KeyError) as caught:
        world.run(two, [KeyError(), KeyError(), last])
    assert caught.value is last
    assert last.__notes__ == ["retry: gave up after try 3: the shared retry budget is used up"]
    assert budget.remaining == 0
    with pytest.raises(RetryBudgetExhausted, match="retry budget"):
        budget.spend()
    world.clock.advance(10.0)
    assert not budget.try_spend()
    assert "remaining=0" in repr(budget)


def test_budget_is_spent_before_the_backoff():
    clock = ManualClock()
    budget = RetryBudget(0.5, min_per_second=0.0, clock=clock)
    seen = []

    async def fail():
        raise KeyError

    async def main():
        calls = [exact(base=1.0, budget=budget)(fail)() for _ in range(10)]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0.5)
        seen.append((budget.remaining, sum(task.done() for task in tasks)))
        await asyncio.gather(*tasks, return_exceptions=True)

    with context.using(context.background(clock=clock)):
        clock.run(main())
    assert seen[0] == (0, 5)


def test_no_reference_cycle_keeps_the_call_alive():
    class Payload:
        pass

    seen = []

    def fail(payload):
        seen.append(weakref.ref(payload))
        raise KeyError

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(KeyError):
            exact(3, base=0.0)(fail)(Payload())
        assert [ref() for ref in seen] == [None] * 3
    finally:
        gc.enable()


def test_generators_and_blocks_are_refused():
    def items():
        yield 1

    with pytest.raises(InvalidArgument, match="Retry cannot stand around"):
        Retry()(items)
    with pytest.raises(InvalidArgument, match="with block"), Retry():
        pass


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"attempts": 2.0},
        {"base": -1},
        {"base": float("nan")},
        {"cap": "1s"},
        {"cap": 0.05},
        {"factor": 0.5},
        {"retry_on": ()},
        {"retry_on": BaseException},
        {"retry_on": (KeyError, "OSError")},
        {"retry_on": 3},
        {"retry_result": 3},
        {"retry_after": 3},
        {"max_retry_after": -1},
        {"budget": 3},
        {"rng": 0.5},
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(InvalidArgument, match=f"^{next(iter(bad))}="):
        Retry(**bad)


@pytest.mark.parametrize(
    "bad", [{"ratio": 0}, {"ratio": 1.5}, {"min_per_second": -1}, {"window": 0}]
)
def test_bad_budget_arguments(bad):
    with pytest.raises(InvalidArgument, match=f"^{next(iter(bad))}="):
        RetryBudget(**bad)


def test_reprs():
    assert repr(Retry(5, name="db")) == "Retry(attempts=5, name='db')"
