"""Read by mypy and pyright, never run: a guard changes nothing about a function's type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from hastack.ratelimit import Decision, Guard
from hastack.testing import ManualClock
from hastack.typing import Clock


def decorated(guard: Guard) -> None:
    @guard
    def plain(a: int, *, b: str = "") -> float:
        return a + len(b)

    assert_type(plain(1, b="x"), float)
    plain("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    @guard
    def items() -> Iterator[int]:
        yield 1

    assert_type(items(), Iterator[int])


async def decorated_async(guard: Guard) -> None:
    @guard
    async def plain(a: int) -> str:
        return str(a)

    assert_type(await plain(1), str)

    @guard
    async def items() -> AsyncIterator[int]:
        yield 1

    assert_type(items(), AsyncIterator[int])


def decision(answer: Decision) -> float | None:
    assert_type(answer.remaining, int)
    return None if answer else answer.retry_after


def clocks() -> Clock:
    return ManualClock()
