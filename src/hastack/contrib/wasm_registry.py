"""A plugin whose versions come from a key of a registry's store (etcd, or the embedded one).

Example:
    >>> from hastack import wasm
    >>> from hastack.contrib import wasm_registry
    >>> from hastack.discovery import memory
    >>> async def serve():
    ...     swap = wasm.Swap("policy", trust=trust, state="/var/lib/app/policy")
    ...     store = memory.connect("memory://config")
    ...     async with wasm_registry.Followed(swap, store, "/plugins/policy"):
    ...         ...  # every put to the key is a new version
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Self

from hastack._core import _validate
from hastack._core._errors import ClosedError, InvalidArgument, WasmError

if TYPE_CHECKING:
    from types import TracebackType

    from hastack.discovery import Store
    from hastack.wasm import Swap

__all__ = ("Followed", "follow")

_LOG = logging.getLogger("hastack.wasm")
_PAUSE = (0.1, 10.0)
"""Seconds before a watch that failed is begun anew, the first time and at most."""


async def follow(swap: Swap, store: Store, key: str | bytes) -> None:
    """Offer what a key holds, now and whenever it changes, until this is cancelled.

    The value is a module with its signatures inside; stores take values of about a megabyte. A
    version that is refused becomes a `PluginRefused` event, and the active one goes on; so it does
    when the key is deleted or the store cannot be reached. Verifying and compiling happen on a
    thread.

    Args:
        swap: The plugin.
        store: Where the key is.
        key: The key.

    Raises:
        InvalidArgument: The key is empty.
        ClosedError: The plugin was closed.
    """
    if not key:
        raise InvalidArgument("key", key, "the key of a store")
    await _follow(swap, store, key, asyncio.Event())


async def _follow(swap: Swap, store: Store, key: str | bytes, looked: asyncio.Event) -> None:
    pause = _PAUSE[0]
    while True:
        try:
            async with store.watch(key) as watch:
                async for batch in watch:
                    pause = _PAUSE[0]
                    values = [each.kv.value for each in batch.events if each.kind == "put"]
                    if values:  # only the last one counts
                        await asyncio.to_thread(_offer, swap, values[-1])
                    looked.set()
        except ClosedError:
            raise
        except Exception:
            _LOG.exception("%s: watching %r failed", swap.name, key)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _PAUSE[1])


def _offer(swap: Swap, value: bytes) -> None:
    with contextlib.suppress(WasmError):  # an event said so
        swap.offer(value)


class Followed:
    """`follow` for as long as an ``async with`` block runs.

    Args:
        swap: The plugin.
        store: Where the key is.
        key: The key.
        first: Seconds to wait on entering until the key was read once, at most.

    Raises:
        InvalidArgument: The key is empty, or ``first`` is not above zero.
    """

    def __init__(self, swap: Swap, store: Store, key: str | bytes, *, first: float = 10.0) -> None:
        if not key:
            raise InvalidArgument("key", key, "the key of a store")
        self._swap = swap
        self._store = store
        self._key = key
        self._first = _validate.seconds("first", first)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        looked = asyncio.Event()
        self._task = task = asyncio.create_task(_follow(self._swap, self._store, self._key, looked))
        waiting = asyncio.create_task(looked.wait())
        try:
            await asyncio.wait(
                {task, waiting}, timeout=self._first, return_when=asyncio.FIRST_COMPLETED
            )
        except BaseException:
            await self._end(task)
            raise
        finally:
            waiting.cancel()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            await self._end(task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the plugin was closed: nobody's business here
