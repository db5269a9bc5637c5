"""Numbers, names and small charts as text for a terminal."""

from __future__ import annotations

import math
import unicodedata
from typing import Any, Final

__all__ = ("clean", "number", "percent", "rate", "seconds", "spark")

_BARS: Final = "▁▂▃▄▅▆▇█"
_LONGEST: Final = 60


def clean(text: object, most: int = _LONGEST) -> str:
    r"""Text that cannot steer a terminal: names come from anybody.

    Example:
        >>> clean("a\x1b[2Jb")
        'a·[2Jb'
    """
    kept = "".join("·" if unicodedata.category(each)[0] == "C" else each for each in str(text))
    return kept if len(kept) <= most else f"{kept[: most - 1]}…"


def number(value: float | None) -> str:
    """``1234`` as ``1,234``; ``-`` where there is none."""
    return "-" if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Per second, with as many digits as say something."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(value: float) -> str:
    """A share."""
    return f"{value * 100:.0f}%"


def seconds(value: float | None) -> str:
    """A time in the unit that fits it.

    Example:
        >>> seconds(0.0123), seconds(3.2), seconds(400.0), seconds(9000.0), seconds(None)
        ('12 ms', '3.2 s', '7 min', '2.5 h', '-')
    """
    if value is None:
        return "-"
    if value < 1.0:
        return f"{value * 1000:.1f} ms" if 0.0 < value < 0.01 else f"{value * 1000:.0f} ms"
    if value < 90.0:
        return f"{value:.1f} s" if value < 10.0 else f"{value:.0f} s"
    if value < 5400.0:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 129600.0 else f"{value / 86400:.1f} d"


def spark(values: list[Any], width: int = 20, *, high: float | None = None) -> str:
    """The last values as bars; a gap where there was none.

    Example:
        >>> spark([0, None, 5, 10], width=6)
        '  ▁ ▅█'
    """
    last = values[-width:]
    known = [each for each in last if isinstance(each, (int, float)) and math.isfinite(each)]
    top = max([*known, high or 0.0])
    bars = [
        " "
        if each not in known
        else _BARS[0]
        if top <= 0.0
        else _BARS[min(max(round(each / top * 7), 0), 7)]
        for each in last
    ]
    return "".join(bars).rjust(width)
