"""Build the one function that runs a call behind a row of guards.

A plan is made once, at decoration. Consecutive admissions become one step: each clock is read
once before the call and, only when some guard wants to know the outcome, once after it. Every
other guard is one layer.
"""

from __future__ import annotations

from itertools import groupby
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from hastack._core._errors import InvalidArgument

from ._guard import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hastack.typing import Clock

    from ._guard import AsyncCall, Call, Guard

    Permits: TypeAlias = list[tuple[Admission, Any]]
    Settlers: TypeAlias = list[tuple[int, Callable[..., None]]]


def around(guards: Sequence[Guard], call: Call) -> Call:
    """``call`` behind ``guards`` (outermost first), for synchronous code."""
    if not guards or not isinstance(guards[-1], Admission):
        call = _checked(call)
    for admits, row in _rows(guards):
        if admits:
            call = _step(cast("list[Admission]", row), call)
        else:
            for guard in reversed(row):
                call = guard._around(call)
    return call


def around_async(guards: Sequence[Guard], call: AsyncCall) -> AsyncCall:
    """``call`` behind ``guards`` (outermost first), for asynchronous code."""
    if not guards:
        return _awaited(call)
    for admits, row in _rows(guards):
        if admits:
            call = _step_async(cast("list[Admission]", row), call)
        else:
            for guard in reversed(row):
                call = guard._around_async(call)
    return call


def _rows(guards: Sequence[Guard]) -> list[tuple[bool, list[Guard]]]:
    """Runs of admissions and of other guards, innermost run first."""
    rows = groupby(guards, key=lambda guard: isinstance(guard, Admission))
    return [(admits, list(row)) for admits, row in rows][::-1]


def _checked(call: Call) -> Call:
    def checked(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if result.__class__ is CoroutineType:
            raise undetected(call, result)
        return result

    return checked


def _awaited(call: AsyncCall) -> AsyncCall:
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return awaited


def undetected(call: object, coroutine: Any) -> InvalidArgument:
    """The error for a function that looked synchronous and returned a coroutine, now closed."""
    coroutine.close()
    return InvalidArgument(
        "fn",
        call,
        "a function that is async by declaration; this one is not, but returned a coroutine: "
        "use async def, inspect.markcoroutinefunction or .call_async()",
    )


def _step(guards: list[Admission], call: Call) -> Call:
    """One step for consecutive admissions, in the cheapest form that fits them."""
    if not _shares_clock(guards):
        return _general(guards, call)
    settling = any(guard._settles for guard in guards)
    if len(guards) == 1:
        return _one_settling(guards[0], call) if settling else _one(guards[0], call)
    if not settling:
        return _many(guards, call)
    return _few_settling(guards, call) if len(guards) <= 3 else _many_settling(guards, call)


def _shares_clock(guards: list[Admission]) -> bool:
    clock = guards[0]._clock
    return all(guard._clock is clock and not guard._waits for guard in guards)


def _one(guard: Admission, call: Call) -> Call:
    read = guard._clock.monotonic
    admit = guard._admit

    def admitted(*args: Any, **kwargs: Any) -> Any:
        admit(read(), args, kwargs)
        result = call(*args, **kwargs)
        if result.__class__ is CoroutineType:
            raise undetected(call, result)
        return result

    return admitted


def _one_settling(guard: Admission, call: Call) -> Call:
    read = guard._clock.monotonic
    admit = guard._admit
    settle = guard._settle

    def admitted(*args: Any, **kwargs: Any) -> Any:
        permit = admit(read(), args, kwargs)
        try:
            result = call(*args, **kwargs)
            if result.__class__ is CoroutineType:
                raise undetected(call, result)
        except BaseException as error:
            settle(permit, read(), error, None)
            raise
        settle(permit, read(), None, result)
        return result

    return admitted


def _many(guards: list[Admission], call: Call) -> Call:
    read = guards[0]._clock.monotonic
    admits = [guard._admit for guard in guards]

    def admitted(*args: Any, **kwargs: Any) -> Any:
        now = read()
        for admit in admits:
            admit(now, args, kwargs)
        result = call(*args, **kwargs)
        if result.__class__ is CoroutineType:
            raise undetected(call, result)
        return result

    return admitted


def _few_settling(guards: list[Admission], call: Call) -> Call:
    """Two or three guards: what `_many_settling` does, spelled out, for a quarter less."""
    read = guards[0]._clock.monotonic
    first, second, third = (*guards, None)[:3]
    assert first is not None
    assert second is not None
    admit_first, admit_second = first._admit, second._admit
    admit_third = None if third is None else third._admit
    settle_first, settle_second, settle_third = (
        guard._settle if guard is not None and guard._settles else None
        for guard in (first, second, third)
    )
    settles = _settlers(guards)

    def admitted(*args: Any, **kwargs: Any) -> Any:
        held = 0
        one = two = three = None
        now = read()
        try:
            one = admit_first(now, args, kwargs)
            held = 1
            two = admit_second(now, args, kwargs)
            held = 2
            if admit_third is not None:
                three = admit_third(now, args, kwargs)
                held = 3
            result = call(*args, **kwargs)
            if result.__class__ is CoroutineType:
                raise undetected(call, result)
        except BaseException as error:
            _settle_held(settles, (one, two, three)[:held], read(), error)
            raise
        now = read()
        if settle_third is not None:
            settle_third(three, now, None, result)
        if settle_second is not None:
            settle_second(two, now, None, result)
        if settle_first is not None:
            settle_first(one, now, None, result)
        return result

    return admitted


def _settle_held(
    settles: Settlers, permits: Sequence[Any], now: float, error: BaseException
) -> None:
    for index, settle in settles:
        if index < len(permits):
            settle(permits[index], now, error, None)


def _many_settling(guards: list[Admission], call: Call) -> Call:
    read = guards[0]._clock.monotonic
    admits = [guard._admit for guard in guards]
    settles = _settlers(guards)

    def admitted(*args: Any, **kwargs: Any) -> Any:
        permits: list[Any] = []
        now = read()
        try:
            for admit in admits:
                permits.append(admit(now, args, kwargs))  # noqa: PERF401  # the except needs it
            result = call(*args, **kwargs)
            if result.__class__ is CoroutineType:
                raise undetected(call, result)
        except BaseException as error:
            _settle_held(settles, permits, read(), error)
            raise
        now = read()
        for index, settle in settles:
            settle(permits[index], now, None, result)
        return result

    return admitted


def _settlers(guards: list[Admission]) -> Settlers:
    """Who wants the outcome, innermost first, with the place of its permit."""
    rows = [(index, guard._settle) for index, guard in enumerate(guards) if guard._settles]
    return rows[::-1]


def _general(guards: list[Admission], call: Call) -> Call:
    """Guards that wait or keep different clocks."""

    def admitted(*args: Any, **kwargs: Any) -> Any:
        permits = admit_all(guards, args, kwargs)
        try:
            result = call(*args, **kwargs)
            if result.__class__ is CoroutineType:
                raise undetected(call, result)
        except BaseException as error:
            settle_all(permits, error, None)
            raise
        settle_all(permits, None, result)
        return result

    return admitted


def admit_all(
    guards: Sequence[Admission], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Permits:
    """Admit behind every guard in order; when one refuses, settle those before it."""
    permits: Permits = []
    read: dict[Clock, float] = {}
    try:
        for guard in guards:
            if guard._waits:
                permit = guard._admit_waiting(args, kwargs)
                read.clear()  # time has passed on every clock
            else:
                permit = guard._admit(_now(guard._clock, read), args, kwargs)
            permits.append((guard, permit))
    except BaseException as error:
        settle_all(permits, error, None)
        raise
    return permits


async def admit_all_async(
    guards: Sequence[Admission], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Permits:
    """`admit_all` on the running event loop."""
    permits: Permits = []
    read: dict[Clock, float] = {}
    try:
        for guard in guards:
            if guard._waits:
                permit = await guard._admit_waiting_async(args, kwargs)
                read.clear()
            else:
                permit = guard._admit(_now(guard._clock, read), args, kwargs)
            permits.append((guard, permit))
    except BaseException as error:
        settle_all(permits, error, None)
        raise
    return permits


def settle_all(permits: Permits, error: BaseException | None, result: Any) -> None:
    """Tell the outcome to those who want it, innermost first."""
    read: dict[Clock, float] = {}
    for guard, permit in reversed(permits):
        if guard._settles:
            guard._settle(permit, _now(guard._clock, read), error, result)


def _now(clock: Clock, read: dict[Clock, float]) -> float:
    now = read.get(clock)
    if now is None:
        now = read[clock] = clock.monotonic()
    return now


def _step_async(guards: list[Admission], call: AsyncCall) -> AsyncCall:
    if not _shares_clock(guards):
        return _general_async(guards, call)
    if len(guards) == 1 and guards[0]._settles:
        return _one_settling_async(guards[0], call)
    if not any(guard._settles for guard in guards):
        return _many_async(guards, call)
    few = len(guards) <= 3
    return _few_settling_async(guards, call) if few else _many_settling_async(guards, call)


def _one_settling_async(guard: Admission, call: AsyncCall) -> AsyncCall:
    read = guard._clock.monotonic
    admit = guard._admit
    settle = guard._settle

    async def admitted(*args: Any, **kwargs: Any) -> Any:
        permit = admit(read(), args, kwargs)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            settle(permit, read(), error, None)
            raise
        settle(permit, read(), None, result)
        return result

    return admitted


def _many_async(guards: list[Admission], call: AsyncCall) -> AsyncCall:
    read = guards[0]._clock.monotonic
    admits = [guard._admit for guard in guards]

    async def admitted(*args: Any, **kwargs: Any) -> Any:
        now = read()
        for admit in admits:
            admit(now, args, kwargs)
        return await call(*args, **kwargs)

    return admitted


def _few_settling_async(guards: list[Admission], call: AsyncCall) -> AsyncCall:
    read = guards[0]._clock.monotonic
    first, second, third = (*guards, None)[:3]
    assert first is not None
    assert second is not None
    admit_first, admit_second = first._admit, second._admit
    admit_third = None if third is None else third._admit
    settle_first, settle_second, settle_third = (
        guard._settle if guard is not None and guard._settles else None
        for guard in (first, second, third)
    )
    settles = _settlers(guards)

    async def admitted(*args: Any, **kwargs: Any) -> Any:
        held = 0
        one = two = three = None
        now = read()
        try:
            one = admit_first(now, args, kwargs)
            held = 1
            two = admit_second(now, args, kwargs)
            held = 2
            if admit_third is not None:
                three = admit_third(now, args, kwargs)
                held = 3
            result = await call(*args, **kwargs)
        except BaseException as error:
            _settle_held(settles, (one, two, three)[:held], read(), error)
            raise
        now = read()
        if settle_third is not None:
            settle_third(three, now, None, result)
        if settle_second is not None:
            settle_second(two, now, None, result)
        if settle_first is not None:
            settle_first(one, now, None, result)
        return result

    return admitted


def _many_settling_async(guards: list[Admission], call: AsyncCall) -> AsyncCall:
    read = guards[0]._clock.monotonic
    admits = [guard._admit for guard in guards]
    settles = _settlers(guards)

    async def admitted(*args: Any, **kwargs: Any) -> Any:
        permits: list[Any] = []
        now = read()
        try:
            for admit in admits:
                permits.append(admit(now, args, kwargs))  # noqa: PERF401  # the except needs it
            result = await call(*args, **kwargs)
        except BaseException as error:
            _settle_held(settles, permits, read(), error)
            raise
        now = read()
        for index, settle in settles:
            settle(permits[index], now, None, result)
        return result

    return admitted


def _general_async(guards: list[Admission], call: AsyncCall) -> AsyncCall:
    async def admitted(*args: Any, **kwargs: Any) -> Any:
        permits = await admit_all_async(guards, args, kwargs)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            settle_all(permits, error, None)
            raise
        settle_all(permits, None, result)
        return result

    return admitted
