"""Numbers as the text formats write them."""

from __future__ import annotations

from typing import Any, Final

_SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def number_text(value: Any) -> str:
    """A sample's value; NaN for what is no number."""
    if type(value) is int:
        try:
            return str(value)
        except ValueError:  # more digits than sys.get_int_max_str_digits() allows
            return "+Inf" if value > 0 else "-Inf"
    try:
        text = repr(float(value))
    except Exception:
        return "NaN"
    return _SPECIAL.get(text, text)


def bound_text(bound: float) -> str:
    """The ``le`` of a bucket, with exponents where Go's ``%g`` has them: from a million up."""
    text = number_text(float(bound))
    dot = text.find(".")
    if bound > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0").rstrip(".")
        return f"{mantissa}e+{dot - 1:02d}"
    return text


def seconds_text(nanoseconds: int) -> str:
    """A point in time in seconds, exactly."""
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{whole}.{rest:09d}"
