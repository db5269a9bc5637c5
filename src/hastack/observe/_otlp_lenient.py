"""Reads one field of an object that may hold anything, and counts what had to be repaired.

The fast paths of the encoders take SDK objects as the SDK makes them and give up on the first
surprise; then every field is read through here, and one bad field costs only itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._otlp_values import as_text, utf8
from ._protobuf import delimited

if TYPE_CHECKING:
    from ._otlp_values import Tally


KNOWN: Final = 64
"""Classes that `MadeBy` remembers."""


def read(item: object, name: str, tally: Tally) -> Any:
    """``item.name``; ``None`` where there is none or reading it fails."""
    try:
        return getattr(item, name)
    except AttributeError:
        return None
    except Exception:
        tally.repaired += 1
        return None


def number(value: Any, bits: int, tally: Tally) -> int:
    """An unsigned number of so many bits, the nearest one for what is outside; 0 for ``None``."""
    if value is None:
        return 0
    try:
        whole = int(value)
    except Exception:  # not a number, an infinity, or an object that fails
        tally.repaired += 1
        return 0
    if 0 <= whole < 1 << bits:
        return whole
    tally.repaired += 1
    return 0 if whole < 0 else (1 << bits) - 1


def ident(value: Any, size: int, tally: Tally) -> bytes:
    """An identifier of ``size`` bytes; all zero, which is an invalid one, for what is none."""
    try:
        return int(value).to_bytes(size, "big")
    except Exception:
        tally.repaired += 1
        return bytes(size)


def string(key: bytes, value: Any, tally: Tally) -> bytes:
    """A string field; nothing for ``None`` and an empty string."""
    try:
        if not value:
            return b""
    except Exception:
        tally.repaired += 1
        return b""
    if type(value) is not str:
        value = as_text(value)
    return delimited(key, utf8(value, tally))


def real(value: Any, tally: Tally) -> float:
    """A double; NaN for what is none."""
    try:
        return float(value)
    except Exception:
        tally.repaired += 1
        return float("nan")


def sequence(value: Any, tally: Tally) -> list[Any]:
    """The items at one moment; none for ``None``."""
    if value is None:
        return []
    try:
        return list(value)
    except Exception:
        tally.repaired += 1
        return []


def trace_state_field(key: bytes, value: Any, tally: Tally) -> bytes:
    """A W3C trace state as a string field."""
    try:
        pairs = ",".join([f"{name}={member}" for name, member in value.items()]) if value else ""
    except Exception:
        tally.repaired += 1
        return b""
    return string(key, pairs, tally)


def enum_value(member: Any, most: int, tally: Tally) -> int:
    """The value of an enumeration's member, 0 for ``None`` and for what is beyond ``most``."""
    if member is None:
        return 0
    value = number(getattr(member, "value", member), 32, tally)
    if value <= most:
        return value
    tally.repaired += 1
    return 0


class MadeBy:
    """Knows the classes whose properties are the SDK's own, so that its fields may be read directly.

    A subclass that redacts attributes, say, overrides a property: that is honoured.

    Args:
        module: Where the properties are defined.
        names: The properties.
    """

    __slots__ = ("_foreign", "_module", "_names", "known")

    def __init__(self, module: str, *names: str) -> None:
        self._module = module
        self._names = names
        self.known: set[type] = set()  # such classes
        self._foreign: set[type] = set()

    def made(self, kind: type) -> bool:
        """Whether objects of this class may be read directly."""
        if kind in self.known or kind in self._foreign:
            return kind in self.known
        theirs = all(self._is_theirs(kind, name) for name in self._names)
        answers = self.known if theirs else self._foreign
        if len(answers) >= KNOWN:
            answers.clear()
        answers.add(kind)
        return theirs

    def _is_theirs(self, kind: type, name: str) -> bool:
        homes = [each for each in kind.__mro__ if name in each.__dict__]
        return bool(homes) and homes[0].__module__ == self._module
