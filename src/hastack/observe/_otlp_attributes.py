"""Attributes as repeated KeyValue fields, mostly from fragments that were encoded before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._otlp_values import Tally, any_value, as_text, entries, key_value
from ._protobuf import INT64_MAX, INT64_MIN, delimited, pack_double, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BUDGET: Final = 4 * 1024 * 1024
"""Bytes of fragments that one set of attributes keeps; beyond it everything is forgotten."""

DISTINCT: Final = 1024
"""Values of one key, after which its hit rate is looked at."""

LONGEST: Final = 256
"""Bytes; a longer fragment is not worth its room."""

_COST: Final = 200
"""Bytes that an entry takes beside its fragment: the value, the slot in the table."""

# How a string's AnyValue starts inside a KeyValue, by the length of the string.
_STRING_HEADS: Final = tuple(bytes((0x12, n + 2, 0x0A, n)) for n in range(126))
# An integer's, by the length of its varint.
_INT_HEADS: Final = tuple(bytes((0x12, n + 1, 0x18)) for n in range(11))


class Attributes:
    """Encodes attribute mappings under one field key.

    Fragments are kept by key and value, strings apart from integers, for ``1 == True == 1.0``. A
    key whose values hardly ever repeat, such as an identifier, is not kept for long.
    """

    __slots__ = ("_ints", "_strings", "blocks", "field", "room")

    def __init__(self, field: bytes) -> None:
        self.field = field
        self.blocks = 0  # mappings encoded so far: no key was looked up more often
        self.room = BUDGET
        self._strings = _Keys(self, _string_tail)
        self._ints = _Keys(self, _int_tail)

    def encode(self, pairs: Iterable[tuple[Any, Any]], parts: list[bytes]) -> None:
        """Append a field for each of ``pairs``, which must need no repair.

        Raises:
            Exception: One would need it, or ``pairs`` is a view of a dict that another thread
                writes to. Some fields are appended then.
        """
        strings = self._strings
        ints = self._ints
        append = parts.append
        for key, value in pairs:
            kind = type(value)
            if kind is str:
                append(strings[key][value])
            elif kind is int:
                append(ints[key][value])
            else:
                append(self._other(key, value, kind))

    def encode_any(self, attributes: Any, parts: list[bytes], tally: Tally) -> None:
        """The same for any mapping or ``None``: never raises, repairs what it must."""
        try:
            pairs = entries(attributes)
        except Exception:  # not a mapping, or one of the user's own that fails
            tally.repaired += 1
            return
        before = len(parts)
        try:
            self.encode(pairs, parts)
        except Exception:
            del parts[before:]
            for key, value in pairs:
                if type(key) is not str:
                    tally.repaired += 1
                parts.append(delimited(self.field, key_value(key, value, tally)))

    def _other(self, key: str, value: Any, kind: type) -> bytes:
        """Booleans and floats; then everything rare."""
        head = self._strings[key].head
        if kind is bool:
            tail = b"\x12\x02\x10\x01" if value else b"\x12\x02\x10\x00"
        elif kind is float:
            tail = b"\x12\x09\x21" + pack_double(value)
        else:
            tally = Tally()
            tail = delimited(b"\x12", any_value(value, tally))
            if tally.repaired:
                raise ValueError("an attribute that needs repair")
        return b"".join((self.field, varint(len(head) + len(tail)), head, tail))

    def keep(self, known: _Values, value: Any, fragment: bytes) -> None:
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
        self._strings.clear()
        self._ints.clear()
        self.room = BUDGET
        return False


class _Values(dict[Any, bytes]):
    """Whole fields of one key by value."""

    __slots__ = ("_owner", "_tail", "head", "kept", "since")

    def __init__(self, owner: Attributes, tail: Callable[[Any], bytes], head: bytes) -> None:
        super().__init__()
        self._owner = owner
        self._tail = tail
        self.head = head  # the field `key` of the KeyValue
        self.kept = True
        self.since = owner.blocks

    def __missing__(self, value: Any) -> bytes:
        tail = self._tail(value)
        head = self.head
        fragment = b"".join((self._owner.field, varint(len(head) + len(tail)), head, tail))
        if self.kept:
            self._owner.keep(self, value, fragment)
        return fragment


def _string_tail(value: str) -> bytes:
    """The field `value` of a KeyValue."""
    raw = value.encode()
    if len(raw) < 126:
        return _STRING_HEADS[len(raw)] + raw
    return delimited(b"\x12", delimited(b"\x0a", raw))


def _int_tail(value: int) -> bytes:
    if INT64_MIN <= value <= INT64_MAX:
        raw = varint(value)
        return _INT_HEADS[len(raw)] + raw
    raise OverflowError


class _Keys(dict[str, _Values]):
    """The known values of each key."""

    __slots__ = ("_owner", "_tail")

    def __init__(self, owner: Attributes, tail: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._owner = owner
        self._tail = tail

    def __missing__(self, key: str) -> _Values:
        if type(key) is not str:
            raise TypeError(as_text(key))
        head = delimited(b"\x0a", key.encode()) if key else b""
        known = _Values(self._owner, self._tail, head)
        if len(head) <= LONGEST and self._owner.pay(len(head)):
            self[key] = known
        return known
