"""Labels of a series, from attributes; escaping of the text formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._attribute_text import attribute_text, clean
from ._otlp_lenient import read
from ._otlp_values import as_text, entries
from ._prometheus_names import Translation, label_key, label_name, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._otlp_values import Tally

Pairs = list[tuple[str, str]]
"""Labels, sorted by name, each name once."""


def labels_of(
    attributes: Any, translation: Translation, escaping: str, tally: Tally
) -> list[tuple[str, str, str]]:
    """Label name, original key and value of each attribute."""
    try:
        pairs = entries(attributes)
    except Exception:  # not a mapping, or one of the user's own that fails
        tally.repaired += 1
        return []
    found = []
    for key, value in pairs:
        original = clean(key if type(key) is str else as_text(key), tally)
        name = label_name(original, translation.underscores, escaping)
        found.append((name, original, attribute_text(value, tally)))
    return found


def scope_labels(
    scope: Any, translation: Translation, escaping: str, tally: Tally
) -> list[tuple[str, str, str]]:
    """The labels that tell scopes apart; empty ones are none to Prometheus and left out."""
    found = []
    for name in ("name", "version", "schema_url"):
        value = read(scope, name, tally)
        if value:
            label = f"otel_scope_{name}"
            found.append((label, label, attribute_text(value, tally)))
    for name, key, value in labels_of(
        read(scope, "attributes", tally), translation, escaping, tally
    ):
        label = (
            f"otel_scope_{name.lstrip('_')}" if translation.underscores else f"otel_scope_{name}"
        )
        found.append((label, key, value))
    return found


def merged(labels: Sequence[tuple[str, str, str]]) -> Pairs:
    """Sorted labels; values of one name are joined in the order of their original keys."""
    plain = {name: value for name, _, value in labels}
    if len(plain) == len(labels):
        return sorted(plain.items())
    by_name: dict[str, list[tuple[str, str]]] = {}
    for name, original, value in labels:
        by_name.setdefault(name, []).append((original, value))
    return [
        (name, ";".join([value for _, value in sorted(by_name[name])])) for name in sorted(by_name)
    ]


def without_le(labels: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Labels for a histogram, whose buckets have a label ``le`` of their own."""
    return [("exported_le" if name == "le" else name, key, value) for name, key, value in labels]


def braces(pairs: Pairs, *, name: str = "", more: str = "") -> str:
    """``pairs`` in braces, after a metric name that has to be quoted and before ``more``."""
    parts = [quoted(name)] if name else []
    for label, value in pairs:
        parts.append(f"{label_key(label)}={quoted(value)}")
    if more:
        parts.append(more)
    return "{" + ",".join(parts) + "}" if parts else ""
