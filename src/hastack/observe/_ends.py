"""Flushing and ending several exporters within one deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ._report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._exporter import Exporter

_SPILL_RESERVE = 1.0  # seconds of a shutdown kept for writing to disk


def flush(exporters: Sequence[Exporter], timeout: float) -> Report:
    began = time.monotonic()
    before = sum(each._lost() for each in exporters)
    flights = [(each, each._begin_flush()) for each in exporters]
    complete = True
    for each, reached in flights:
        left = max(0.0, began + timeout - time.monotonic())
        complete = each._await(reached, left) and complete
        each._end_flush(reached)
    accounts = {each.name: each.account() for each in exporters}
    lost = sum(account.lost for account in accounts.values()) - before
    left = any(each._flow.closed and accounts[each.name].pending for each in exporters)
    complete = complete and not lost and not left
    return Report(complete=complete, took=time.monotonic() - began, accounts=accounts)


def shut_down(exporters: Sequence[Exporter], timeout: float) -> Report:
    began = time.monotonic()
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
