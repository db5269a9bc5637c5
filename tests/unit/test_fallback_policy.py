"""Fallback in both worlds."""

import asyncio

import pytest

from hastack import events
from hastack.errors import Cancelled, CircuitOpen, DeadlineExceeded, InvalidArgument
from hastack.ratelimit._fallback import Fallback
from hastack.ratelimit._policy_events import FallbackUsed


def run(guard, outcome, *, is_async):
    def work():
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def work_async():
        await asyncio.sleep(0)
        return work()

    return asyncio.run(guard(work_async)()) if is_async else guard(work)()


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@both
def test_value(is_async):
    guard = Fallback(value=None)
    assert run(guard, 3, is_async=is_async) == 3
    for error in (KeyError(), CircuitOpen("db"), DeadlineExceeded("late")):
        assert run(guard, error, is_async=is_async) is None


@both
def test_call_gets_the_error(is_async):
    error = KeyError("gold")
    assert run(Fallback(call=lambda e: [e]), error, is_async=is_async) == [error]


@both
@pytest.mark.parametrize(
    "error",
    [Cancelled("gone"), InvalidArgument("n", 1, "2"), KeyboardInterrupt(), GeneratorExit()],
)
def test_never_answered(is_async, error):
    with pytest.raises(type(error)):
        run(Fallback(value=1), error, is_async=is_async)


@both
def test_cancelled_context_passes_whatever_is_asked(is_async):
    for on in (Exception, Cancelled, lambda error: True):
        with pytest.raises(Cancelled):
            run(Fallback(value=1, on=on), Cancelled("gone"), is_async=is_async)


def test_cancelled_task():
    with pytest.raises(asyncio.CancelledError):
        run(Fallback(value=1), asyncio.CancelledError(), is_async=True)


@both
def test_on(is_async):
    guard = Fallback(value=1, on=(KeyError, InvalidArgument))
    assert run(guard, KeyError(), is_async=is_async) == 1
    assert run(guard, InvalidArgument("n", 1, "2"), is_async=is_async) == 1
    with pytest.raises(ValueError):
        run(guard, ValueError(), is_async=is_async)
    guard = Fallback(value=1, on=lambda error: error.args == (7,))
    assert run(guard, ValueError(7), is_async=is_async) == 1
    with pytest.raises(ValueError):
        run(guard, ValueError(8), is_async=is_async)


@both
def test_fallback_that_fails(is_async):
    def fail(error):
        raise LookupError("no fallback either")

    with pytest.raises(LookupError) as caught:
        run(Fallback(call=fail), KeyError("first"), is_async=is_async)
    assert caught.value.__context__.args == ("first",)


def test_async_fallback():
    async def answer(error):
        await asyncio.sleep(0)
        return "async"

    assert run(Fallback(call=answer), KeyError(), is_async=True) == "async"
    with pytest.raises(InvalidArgument, match="plain function"):
        Fallback(call=answer)(lambda: 1)
    with pytest.raises(InvalidArgument, match="returns no coroutine"):
        run(Fallback(call=lambda error: answer(error)), KeyError(), is_async=False)


def test_an_awaitable_value_is_a_value():
    async def main():
        future = asyncio.get_running_loop().create_future()

        @Fallback(value=future)
        async def fail():
            raise KeyError

        assert await fail() is future

    asyncio.run(main())


@both
def test_event(is_async):
    seen = []
    stop = events.subscribe(seen.append, FallbackUsed)
    try:
        error = KeyError()
        run(Fallback(value=1, name="cache"), error, is_async=is_async)
    finally:
        stop()
    assert [(e.name, e.error) for e in seen] == [("cache", error)]


@pytest.mark.parametrize(
    ("bad", "parameter"),
    [
        ({}, "call"),
        ({"value": 1, "call": len}, "call"),
        ({"call": 3}, "call"),
        ({"value": 1, "on": BaseException}, "on"),
        ({"value": 1, "on": asyncio.CancelledError}, "on"),
        ({"value": 1, "on": ()}, "on"),
        ({"value": 1, "on": "KeyError"}, "on"),
    ],
)
def test_bad_arguments(bad, parameter):
    with pytest.raises(InvalidArgument, match=f"^{parameter}="):
        Fallback(**bad)


def test_blocks_and_generators_are_refused():
    def items():
        yield 1

    with pytest.raises(InvalidArgument, match="with block"), Fallback(value=1):
        pass
    with pytest.raises(InvalidArgument, match="Fallback cannot stand around"):
        Fallback(value=1)(items)


def test_reprs():
    assert repr(Fallback(value=3)) == "Fallback(value=3)"
    assert repr(Fallback(call=len)) == "Fallback(call=<built-in function len>)"
