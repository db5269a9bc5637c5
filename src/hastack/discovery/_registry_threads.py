"""A blocking call on a thread of its own, awaited: no pool whose threads stay behind."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

__all__ = ("in_thread",)


def in_thread(call: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Run ``call`` on a daemon thread; the future is the running loop's.

    Cancelling the future gives up the wait, not the call.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(_seen)

    def body() -> None:
        try:
            result = call()
        except BaseException as error:
            _tell(loop, future, error, None)
        else:
            _tell(loop, future, None, result)

    threading.Thread(target=body, name=name, daemon=True).start()
    return future


def _seen(future: asyncio.Future[T]) -> None:
    """Nobody may be waiting any more; that is no reason to report a lost error."""
    if not future.cancelled():
        future.exception()


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[T],
    error: BaseException | None,
    result: T | None,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # the call's own result
        elif isinstance(error, StopIteration):  # which no future takes
            future.set_exception(RuntimeError(repr(error)))
        else:
            future.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        pass  # the loop is closed, and nobody waits
