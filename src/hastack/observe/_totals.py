"""Totals for a receiver that knows no differences, kept over threads and forks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, final

from hastack._core._fork import renew_in_child

from . import _threads
from ._accumulate import Accumulator, Cumulated

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Totals:
    """What one receiver has been told so far."""

    def __init__(self) -> None:
        self._accumulator = Accumulator()
        self._after_fork()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def of(self, source: Callable[[], Any]) -> Cumulated:
        """What ``source`` collects, with totals for differences.

        Collecting and adding are one step: differences have to be added in their order.

        Raises:
            Exception: Whatever ``source`` raises.
        """
        with self._lock:
            data = source()
            try:
                return self._accumulator.add(data)
            except Exception as error:  # none of the SDK's
                _threads.log.warning("metrics could not be added up: %r", error)
                return Cumulated(data)
