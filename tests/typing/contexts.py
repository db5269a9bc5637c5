"""Read by mypy and pyright, never run: contexts, bound functions and errors."""

from __future__ import annotations

from typing import assert_type

from hastack import context, errors
from hastack.context import Context


def scopes() -> float:
    with context.timeout(0.5) as ctx:
        assert_type(ctx, Context)
        left = ctx.remaining()
        assert_type(left, float | None)
        return left * 2  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]


async def async_scopes() -> bool:
    async with context.timeout(None) as ctx:
        assert_type(ctx, Context)
    return await ctx.wait_async(1.0)


def bound(a: int, *, b: str = "") -> bytes:
    return bytes(a) + b.encode()


def threads() -> bytes:
    run = context.bind(bound)
    run("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return assert_type(run(1, b="x"), bytes)


def causes(error: errors.Rejected) -> None:
    assert_type(error.retry_after, float | None)
    assert_type(error.name, str)
    timeout: TimeoutError = errors.DeadlineExceeded()
    wrong: ValueError = errors.MissingDependency("grpcio", "grpc")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    del timeout, wrong
