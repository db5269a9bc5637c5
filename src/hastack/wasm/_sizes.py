"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

from hastack._core._errors import InvalidArgument

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE = re.compile(r"\s*(\d{1,15})\s*([a-z]{0,3})\s*", re.IGNORECASE)


def size(parameter: str, value: object, *, minimum: int = 1) -> int:
    """Bytes from a number, or from ``"16MiB"``.

    Raises:
        InvalidArgument: It is neither, or less than ``minimum``.

    Example:
        >>> size("memory", "16MiB")
        16777216
    """
    accepted = f'bytes >= {minimum}, as an integer or like "16MiB"'
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        unit = _UNITS.get(found[2].lower()) if found else None
        if found is None or unit is None:
            raise InvalidArgument(parameter, value, accepted)
        given = int(found[1]) * unit
    elif isinstance(value, int) and not isinstance(value, bool):
        given = value
    else:
        raise InvalidArgument(parameter, value, accepted)
    if given < minimum:
        raise InvalidArgument(parameter, value, accepted)
    return given
