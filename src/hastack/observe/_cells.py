"""One set of attributes of one instrument: the numbers that a service adds to.

A cell lives in this process's memory or in its worker file; both kinds have the same methods. Each
has its own lock, so that no thread waits for another one's cell.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from hastack._core._errors import InvalidArgument

from ._mapped_format import EXEMPLAR_SIZE, write_exemplar
from ._series import Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._series import Identity

    Trace: TypeAlias = Callable[[], tuple[int, int] | None]

__all__ = ("Cell", "Slots")


class Slots:
    """Where a mapped cell's numbers and exemplars lie, in views of the worker file."""

    __slots__ = ("at", "data", "exemplars_at", "words")

    def __init__(self, data: memoryview, numbers_at: int, exemplars_at: int) -> None:
        self.data = data
        self.words: Any = data.cast("d")
        self.at = numbers_at // 8
        self.exemplars_at = exemplars_at


class Cell:
    """What every cell has; the methods of an instrument's kind come from the subclasses."""

    __slots__ = ("_at", "_exemplars", "_lock", "_numbers", "_slots", "_trace", "identity")

    def __init__(
        self,
        identity: Identity,
        slots: Slots | None,
        trace: Trace | None,
    ) -> None:
        self.identity = identity
        self._trace = trace
        self._lock = threading.Lock()
        self._move(slots)

    def _move(self, slots: Slots | None) -> None:
        """Begin at zero, in memory or in ``slots``."""
        descriptor = self.identity.descriptor
        self._slots = slots
        # The same expressions work on a list and on a view of doubles.
        self._numbers: Any = descriptor.zeros if slots is None else slots.words
        self._at = 0 if slots is None else slots.at
        self._exemplars: list[Any] = [None] * descriptor.exemplars

    def _keep_exemplar(self, value: float, bucket: int) -> None:
        assert self._trace is not None
        seen = self._trace()
        if seen is None:
            return
        stamp = time.time_ns()
        if self._slots is None:
            self._exemplars[bucket] = (value, stamp, *seen)
        else:
            at = self._slots.exemplars_at + EXEMPLAR_SIZE * bucket
            write_exemplar(self._slots.data, at, value, stamp, *seen)

    def _series(self) -> Series:
        """The numbers at this moment; for cells in memory."""
        with self._lock:
            return Series(self.identity, list(self._numbers), list(self._exemplars))

    def _renew(self, slots: Slots | None) -> None:
        """In a forked child: what was counted before stays the parent's."""
        self._lock = threading.Lock()
        self._move(slots)


class BoundCounter(Cell):
    """A counter with its attributes: only `add` is left to do."""

    __slots__ = ()

    def add(self, amount: float = 1) -> None:
        """Count ``amount`` more.

        Raises:
            InvalidArgument: ``amount`` is negative or not finite.
        """
        if not 0 <= amount < inf:
            raise InvalidArgument("amount", amount, "a finite number >= 0")
        with self._lock:
            self._numbers[self._at] += amount
            if self._trace is not None:
                self._keep_exemplar(amount, 0)


class BoundUpDownCounter(Cell):
    """An up-down counter with its attributes."""

    __slots__ = ()

    def add(self, amount: float = 1) -> None:
        """Count ``amount`` more, or less if it is negative.

        Raises:
            InvalidArgument: ``amount`` is not finite.
        """
        if not -inf < amount < inf:
            raise InvalidArgument("amount", amount, "a finite number")
        with self._lock:
            self._numbers[self._at] += amount


class BoundGauge(Cell):
    """A gauge with its attributes."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """This is the value now. Infinities and NaN are values of a gauge."""
        now = time.time()
        with self._lock:
            self._numbers[self._at] = value
            self._numbers[self._at + 1] = now

    def _renew(self, slots: Slots | None) -> None:
        # In a child it is what it was, until it is set again.
        before = list(self._numbers[self._at : self._at + 2])
        super()._renew(slots)
        self._numbers[self._at], self._numbers[self._at + 1] = before


class BoundHistogram(Cell):
    """A histogram with its attributes."""

    __slots__ = ("_bounds",)

    def __init__(self, identity: Identity, slots: Slots | None, trace: Trace | None) -> None:
        super().__init__(identity, slots, trace)
        self._bounds = identity.descriptor.bounds

    def record(self, value: float) -> None:
        """Count ``value`` into its bucket: the first whose upper bound is at least that.

        Raises:
            InvalidArgument: ``value`` is not finite.
        """
        if not -inf < value < inf:
            raise InvalidArgument("value", value, "a finite number")
        bucket = bisect_left(self._bounds, value)
        numbers, at = self._numbers, self._at
        with self._lock:
            if numbers[at + 1] > value:
                numbers[at + 1] = value
            if numbers[at + 2] < value:
                numbers[at + 2] = value
            numbers[at] += value
            numbers[at + 3 + bucket] += 1
            if self._trace is not None:
                self._keep_exemplar(value, bucket)
