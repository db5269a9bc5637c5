"""Encoded pairs of key and value, kept within bounds.

Most attributes of a service repeat: the same keys, and few values for most of them. Their fields
are encoded once and found by two look-ups. A key whose values hardly ever repeat, such as an
identifier, is not kept for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BUDGET: Final = 4 * 1024 * 1024
"""Bytes of fragments that one set keeps; beyond it everything is forgotten."""

DISTINCT: Final = 1024
"""Values of one key, after which its hit rate is looked at."""

LONGEST: Final = 256
"""Bytes; a longer fragment is not worth its room."""

_COST: Final = 200
"""Bytes that an entry takes beside its fragment: the value, the slot in the table."""


class Coding(Protocol):
    """How a format writes a pair. Each raises for what cannot be written without repair."""

    def head(self, key: str) -> bytes:
        """The key."""
        ...

    def string(self, value: str) -> bytes:
        """A string as the value."""
        ...

    def integer(self, value: int) -> bytes:
        """An integer as the value."""
        ...

    def other(self, value: Any) -> bytes:
        """Anything else as the value."""
        ...

    def pair(self, head: bytes, tail: bytes) -> bytes:
        """Both together."""
        ...


class Fragments:
    """Pairs of one format.

    Strings are kept apart from integers, and nothing else is kept: ``1 == True == 1.0``.

    Example:
        >>> class Query:
        ...     def head(self, key): return key.encode()
        ...     def string(self, value): return value.encode()
        ...     def integer(self, value): return b"%d" % value
        ...     def other(self, value): return repr(value).encode()
        ...     def pair(self, head, tail): return head + b"=" + tail
        >>> fragments = Fragments(Query())
        >>> parts = []
        >>> fragments.encode({"color": "red", "n": 1, "f": 0.5}.items(), parts)
        >>> parts
        [b'color=red', b'n=1', b'f=0.5']
    """

    __slots__ = ("blocks", "coding", "integers", "room", "strings")

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self.blocks = 0  # mappings that were to be encoded: no key was looked up more often
        self.room = BUDGET
        self.strings = Keys(self, coding.string)
        self.integers = Keys(self, coding.integer)

    def encode(self, pairs: Iterable[tuple[Any, Any]], parts: list[bytes]) -> None:
        """Append each of ``pairs``, which must need no repair.

        Raises:
            Exception: One would need it, or ``pairs`` is a view of a dict that another thread
                writes to. Some may be appended then.
        """
        strings = self.strings
        integers = self.integers
        append = parts.append
        for key, value in pairs:
            kind = type(value)
            if kind is str:
                append(strings[key][value])
            elif kind is int:
                append(integers[key][value])
            else:
                append(self.coding.pair(strings[key].head, self.coding.other(value)))

    def keep(self, known: Values, value: Any, fragment: bytes) -> None:
        """Remember a fragment, within the bounds."""
        if len(known) >= DISTINCT:
            known.clear()
            if self.blocks - known.since < 2 * DISTINCT:
                known.kept = False
            known.since = self.blocks
        elif len(fragment) <= LONGEST and self.pay(len(fragment)):
            known[value] = fragment

    def pay(self, size: int) -> bool:
        """Take room for an entry of ``size`` bytes; with none left, forget everything instead."""
        self.room -= size + _COST
        if self.room > 0:
            return True
        self.strings.clear()
        self.integers.clear()
        self.room = BUDGET
        return False


class Values(dict[Any, bytes]):
    """Fragments of one key by value; what is missing is made."""

    __slots__ = ("_owner", "_tail", "head", "kept", "since")

    def __init__(self, owner: Fragments, tail: Callable[[Any], bytes], head: bytes) -> None:
        super().__init__()
        self._owner = owner
        self._tail = tail
        self.head = head
        self.kept = True
        self.since = owner.blocks

    def __missing__(self, value: Any) -> bytes:
        fragment = self._owner.coding.pair(self.head, self._tail(value))
        if self.kept:
            self._owner.keep(self, value, fragment)
        return fragment


class Keys(dict[str, Values]):
    """What is known of each key; what is missing is made.

    Raises:
        TypeError: The key is not a string.
    """

    __slots__ = ("_owner", "_tail")

    def __init__(self, owner: Fragments, tail: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._owner = owner
        self._tail = tail

    def __missing__(self, key: str) -> Values:
        if type(key) is not str:
            raise TypeError(type(key).__name__)
        head = self._owner.coding.head(key)
        known = Values(self._owner, self._tail, head)
        if len(head) <= LONGEST and self._owner.pay(len(head)):
            self[key] = known
        return known
