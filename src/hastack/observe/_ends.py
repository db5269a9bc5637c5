"""Flushing and ending several exporters within one deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hastack import context as _context
from hastack._core._errors import ContextError

from ._report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._exporter import Exporter

_SPILL_RESERVE = 1.0  # seconds of a shutdown kept for writing to disk


def flush(exporters: Sequence[Exporter], timeout: float) -> Report:
    began = time.monotonic()
    ctx = _context.current()
    left = ctx.remaining()
    timeout = timeout if left is None else min(timeout, left)
    before = sum(each._lost() for each in exporters)
    flights = [(each, each._begin_flush()) for each in exporters]
    complete = True
    for each, reached in flights:
        left = max(0.0, began + timeout - time.monotonic())
        complete = each._await(reached, left, ctx) and complete
        each._end_flush(reached)
    if not complete:
        ctx.check()  # it was the caller who had no more time: an outage looks different
    accounts = {each.name: each.account() for each in exporters}
    lost = sum(account.lost for account in accounts.values()) - before
    ended = any(each._flow.closed and accounts[each.name].pending for each in exporters)
    complete = complete and not lost and not ended
    return Report(complete=complete, took=time.monotonic() - began, accounts=accounts)


def flushed(exporters: Sequence[Exporter], timeout_millis: float) -> bool:
    """Flush as OpenTelemetry's SDK asks for it: it expects an answer, whatever happens."""
    try:
        return bool(flush(exporters, max(0.0, timeout_millis / 1e3)))
    except ContextError:
        return False


def shut_down(exporters: Sequence[Exporter], timeout: float) -> Report:
    began = time.monotonic()
    left = _context.current().remaining()  # a cancelled service flushes what it has all the same
    timeout = timeout if left is None else min(timeout, left)
    until = began + timeout
    before = {each.name: each._lost() for each in exporters}
    for each in exporters:
        each._begin_end()
    reserve = min(_SPILL_RESERVE, timeout / 4)
    for each in exporters:
        kept = reserve if each._spill is not None else 0.0
        each._await(each._idle, max(0.0, until - kept - time.monotonic()))
    writing = [each for each in exporters if each._to_the_disk()]
    for each in writing:
        each._await(each._idle, max(0.0, until - time.monotonic()))
    for each in exporters:
        each._finish(until)
    accounts = {each.name: each.account() for each in exporters}
    complete = all(
        account.lost == before[name] and not account.pending for name, account in accounts.items()
    )
    return Report(complete=complete, took=time.monotonic() - began, accounts=accounts)
