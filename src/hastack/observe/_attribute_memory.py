"""What was made from a mapping of attributes, found again at the next collection.

The SDK shows the same mapping object each time, so its identity is looked at first, and trusted
as long as it holds the same values. Where mappings are made anew, equal ones are recognised by
what they hold.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Fixed(dict[str, Any]):
    """Attributes that nobody changes: the same object has the same values each time."""

    __slots__ = ()


DICTS: Final[frozenset[type]] = frozenset((dict, Fixed))
"""Mappings whose methods are those of `dict`."""


_SPARE: Final = 64
"""Entries that cost nothing worth speaking of."""

_PLAIN: Final = frozenset((str, int))  # types of which equal values are the same: unlike 1 and True


class Memory(Generic[T]):
    """Remembers one thing for each mapping of one metric.

    Example:
        >>> memory = Memory[str]()
        >>> memory.keep({"a": "b"}, "made from it")
        >>> memory.find({"a": "b"})
        'made from it'
    """

    __slots__ = ("_by_id", "_by_items")

    def __init__(self) -> None:
        # The mapping is kept alive, so that no other has its identity.
        self._by_id: dict[int, tuple[Any, tuple[Any, ...], T]] = {}
        self._by_items: dict[tuple[Any, ...], T] = {}

    def __len__(self) -> int:
        return len(self._by_id) + len(self._by_items)

    def began(self, points: int) -> None:
        """So many points follow; far more than these need not be remembered."""
        most = 2 * points + _SPARE
        if len(self._by_id) > most:
            self._by_id.clear()
        if len(self._by_items) > most:
            self._by_items.clear()

    def find(self, attributes: Any) -> T | None:
        """What is remembered of ``attributes``."""
        entry = self._by_id.get(id(attributes))
        try:
            values = tuple(attributes.values())
            if entry is not None and entry[1] == values:
                return entry[2]
            if not all(type(value) in _PLAIN for value in values):
                return None
            return self._by_items.get(tuple(attributes.items()))
        except Exception:  # not a mapping, or one at which another thread works
            return None

    def again(self, attributes: Any) -> T | None:
        """The same of a mapping that was there before, with the values that it had; else ``None``.

        Raises:
            Exception: It is no mapping, or another thread works at it.
        """
        entry = self._by_id.get(id(attributes))
        if entry is not None and (
            type(attributes) is Fixed or entry[1] == tuple(attributes.values())
        ):
            return entry[2]
        return None

    def keep(self, attributes: Any, item: T) -> None:
        """Remember ``item`` for ``attributes`` and their like."""
        try:
            values = tuple(attributes.values())
            items = tuple(attributes.items())
        except Exception:
            return
        self._by_id[id(attributes)] = attributes, values, item
        if all(type(value) in _PLAIN for value in values):
            self._by_items[items] = item
