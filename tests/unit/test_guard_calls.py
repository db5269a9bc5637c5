"""One guard object around every kind of callable."""

import asyncio
import functools
import inspect
import sys
from unittest.mock import AsyncMock

import pytest

from hastack.errors import HastackError, InvalidArgument, RateLimited
from hastack.ratelimit._compose import compose
from hastack.ratelimit._guard import Admission, Guard
from hastack.testing import ManualClock


class Trace(Admission):
    """Writes down what it is told; refuses when ``refuse`` is set."""

    _settles = True

    def __init__(self, log=None, name="trace", clock=None, *, waits=False, settles=True):
        self.log = [] if log is None else log
        self.name = name
        self.refuse = False
        self._waits = waits
        self._settles = settles
        if clock is not None:
            self._clock = clock

    def _admit(self, now, args, kwargs):
        if self.refuse:
            self.log.append((self.name, "refuse"))
            raise RateLimited(self.name, retry_after=1.0)
        self.log.append((self.name, "admit", args, kwargs))
        return len(self.log)

    def _settle(self, permit, now, error, result):
        self.log.append((self.name, "settle", type(error).__name__ if error else result))

    async def _admit_waiting_async(self, args, kwargs):
        await asyncio.sleep(0)
        return self._admit(0.0, args, kwargs)


class Layer(Guard):
    def __init__(self, log, name):
        self.log = log
        self.name = name

    def _around(self, call):
        def layered(*args, **kwargs):
            self.log.append((self.name, "in"))
            try:
                return call(*args, **kwargs)
            finally:
                self.log.append((self.name, "out"))

        return layered

    def _around_async(self, call):
        async def layered(*args, **kwargs):
            self.log.append((self.name, "in"))
            try:
                return await call(*args, **kwargs)
            finally:
                self.log.append((self.name, "out"))

        return layered


@pytest.fixture
def trace():
    return Trace()


def test_function(trace):
    @trace
    def double(x, *, y=1):
        """Doc."""
        return 2 * x * y

    assert double(2, y=3) == 12
    assert trace.log == [("trace", "admit", (2,), {"y": 3}), ("trace", "settle", 12)]
    assert double.__name__ == "double"
    assert double.__doc__ == "Doc."
    assert double.__wrapped__(1) == 2
    assert inspect.signature(double) == inspect.signature(double.__wrapped__)
    assert not inspect.iscoroutinefunction(double)


def test_function_that_raises(trace):
    @trace
    def fail():
        raise KeyError("no")

    with pytest.raises(KeyError):
        fail()
    assert trace.log[-1] == ("trace", "settle", "KeyError")


def test_coroutine_function(trace):
    @trace
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert inspect.iscoroutinefunction(double)
    assert asyncio.run(double(2)) == 4
    assert trace.log[-1] == ("trace", "settle", 4)


def test_coroutine_function_cancelled_settles_once(trace):
    @trace
    async def forever():
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [entry[1:] for entry in trace.log] == [("admit", (), {}), ("settle", "CancelledError")]


def test_generator_is_held_over_the_iteration(trace):
    @trace
    def count(n):
        got = []
        for i in range(n):
            try:
                got.append((yield i))
            except ValueError:
                got.append("thrown")
        return got

    run = count(3)
    assert inspect.isgeneratorfunction(count)
    assert trace.log == []  # nothing before the first next
    assert next(run) == 0
    assert len(trace.log) == 1
    assert run.send("a") == 1
    assert run.throw(ValueError()) == 2
    with pytest.raises(StopIteration) as stop:
        run.send("b")
    assert stop.value.value == ["a", "thrown", "b"]
    assert trace.log[1:] == [("trace", "settle", ["a", "thrown", "b"])]


def test_generator_closed_early(trace):
    closed = []

    @trace
    def count():
        try:
            yield 1
        finally:
            closed.append(1)

    run = count()
    next(run)
    run.close()
    assert closed == [1]
    assert trace.log[1:] == [("trace", "settle", "GeneratorExit")]


def test_generator_refused(trace):
    trace.refuse = True
    run = trace(lambda: None) and trace(_one_item)()
    with pytest.raises(RateLimited):
        next(run)


def _one_item():
    yield 1


def test_async_generator_passes_everything_through(trace):
    closed = []

    @trace
    async def count(n):
        got = []
        try:
            for i in range(n):
                try:
                    got.append((yield i))
                except ValueError:
                    got.append("thrown")
        finally:
            closed.append(got)

    assert inspect.isasyncgenfunction(count)

    async def main():
        run = count(3)
        assert trace.log == []
        assert await run.asend(None) == 0
        assert await run.asend("a") == 1
        assert await run.athrow(ValueError()) == 2
        with pytest.raises(StopAsyncIteration):
            await run.asend("b")
        assert closed == [["a", "thrown", "b"]]
        assert trace.log[1:] == [("trace", "settle", None)]
        run = count(3)
        await anext(run)
        await run.aclose()
        assert closed[1:] == [[]]
        assert trace.log[-1] == ("trace", "settle", "GeneratorExit")
        with pytest.raises(KeyError):
            run = count(2)
            await anext(run)
            await run.athrow(KeyError())
        assert trace.log[-1] == ("trace", "settle", "KeyError")

    asyncio.run(main())


def test_async_generator_cancelled_inside(trace):
    @trace
    async def count():
        yield 1
        await asyncio.Event().wait()

    async def consume():
        async for _ in count():
            pass

    async def main():
        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [entry[1] for entry in trace.log] == ["admit", "settle"]
    assert trace.log[-1][2] == "CancelledError"


def test_methods(trace):
    class Api:
        @trace
        def plain(self, x):
            return self, x

        @trace
        @staticmethod
        def inner_static(x):
            return x

        @staticmethod
        @trace
        def outer_static(x):
            return x

        @trace
        @classmethod
        def inner_class(cls, x):
            return cls, x

        @classmethod
        @trace
        async def outer_class(cls, x):
            return cls, x

    api = Api()
    assert api.plain(1) == (api, 1)
    assert api.inner_static(2) == Api.inner_static(2) == 2
    assert api.outer_static(3) == Api.outer_static(3) == 3
    assert Api.inner_class(4) == (Api, 4)
    assert asyncio.run(api.outer_class(5)) == (Api, 5)
    assert inspect.iscoroutinefunction(api.outer_class)
    assert trace(api.plain)(6) == (api, 6)


def test_partial_and_callable_objects(trace):
    class Async:
        async def __call__(self, x):
            return x

    class Sync:
        def __call__(self, x):
            return x

    class Items:
        def __call__(self, x):
            yield x

    async def add(a, b):
        return a + b

    for fn in (
        Async(),
        functools.partial(Async()),
        functools.partial(add, 0),
        AsyncMock(return_value=7),
    ):
        wrapped = trace(fn)
        assert inspect.iscoroutinefunction(wrapped)
        assert asyncio.run(wrapped(7)) == 7
    assert trace(Sync())(8) == 8
    assert trace(functools.partial(Sync(), 9))() == 9
    assert list(trace(Items())(1)) == [1]


def test_marked_coroutine_function(trace):
    async def work():
        return 1

    def marked():
        return work()

    # asyncio's own marker, which mocks set, came before inspect.markcoroutinefunction (3.12).
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    else:
        marked._is_coroutine = asyncio.coroutines._is_coroutine
    wrapped = trace(marked)
    assert inspect.iscoroutinefunction(wrapped)
    assert asyncio.run(wrapped()) == 1


@pytest.mark.parametrize("guards", [0, 1, 2, "layer", "plain", "two plain", "waiting"])
def test_undetected_coroutine_fails_loudly(guards):
    log = []
    guard = {
        0: compose(),
        1: Trace(log),
        2: compose(Trace(log), Trace(log)),
        "layer": Layer(log, "layer"),
        "plain": Trace(log, settles=False),
        "two plain": compose(Trace(log, settles=False), Trace(log, settles=False)),
        "waiting": Trace(log, waits=True),
    }[guards]

    async def work():
        raise AssertionError("never runs")

    with pytest.raises(InvalidArgument, match="returned a coroutine"):
        guard(lambda: work())()
    settled = [entry for entry in log if entry[1] == "settle"]
    assert all(entry[2] == "InvalidArgument" for entry in settled)
    assert len(settled) == {1: 1, 2: 2, "waiting": 1}.get(guards, 0)


def test_call(trace):
    assert trace.call(divmod, 7, 2) == (3, 1)
    assert trace.log[0] == ("trace", "admit", (7, 2), {})

    async def work(x):
        return x

    assert asyncio.run(trace.call_async(work, 1)) == 1
    assert asyncio.run(trace.call_async(lambda: work(2))) == 2
    with pytest.raises(InvalidArgument, match="call_async"):
        trace.call(work, 1)
    with pytest.raises(InvalidArgument, match="generator function"):
        trace.call(_one_item)


@pytest.mark.parametrize("bad", [None, 3, "fn", int, property(lambda self: 1)])
def test_bad_callables(trace, bad):
    with pytest.raises(InvalidArgument, match=r"^fn="):
        trace(bad)


def test_decorating_without_a_loop_touches_none(trace):
    async def work():
        return None

    trace(work)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_layers_refuse_generators():
    layer = Layer([], "layer")

    async def items():
        yield 1

    for fn in (_one_item, items):
        with pytest.raises(InvalidArgument, match="Layer cannot stand around"):
            layer(fn)
        with pytest.raises(InvalidArgument, match="Layer cannot stand around"):
            compose(Trace(), layer)(fn)


def test_guard_without_hooks_says_so():
    class Bare(Guard):
        name = "bare"

    with pytest.raises(InvalidArgument, match="with block"), Bare():
        pass
    with pytest.raises(InvalidArgument):
        Bare()(lambda: None)

    async def work():
        pass

    with pytest.raises(InvalidArgument):
        Bare()(work)
    with pytest.raises(InvalidArgument):
        Admission().call(len, ())


def test_with_block(trace):
    with trace as same:
        assert same is trace
    assert trace.log == [("trace", "admit", (), {}), ("trace", "settle", None)]
    with pytest.raises(KeyError), trace:
        raise KeyError
    assert trace.log[-1] == ("trace", "settle", "KeyError")


def test_async_with_block(trace):
    async def main():
        async with trace:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert trace.log == [("trace", "admit", (), {}), ("trace", "settle", None)]


@pytest.mark.parametrize("waits", [False, True])
def test_with_block_refused_enters_nothing(waits):
    trace = Trace(waits=waits)
    trace.refuse = True
    with pytest.raises(RateLimited), trace:
        raise AssertionError
    assert trace.log == [("trace", "refuse")]
    with pytest.raises(HastackError, match="left more often"):
        trace.__exit__(None, None, None)


class Held(Admission):
    """Hands out numbered permits and knows which are out."""

    _settles = True
    name = "held"

    def __init__(self, *, waits=False):
        self._waits = waits
        self.out = set()
        self.back = []
        self.count = 0

    def _admit(self, now, args, kwargs):
        self.count += 1
        self.out.add(self.count)
        return self.count

    def _settle(self, permit, now, error, result):
        self.out.remove(permit)
        self.back.append(permit)


@pytest.mark.parametrize("waits", [False, True])
def test_blocks_of_many_tasks_keep_their_own_permits(waits):
    guard = Held(waits=waits)

    async def one(rank, order):
        async with guard:
            mine = guard.count
            with guard:
                inner = guard.count
                for _ in range(order):
                    await asyncio.sleep(0)
            assert guard.back[-1] == inner
        assert guard.back[-1] == mine

    async def main():
        async with guard:  # the tasks inherit this entry and must leave it alone
            await asyncio.gather(*(one(rank, 20 - rank) for rank in range(20)))
            assert guard.out == {1}

    asyncio.run(main())
    assert not guard.out
    assert guard.count == 41


def test_blocks_left_out_of_order():
    guard, other = Held(), Held()

    def items():
        with guard:
            yield 1

    first, second = items(), items()
    with other:
        next(first)
        next(second)
        first.close()
        assert len(guard.out) == 1
        second.close()
        assert not guard.out
        assert other.out == {1}
    assert not other.out
    with guard:
        assert len(guard.out) == 1
    assert not guard.out


def test_block_left_in_another_context():
    guard = Held()

    async def items():
        async with guard:
            yield 1

    async def main():
        run = items()
        await anext(run)
        await asyncio.create_task(run.aclose())
        assert not guard.out
        run = items()
        with guard:
            run = items()
            task = asyncio.create_task(anext(run))
            await task
            assert len(guard.out) == 2
            await run.aclose()
            assert len(guard.out) == 1
        assert not guard.out

    asyncio.run(main())
    assert len(guard.back) == len(set(guard.back)) == 3


def test_manual_clock_is_read_once_each_side():
    class Counting:
        def __init__(self):
            self.reads = 0

        def monotonic(self):
            self.reads += 1
            return 1.0

    one, two = Counting(), Counting()
    run = compose(Trace(clock=one), Trace(clock=one), Trace(clock=two), Trace(clock=one))(lambda: 1)
    run()
    assert (one.reads, two.reads) == (2, 2)
    run = compose(Trace(clock=one), Trace(clock=one))(lambda: 1)
    run()
    assert one.reads == 4
    run = compose(Trace(clock=one, settles=False), Trace(clock=one, settles=False))(lambda: 1)
    run()
    assert one.reads == 5
    clock = ManualClock()
    assert compose(Trace(clock=clock), Trace(clock=clock, waits=True))(lambda: 1)() == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_clock_is_read_anew_after_a_wait(is_async):
    clock = ManualClock()
    seen = []

    class Reader(Trace):
        def _admit(self, now, args, kwargs):
            seen.append(now)

        def _admit_waiting(self, args, kwargs):
            clock.advance(5.0)

        async def _admit_waiting_async(self, args, kwargs):
            clock.advance(5.0)

    def reader(*, waits=False):
        return Reader(clock=clock, waits=waits, settles=False)

    guard = compose(reader(), reader(), reader(waits=True), reader())

    async def work():
        pass

    if is_async:
        asyncio.run(guard(work)())
    else:
        guard(lambda: None)()
    assert seen == [1000.0, 1000.0, 1005.0]
