"""Listing a range at one revision, in pages of bounded size, for as long as it takes."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from hastack._core._errors import (
    ClosedError,
    Compacted,
    HastackError,
    NotAuthorized,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)

from . import _wire
from ._watch_records import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._codec import Codec
    from ._transport import Transport
    from ._watch_records import Failure, ListRange, State

__all__ = ("Failed", "list_range")

_FIRST_PAGE = 256  # keys; how many follow depends on how large these are
_PAGE_BYTES = 2**20
_LARGEST_PAGE = 5000
_REFUSED = {"INVALID_ARGUMENT", "UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED"}
_PAUSE = (0.05, 2.0)  # first and longest, in seconds; drawn evenly from zero


class Failed(Exception):
    """There will be no listing.

    Args:
        failure: Why.
        error: What the store said.
    """

    def __init__(self, failure: Failure, error: Exception) -> None:
        super().__init__(failure)
        self.failure: Failure = failure
        self.error = error


async def list_range(
    transport: Transport, codec: Codec, command: ListRange, turn: asyncio.Semaphore
) -> Listing:
    """List what ``command`` asks for, linearizably.

    Raises:
        Failed: The revision cannot be listed, or the store refuses.
        ClosedError: The client was closed.
    """
    failures = 0
    while True:
        try:
            async with turn:
                return await _pages(transport, codec.key_value, command)
        except ClosedError:
            raise
        except HastackError as error:
            failure = _judge(error, command)
            if failure is not None:
                raise Failed(failure, error) from None
        first, longest = _PAUSE
        await asyncio.sleep(random.random() * min(longest, first * 2.0 ** min(failures, 16)))
        failures += 1


def _judge(error: HastackError, command: ListRange) -> Failure | None:
    """Whether to give up, and why."""
    if isinstance(error, (StoreUnavailable, StoreTimeout)):
        return None
    if isinstance(error, NotAuthorized) or not isinstance(error, StoreError):
        return "final"
    if isinstance(error, Compacted):
        # A listing of now was overtaken between two of its pages.
        return "compacted" if command.revision else None
    if error.code == "OUT_OF_RANGE":
        return "future" if command.revision else None
    return "final" if error.code in _REFUSED else None


async def _pages(
    transport: Transport, key_value: Callable[[Any], Any], command: ListRange
) -> Listing:
    where = command.where
    request = _wire.RangeRequest(
        key=where.key,
        range_end=where.end or b"",
        revision=command.revision,
        limit=_FIRST_PAGE,
        min_mod_revision=command.since + 1 if command.since else 0,
    )
    state: State = {}
    first: Any = None
    while True:
        page = await transport.call(_wire.RANGE, request, idempotent=True)
        header = page.header
        if first is None:
            first = page
            request.revision = request.revision or header.revision
        elif header.cluster_id != first.header.cluster_id:
            raise StoreUnavailable("another cluster answered in the middle of a listing")
        for kv in page.kvs:
            record = key_value(kv)
            state[record.key] = record
        if not page.more:
            break
        request.key = page.kvs[-1].key + b"\0"
        each = page.ByteSize() / len(page.kvs)
        request.limit = max(1, min(_LARGEST_PAGE, int(_PAGE_BYTES / each)))
    return Listing(
        state, first.count, request.revision, first.header.cluster_id, first.header.raft_term
    )
