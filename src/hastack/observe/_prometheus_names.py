"""What OpenTelemetry names become in Prometheus.

OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility"; the escaping schemes are
those of https://prometheus.io/docs/instrumenting/escaping_schemes/.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import attrs

UNITS: Final = {
    # time
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    # bytes
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tebibytes",
    "kBy": "kilobytes",
    "KBy": "kilobytes",  # not UCUM, but widely written
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    # SI
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    # others
    "Cel": "celsius",
    "Hz": "hertz",
    "%": "percent",
    "1": "",
}
"""UCUM units in Prometheus's words."""

PER_UNITS: Final = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}

STRATEGIES: Final = (
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
)
"""Values of ``translation_strategy`` in OpenTelemetry's configuration."""

ESCAPINGS: Final = ("underscores", "dots", "values", "allow-utf-8")
"""What a scraper may ask for by ``escaping=`` in its ``Accept`` field."""

LEGACY: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_INVALID: Final = re.compile(r"[^a-zA-Z0-9:]+")
_INVALID_LABEL: Final = re.compile(r"[^a-zA-Z0-9]+")
_BRACES: Final = re.compile(r"\{[^}]*\}")


@attrs.frozen
class Translation:
    """How names change before they are exposed."""

    underscores: bool
    suffixes: bool

    @classmethod
    def named(cls, strategy: str) -> Translation:
        """One of `STRATEGIES`."""
        return cls(
            underscores=strategy.startswith("Underscore"),
            suffixes=strategy.endswith("WithSuffixes"),
        )


@attrs.frozen
class FamilyName:
    """The name of a metric family and its unit, which then ends the name, or is empty."""

    name: str
    unit: str


def unit_words(unit: str) -> str:
    """``"By/s"`` is ``"bytes_per_second"``; annotations in braces are nothing."""
    whole, _, per = unit.partition("/")
    whole = _BRACES.sub("", whole).strip()
    per = _BRACES.sub("", per).strip()
    words = _words(UNITS.get(whole, whole))
    if per:
        per = _words(PER_UNITS.get(per, per))
    if per:
        words = f"{words}_per_{per}" if words else f"per_{per}"
    return words


def _words(text: str) -> str:
    return _INVALID.sub("_", text).strip("_")


def family_name(
    name: str, unit: str, translation: Translation, *, counter: bool = False, gauge: bool = False
) -> FamilyName:
    """The family of an instrument, without the ``_total`` that a counter's samples end with."""
    if translation.underscores:
        name = underscored(name)
    if not translation.suffixes:
        return FamilyName(name, "")
    if counter:
        name = without_total(name)
    words = "ratio" if gauge and unit == "1" else unit_words(unit)
    if words and not _has(name, words):
        name = with_suffix(name, words, translation)
    return FamilyName(name, words if words and name.endswith(f"_{words}") else "")


def with_suffix(name: str, suffix: str, translation: Translation) -> str:
    """``name`` with one more word."""
    if translation.underscores:
        name = name.rstrip("_") or "_"  # of a name without a single legal character this is left
    return f"{name}_{suffix}"


def without_total(name: str) -> str:
    """A counter's name without the suffix that it will get."""
    for suffix in ("_total", ".total"):
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _has(name: str, words: str) -> bool:
    """Whether the name says its unit already, as whole words."""
    return f"_{words}_" in f"_{_INVALID.sub('_', name)}_"


def underscored(name: str) -> str:
    """A metric name with each run of other characters as one underscore."""
    name = _INVALID.sub("_", name)
    return f"_{name}" if not name or name[0].isdigit() else name


def underscored_label(name: str) -> str:
    """A label name, in the same way."""
    name = _INVALID_LABEL.sub("_", name)
    return f"_{name}" if not name or name[0].isdigit() else name


@lru_cache(maxsize=4096)
def label_name(key: str, underscores: bool, escaping: str) -> str:
    """The label of an attribute, escaped.

    Two underscores at the start are Prometheus's own: ``__name__`` would rename the metric.
    """
    if underscores or key.startswith("__") or not key:
        return underscored_label(key)
    label = escape(key, escaping, label=True)
    if escaping == "underscores" and label.startswith("__"):
        return underscored_label(label)
    return label


@lru_cache(maxsize=4096)
def label_key(label: str) -> str:
    """A label's name as the text formats write it: in quotation marks unless it is a legacy one."""
    return label if LEGACY_LABEL.fullmatch(label) else quoted(label)


def quoted(text: str) -> str:
    """``text`` as a label value, with its quotation marks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def escape(name: str, escaping: str, *, label: bool = False) -> str:
    """``name`` for a scraper that does not take all of UTF-8."""
    if escaping == "allow-utf-8":
        return name
    legal = LEGACY_LABEL if label else LEGACY
    if escaping == "underscores":
        if legal.fullmatch(name):
            return name
        return "".join([c if _legal(c, i, label) else "_" for i, c in enumerate(name)]) or "_"
    if escaping == "dots":
        return "".join([_dotted(c, i, label) for i, c in enumerate(name)])
    if legal.fullmatch(name):
        return name
    return "U__" + "".join([_valued(c, i, label) for i, c in enumerate(name)])


def _legal(char: str, position: int, label: bool) -> bool:
    if char.isascii() and (char.isalpha() or char == "_" or (char == ":" and not label)):
        return True
    return position > 0 and char.isascii() and char.isdigit()


def _dotted(char: str, position: int, label: bool) -> str:
    if char == "_":
        return "__"
    if char == ".":
        return "_dot_"
    return char if _legal(char, position, label) else "__"


def _valued(char: str, position: int, label: bool) -> str:
    if char == "_":
        return "__"
    return char if _legal(char, position, label) else f"_{ord(char):x}_"
