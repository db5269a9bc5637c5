"""Which format and escaping a scraper gets, by its ``Accept`` field (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from typing import Final

import attrs

from ._prometheus_names import ESCAPINGS

TEXT: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"


@attrs.frozen
class TextFormat:
    """One of the text formats.

    Args:
        openmetrics: OpenMetrics 1.0 rather than Prometheus's own.
        version: As in the content type.
        escaping: One of `ESCAPINGS`; names outside of the legacy ones are escaped so.
        content_type: The value of ``Content-Type``.
    """

    openmetrics: bool
    version: str
    escaping: str
    content_type: str


def text_format(*, openmetrics: bool, version: str, escaping: str = "") -> TextFormat:
    """A format; an ``escaping`` that was asked for is named in the content type."""
    name = OPENMETRICS if openmetrics else TEXT
    content_type = f"{name}; version={version}; charset=utf-8"
    if escaping:
        content_type += f"; escaping={escaping}"
    return TextFormat(openmetrics, version, escaping or "underscores", content_type)


DEFAULT: Final = text_format(openmetrics=False, version="0.0.4")

# Newer versions of a format know of escaping; the older ones are always in underscores.
_KNOWN: Final = {
    (TEXT, ""): "0.0.4",
    (TEXT, "0.0.4"): "0.0.4",
    (TEXT, "1.0.0"): "1.0.0",
    (OPENMETRICS, ""): "1.0.0",
    (OPENMETRICS, "0.0.1"): "0.0.1",
    (OPENMETRICS, "1.0.0"): "1.0.0",
}


def negotiate(accept: str) -> TextFormat:
    """The format with the highest weight among those that are known; text 0.0.4 for none."""
    best = DEFAULT
    weight = 0.0
    for item in accept.split(","):
        kind, *parameters = [part.strip() for part in item.split(";")]
        pairs = [parameter.partition("=") for parameter in parameters]
        values = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        quality = _quality(values.get("q", "1"))
        if quality <= weight:
            continue
        found = _format(kind.lower(), values)
        if found is not None:
            best, weight = found, quality
    return best


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0


def _format(kind: str, values: dict[str, str]) -> TextFormat | None:
    if kind in {"*/*", "text/*"}:
        return DEFAULT
    version = _KNOWN.get((kind, values.get("version", "")))
    if version is None:
        return None
    escaping = values.get("escaping", "") if version == "1.0.0" else ""
    return text_format(
        openmetrics=kind == OPENMETRICS,
        version=version,
        escaping=escaping if escaping in ESCAPINGS else "",
    )
