"""Body compression by the names of ``Content-Encoding``."""

from __future__ import annotations

import zlib
from typing import Any

from hastack._core._extras import require


def _cramjam() -> Any:
    return require("cramjam", extra="otel")


# Level 1: on telemetry it is several times faster than the default and hardly larger.
def _packed(name: str, data: Any) -> Any:
    if name == "identity":
        return data
    cramjam = _cramjam()
    if name == "snappy":
        return cramjam.snappy.compress_raw(data)
    return getattr(cramjam, _MODULES[name]).compress(data, level=1)


def _unpacked(name: str, data: bytes) -> Any:
    if name == "identity":
        return data
    if name in {"gzip", "deflate"}:
        return zlib.decompress(data, 47)  # either header
    cramjam = _cramjam()
    return (
        cramjam.snappy.decompress_raw(data) if name == "snappy" else cramjam.zstd.decompress(data)
    )


_MODULES = {"gzip": "gzip", "deflate": "zlib", "zstd": "zstd"}


def compress(name: str, data: bytes | bytearray | memoryview) -> bytes:
    """``data`` as it travels under the ``Content-Encoding`` of that name."""
    return bytes(_packed(name, data))


def decompress(name: str, data: bytes) -> bytes | None:
    """What `compress` was given; ``None`` when it is not that."""
    try:
        return bytes(_unpacked(name, data))
    except Exception:  # each library has an error of its own
        return None
