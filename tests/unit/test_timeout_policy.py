"""Timeout as decorator and block."""

import asyncio
from datetime import timedelta

import pytest

from hastack import context
from hastack.errors import Cancelled, DeadlineExceeded, InvalidArgument
from hastack.ratelimit._compose import compose
from hastack.ratelimit._timeout import Timeout
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    clock = ManualClock()
    with context.using(context.background(clock=clock)):
        yield clock


def test_plain_function_sees_the_deadline(clock):
    run = Timeout(2.0)(lambda: context.current().remaining())
    assert run() == 2.0
    assert context.current().remaining() is None


def test_what_waits_inside_gives_up_at_the_deadline(clock):
    with pytest.raises(DeadlineExceeded):
        Timeout(2.0)(context.sleep)(10.0)
    assert clock.monotonic() == 1002.0


def test_a_late_result_counts(clock):
    def work():
        clock.advance(5.0)
        return "late"

    assert Timeout(2.0)(work)() == "late"


@pytest.mark.parametrize(("outer", "inner", "left"), [(1.0, 2.0, 1.0), (2.0, 1.0, 1.0)])
def test_nested_takes_the_earlier(clock, outer, inner, left):
    guard = compose(Timeout(outer), Timeout(inner))
    assert guard(lambda: context.current().remaining())() == left

    async def remaining():
        return context.current().remaining()

    assert clock.run(guard(remaining)()) == left


def test_no_call_after_the_deadline_around_it(clock):
    calls = []
    with context.timeout(1.0):
        clock.advance(1.0)
        with pytest.raises(DeadlineExceeded):
            Timeout(5.0)(calls.append)(1)
        with pytest.raises(DeadlineExceeded), Timeout(5.0):
            calls.append(2)

    async def main():
        with context.with_cancel() as ctx:
            ctx.cancel()
            with pytest.raises(Cancelled):
                await Timeout(5.0)(asyncio.sleep)(0)
            with pytest.raises(Cancelled):
                async with Timeout(5.0):
                    calls.append(3)

    clock.run(main())
    assert not calls


def test_coroutine_function_is_cancelled(clock):
    cancelled = []

    @Timeout(timedelta(seconds=2))
    async def forever():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(clock.monotonic())
            raise

    async def main():
        with pytest.raises(DeadlineExceeded):
            await forever()
        assert asyncio.current_task().cancelling() == 0

    clock.run(main())
    assert cancelled == [1002.0]


def test_nothing_rings_after_the_call(clock):
    async def main():
        await Timeout(2.0)(asyncio.sleep)(1.0)
        await asyncio.sleep(10.0)
        assert asyncio.current_task().cancelling() == 0
        with context.with_cancel() as ctx:
            await Timeout(2.0)(asyncio.sleep)(1.0)
            ctx.cancel()
            await asyncio.sleep(1.0)
            assert ctx._live is None

    clock.run(main())


def test_cancel_from_outside_stays_a_cancel(clock):
    async def main():
        task = asyncio.create_task(Timeout(2.0)(asyncio.sleep)(10.0))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main())


def test_the_context_of_a_call_ends_with_it(clock):
    ctx = Timeout(2.0)(context.current)()
    assert str(ctx.err()) == "context cancelled: its scope was left"
    with ctx:  # entered no longer
        pass

    def late():
        clock.advance(3.0)
        return context.current()

    assert isinstance(Timeout(2.0)(late)().err(), DeadlineExceeded)

    with context.with_cancel() as parent:

        def cancelled():
            parent.cancel("shutdown")
            return context.current()

        assert str(Timeout(2.0)(cancelled)().cause()) == "shutdown"


def test_block(clock):
    guard = Timeout(2.0)
    with guard as same:
        assert same is guard
        assert context.current().remaining() == 2.0
        with guard:
            clock.advance(1.0)
            assert context.current().remaining() == 1.0
        assert context.current().remaining() == 1.0
    assert context.current().remaining() is None
    with pytest.raises(KeyError), guard:
        raise KeyError


def test_async_block(clock):
    guard = Timeout(2.0)

    async def one(nap):
        async with guard:
            await asyncio.sleep(nap)

    async def main():
        return await asyncio.gather(one(1.0), one(3.0), one(0.5), return_exceptions=True)

    first, second, third = clock.run(main())
    assert (first, third) == (None, None)
    assert isinstance(second, DeadlineExceeded)


def test_block_in_a_pipeline(clock):
    async def main():
        async with compose(Timeout(2.0), Timeout(1.0)):
            assert context.current().remaining() == 1.0
            await asyncio.sleep(5.0)

    with pytest.raises(DeadlineExceeded):
        clock.run(main())
    assert clock.monotonic() == 1001.0


@pytest.mark.parametrize("bad", [0, -1, None, "1s", float("inf"), float("nan"), True])
def test_bad_arguments(bad):
    with pytest.raises(InvalidArgument, match=r"^seconds="):
        Timeout(bad)


def test_generators_are_refused():
    def items():
        yield 1

    with pytest.raises(InvalidArgument, match="Timeout cannot stand around"):
        Timeout(1.0)(items)


def test_description():
    assert repr(Timeout(0.25)) == "Timeout(0.25)"
    assert Timeout(0.25).seconds == 0.25
