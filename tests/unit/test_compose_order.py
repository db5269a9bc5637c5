"""Pipelines: order, flattening, refusals, blocks."""

import asyncio

import pytest

from hastack.errors import InvalidArgument, RateLimited
from hastack.ratelimit._compose import Pipeline, compose
from hastack.ratelimit._guard import Admission, Guard


class Mark(Admission):
    def __init__(self, log, name, *, settles=True, waits=False, refuse=False):
        self.log = log
        self.name = name
        self._settles = settles
        self._waits = waits
        self.refuse = refuse

    def _admit(self, now, args, kwargs):
        if self.refuse:
            self.log.append(f"{self.name}!")
            raise RateLimited(self.name)
        self.log.append(f"{self.name}(")
        return self.name

    def _settle(self, permit, now, error, result):
        assert permit == self.name
        self.log.append(f"){self.name}" + (f":{type(error).__name__}" if error else ""))


class Layer(Guard):
    """A flow guard that also works as a block."""

    def __init__(self, log, name, turns_into=None):
        self.log = log
        self.name = name
        self.turns_into = turns_into

    def _around(self, call):
        def layered(*args, **kwargs):
            self._enter()
            error = None
            try:
                return call(*args, **kwargs)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._exit(None, error)

        return layered

    def _around_async(self, call):
        async def layered(*args, **kwargs):
            return self._around(lambda: None)() or await call(*args, **kwargs)

        return layered

    def _enter(self):
        self.log.append(f"{self.name}(")

    def _exit(self, state, error):
        self.log.append(f"){self.name}" + (f":{type(error).__name__}" if error else ""))
        if error is not None and self.turns_into is not None:
            raise self.turns_into from error


def test_outermost_first():
    log = []
    guard = compose(Mark(log, "a"), Mark(log, "b", settles=False), Layer(log, "c"), Mark(log, "d"))
    assert guard(lambda: log.append("x") or 5)() == 5
    assert log == ["a(", "b(", "c(", "d(", "x", ")d", ")c", ")a"]


def test_flat_and_associative():
    log = []
    a, b, c = Mark(log, "a"), Mark(log, "b"), Mark(log, "c")
    left = compose(compose(a, b), c)
    right = compose(a, compose(b, compose(c)))
    assert left.guards == right.guards == compose(a, b, c).guards == (a, b, c)
    assert isinstance(left, Pipeline)
    assert left.name == "a > b > c"
    assert repr(left).startswith("compose(")
    left(log.clear)()
    assert log == [")c", ")b", ")a"]


def test_inner_refusal_reaches_the_outer_once():
    for waits in (False, True):
        log = []
        marks = (Mark(log, "a", waits=waits), Mark(log, "b"), Mark(log, "c", refuse=True))
        with pytest.raises(RateLimited):
            compose(*marks)(log.append)("x")
        assert log == ["a(", "b(", "c!", ")b:RateLimited", ")a:RateLimited"]
        log.clear()

        async def work(log=log):
            log.append("x")

        with pytest.raises(RateLimited):
            asyncio.run(compose(*marks)(work)())
        assert log == ["a(", "b(", "c!", ")b:RateLimited", ")a:RateLimited"]


def test_empty_pipeline_changes_nothing():
    guard = compose()

    async def work(x):
        return x

    assert guard(lambda x: x)(3) == 3
    assert asyncio.run(guard(work)(4)) == 4
    assert asyncio.run(guard.call_async(work, 5)) == 5
    assert guard.call(max, 6, 2) == 6
    assert list(guard(lambda: [1])()) == [1]
    with guard:
        pass


def test_bad_members():
    with pytest.raises(InvalidArgument, match=r"^guards="):
        compose(lambda: None)
    with pytest.raises(InvalidArgument, match=r"^guards="):
        compose([Mark([], "a")])


def test_pipeline_inside_a_layer():
    log = []
    inner = compose(Mark(log, "a"), Mark(log, "b"))
    assert inner._around(lambda: 1)() == 1

    async def work():
        return 2

    assert asyncio.run(inner._around_async(work)()) == 2
    assert log == ["a(", "b(", ")b", ")a"] * 2


def test_block():
    log = []
    guard = compose(Mark(log, "a"), Layer(log, "b"), Mark(log, "c"))
    with guard:
        log.append("x")
    assert log == ["a(", "b(", "c(", "x", ")c", ")b", ")a"]
    log.clear()
    with pytest.raises(KeyError), guard:
        raise KeyError
    assert log == ["a(", "b(", "c(", ")c:KeyError", ")b:KeyError", ")a:KeyError"]


def test_block_whose_scope_changes_the_error():
    log = []
    guard = compose(Mark(log, "a"), Layer(log, "b", TimeoutError()), Mark(log, "c"))
    with pytest.raises(TimeoutError), guard:
        raise KeyError
    assert log[-3:] == [")c:KeyError", ")b:KeyError", ")a:TimeoutError"]


def test_block_refused_inside():
    log = []
    guard = compose(Mark(log, "a"), Layer(log, "b"), Mark(log, "c", refuse=True))
    want = ["a(", "b(", "c!", ")b:RateLimited", ")a:RateLimited"]
    with pytest.raises(RateLimited), guard:
        raise AssertionError
    assert log == want
    log.clear()

    async def main():
        async with guard:
            raise AssertionError

    with pytest.raises(RateLimited):
        asyncio.run(main())
    assert log == want


def test_async_block_whose_scope_changes_the_error():
    log = []
    guard = compose(Mark(log, "a", waits=True), Layer(log, "b", TimeoutError()), Mark(log, "c"))

    async def main():
        async with guard:
            raise KeyError

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert log[-3:] == [")c:KeyError", ")b:KeyError", ")a:TimeoutError"]

    async def fine():
        async with compose(Mark(log, "a")):
            return 1

    assert asyncio.run(fine()) == 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("settles", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_steps(settles, count, is_async):
    log = []
    guard = compose(*(Mark(log, "abcd"[i], settles=settles) for i in range(count)))

    def work(fail):
        if fail:
            raise KeyError
        return 1

    async def work_async(fail):
        return work(fail)

    run = guard(work_async if is_async else work)
    end = asyncio.run if is_async else (lambda result: result)
    assert end(run(fail=False)) == 1
    with pytest.raises(KeyError):
        end(run(fail=True))
    names = "abcd"[:count]
    admits = [f"{n}(" for n in names]
    good = [f"){n}" for n in reversed(names)] if settles else []
    bad = [f"){n}:KeyError" for n in reversed(names)] if settles else []
    assert log == admits + good + admits + bad
